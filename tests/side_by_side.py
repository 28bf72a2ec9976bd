"""Run all tests: those that mostly wait for processes of ours beside those that work in this one.

Two processes of pytest, each with its share in the usual order. What the first says is shown at once, what the second
says behind it. Ends with 0 if both do.
"""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["main", "run", "shares"]

ROOT = Path(__file__).resolve().parents[1]

#: Folders whose tests start servers and programs.
_WAITING = ("bench", "chaos", "docs", "e2e", "live")

_PYTEST = (sys.executable, "-m", "coverage", "run", "-m", "pytest")


def shares(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return what each of the two is given: folders and files of tests, none of which is in both or in neither."""
    tests = sorted(each for each in folder.iterdir() if each.match("test_*.py") or _holds_tests(each))
    return [each for each in tests if each.name in _WAITING], [each for each in tests if each.name not in _WAITING]


def _holds_tests(folder: Path) -> bool:
    return folder.is_dir() and not folder.name.startswith((".", "_"))


def run(commands: Iterable[Sequence[str]]) -> int:
    """Run commands at once, show what they say one after the other, and return the first status that is not 0."""
    with tempfile.TemporaryDirectory() as folder:
        files = (Path(folder, str(number)) for number in itertools.count())
        # Lists: all are started before the first is waited for, and all have ended before a status is told.
        running = [(_start(command, file), file) for command, file in zip(commands, files, strict=False)]
        try:
            statuses = [_show(process, file) for process, file in running]
        finally:
            for process, _ in running:
                process.wait()
    return next(filter(None, statuses), 0)


def _start(command: Sequence[str], file: Path) -> subprocess.Popen[bytes]:
    with file.open("wb") as output:
        return subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)


def _show(process: subprocess.Popen[bytes], file: Path) -> int:
    """Copy what a process says while it runs, and return its status."""
    with file.open("rb") as said:
        while True:
            # Asked before it is read: what it says last is not missed.
            status = process.poll()
            while part := said.read(65_536):
                sys.stdout.buffer.write(part)
            sys.stdout.flush()
            if status is not None:
                return status
            time.sleep(0.1)


def main() -> int:
    """Run all tests, with coverage measured."""
    color = f"--color={'yes' if sys.stdout.isatty() else 'no'}"
    try:
        return run([*_PYTEST, color, *map(str, share)] for share in shares(ROOT / "tests"))
    except KeyboardInterrupt:
        return 130  # both have heard of it too, and have said so


if __name__ == "__main__":
    sys.exit(main())
