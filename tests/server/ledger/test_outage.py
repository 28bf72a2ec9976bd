"""The database goes away and comes back: nothing is lost, nothing is there twice."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

import pytest
from sqlalchemy import Connection, func, select, text
from tests.real_postgres import RealPostgres, real_postgres
from tests.server.conftest import until
from tests.server.ledger.chats import DOLLAR, facts, money, put_budget, record, untrue_windows

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts.observer import Outage, Seen
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_windows, open_chats, usage_records
from execution_platform.server.ledger.writing.reaper import Reaper
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.server.ledger.writing.sql_ledger import OutageMode, SqlLedger
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

ROUTE = ("scripted", "plain")


class Switch(Protocol):
    """Takes a database away, and gives it back.

    Attributes:
        url: its address.
        patience: seconds after which it counts as away: few where nothing else tells, else many for slow machines.
    """

    url: str
    patience: float

    def off(self) -> None: ...

    def on(self) -> None: ...


class LockedFile:
    """A SQLite file that another process holds in a transaction that does not end."""

    patience = 0.5

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}"
        self._path = path
        self._holder: sqlite3.Connection | None = None

    def off(self) -> None:
        self._holder = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._holder.execute("BEGIN IMMEDIATE")

    def on(self) -> None:
        holder, self._holder = self._holder, None
        if holder is not None:
            holder.execute("ROLLBACK")
            holder.close()


class StoppedServer:
    """A PostgreSQL server that is really stopped."""

    patience = 60.0

    def __init__(self, server: RealPostgres) -> None:
        self._server = server
        self.url = server.new_database()

    def off(self) -> None:
        self._server.stop()

    def on(self) -> None:
        self._server.start()


class KilledServer(StoppedServer):
    """A PostgreSQL server that crashes."""

    def off(self) -> None:
        self._server.kill()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[RealPostgres]:
    """A server that tests may stop."""
    with real_postgres() as server:
        yield server


@pytest.fixture(params=["sqlite-locked", "postgresql-stopped", "postgresql-killed"])
def switch(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Switch]:
    """A database that can be taken away."""
    made: Switch
    if request.param == "sqlite-locked":
        made = LockedFile(tmp_path / "ledger.db")
        yield made
        made.on()
        return
    server: RealPostgres = request.getfixturevalue("own_postgres")
    yield (StoppedServer if request.param == "postgresql-stopped" else KilledServer)(server)
    if not server.running:
        server.start()


class Watcher:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.outages: list[Outage] = []

    def observe(self, connection: Connection, seen: Seen) -> None:
        del connection, seen

    def outage(self, connection: Connection, outage: Outage) -> None:
        del connection
        self.outages.append(outage)


class Served:
    """A ledger on a database that can be taken away."""

    def __init__(self, switch: Switch, folder: Path, mode: OutageMode) -> None:
        self.switch = switch
        self.log = io.StringIO()
        self.watcher = Watcher()
        logger = make_logger("info", "json", self.log)
        self.database = Database(DatabaseAddress.parse(switch.url), logger, pause=0.05, patience=switch.patience)
        self.spool = Spool(folder)
        self.ledger = SqlLedger(self.database, self.spool, logger, outage=mode, observers=[self.watcher])

    async def start(self) -> None:
        await self.database.start()
        await self.ledger.start()

    async def aclose(self) -> None:
        await self.ledger.aclose()
        await self.database.aclose()

    async def back(self) -> None:
        """Give the database back, and wait until all has been caught up."""
        told = len(self.watcher.outages)
        await asyncio.to_thread(self.switch.on)
        await until(lambda: len(self.watcher.outages) > told)

    async def reserve(self, chat: Facts, nanos: int) -> object:
        lost = record(chat, outcome=cost_pb2.USAGE_OUTCOME_LOST)
        return await self.ledger.reserve(chat, 1, *ROUTE, Demand(nanos), lambda: lost)

    async def ids(self) -> list[str]:
        query = select(usage_records.c.id).where(usage_records.c.kind == cost_pb2.USAGE_RECORD_KIND_CHAT)
        return list(await self.database.read(lambda connection: connection.scalars(query).all()))

    async def spent(self) -> tuple[int, int]:
        columns = budget_windows.c
        query = select(func.sum(columns.spent_nanos), func.sum(columns.reserved_nanos))
        row = await self.database.read(lambda connection: connection.execute(query).one())
        return int(row[0] or 0), int(row[1] or 0)


Serve = Callable[[OutageMode], contextlib.AbstractAsyncContextManager[Served]]


@pytest.fixture
def serve(switch: Switch, tmp_path: Path) -> Serve:
    """How a test makes ledgers of one database and one spool."""

    @contextlib.asynccontextmanager
    async def make(mode: OutageMode) -> AsyncIterator[Served]:
        one = Served(switch, tmp_path / "spool", mode)
        await one.start()
        try:
            yield one
        finally:
            await one.aclose()

    return make


def nothing(connection: Connection) -> None:
    """Ask for an answer, and nothing more."""
    connection.execute(text("SELECT 1"))


async def with_budget(one: Served) -> None:
    await one.database.write(partial(put_budget, budget=cost_pb2.Budget(id="all", limit=money(DOLLAR))))
    await one.ledger.refresh()


async def test_chats_that_run_lose_nothing(serve: Serve, tmp_path: Path) -> None:
    """Chats that end while the database is away are in the ledger once it is back, once each, and nothing is held."""
    async with serve("refuse") as one:
        await with_budget(one)
        chats = [facts() for _ in range(20)]
        await asyncio.gather(*(one.reserve(chat, 100) for chat in chats))
        await asyncio.to_thread(one.switch.off)
        await asyncio.gather(*(one.ledger.settle(chat, record(chat, 7)) for chat in chats))
        assert len(list((tmp_path / "spool").iterdir())) == 1
        await one.back()
        assert sorted(await one.ids()) == sorted(chat.id for chat in chats)
        assert await one.spent() == (140, 0)
        assert await one.database.read(untrue_windows) == []
        assert list((tmp_path / "spool").iterdir()) == []
        assert [outage.spooled for outage in one.watcher.outages] == [20]


async def test_new_chats_are_refused(serve: Serve) -> None:
    """With `refuse` nobody begins a chat, reserves or reads while it is away; afterwards all is as before."""
    async with serve("refuse") as one:
        await with_budget(one)
        one.ledger.admit()
        await asyncio.to_thread(one.switch.off)
        with pytest.raises(LedgerUnavailableError):
            await one.reserve(facts(), 100)
        with pytest.raises(LedgerUnavailableError, match="set EP_LEDGER_OUTAGE=spool to let chats go on") as refused:
            one.ledger.admit()
        assert ("SQLite" if "sqlite" in one.switch.url else "PostgreSQL") in str(refused.value)
        assert "made-up-word" not in str(refused.value)
        with pytest.raises(LedgerUnavailableError):
            await one.database.write(nothing)
        await one.back()
        one.ledger.admit()
        assert await one.reserve(facts(), 100) is not None
        assert one.watcher.outages[0].refused == 2


async def test_new_chats_go_on(serve: Serve) -> None:
    """With `spool` chats begin without budgets being asked, and are counted once the database is back."""
    async with serve("spool") as one:
        await with_budget(one)
        await asyncio.to_thread(one.switch.off)
        chats = [facts() for _ in range(5)]
        for chat in chats:
            one.ledger.admit()
            assert await one.reserve(chat, 2 * DOLLAR) is None
            await one.ledger.settle(chat, record(chat, DOLLAR))
        await one.back()
        assert await one.spent() == (5 * DOLLAR, 0)


async def test_a_start_without_the_database(serve: Serve, switch: Switch) -> None:
    """A server that starts while its database is away waits for it, and makes the tables when it comes."""
    if switch.url.startswith("sqlite"):
        sqlite3.connect(switch.url.removeprefix("sqlite:///")).close()
    await asyncio.to_thread(switch.off)
    async with serve("spool") as one:
        chat = facts()
        one.ledger.admit()
        await one.ledger.settle(chat, record(chat, 7))
        await one.back()
        assert await one.ids() == [chat.id]


async def test_what_a_process_left_in_the_spool_is_replayed_by_the_next(serve: Serve, tmp_path: Path) -> None:
    """Records of a process that ended while the database was away are written by the next start."""
    chats = [facts() for _ in range(3)]
    async with serve("spool") as one:
        await asyncio.to_thread(one.switch.off)
        for chat in chats:
            await one.ledger.settle(chat, record(chat, 7))
    await asyncio.to_thread(one.switch.on)
    async with serve("spool") as other:
        await other.ledger.replay()
        assert sorted(await other.ids()) == sorted(chat.id for chat in chats)
        assert list((tmp_path / "spool").iterdir()) == []


async def test_neither_database_nor_spool(serve: Serve, tmp_path: Path) -> None:
    """Where the spool cannot be written either, the caller is told, nobody begins, and the record is written later."""
    (tmp_path / "spool").write_text("a file where the folder should be")
    async with serve("spool") as one:
        await asyncio.to_thread(one.switch.off)
        chat = facts()
        with pytest.raises(LedgerUnavailableError, match="neither"):
            await one.ledger.settle(chat, record(chat, 7))
        with pytest.raises(LedgerUnavailableError):
            one.ledger.admit()
        (tmp_path / "spool").unlink()
        await one.back()
        one.ledger.admit()
        assert await one.ids() == [chat.id]


async def test_a_chat_given_up_for_lost_is_corrected(serve: Serve) -> None:
    """A record that comes after another process settled its chat as lost becomes a correction: the truth is counted."""
    async with serve("refuse") as one:
        await with_budget(one)
        chat = facts()
        lost = record(chat, 3, outcome=cost_pb2.USAGE_OUTCOME_LOST)
        await one.ledger.reserve(chat, 1, *ROUTE, Demand(100), lambda: lost)
        logger = make_logger("info", "json", one.log)
        later = Reaper(one.database, one.ledger, [], set, logger, lambda: chat.started + 10**9)
        assert await later.reap() == 1
        assert await one.spent() == (3, 0)
        await one.ledger.settle(chat, record(chat, 7, 5))
        await one.ledger.settle(chat, record(chat, 7, 5))
        assert await one.spent() == (12, 0)
        assert await one.database.read(untrue_windows) == []
        query = select(usage_records.c.kind, usage_records.c.corrects).order_by(usage_records.c.kind)
        rows = await one.database.read(lambda connection: connection.execute(query).all())
        assert [tuple(row) for row in rows] == [
            (cost_pb2.USAGE_RECORD_KIND_CHAT, None),
            (cost_pb2.USAGE_RECORD_KIND_CORRECTION, chat.id),
        ]


async def test_the_log_tells_of_it_once(serve: Serve) -> None:
    """The log has one line when the database goes and one when it is back, without its password."""
    async with serve("refuse") as one:
        await asyncio.to_thread(one.switch.off)
        for _ in range(5):
            with contextlib.suppress(LedgerUnavailableError):
                await one.database.write(nothing)
        await one.back()
        events = [json.loads(line)["event"] for line in one.log.getvalue().splitlines()]
        assert (events.count("ledger_database_away"), events.count("ledger_database_back")) == (1, 1)
        assert "made-up-word" not in one.log.getvalue()


async def test_chats_that_have_not_been_heard_of(serve: Serve) -> None:
    """After an absence chats of other servers are not given up before these could tell that they still run."""
    async with serve("refuse") as one:
        await with_budget(one)
        chat = facts()
        assert await one.reserve(chat, 100) is not None
        await asyncio.to_thread(one.switch.off)
        with contextlib.suppress(LedgerUnavailableError):
            await one.database.write(nothing)
        await one.back()
        assert await one.database.read(lambda connection: connection.scalar(select(open_chats.c.id))) == chat.id
        await one.ledger.settle(chat, record(chat, 1))
        assert await one.spent() == (1, 0)
