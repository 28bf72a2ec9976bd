"""How work reaches a database: one transaction for each piece of work, which is a function of a Connection.

Work is the same for both databases and synchronous. With PostgreSQL it runs on the event loop, where SQLAlchemy lets
it wait for asyncpg. With SQLite it runs in a thread of its own: handing each statement to another thread, as aiosqlite
does, costs more than the statement (docs/decisions/2026-11-21-sqlite-in-one-thread.md).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import ssl
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from enum import Enum, auto
from typing import Any, Protocol, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.pool import QueuePool

from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.ledger.address import DatabaseAddress

__all__ = ["SNAPSHOTS", "Fault", "PostgresEngine", "Snapshot", "SqlEngine", "SqliteEngine", "make_engine"]

T = TypeVar("T")

#: Transactions that read at the same time, in SQLite; and connections to PostgreSQL, the writer's among them.
_READERS = 4
_CONNECTIONS = 8
#: Snapshots at the same time. They have connections of their own, however long they last.
SNAPSHOTS = 2
#: Seconds to wait for a connection of the pool.
_POOL_SECONDS = 5.0


class Fault(Enum):
    """What a failure says of the database."""

    NONE = auto()  # nothing: the work is wrong
    PASSING = auto()  # the same work may succeed at once: another transaction was in the way
    LOST = auto()  # the connection broke; another one may do
    AWAY = auto()  # it cannot be used now
    REFUSED = auto()  # it is there, and will not have us: somebody has to mend the configuration


class Snapshot(Protocol):
    """One state of a database, whatever is written meanwhile."""

    async def __call__(self, work: Callable[[Connection], T]) -> T:
        """Run work that reads it. One piece of work after the other."""
        ...


class SqlEngine(Protocol):
    """A database."""

    async def run(self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False) -> T:
        """Run work in one transaction, which is durable when this returns.

        Whoever is cancelled does not know whether it was done.

        Args:
            work: what to do.
            writes: whether it does more than read.
            patient: it may take any time, as changes of tables do.
        """
        ...

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Snapshot]:
        """Hold one state of the database while the context is entered, for work that is done piece by piece."""
        ...

    def fault_of(self, error: BaseException) -> Fault:
        """Return what a failure says."""
        ...

    async def forget(self) -> None:
        """Close connections that are not in use: they may be of no use any more."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...


def make_engine(address: DatabaseAddress, patience: float) -> SqlEngine:
    """Return the engine for an address. Nothing is opened yet.

    Args:
        address: where the database is.
        patience: seconds after which it counts as away: for SQLite, to wait for the lock of another process, which
            is held for milliseconds; for PostgreSQL, to connect, and to do what writes.

    Raises:
        ConfigurationError: the driver is missing.
    """
    return SqliteEngine(address, patience) if address.dialect == "sqlite" else PostgresEngine(address, patience)


class SqliteEngine:
    """A SQLite file: one thread writes, a few read beside it (WAL).

    Args:
        address: the file. It is made, readable for its owner only, and so is its folder.
        patience: seconds to wait for the lock of another process.
    """

    def __init__(self, address: DatabaseAddress, patience: float) -> None:
        self._path = address.path
        self._writer = _sqlite_engine(address, patience, "BEGIN IMMEDIATE", 1)
        self._reader = _sqlite_engine(address, patience, "BEGIN", _READERS)
        self._write_thread = ThreadPoolExecutor(1, "ledger-write")
        self._read_threads = ThreadPoolExecutor(_READERS, "ledger-read")

    async def run(self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False) -> T:
        """Run work in a thread. SQLite is never waited for but where another process has the lock."""
        del patient
        threads, engine = (self._write_thread, self._writer) if writes else (self._read_threads, self._reader)
        return await asyncio.get_running_loop().run_in_executor(threads, self._run, engine, work)

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        if engine is self._writer and not self._path.exists():
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # SQLite gives its other two files the mode of this one.
            os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with engine.begin() as connection:
            return work(connection)

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
        if isinstance(error, PoolTimeoutError):
            return Fault.AWAY
        return Fault.REFUSED if isinstance(error, OSError) else Fault.NONE

    async def forget(self) -> None:
        """Close connections: the file may be another one by now."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._write_thread, self._dispose)

    async def aclose(self) -> None:
        """Close the file, once what runs has ended."""
        await self.forget()
        self._write_thread.shutdown(wait=False)
        self._read_threads.shutdown(wait=False)

    def _dispose(self) -> None:
        self._reader.dispose()
        self._writer.dispose()


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


def _sqlite_engine(address: DatabaseAddress, patience: float, begin: str, size: int) -> Engine:
    engine = create_engine(
        URL.create("sqlite", database=str(address.path)),
        poolclass=QueuePool,
        pool_size=size,
        max_overflow=SNAPSHOTS,
        pool_timeout=_POOL_SECONDS,
        connect_args={"timeout": patience, "check_same_thread": False},
        hide_parameters=True,
    )

    @event.listens_for(engine, "connect")
    def _on_connect(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun below, not by the driver's guess
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "journal_size_limit=67108864"):
            connection.execute(f"PRAGMA {pragma}")
        if begin == "BEGIN":
            connection.execute("PRAGMA query_only=ON")

    @event.listens_for(engine, "begin")
    def _on_begin(connection: Connection) -> None:
        connection.connection.cursor().execute(begin)

    return engine


class PostgresEngine:
    """A PostgreSQL server, through asyncpg.

    Args:
        address: where it is.
        patience: seconds to connect, and to do what writes.

    Raises:
        ConfigurationError: asyncpg is missing.
    """

    def __init__(self, address: DatabaseAddress, patience: float) -> None:
        try:
            import asyncpg  # noqa: F401, PLC0415 - an extra: servers with SQLite do without it
        except ImportError:
            raise ConfigurationError(
                ["EP_DATABASE_URL: needs the package asyncpg: pip install 'execution-platform[postgresql]'"]
            ) from None
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - as above

        self._patience = patience
        url = URL.create(
            "postgresql+asyncpg",
            username=address.user or None,
            password=address.password.get_secret_value() or None,
            host=address.host or None,
            port=address.port,
            database=address.name or None,
        )
        self._engine = create_async_engine(
            url,
            pool_size=_CONNECTIONS,
            max_overflow=SNAPSHOTS,
            pool_timeout=_POOL_SECONDS,
            pool_use_lifo=True,
            connect_args=_connect_arguments(address, patience),
            hide_parameters=True,
        )
        self._reader = self._engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)

    async def run(self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False) -> T:
        """Run work on the event loop."""
        if not writes:
            async with self._reader.begin() as connection:
                return await connection.run_sync(work)
        async with asyncio.timeout(None if patient else self._patience), self._engine.begin() as connection:
            return await connection.run_sync(work)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Run work on the event loop, in one transaction."""
        async with self._reader.begin() as connection:

            async def run(work: Callable[[Connection], T]) -> T:
                return await connection.run_sync(work)

            yield run

    def fault_of(self, error: BaseException) -> Fault:
        """Return what a failure says."""
        if isinstance(error, DBAPIError) and error.connection_invalidated:
            return Fault.LOST
        # One that fails to connect comes as the driver raised it.
        cause: Any = error.orig if isinstance(error, DBAPIError) else error
        state = getattr(cause, "sqlstate", None)
        if isinstance(state, str):
            return _postgres_fault(state)
        if isinstance(error, ssl.SSLCertVerificationError):
            return Fault.REFUSED
        # A time-out is an OSError, too.
        return Fault.AWAY if isinstance(error, OSError | PoolTimeoutError) else Fault.NONE

    async def forget(self) -> None:
        """Close connections that wait in the pool."""
        await self._engine.dispose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._engine.dispose()


def _connect_arguments(address: DatabaseAddress, patience: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "timeout": patience,
        # Compiling a plan to machine code takes longer than any statement of a chat.
        "server_settings": {"application_name": "execution-platform", "jit": "off"},
    }
    if mode := address.options.get("sslmode"):
        arguments["ssl"] = mode
    if wanted := address.options.get("target_session_attrs"):
        arguments["target_session_attrs"] = wanted
    return arguments


def _postgres_fault(state: str) -> Fault:
    """Return what an SQLSTATE says. Source: postgresql.org/docs, appendix "PostgreSQL Error Codes"."""
    if state in {"40001", "40P01", "55P03"}:
        return Fault.PASSING
    if state[:2] == "08":
        return Fault.LOST
    if state[:2] in {"53", "57", "58"} or state == "25006":
        return Fault.AWAY
    return Fault.REFUSED if state[:2] in {"28", "3D"} or state == "42501" else Fault.NONE
