"""Places for runs that all processes of a folder share: locked files, which a dead process gives back."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from execution_platform.adapters.errors import NotConfiguredError

__all__ = ["Slots"]


class Slots:
    """At most so many runs of all processes that use the folder.

    Args:
        folder: where the files are; is made.
        most: how many there are.
    """

    def __init__(self, folder: Path, most: int) -> None:
        self._folder = folder
        self._most = most

    def take(self) -> int | None:
        """Return a free place, a descriptor that whoever took it closes; None: all are taken.

        Raises:
            NotConfiguredError: the folder cannot be written to.
        """
        try:
            return self._free()
        except OSError as error:
            message = f"EP_CLAUDE_AGENT_CONFIG_DIR cannot be written to: {error.strerror}"
            raise NotConfiguredError(message) from error

    def _free(self) -> int | None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number in range(self._most):
            slot = os.open(self._folder / str(number), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(slot)
            except BaseException:
                os.close(slot)
                raise
            else:
                return slot
        return None
