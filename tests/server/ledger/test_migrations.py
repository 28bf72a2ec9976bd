"""Tables are made and changed forward and back, with what is in them."""

from __future__ import annotations

import asyncio
import io
from functools import partial
from pathlib import Path

import pytest
from sqlalchemy import Connection, insert, select, text
from tests.server.ledger.chats import DOLLAR, facts, money, put_budget, record
from tests.server.ledger.conftest import MakeLedger

from execution_platform.server.config.load import ConfigurationError
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.ledger.store import migrate
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import METADATA, alert_deliveries, alerts, state
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2


def make(url: str) -> Database:
    return Database(DatabaseAddress.parse(url), make_logger("info", "json", io.StringIO()), pause=0.05, patience=60.0)


def differences(connection: Connection) -> list[object]:
    from alembic.autogenerate import compare_metadata  # noqa: PLC0415 - heavy
    from alembic.migration import MigrationContext  # noqa: PLC0415 - heavy

    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


async def test_migrations_make_the_tables_that_the_code_uses(database: Database) -> None:
    """A database that went through all revisions has exactly the tables, columns and indexes of tables.py."""
    assert await database.read(differences) == []


def test_head_is_the_newest_revision() -> None:
    """What the program takes for up to date is the newest revision that it ships."""
    assert migrate.revisions()[-1][0] == migrate.HEAD


async def test_processes_that_start_together_upgrade_once(database_url: str) -> None:
    """Several that open an empty database at the same time all find the tables."""
    several = [make(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(each.start() for each in several))
        assert [await each.read(migrate.revision_of) for each in several] == [migrate.HEAD] * 4
        assert [each.available for each in several] == [True] * 4
    finally:
        await asyncio.gather(*(each.aclose() for each in several))


async def test_a_newer_database_is_refused(database: Database, database_url: str) -> None:
    """A program that meets tables of a newer one says so, and changes nothing."""
    await database.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")))
    other = make(database_url)
    with pytest.raises(ConfigurationError, match=r"EP_DATABASE_URL: .*'9999'.*run a newer release"):
        await other.start()
    await other.aclose()
    assert await database.read(migrate.revision_of) == "9999"


async def test_everything_goes_and_comes_back(database: Database) -> None:
    """Down to no tables and up again leaves an empty ledger of the same form."""
    await database.write(lambda connection: migrate.downgrade(connection, "base"))
    assert await database.read(lambda connection: connection.dialect.has_table(connection, "usage_records")) is False
    await database.write(migrate.upgrade)
    assert await database.read(differences) == []
    assert (await database.read(lambda c: c.scalar(select(state.c.value).where(state.c.name == "budgets")))) == 0


async def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """SQLite's folder, file, log and index can be read by nobody else."""
    one = make(f"sqlite:///{tmp_path}/new/folder/ledger.db")
    await one.start()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new/folder").iterdir()}
    folder = (tmp_path / "new/folder").stat().st_mode & 0o777
    await one.aclose()
    assert folder == 0o700
    assert modes["ledger.db"] == 0o600
    assert set(modes.values()) == {0o600}


def rows_of(connection: Connection) -> dict[str, list[tuple[object, ...]]]:
    return {
        table.name: sorted((tuple(row) for row in connection.execute(select(table))), key=repr)
        for table in METADATA.sorted_tables
    }


async def fill(database: Database, make_ledger: MakeLedger) -> None:
    """Leave something in every table."""
    await database.write(partial(put_budget, budget=cost_pb2.Budget(id="all", limit=money(DOLLAR))))
    ledger = await make_ledger()
    for number in range(20):
        chat = facts(labels={"number": str(number)})
        await ledger.reserve(chat, 1, "scripted", "plain", Demand(7), partial(record, chat))
        if number % 2:
            await ledger.settle(chat, record(chat, number, None))
    alert = {"id": "1", "topic": "made up", "kind": 1, "tenant": "acme", "created_at": 1, "data": b"\0\xff"}
    delivery = {"alert_id": "1", "target": "mail", "attempts": 1, "next_at": 1, "taken_until": 0, "last_error": "é"}
    await database.write(lambda connection: connection.execute(insert(alerts), alert))
    await database.write(lambda connection: connection.execute(insert(alert_deliveries), delivery))
    await ledger.aclose()


async def test_a_filled_database_goes_back_and_forward(database: Database, make_ledger: MakeLedger) -> None:
    """Each step back to the first revision and forward again leaves every row of every table as it was."""
    await fill(database, make_ledger)
    before = await database.read(rows_of)
    assert [name for name, rows in before.items() if not rows] == []
    names = [name for name, _ in migrate.revisions()]
    for name in [*reversed(names[:-1]), *names[1:]]:
        step = migrate.downgrade if name < await database.read(migrate.revision_of) else migrate.upgrade
        await database.write(partial(step, target=name))
        assert await database.read(migrate.revision_of) == name
    assert await database.read(rows_of) == before
    assert await database.read(differences) == []
