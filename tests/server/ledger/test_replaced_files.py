"""The SQLite file is removed or replaced under a running server: what was told to be written is there afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import io
import shutil
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.server.conftest import until
from tests.server.ledger.chats import DOLLAR, facts, money, put_budget, record

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.budgets.budget_set import load_budgets
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import usage_records
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

#: Longer than any test: the database does not come back while the server runs.
NEVER = 600.0


class Served:
    """A ledger in a file."""

    def __init__(self, path: Path, pause: float) -> None:
        logger = make_logger("info", "json", io.StringIO())
        self.path = path
        self.database = Database(DatabaseAddress.parse(f"sqlite:///{path}"), logger, pause=pause)
        self.ledger = SqlLedger(self.database, Spool(path.with_name("spool")), logger, outage="spool")
        self.settled: list[str] = []

    async def settle(self, count: int) -> None:
        """Have records written one after the other; each is noted once that was told to be done."""
        for _ in range(count):
            chat = facts()
            await self.ledger.settle(chat, record(chat, 7))
            self.settled.append(chat.id)

    async def ids(self) -> set[str]:
        query = select(usage_records.c.id)
        return set(await self.database.read(lambda connection: connection.scalars(query).all()))

    async def back(self) -> None:
        """Wait until it has noticed, and all has been caught up."""
        await until(lambda: self.database.available and self.ledger.spooled == 0)


@contextlib.asynccontextmanager
async def served(path: Path, pause: float = 0.05) -> AsyncIterator[Served]:
    one = Served(path, pause)
    await one.database.start()
    await one.ledger.start()
    try:
        yield one
    finally:
        await one.ledger.aclose()
        await one.database.aclose()


async def after_a_restart(path: Path) -> set[str]:
    """Return the records that the next server finds, or replays."""
    async with served(path) as one:
        await one.ledger.replay()
        return await one.ids()


def whole(path: Path) -> bool:
    """Whether SQLite finds nothing wrong with a file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)])


def emptied(path: Path) -> None:
    """Have all that is in the write-ahead log of a database written into its file."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0


def saved(path: Path, plain: bool) -> Path:
    """Return a copy of a database: of its file alone, or by SQLite's own means."""
    copy = path.with_name("copy.db")
    if plain:
        shutil.copy(path, copy)
    else:
        with contextlib.closing(sqlite3.connect(path)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
    return copy


@pytest.mark.parametrize("pause", [0.05, NEVER])
async def test_a_file_that_is_removed(tmp_path: Path, pause: float) -> None:
    """Records of chats that end after the file was removed are there after a restart, in a new file or the spool."""
    path = tmp_path / "ledger.db"
    async with served(path, pause) as one:
        await one.settle(5)
        path.unlink()
        one.settled.clear()
        await asyncio.gather(*(one.settle(10) for _ in range(4)))
        if pause != NEVER:
            await one.back()
            await one.settle(5)
            assert set(one.settled) <= await one.ids()
    assert set(one.settled) <= await after_a_restart(path)
    assert whole(path)


@pytest.mark.parametrize("pause", [0.05, NEVER])
@pytest.mark.parametrize("plain", [True, False])
async def test_a_file_that_is_replaced(tmp_path: Path, pause: float, plain: bool) -> None:
    """Records that are written while a copy takes the file's place are all there after a restart."""
    path = tmp_path / "ledger.db"
    async with served(path, pause) as one:
        await one.settle(5)
        writing = asyncio.gather(*(one.settle(15) for _ in range(4)))
        await until(lambda: len(one.settled) >= 15)
        copy = await asyncio.to_thread(saved, path, plain)
        copy.replace(path)
        await writing
        await one.settle(1)
        if pause != NEVER:
            await one.back()
            assert set(one.settled) <= await one.ids()
    assert set(one.settled) <= await after_a_restart(path)
    assert whole(path)


async def test_a_log_of_another_state(tmp_path: Path) -> None:
    """A copy of long ago is not mixed with the log of the file that it replaces."""
    path = tmp_path / "ledger.db"
    async with served(path) as one:
        await one.settle(5)
        first = list(one.settled)
        copy = await asyncio.to_thread(saved, path, plain=False)
        await one.settle(200)
        emptied(path)
        await one.settle(3)
        copy.replace(path)
        one.settled.clear()
        await one.settle(5)
        await one.back()
        await one.settle(5)
        assert {*first, *one.settled} <= await one.ids()
        assert (tmp_path / "ledger.db-wal.aside").exists()
    assert {*first, *one.settled} <= await after_a_restart(path)
    assert whole(path)


async def test_who_reads_notices_it_too(tmp_path: Path) -> None:
    """A read after the file was removed is told so, and makes no empty file."""
    path = tmp_path / "ledger.db"
    async with served(path, NEVER) as one:
        await one.settle(1)
        await one.ids()
        path.unlink()
        with pytest.raises(LedgerUnavailableError):
            await one.ids()
        assert not one.database.available
        assert not path.exists()


async def test_budgets_are_those_of_the_new_file(tmp_path: Path) -> None:
    """Budgets of a file that takes the place of one with newer budgets are those that hold."""
    path, other = tmp_path / "ledger.db", tmp_path / "other.db"
    async with served(other) as another:
        await another.database.write(partial(put_budget, budget=cost_pb2.Budget(id="b", limit=money(DOLLAR))))
    async with served(path) as one:
        for name in ("a", "c"):
            await one.database.write(partial(put_budget, budget=cost_pb2.Budget(id=name, limit=money(DOLLAR))))
        await one.ledger.refresh()
        assert [each.budget.id for each in one.ledger.budgets] == ["a", "c"]
        emptied(path)
        other.replace(path)
        await one.settle(1)
        await one.back()
        assert [each.budget.id for each in await one.database.read(load_budgets)] == ["b"]
        assert [each.budget.id for each in one.ledger.budgets] == ["b"]
