"""How work reaches a database: one transaction for each piece of work, which is a function of a Connection.

Work is the same for both databases and synchronous. With PostgreSQL SQLAlchemy lets it wait for asyncpg: what writes
runs on the event loop, what reads on a loop in a thread of its own. With SQLite it runs in a thread: handing each
statement to another thread, as aiosqlite does, costs more than the statement
(docs/decisions/2026-11-21-sqlite-in-one-thread.md).
"""

from __future__ import annotations

from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.postgres_engine import PostgresEngine
from execution_platform.server.ledger.store.sql_engine import SNAPSHOTS, Fault, Snapshot, SqlEngine
from execution_platform.server.ledger.store.sqlite_engine import SqliteEngine

__all__ = ["SNAPSHOTS", "Fault", "Snapshot", "SqlEngine", "make_engine"]


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
