"""The folders of a run: the workspace that a caller names, and the program's own."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from execution_platform.adapters.claude_agent.sandbox import RECORDS
from execution_platform.adapters.errors import InvalidRequestError, NotConfiguredError

__all__ = ["Folders", "new_session", "overlap", "resolved_roots"]

_DAY_SECONDS = 86_400

#: Days after which a conversation that nobody went on with is forgotten.
_KEPT_DAYS = 30

#: A session's record, and the folder of what is too long for it.
_SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}(\.jsonl)?\Z")


def resolved_roots(listed: str) -> tuple[Path, ...]:
    """Return the folders of a setting, separated as in PATH, with their symbolic links resolved.

    Raises:
        NotConfiguredError: one is no absolute path of a folder.
    """
    roots = []
    for name in filter(None, listed.split(os.pathsep)):
        path = Path(name)
        if not path.is_absolute() or not path.is_dir():
            raise NotConfiguredError(f"{name} is no absolute path of a folder")
        roots.append(path.resolve())
    return tuple(roots)


def overlap(one: Path, other: Path) -> bool:
    """Return whether one of two resolved folders is the other, or lies in it."""
    return one.is_relative_to(other) or other.is_relative_to(one)


def new_session(earlier: str = "") -> str:
    """Return the id of a new session; its first three groups are those of the conversation, hence of an earlier one."""
    made = str(uuid.uuid4())
    return earlier[:18] + made[18:] if earlier else made


class Folders:
    """Where runs work, and where the program keeps its login and its sessions.

    Where a key is set, runs of different workspaces have different folders of the program's, and so do different
    conversations without a workspace: a run reads all of its folder, so it reads no other's sessions. A login is one
    folder for all runs.

    Args:
        config_dir: the folder below which the program's are.
        roots: folders within which a workspace may lie, resolved.
        shared: one folder of the program's for all runs, because it holds a login.
    """

    def __init__(self, config_dir: Path, roots: Sequence[Path] = (), *, shared: bool = False) -> None:
        self._config_dir = config_dir.resolve()
        self._next_look = 0.0
        self._roots = tuple(roots)
        self._shared = shared

    def workspace(self, named: str, field: str) -> Path:
        """Return the folder that a request names, with its symbolic links resolved.

        Args:
            named: an absolute path.
            field: path of the request's field, for the error.

        Raises:
            InvalidRequestError: it does not lie within the roots, is no folder, or would show the program's folders.
        """
        if not self._roots:
            raise InvalidRequestError(
                f"{field}: no workspace may be named here: EP_CLAUDE_AGENT_WORKSPACES is not set", field=field
            )
        path = Path(named)
        if "\0" in named or not path.is_absolute():
            raise InvalidRequestError(f"{field}: a workspace is an absolute path", field=field)
        try:
            resolved = path.resolve(strict=True)
        except (OSError, RuntimeError):
            resolved = None
        # One answer for both: who may not look there shall not learn what is there.
        if resolved is None or not any(resolved.is_relative_to(root) for root in self._roots):
            raise InvalidRequestError(
                f"{field}: the workspace does not exist within EP_CLAUDE_AGENT_WORKSPACES, symbolic links resolved",
                field=field,
            )
        if not resolved.is_dir():
            raise InvalidRequestError(f"{field}: the workspace is not a folder", field=field)
        if overlap(resolved, self._config_dir):
            raise InvalidRequestError(f"{field}: the workspace holds the agent's logins and sessions", field=field)
        return resolved

    def config(self, workspace: Path | None, session: str) -> Path:
        """Return the program's folder for a run; makes it where it is not there. Once a day it forgets old ones.

        Args:
            workspace: the run's workspace, as :meth:`workspace` returned it.
            session: id of the session that the run begins or goes on with, see :func:`new_session`.

        Raises:
            NotConfiguredError: it cannot be made.
        """
        now = time.monotonic()
        if now >= self._next_look:
            self._next_look = now + _DAY_SECONDS
            self.forget()
        if self._shared:
            folder = self._config_dir / "login"
        elif workspace is not None:
            folder = self._config_dir / "workspaces" / hashlib.sha256(os.fsencode(workspace)).hexdigest()[:32]
        else:
            folder = self._config_dir / "conversations" / str(uuid.UUID(session))[:18]
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (folder / RECORDS).mkdir(mode=0o700, exist_ok=True)
            os.utime(folder)
        except OSError as error:
            raise NotConfiguredError(f"EP_CLAUDE_AGENT_CONFIG_DIR cannot be written to: {error.strerror}") from error
        return folder

    def forget(self, kept_days: float = _KEPT_DAYS) -> int:
        """Remove what no run has used for so many days: conversations, folders of workspaces, and in others records.

        Returns how many were removed. Reads the disk.
        """
        oldest = time.time() - kept_days * _DAY_SECONDS
        forgotten = 0
        folders = [self._config_dir / "login"]
        for kind in ("conversations", "workspaces"):
            with suppress(OSError):
                folders += (self._config_dir / kind).iterdir()
        for folder in folders:
            if folder.name != "login" and _removed(str(folder), oldest):
                forgotten += 1
            else:
                forgotten += _records_removed(folder / RECORDS, oldest)
        return forgotten


def _records_removed(records: Path, oldest: float) -> int:
    """Remove old records of sessions, and return how many. Runs write here: no link of theirs is followed."""
    removed = 0
    with suppress(OSError):
        for _, folders, files, descriptor in os.fwalk(records):
            removed += sum(_removed(name, oldest, descriptor) for name in [*folders, *files] if _SESSION.match(name))
            folders[:] = [name for name in folders if not _SESSION.match(name)]
    return removed


def _removed(name: str, oldest: float, within: int | None = None) -> bool:
    """Remove a file or folder that was changed last before then; `within` is its folder's descriptor."""
    try:
        status = os.stat(name, dir_fd=within, follow_symlinks=False)
        if status.st_mtime >= oldest:
            return False
        if stat.S_ISDIR(status.st_mode):
            shutil.rmtree(name, dir_fd=within)
        else:
            os.unlink(name, dir_fd=within)
    except OSError:
        return False
    return True
