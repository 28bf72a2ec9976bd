"""PostgreSQL, through asyncpg.

What writes runs on the event loop: a statement of a chat waits for the network, and is little work otherwise. What
reads may turn a hundred thousand rows into sums, for which no chat is to wait, so it has a loop in another thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from sqlalchemy import URL, Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.loop_thread import LoopThread
from execution_platform.server.ledger.store.sql_engine import POOL_SECONDS, SNAPSHOTS, Fault, Snapshot

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["PostgresEngine"]

T = TypeVar("T")

#: Connections for what writes, the writer of chats among them, and for what reads. With snapshots they are ten.
_WRITERS: Final = 4
_READERS: Final = 4


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
        make = partial(
            create_async_engine,
            url,
            pool_timeout=POOL_SECONDS,
            pool_use_lifo=True,
            connect_args=_connect_arguments(address, patience),
            hide_parameters=True,
        )
        self._writer = make(pool_size=_WRITERS, max_overflow=0)
        self._reads = make(pool_size=_READERS, max_overflow=SNAPSHOTS)
        self._reader = self._reads.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        self._beside = LoopThread("ledger-read")

    async def run(
        self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False, brief: bool = False
    ) -> T:
        """Run work: what writes on the event loop, what reads, which may be a great deal, beside it."""
        del brief  # nobody waits for work but who asked for it
        if not writes:
            return await self._beside.run(self._read(work))
        async with asyncio.timeout(None if patient else self._patience), self._writer.begin() as connection:
            return await connection.run_sync(work)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        async with self._reader.begin() as connection:
            return await connection.run_sync(work)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Run work beside the event loop, in one transaction, one after the other, the clean-up last."""
        one = _Held(self._reader)
        try:
            await self._beside.run(one.open())

            async def run(work: Callable[[Connection], T]) -> T:
                return await self._beside.run(one.run(work))

            yield run
        finally:
            await asyncio.shield(asyncio.ensure_future(self._beside.run(one.close())))

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
        if isinstance(error, PoolTimeoutError):
            return Fault.BUSY
        return Fault.AWAY if isinstance(error, OSError) else Fault.NONE

    async def forget(self) -> None:
        """Close connections that wait in the pools."""
        await self._writer.dispose()
        await self._beside.run(self._reads.dispose())

    async def aclose(self) -> None:
        """Close all connections."""
        await self.forget()
        await self._beside.aclose()


class _Held:
    """A transaction that stays open. Of the loop that reads."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._stack = contextlib.AsyncExitStack()
        self._connection: AsyncConnection | None = None
        # Whoever is cancelled does not wait for what runs here still.
        self._turn = asyncio.Lock()

    async def open(self) -> None:
        async with self._turn:
            # It only reads, so nothing has to be committed, least of all after its user was cancelled.
            self._connection = await self._stack.enter_async_context(self._engine.connect())

    async def run(self, work: Callable[[Connection], T]) -> T:
        async with self._turn:
            assert self._connection is not None  # noqa: S101 - it has been opened
            return await self._connection.run_sync(work)

    async def close(self) -> None:
        async with self._turn:
            await self._stack.aclose()


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
