"""The files of a SQLite database: which they are, and what becomes of those beside one that has been replaced."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

__all__ = ["FileId", "file_id", "put_aside_log"]

#: Device and inode: what a file is, whatever its name.
FileId = tuple[int, int]

_ASIDE = ".aside"


def file_id(path: Path) -> FileId | None:
    """Return which file has a name now; None: there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def put_aside_log(path: Path, index: FileId | None) -> None:
    """Prepare for opening a database that has been removed or replaced while it was open.

    Its write-ahead log and the index of that still lie there. The index is removed: who still has the old file open
    relies on it. The log stays where it makes one whole database with the new file, as it does with a plain copy made
    a moment ago; else it is renamed to `-wal.aside`.

    Args:
        path: of the database.
        index: the file `-shm` that the old database had. If there is another one, some process has been here before.
    """
    log, shared = (path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))
    with contextlib.suppress(FileNotFoundError), _alone(path.parent):
        if index is None or file_id(shared) != index:
            return
        shared.unlink()
        if log.exists() and not _is_whole(path):
            log.rename(log.with_name(log.name + _ASIDE))
            shared.unlink(missing_ok=True)


def _is_whole(path: Path) -> bool:
    """Return whether a database and the log beside it belong together."""
    if not path.exists():
        return False
    # Who only reads does not write the log back into the database, neither here nor on closing.
    with contextlib.closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
        try:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchall() == [("ok",)])
        except sqlite3.DatabaseError:
            return False


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other process do the same at the same time."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
