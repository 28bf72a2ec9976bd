"""The ledger on SQL."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts.observer import Observer, Outage
from execution_platform.server.ledger.budgets.budget_set import load_budgets, version_of
from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.ledger import Lease, Snapshot
from execution_platform.server.ledger.store.database import Absence, Database
from execution_platform.server.ledger.writing.operations import Renew, Reserve, Settle
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.server.ledger.writing.reaper import Reaper
from execution_platform.server.ledger.writing.spool import Spool, Spooled
from execution_platform.server.ledger.writing.writer import Count, Writer
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["OutageMode", "SqlLedger"]

OutageMode = Literal["refuse", "spool"]

#: Seconds between looks whether there are other budgets.
_REFRESH_SECONDS: Final = 1.0
#: Parts of a lease after which it is renewed.
_RENEWALS: Final = 3
#: Seconds between looks for spool files that others have left.
_SPOOL_SECONDS: Final = 60.0
#: Seconds between two times that old windows are deleted.
_FORGET_SECONDS: Final = 3_600.0


@dataclass(slots=True)
class _Open:
    """A chat that has reserved, and has not been settled."""

    snapshot: Snapshot
    data: bytes
    leases: int = 0


class SqlLedger:
    """Keeps account in a database. Implements :class:`..ledger.Ledger`.

    Args:
        database: where. Started and closed by its owner.
        spool: takes records that the database cannot.
        logger: is told what somebody should look at.
        outage: what chats do while the database is away.
        lease_seconds: how long what a chat holds stays held without a word of its server.
        observers: see what is written.
        clock: microseconds since the epoch.
        count: is told of each transaction: how much it did, and how many seconds it took.

    Attributes:
        budgets: all budgets, as this process knows them.
    """

    def __init__(
        self,
        database: Database,
        spool: Spool,
        logger: Logger,
        *,
        outage: OutageMode = "refuse",
        lease_seconds: float = 60.0,
        observers: Sequence[Observer] = (),
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        count: Count = lambda _size, _seconds: None,
    ) -> None:
        self.budgets = Budgets(-1, ())
        self._database = database
        self._spool = spool
        self._logger = logger
        self._outage = outage
        self._lease_seconds = lease_seconds
        self._observers = observers
        self._clock = clock
        self._open: dict[str, _Open] = {}
        #: Neither the database nor the spool could take them.
        self._unwritten: list[cost_pb2.UsageRecord] = []
        self._spooled = 0
        self._refused = 0
        self._returning = False
        self._reap_from = 0.0
        self._replaying = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []
        self._writer = Writer(database, self, observers, self._keep, logger, clock, count)
        self._reaper = Reaper(database, self, observers, lambda: set(self._open), logger, clock)
        database.on_return(self._returned)

    async def start(self) -> None:
        """Begin. The database has been started."""
        self._writer.start()
        with contextlib.suppress(LedgerUnavailableError):
            await self.refresh()
        interval = self._lease_seconds / _RENEWALS
        self._reap_from = time.monotonic() + interval
        self._tasks = [
            asyncio.create_task(self._each(_REFRESH_SECONDS, self.refresh), name="ledger-budgets"),
            asyncio.create_task(self._each(_REFRESH_SECONDS, self._catch_up), name="ledger-late"),
            asyncio.create_task(self._each(interval, self._renew), name="ledger-renewals"),
            asyncio.create_task(self._each(interval, self._reap), name="ledger-reaper"),
            asyncio.create_task(self._each(_FORGET_SECONDS, self._reaper.forget), name="ledger-windows"),
            asyncio.create_task(self._each(_SPOOL_SECONDS, self.replay, at_once=True), name="ledger-spool"),
        ]

    async def aclose(self) -> None:
        """Write what waits, and end. Idempotent."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._writer.aclose()
        if self._unwritten:
            await self._keep_unwritten()
        await asyncio.to_thread(self._spool.close)

    @property
    def spooled(self) -> int:
        """Records of this process that wait for the database."""
        return self._spooled + len(self._unwritten)

    # --- what chats ask for

    def touches(self, facts: Facts, provider: str, model: str) -> bool:
        """Return whether an attempt touches any budget, as far as this process knows."""
        return bool(self.budgets.touched(facts, provider, model))

    def admit(self) -> None:
        """Let a chat begin, or not.

        Raises:
            LedgerUnavailableError: the database is away, and chats are to be refused then; or nothing can be written.
        """
        if self._unwritten or (self._outage == "refuse" and not self._database.available):
            self._refused += 1
            raise self._turned_away()

    def _turned_away(self) -> LedgerUnavailableError:
        if self._unwritten:
            return LedgerUnavailableError(
                "neither the ledger's database nor its spool can be written: see to the database and to the space in "
                "EP_LEDGER_SPOOL"
            )
        return LedgerUnavailableError(
            f"{self._database.absence}, and no chat begins without it: see to the database, or "
            "set EP_LEDGER_OUTAGE=spool to let chats go on, whose records are written later"
        )

    async def reserve(
        self,
        facts: Facts,
        attempt: int,
        provider: str,
        model: str,
        demand: Demand,
        snapshot: Snapshot,
        *,
        least: Demand | None = None,
    ) -> Lease | None:
        """Hold the worst case of an attempt in every budget that it touches: all of them, or none."""
        if not self.touches(facts, provider, model):
            return None
        data = snapshot().SerializeToString()
        chat = self._open.get(facts.id)
        if chat is None:
            chat = self._open[facts.id] = _Open(snapshot, data)
        chat.leases += 1
        lease = Lease(facts, attempt, provider, model, demand, snapshot)
        try:
            held = await self._hold(lease, demand, data, least=least)
        except Exception:
            # Nothing was held. One that is cancelled may have been: then the chat stays to be settled.
            self._forget(facts.id)
            raise
        if held is None:
            self._forget(facts.id)
            return None
        lease.held = held
        return lease

    async def extend(self, lease: Lease, demand: Demand) -> None:
        """Hold so much in place of what a lease holds."""
        await self._hold(lease, demand, lease.snapshot().SerializeToString(), extends=True)
        lease.held = demand

    async def settle(self, facts: Facts, record: cost_pb2.UsageRecord) -> None:
        """Write a chat's record, count what it spent, and give back all that it held."""
        holds = self._open.pop(facts.id, None) is not None
        await self._writer.do(Settle(Posting.of(record, facts=facts), holds))

    async def post(self, postings: Sequence[Posting]) -> list[bool]:
        """Write records of work that no chat of this server did: told ones, and corrections.

        Args:
            postings: the records; each counts for budgets by its entries.

        Returns:
            For each whether it is new; False: one with its id or idempotency key is there.

        Raises:
            LedgerUnavailableError: the database is away. Nothing has been written, or all of it.
        """
        settles = [Settle(each) for each in postings]
        work = partial(self._writer.run, operations=settles, again=True)
        return [bool(each) for each in await self._database.write(work)]

    async def refresh(self) -> None:
        """Take note of budgets that have been changed, here or by another process.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        version = await self._database.read(version_of)
        if version != self.budgets.version:
            budgets = await self._database.read(load_budgets)
            if budgets.version > self.budgets.version:
                self.budgets = budgets

    # --- what goes on behind

    async def _hold(
        self, lease: Lease, demand: Demand, data: bytes, *, extends: bool = False, least: Demand | None = None
    ) -> Demand | None:
        """Return what is held; None where the database is away and chats go on."""
        until = self._clock() + int(self._lease_seconds * 1_000_000)
        reserve = Reserve(lease.facts, lease.attempt, lease.provider, lease.model, demand, data, until, extends, least)
        try:
            held = await self._writer.do(reserve)
        except LedgerUnavailableError:
            if self._outage == "spool":
                return None
            self._refused += 1
            if self._database.available:
                raise
            raise self._turned_away() from None
        return held if isinstance(held, Demand) else demand

    def _forget(self, chat_id: str) -> None:
        """Take back one lease of a chat; a chat without any needs no renewal."""
        chat = self._open.get(chat_id)
        if chat is not None:
            chat.leases -= 1
            if chat.leases <= 0:
                del self._open[chat_id]

    async def _keep(self, settles: Sequence[Settle]) -> None:
        """Put settlements into the spool; where that cannot be written either, remember them."""
        records = [each.posting.record for each in settles]
        try:
            await asyncio.to_thread(self._spool.append, records)
        except OSError as error:
            self._logger.exception("ledger_spool_unwritable", records=len(records))
            self._unwritten += records
            raise LedgerUnavailableError("neither the ledger's database nor its spool can be written") from error
        self._spooled += len(records)

    async def _returned(self, absence: Absence) -> None:
        """Catch up after the database was away."""
        self._returning = True
        try:
            await self._take_up(absence)
        finally:
            self._returning = False

    async def _catch_up(self) -> None:
        """Write what went into the spool just when the database came back, or was waited for in vain."""
        if self._spooled and not self._returning:
            await self.replay()

    async def _take_up(self, absence: Absence) -> None:
        # Other servers may still have to renew what their chats hold.
        self._reap_from = time.monotonic() + self._lease_seconds
        # It may be another database by now, where a version says something else.
        self.budgets = await self._database.read(load_budgets)
        await self._renew()
        spooled, refused = self._spooled, self._refused
        await self.replay()
        outage = Outage(absence.began, absence.ended, spooled, refused)
        self._refused -= refused
        for observer in self._observers:
            await self._database.write(partial(observer.outage, outage=outage))

    async def replay(self) -> None:
        """Write what the spool holds, of this process and of those that have ended, into the database.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        async with self._replaying:
            await self._keep_unwritten()
            spooled = self._spooled
            files = self._spool.take()
            while (file := await self._next(files)) is not None:
                try:
                    await self._replay(file)
                except BaseException:
                    file.later()
                    raise
                await asyncio.to_thread(file.done)
            self._spooled -= spooled

    async def _next(self, files: Iterator[Spooled]) -> Spooled | None:
        """Return the next file; nobody has it if this is cancelled."""
        taking = asyncio.ensure_future(asyncio.to_thread(next, files, None))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            if (file := await taking) is not None:
                file.later()
            raise

    async def _replay(self, file: Spooled) -> None:
        blocks = file.blocks()
        while records := await asyncio.to_thread(next, blocks, None):
            settles = [Settle(Posting.of(each), holds=True) for each in records]
            await self._database.write(partial(self._writer.run, operations=settles, again=True))
        if file.count or file.damaged:
            log = self._logger.error if file.damaged else self._logger.info
            log("ledger_spool_replayed", file=file.path.name, records=file.count, damaged=file.damaged)

    async def _keep_unwritten(self) -> None:
        """Try again to make durable what could be written nowhere."""
        records, self._unwritten = self._unwritten, []
        if records:
            try:
                await asyncio.to_thread(self._spool.append, records)
            except OSError:
                self._unwritten = records + self._unwritten

    async def _renew(self) -> None:
        """Tell that the chats of this process still run."""
        if not self._open:
            return
        until = self._clock() + int(self._lease_seconds * 1_000_000)
        for chat in self._open.values():
            try:
                chat.data = chat.snapshot().SerializeToString()
            except Exception:
                self._logger.exception("ledger_snapshot_fault")
        rows = [{"chat": chat_id, "until": until, "now": chat.data} for chat_id, chat in self._open.items()]
        await self._writer.do(Renew(rows))

    async def _reap(self) -> None:
        if time.monotonic() >= self._reap_from:
            await self._reaper.reap()

    async def _each(self, seconds: float, call: Callable[[], Awaitable[None]], *, at_once: bool = False) -> None:
        """Call something again and again. What the database's absence keeps from being done is done next time."""
        if not at_once:
            await asyncio.sleep(seconds)
        while True:
            try:
                if self._database.available:
                    await call()
                elif self._unwritten:
                    await self._keep_unwritten()
            except LedgerUnavailableError:
                pass
            except Exception:
                self._logger.exception("ledger_task_fault", task=getattr(call, "__name__", ""))
            await asyncio.sleep(seconds)
