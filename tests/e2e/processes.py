"""Processes that the end-to-end tests start: each is known by its pid, and ended by it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds after which something that should happen counts as not happening. No test asserts how fast anything is."""

LAUNCHER = ("-m", "execution_platform.server")
"""What the interpreter runs as the server."""

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """Return the first true value that `look` gives; fail if it gives none."""
    end = time.monotonic() + patience
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience:g} s in vain for {what}; last seen: {seen!r}")
        time.sleep(0.02)


def settles(look: Callable[[], T], value: T, what: str) -> None:
    """Wait until `look` gives `value`; fail, telling what it gave last, if it does not."""
    with contextlib.suppress(AssertionError):
        eventually(lambda: look() == value, what)
    assert look() == value, what


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with no setting of ours in it but the given ones, and without a proxy."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EP_")}
    return {**kept, "NO_PROXY": "*", "no_proxy": "*", **settings}


class Process:
    """A process that runs, with what it has written.

    Args:
        arguments: the command.
        folder: where it runs, and where its output goes.
        settings: variables on top of the environment without ours.
    """

    def __init__(self, arguments: Sequence[str], folder: Path, settings: Mapping[str, str] | None = None) -> None:
        self._out = folder / "stdout"
        self._err = folder / "stderr"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                list(arguments),
                cwd=folder,
                # What a server keeps by default lies in its own folder.
                env=environment({"XDG_STATE_HOME": str(folder / "state"), **(settings or {})}),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def out(self) -> str:
        return self._out.read_text(errors="replace")

    @property
    def err(self) -> str:
        return self._err.read_text(errors="replace")

    def records(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of its JSON log that tell `event`, as far as they are complete."""
        lines = self.err.rpartition("\n")[0].splitlines()
        told = [json.loads(line) for line in lines if line.startswith("{")]
        return [record for record in told if record.get("event") == event]

    def wait_for(self, look: Callable[[], T], what: str) -> T:
        """Return the first true value of `look`; fail with the process's output if it ends before."""

        def looked() -> T | None:
            seen = look()
            if not seen and self._process.poll() is not None:
                raise AssertionError(f"ended with {self._process.returncode} before {what}:\n{self.err}\n{self.out}")
            return seen

        found = eventually(looked, what)
        assert found is not None
        return found

    def signal(self, number: int = signal.SIGTERM) -> None:
        self._process.send_signal(number)

    def ended(self) -> bool:
        return self._process.poll() is not None

    def wait(self) -> int:
        """Return its exit status once it has ended; fail if it does not."""
        try:
            return self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end:\n{self.err}") from None

    def end(self) -> int:
        """End it, if it runs. Returns its exit status."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                return self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def file_descriptors(self) -> dict[str, int]:
        """Return how many file descriptors of each kind the process has open."""
        kinds: dict[str, int] = {}
        for link in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                kind = str(link.readlink()).partition(":")[0]
                kinds[kind] = kinds.get(kind, 0) + 1
        return kinds

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.pid}/task").iterdir()))


class Server(Process):
    """The product's server as a process of its own, on a free port of this machine.

    Args:
        folder: where it runs; an ``.env`` there is its configuration.
        settings: EP_* variables.
        arguments: of ``ep serve``.
        launcher: what to run instead of the module.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        arguments: Sequence[str] = (),
        launcher: Sequence[str] = (),
    ) -> None:
        given = {"EP_LISTEN": "127.0.0.1:0", "EP_LOG_FORMAT": "json", **(settings or {})}
        super().__init__([sys.executable, *(launcher or LAUNCHER), "serve", *arguments], folder, given)

    def address(self) -> str:
        """Return where it serves, once it does."""
        return str(self.wait_for(lambda: self.records("serving"), "it serves")[0]["address"])


@contextlib.contextmanager
def serving(
    folder: Path,
    settings: Mapping[str, str] | None = None,
    arguments: Sequence[str] = (),
    launcher: Sequence[str] = (),
) -> Iterator[Server]:
    """Run a server while the context is entered."""
    folder.mkdir(parents=True, exist_ok=True)
    server = Server(folder, settings, arguments, launcher)
    try:
        server.address()
        yield server
    finally:
        server.end()
