"""The set of budgets, and which version of it holds.

Every transaction that writes to the ledger reads the version under a shared lock, so none misses a budget that is being
made; whoever changes a budget holds the lock alone and raises the version::

    def change(connection: Connection) -> None:
        lock_alone(connection)
        ...
        raise_version(connection)

SQLite needs no lock of this kind: whoever writes is alone.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Connection, bindparam, select, text, update

from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.store.tables import budgets, state
from execution_platform.v1 import cost_pb2

__all__ = ["SET_NAME", "load_budgets", "lock_alone", "lock_shared", "raise_version", "version_of"]

#: Under which its version is in the table `state`.
SET_NAME: Final = "budgets"
#: PostgreSQL's advisory lock of the set: "epbudget" as a number.
_LOCK: Final = 0x6570627564676574

_LOCK_SHARED = text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})")
_LOCK_ALONE = text(f"SELECT pg_advisory_xact_lock({_LOCK})")
_VERSION = select(state.c.value).where(state.c.name == SET_NAME)
_RAISE = update(state).where(state.c.name == bindparam("which")).values(value=state.c.value + 1)
_ALL = select(budgets.c.data).order_by(budgets.c.id)


def lock_shared(connection: Connection) -> None:
    """Keep the set of budgets as it is until the transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_SHARED)


def lock_alone(connection: Connection) -> None:
    """Wait until no transaction relies on the set of budgets, and keep others waiting until this one ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(_LOCK_ALONE)


def version_of(connection: Connection) -> int:
    """Return the version of the set of budgets."""
    return int(connection.scalar(_VERSION) or 0)


def raise_version(connection: Connection) -> None:
    """Tell all processes that the set of budgets is another one now."""
    connection.execute(_RAISE, {"which": SET_NAME})


def load_budgets(connection: Connection) -> Budgets:
    """Return the set of budgets. Both of its statements must see the same: within a lock, or a reading transaction."""
    version = version_of(connection)
    found = [cost_pb2.Budget.FromString(data) for data in connection.scalars(_ALL)]
    return Budgets(version, found)
