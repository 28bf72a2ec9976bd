"""SQLite: one thread writes, a few read beside it.

Whoever removes or replaces the file under a running server leaves it with connections to a file that has no name any
more, and SQLite goes on writing there. So each transaction looks whether the file is still the one that was opened:
before it begins, and, if it wrote, after it has ended. If not, the database counts as away until it is opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.sql_engine import POOL_SECONDS, SNAPSHOTS, Fault, Snapshot
from execution_platform.server.ledger.store.sqlite_files import FileId, file_id, put_aside_log

__all__ = ["DatabaseMovedError", "SqliteEngine"]

T = TypeVar("T")

#: Transactions that read at the same time.
_READERS: Final = 4
#: Seconds to wait for another process's lock with work that can be done another time.
_BRIEF_SECONDS: Final = 0.25
#: Seconds between tries of what SQLite does not wait for by itself.
_RETRY_SECONDS: Final = 0.02
#: Times the patience for changes of tables, which several processes may want to do at once.
_PATIENT: Final = 2
#: What a caller saw finished outlives a loss of power, and a log that was large once is cut.
_PRAGMAS: Final = ("synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864")


class DatabaseMovedError(Exception):
    """The file is not the one that was opened, or is gone."""


class _BusyError(Exception):
    """Another process has the lock, or something that waited before has just found it locked."""


class _Connection(sqlite3.Connection):
    """A connection that remembers its file."""

    file: FileId | None = None
    wait: float = -1.0


class SqliteEngine:
    """A SQLite file.

    Args:
        address: the file. It is made by patient work, readable for its owner only, and so is its folder.
        patience: seconds to wait for the lock of another process.
    """

    def __init__(self, address: DatabaseAddress, patience: float) -> None:
        self._path = address.path
        self._patience = patience
        self._writer = self._engine(1, writes=True)
        self._reader = self._engine(_READERS, writes=False)
        self._write_thread = ThreadPoolExecutor(1, "ledger-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "ledger-read")
        # Of the write thread: what the work that runs there may do.
        self._makes = False
        self._wait = patience
        self._absences = 0
        self._index: FileId | None = None
        self._moved = False

    async def run(
        self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False, brief: bool = False
    ) -> T:
        """Run work in a thread. SQLite is never waited for but where another process has the lock."""
        loop = asyncio.get_running_loop()
        if not writes:
            return await loop.run_in_executor(self._read_threads, self._read, work)
        wait = min(_BRIEF_SECONDS, self._patience) if brief else self._patience * (_PATIENT if patient else 1)
        write = partial(self._write, work, wait, self._absences, makes=patient, brief=brief)
        return await loop.run_in_executor(self._write_thread, write)

    def _read(self, work: Callable[[Connection], T]) -> T:
        with self._reader.begin() as connection:
            return work(connection)

    def _write(self, work: Callable[[Connection], T], wait: float, absences: int, *, makes: bool, brief: bool) -> T:
        if absences != self._absences and not makes:
            # What was before it in the queue has waited already, and in vain.
            raise _BusyError("the database was found locked or away meanwhile")
        self._makes, self._wait = makes, wait
        try:
            with self._writer.begin() as connection:
                result = work(connection)
                opened = _opened(connection)
            self._check(opened)
        except Exception as error:
            if brief and _is_locked(error):
                raise _BusyError("another process has the database locked") from error
            if self.fault_of(error) is not Fault.NONE:
                self._absences += 1
            raise
        return result

    def _check(self, connection: _Connection) -> None:
        """Raise DatabaseMovedError if a connection's file is not the one that is there."""
        if connection.file is None or connection.file != file_id(self._path):
            self._moved = True
            raise DatabaseMovedError("the file has been removed or replaced since it was opened")

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Run work in a thread of its own, one after the other, the clean-up last: also if its caller is cancelled."""
        loop = asyncio.get_running_loop()
        thread = ThreadPoolExecutor(1, "ledger-snapshot")
        stack = contextlib.ExitStack()
        try:
            connection = await loop.run_in_executor(thread, lambda: stack.enter_context(self._reader.begin()))

            async def run(work: Callable[[Connection], T]) -> T:
                return await loop.run_in_executor(thread, work, connection)

            yield run
        finally:
            closed = loop.run_in_executor(thread, stack.close)
            thread.shutdown(wait=False)
            await asyncio.shield(closed)

    def fault_of(self, error: BaseException) -> Fault:
        """Return what a failure says."""
        cause = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(cause, sqlite3.Error):
            return _sqlite_fault(cause)
        if isinstance(error, _BusyError):
            return Fault.BUSY
        if isinstance(error, PoolTimeoutError | DatabaseMovedError):
            return Fault.AWAY
        return Fault.REFUSED if isinstance(error, OSError) else Fault.NONE

    async def forget(self) -> None:
        """Close connections: the file may be another one by now."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._dispose)

    async def aclose(self) -> None:
        """Close the file, once what runs has ended."""
        with contextlib.suppress(OSError):
            await self.forget()
        self._write_thread.shutdown(wait=False)
        self._read_threads.shutdown(wait=False)

    def _dispose(self) -> None:
        try:
            if self._moved:
                # While the old files are open nothing new can be taken for them.
                put_aside_log(self._path, self._index)
                self._moved = False
        finally:
            self._reader.dispose()
            self._writer.dispose()

    def _engine(self, size: int, *, writes: bool) -> Engine:
        engine = create_engine(
            "sqlite://",
            creator=partial(self._open, writes=writes),
            poolclass=QueuePool,
            pool_size=size,
            max_overflow=SNAPSHOTS,
            pool_timeout=POOL_SECONDS,
            hide_parameters=True,
        )

        @event.listens_for(engine, "begin")
        def _on_begin(connection: Connection) -> None:
            opened = _opened(connection)
            self._check(opened)
            if writes and opened.wait != self._wait:
                opened.execute(f"PRAGMA busy_timeout={int(self._wait * 1000)}")
                opened.wait = self._wait
            opened.execute("BEGIN IMMEDIATE" if writes else "BEGIN")

        return engine

    def _open(self, *, writes: bool) -> sqlite3.Connection:
        if writes and self._makes and not self._path.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its other two files the mode of this one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        found = file_id(self._path)
        connection = sqlite3.connect(
            f"file:{quote(str(self._path))}?mode=rw",
            uri=True,
            timeout=self._wait if writes else self._patience,
            check_same_thread=False,
            factory=_Connection,
            isolation_level=None,  # transactions are begun above, not by the driver's guess
        )
        try:
            connection.file = found
            self._check(connection)
            _log_ahead(connection, self._wait if writes else self._patience)
            for pragma in (*_PRAGMAS, *(() if writes else ("query_only=ON",))):
                connection.execute(f"PRAGMA {pragma}")
            self._index = file_id(self._path.with_name(f"{self._path.name}-shm"))
        except BaseException:
            connection.close()
            raise
        return connection


def _log_ahead(connection: sqlite3.Connection, patience: float) -> None:
    """Have a database log ahead. Who else does so with a new one at the same moment is not waited for by SQLite."""
    end = time.monotonic() + patience
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not _is_locked(error) or time.monotonic() >= end:
                raise
            time.sleep(_RETRY_SECONDS)
        else:
            return


def _opened(connection: Connection) -> _Connection:
    return cast("_Connection", connection.connection.dbapi_connection)


def _is_locked(error: Exception) -> bool:
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    return code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}


def _sqlite_fault(cause: sqlite3.Error) -> Fault:
    # Primary codes of sqlite.org/rescode.html; the higher bits tell details.
    code = getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF
    if code in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PERM}:
        return Fault.REFUSED
    if code in {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOMEM,
    }:
        return Fault.AWAY
    return Fault.NONE
