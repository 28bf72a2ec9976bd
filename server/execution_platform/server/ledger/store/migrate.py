"""Brings the tables of a database to the form that this program knows, forward and back.

Each form has a revision in ``migrations/versions``. A database that is up to date is told so by one statement; Alembic
is only loaded where something has to be done.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, text
from sqlalchemy.dialects import postgresql, sqlite

from execution_platform.server.ledger.store.tables import state

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["HEAD", "SchemaTooNewError", "downgrade", "probe", "revision_of", "revisions", "upgrade"]

#: The revision that this program works with: the newest of ``migrations/versions``.
HEAD: Final = "0002"

#: PostgreSQL's advisory lock of whoever changes tables: "epmigrat" as a number.
_LOCK: Final = 0x65706D6967726174


class SchemaTooNewError(Exception):
    """The tables have been made, or changed, by a newer program."""


def revision_of(connection: Connection) -> str:
    """Return the revision of a database; empty: it has no tables yet."""
    if not connection.dialect.has_table(connection, "alembic_version"):
        return ""
    return str(connection.scalar(text("SELECT version_num FROM alembic_version")) or "")


def upgrade(connection: Connection, target: str = HEAD) -> str:
    """Bring a database forward. All of it is done, or nothing.

    Args:
        connection: within a transaction that writes.
        target: a revision.

    Returns:
        The revision that it had before.

    Raises:
        SchemaTooNewError: the database has a revision that this program does not know.
    """
    if (before := revision_of(connection)) == target:
        return before
    before = _locked(connection)
    if before != target:
        from alembic import command  # noqa: PLC0415 - heavy, and rarely needed

        command.upgrade(_config(connection), target)
    return before


def downgrade(connection: Connection, target: str) -> str:
    """Bring a database back. What the older form has no place for is lost.

    Args:
        connection: within a transaction that writes.
        target: a revision, or ``base`` for no tables at all.

    Returns:
        The revision that it had before.

    Raises:
        SchemaTooNewError: the database has a revision that this program does not know.
    """
    before = _locked(connection)
    from alembic import command  # noqa: PLC0415 - heavy, and rarely needed

    command.downgrade(_config(connection), target)
    return before


def revisions() -> list[tuple[str, str]]:
    """Return all revisions that this program knows with what each does, the oldest first."""
    from alembic.script import ScriptDirectory  # noqa: PLC0415 - heavy, and rarely needed

    script = ScriptDirectory.from_config(_config(None))
    return [(each.revision, each.doc) for each in reversed(list(script.walk_revisions()))]


def probe(connection: Connection) -> None:
    """Write something of no importance: whether that can be done is what nothing else tells."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = {"name": "probe", "value": time.time_ns() // 1000}
    statement = dialect.insert(state).values(row)
    connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_={"value": row["value"]}))


def _locked(connection: Connection) -> str:
    """Wait until nobody else changes tables; return the revision."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    revision = revision_of(connection)
    if revision and revision not in (known := [name for name, _ in revisions()]):
        raise SchemaTooNewError(
            f"its tables have the revision {revision!r}, and this program knows {known[-1]!r} as the newest: "
            "run a newer release, or bring the tables back with the release that made them (ep database downgrade)"
        )
    return revision


def _config(connection: Connection | None) -> Config:
    from alembic.config import Config  # noqa: PLC0415 - heavy, and rarely needed

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    return config
