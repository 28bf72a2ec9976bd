"""Records that the database could not take, in a durable local file, until it can.

One file for each process that needs one. A line is the CRC-32 of the rest in hex, a space, and a UsageRecord in base64;
it is on disk before whoever wrote it goes on. The process holds a lock on its file, so whoever gets the lock of a file
knows that its process has ended, and takes it over.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import os
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from google.protobuf.message import DecodeError

from execution_platform.v1 import cost_pb2

__all__ = ["Spool", "Spooled"]

_SUFFIX = ".spool"
_DAMAGED = ".damaged"
#: Records that are read at once.
_BLOCK = 64
#: Bytes after which another file is begun.
_LARGE = 64 * 2**20


@dataclass(slots=True)
class Spooled:
    """A file that is to be replayed; it stays until it is told to be done.

    Attributes:
        path: where it is.
        count: records that have been read.
        damaged: lines that could not be read, apart from a last one that was torn off before anybody relied on it.
    """

    path: Path
    _file: int
    count: int = 0
    damaged: int = 0

    def blocks(self) -> Iterator[list[cost_pb2.UsageRecord]]:
        """Yield the records, from the first on, so many at a time that the file may be of any size."""
        self.count = self.damaged = 0
        with self.path.open("rb") as file:
            while lines := list(islice(file, _BLOCK)):
                if not lines[-1].endswith(b"\n"):
                    lines.pop()  # torn off: never relied on
                found = [_record(line) for line in lines if line != b"\n"]
                whole = [record for record in found if record is not None]
                self.count += len(whole)
                self.damaged += len(found) - len(whole)
                if whole:
                    yield whole

    def done(self) -> None:
        """Remove the file: its records are in the database. One with damaged lines is kept aside."""
        with contextlib.suppress(FileNotFoundError):
            if self.damaged:
                self.path.rename(self.path.with_suffix(_DAMAGED))
            else:
                self.path.unlink()
        _sync_folder(self.path.parent)
        os.close(self._file)

    def later(self) -> None:
        """Leave the file for another time."""
        os.close(self._file)


class Spool:
    """The files. All methods wait for the disk: call them in a thread.

    Args:
        folder: where they are. Made, for its owner only, when it is needed.
        large: bytes after which another file is begun.
    """

    def __init__(self, folder: Path, large: int = _LARGE) -> None:
        self._folder = folder
        self._large = large
        self._lock = threading.Lock()
        self._file: int | None = None
        self._path = folder
        self._length = 0

    def append(self, records: Sequence[cost_pb2.UsageRecord]) -> None:
        """Write records. They are on disk when this returns.

        Raises:
            OSError: they cannot be written. None of them is in the file then.
        """
        data = b"".join(map(_line, records))
        with self._lock:
            if self._file is not None and self._length >= self._large:
                # Whoever replays takes it as one that a process has left.
                os.close(self._file)
                self._file = None
            if self._file is None:
                self._open()
            file = self._file
            assert file is not None  # noqa: S101 - _open has just made it
            try:
                written = 0
                while written < len(data):
                    written += os.write(file, data[written:])
                os.fsync(file)
            except OSError:
                self._give_up(file)
                raise
            self._length += len(data)

    def take(self) -> Iterator[Spooled]:
        """Yield the files of this process, which begins a new one, and of those that have ended; each is locked.

        One after the other: each is to be done, or left for later, before the next one is asked for.
        """
        with self._lock:
            own, self._file = self._file, None
            path = self._path
        if own is not None:
            yield Spooled(path, own)
        if not self._folder.is_dir():
            return
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            file = _locked(path)
            if file is not None:
                yield Spooled(path, file)

    def close(self) -> None:
        """Leave what is there for the next start."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                os.close(file)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path = self._folder / f"{uuid.uuid4().hex}{_SUFFIX}"
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _sync_folder(self._folder)
        except OSError:
            os.close(file)
            raise
        self._file, self._length = file, 0

    def _give_up(self, file: int) -> None:
        """Take back what was written of an append; where even that fails, go on in another file."""
        try:
            os.ftruncate(file, self._length)
        except OSError:
            os.close(file)
            self._file = None


def _line(record: cost_pb2.UsageRecord) -> bytes:
    data = base64.b64encode(record.SerializeToString())
    return b"%08x %s\n" % (binascii.crc32(data), data)


def _record(line: bytes) -> cost_pb2.UsageRecord | None:
    checksum, _, data = line.rstrip(b"\n").partition(b" ")
    try:
        if int(checksum, 16) != binascii.crc32(data):
            return None
        return cost_pb2.UsageRecord.FromString(base64.b64decode(data, validate=True))
    except (ValueError, DecodeError):
        return None


def _locked(path: Path) -> int | None:
    """Open a file of a process that has ended; None: it still runs, or somebody else was first."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Whoever had the lock before may have removed it.
        if os.fstat(file).st_nlink:
            return file
    except OSError:
        pass
    os.close(file)
    return None


def _sync_folder(folder: Path) -> None:
    """Make a new or removed name in a folder durable."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
