"""The ledger's database: pieces of work, each in one transaction, and whether it can be used at all.

::

    total = await database.read(lambda connection: connection.scalar(select(func.count()).select_from(usage_records)))
    await database.write(partial(insert_alert, alert))

Work is a synchronous function of a Connection. It may be run more than once, so it must be such that this does no harm;
it must not wait for anything else, nor touch what belongs to the event loop (with SQLite it runs in another thread).

While the database is away, work is refused at once, without trying. Only the keeper tries, each `pause` seconds; it
tells the log once when the database goes and once when it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.errors import LedgerUnavailableError, ServerOverloadedError
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.engines import SNAPSHOTS, Fault, Snapshot, make_engine
from execution_platform.server.ledger.store.migrate import SchemaTooNewError, probe, upgrade
from execution_platform.server.telemetry import Logger

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Absence", "Database"]

T = TypeVar("T")

#: Seconds before work is tried again that another transaction or a lost connection was in the way of.
_PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2)
_LOST_TRIES = 2
_PATIENCE = {"sqlite": 3.0, "postgresql": 8.0}


@dataclass(frozen=True, slots=True)
class Absence:
    """A time in which the database could not be used, in microseconds since the epoch."""

    began: int
    ended: int


class Database:
    """The database.

    Args:
        address: where it is.
        logger: is told when it goes and comes.
        pause: seconds between looks whether it is back.
        patience: seconds after which one that does not answer, or is locked, counts as away. Three with SQLite, whose
            lock is held for milliseconds; eight with PostgreSQL, where others may have a network to cross.

    Attributes:
        available: whether it could be used last.

    Raises:
        ConfigurationError: its driver is missing.
    """

    def __init__(
        self, address: DatabaseAddress, logger: Logger, *, pause: float = 0.5, patience: float | None = None
    ) -> None:
        self.address = address
        self.available = False
        self._engine = make_engine(address, _PATIENCE[address.dialect] if patience is None else patience)
        self._logger = logger
        self._pause = pause
        self._began = 0
        self._snapshots = 0
        self._keeper: asyncio.Task[None] | None = None
        self._on_return: list[Callable[[Absence], Awaitable[None]]] = []

    async def start(self) -> None:
        """Make the tables, or bring them up to date. While the database is away, go on and do so when it comes.

        Raises:
            ConfigurationError: the database is there and refuses, or its tables are newer than this program.
        """
        try:
            await self._prepare()
        except SchemaTooNewError as error:
            raise ConfigurationError([f"EP_DATABASE_URL: {self.address}: {error}"]) from error
        except Exception as error:
            fault = self._engine.fault_of(error)
            if fault is Fault.REFUSED:
                raise ConfigurationError([f"EP_DATABASE_URL: {self.address}: {reason_of(error)}"]) from error
            if fault is Fault.NONE:
                raise
            self._went(error)

    async def _prepare(self) -> None:
        await self._engine.run(upgrade, writes=True, patient=True)
        self.available = True

    async def aclose(self) -> None:
        """Close. Idempotent."""
        keeper, self._keeper = self._keeper, None
        self.available = False
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        await self._engine.aclose()

    def on_return(self, call: Callable[[Absence], Awaitable[None]]) -> None:
        """Have something called, each time that the database is back."""
        self._on_return.append(call)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads. All of it sees one state of the database.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        return await self._run(work, writes=False)

    async def write(self, work: Callable[[Connection], T], *, brief: bool = False) -> T:
        """Run work that writes. It is durable when this returns.

        Args:
            work: what to do.
            brief: it can be done another time, so it does not wait for the lock of another process as chats do, and
                that it is locked does not make the database count as away.

        Raises:
            LedgerUnavailableError: the database is away. The work may have been done: the connection may have been lost
                after it was, before it was told.
        """
        return await self._run(work, writes=True, brief=brief)

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Snapshot]:
        """Hold one state of the database while the context is entered, for work that is read piece by piece.

        With SQLite what is written meanwhile stays in the write-ahead file, with PostgreSQL no dead row is removed: who
        holds a snapshot hurries.

        Raises:
            LedgerUnavailableError: the database is away; also from the work.
            ServerOverloadedError: SNAPSHOTS are held already.
        """
        if not self.available:
            raise self._unavailable()
        if self._snapshots >= SNAPSHOTS:
            raise ServerOverloadedError(
                f"{SNAPSHOTS} exports run already, and no more are done at once: ask again later", retry_after=5.0
            )
        self._snapshots += 1
        try:
            async with contextlib.AsyncExitStack() as stack:
                held = await self._told(stack.enter_async_context(self._engine.snapshot()))

                async def run(work: Callable[[Connection], T]) -> T:
                    return await self._told(held(work))

                yield run
        finally:
            self._snapshots -= 1

    async def _told(self, answer: Awaitable[T]) -> T:
        """Return an answer, or say that there is none to be had. Raises LedgerUnavailableError."""
        try:
            return await answer
        except Exception as error:
            fault = self._engine.fault_of(error)
            if fault is Fault.NONE:
                raise
            if fault in {Fault.AWAY, Fault.REFUSED}:
                self._went(error)
            raise self._unavailable() from error

    async def _run(self, work: Callable[[Connection], T], *, writes: bool, brief: bool = False) -> T:
        lost = 0
        for number, pause in enumerate(_PAUSES, 1):
            if not self.available:
                raise self._unavailable()
            try:
                return await self._engine.run(work, writes=writes, brief=brief)
            except Exception as error:
                fault = self._engine.fault_of(error)
                lost += fault is Fault.LOST
                if fault is Fault.NONE:
                    raise
                if fault not in {Fault.PASSING, Fault.LOST} or lost > _LOST_TRIES or number == len(_PAUSES):
                    if fault not in {Fault.PASSING, Fault.BUSY}:
                        self._went(error)
                    raise self._unavailable() from error
            await asyncio.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        raise self._unavailable()

    @property
    def absence(self) -> str:
        """What cannot be used, for whoever is turned away. Where it is, only the log tells, and why."""
        name = "SQLite file" if self.address.dialect == "sqlite" else "PostgreSQL database"
        return f"the ledger's {name} cannot be used now (the server's log says why: ledger_database_away)"

    def _unavailable(self) -> LedgerUnavailableError:
        return LedgerUnavailableError(self.absence, retry_after=max(1.0, self._pause))

    def _went(self, error: Exception) -> None:
        self.available = False
        if self._keeper is not None and not self._keeper.done():
            return
        self._began = time.time_ns() // 1000
        self._logger.error("ledger_database_away", database=str(self.address), reason=reason_of(error))
        self._keeper = asyncio.create_task(self._keep())

    async def _keep(self) -> None:
        """Wait until the database is back."""
        told = ""
        while not self.available:
            await asyncio.sleep(self._pause)
            try:
                await self._engine.forget()
                # The tables may be missing, or be of long ago: what is back may be a copy.
                await self._engine.run(upgrade, writes=True, patient=True)
                await self._engine.run(probe, writes=True)
                self.available = True
            except Exception as error:  # noqa: BLE001 - whatever it is, the next look may find it gone
                if (reason := reason_of(error)) != told:
                    told = reason
                    self._logger.warning("ledger_database_still_away", database=str(self.address), reason=reason)
        self._logger.info("ledger_database_back", database=str(self.address))
        absence = Absence(self._began, time.time_ns() // 1000)
        self._keeper = None
        for call in self._on_return:
            try:
                await call(absence)
            except LedgerUnavailableError:
                pass  # away again: there will be another return
            except Exception:
                self._logger.exception("ledger_return_fault")


def reason_of(error: BaseException) -> str:
    """Return in a line what went wrong, without the statement and its values."""
    cause = getattr(error, "orig", None) or error
    lines = str(cause).splitlines()
    return f"{type(cause).__name__}: {lines[0][:200]}" if lines else type(cause).__name__
