"""Who waits for whom: for locks of other processes, and for those who read a great deal."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, text

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.engines import Fault, make_engine
from execution_platform.server.ledger.store.migrate import probe, upgrade
from execution_platform.server.telemetry import make_logger


def thread_of(connection: Connection) -> int:
    """Do some work, and tell the thread."""
    assert connection.scalar(text("SELECT 1")) == 1
    return threading.get_ident()


async def test_reading_holds_up_no_chat(database: Database) -> None:
    """What reads runs beside the event loop, in whatever database: so do pieces of a snapshot."""
    assert await database.read(thread_of) != threading.get_ident()
    async with database.snapshot() as snapshot:
        assert await snapshot(thread_of) != threading.get_ident()


async def test_a_reader_that_goes_away(database: Database) -> None:
    """A snapshot whose user is cancelled amid its work is closed, and the database can be read and closed after."""
    begun = asyncio.Event()

    async def use() -> None:
        async with database.snapshot() as snapshot:
            await snapshot(thread_of)
            begun.set()
            while True:
                await snapshot(thread_of)

    for _ in range(3):
        begun.clear()
        task = asyncio.create_task(use())
        await begun.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert await database.read(thread_of)


async def test_what_waited_behind_one_that_waited_in_vain(tmp_path: Path) -> None:
    """With SQLite only the first of those that find the file locked waits; the others are told with it."""
    path = tmp_path / "ledger.db"
    engine = make_engine(DatabaseAddress.parse(f"sqlite:///{path}"), 0.3)
    await engine.run(upgrade, writes=True, patient=True)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = [asyncio.ensure_future(engine.run(probe, writes=True)) for _ in range(6)]
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        assert waiting[0] in done
        other.execute("ROLLBACK")
    told = await asyncio.gather(*waiting, return_exceptions=True)
    faults = [engine.fault_of(each) for each in told if isinstance(each, BaseException)]
    assert faults == [Fault.AWAY, *[Fault.BUSY] * 5]
    await engine.run(probe, writes=True)
    await engine.aclose()


async def test_work_for_another_time(tmp_path: Path) -> None:
    """Brief work that finds the file locked is turned away, and chats go on counting on the database."""
    path = tmp_path / "ledger.db"
    database = Database(DatabaseAddress.parse(f"sqlite:///{path}"), make_logger("info", "json", io.StringIO()))
    await database.start()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerUnavailableError):
            await database.write(probe, brief=True)
        assert database.available
    await database.write(probe)
    await database.aclose()
