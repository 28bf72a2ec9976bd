"""A database for each test, of both sorts."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.real_postgres import RealPostgres

from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.telemetry import make_logger


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of an empty database; what asks for it runs once with each sort."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    server: RealPostgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def database_log() -> io.StringIO:
    """What the database logs."""
    return io.StringIO()


@pytest.fixture
async def database(database_url: str, database_log: io.StringIO) -> AsyncIterator[Database]:
    """A database with all tables."""
    logger = make_logger("info", "json", database_log)
    # A machine under load is slow, and no database of a test goes away by itself.
    one = Database(DatabaseAddress.parse(database_url), logger, pause=0.05, patience=60.0)
    await one.start()
    yield one
    await one.aclose()


MakeLedger = Callable[..., Awaitable[SqlLedger]]


@pytest.fixture
async def make_ledger(database: Database, tmp_path: Path, database_log: io.StringIO) -> AsyncIterator[MakeLedger]:
    """How a test makes ledgers, of the same database unless it says otherwise; all are closed at its end."""
    made: list[SqlLedger] = []

    async def make(on: Database | None = None, **options: Any) -> SqlLedger:
        folder = options.pop("spool", tmp_path / "spool")
        one = SqlLedger(on or database, Spool(folder), make_logger("info", "json", database_log), **options)
        await one.start()
        made.append(one)
        return one

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
async def ledger(make_ledger: MakeLedger) -> SqlLedger:
    """A ledger on that database."""
    return await make_ledger()
