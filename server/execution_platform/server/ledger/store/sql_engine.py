"""What a database is asked for: one transaction for each piece of work, which is a function of a Connection."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection

__all__ = ["POOL_SECONDS", "SNAPSHOTS", "Fault", "Snapshot", "SqlEngine"]

T = TypeVar("T")

#: Snapshots at the same time. They have connections of their own, however long they last.
SNAPSHOTS: Final = 2
#: Seconds to wait for a connection of a pool.
POOL_SECONDS: Final = 5.0


class Fault(Enum):
    """What a failure says of the database."""

    NONE = auto()  # nothing: the work is wrong
    PASSING = auto()  # the same work may succeed at once: another transaction was in the way
    BUSY = auto()  # it is in use for longer than the work was to wait, which says nothing of others
    LOST = auto()  # the connection broke; another one may do
    AWAY = auto()  # it cannot be used now
    REFUSED = auto()  # it is there, and will not have us: somebody has to mend the configuration


class Snapshot(Protocol):
    """One state of a database, whatever is written meanwhile."""

    async def __call__(self, work: Callable[[Connection], T]) -> T:
        """Run work that reads it. One piece of work after the other."""
        ...


class SqlEngine(Protocol):
    """A database."""

    async def run(
        self, work: Callable[[Connection], T], *, writes: bool, patient: bool = False, brief: bool = False
    ) -> T:
        """Run work in one transaction, which is durable when this returns.

        Whoever is cancelled does not know whether it was done.

        Args:
            work: what to do.
            writes: whether it does more than read.
            patient: it may take any time, as changes of tables do; a database that is not there yet is made.
            brief: it can be done another time, and is not worth that chats wait for it.
        """
        ...

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Snapshot]:
        """Hold one state of the database while the context is entered, for work that is done piece by piece."""
        ...

    def fault_of(self, error: BaseException) -> Fault:
        """Return what a failure says."""
        ...

    async def forget(self) -> None:
        """Close connections that are not in use: they may be of no use any more."""
        ...

    async def aclose(self) -> None:
        """Close. Idempotent."""
        ...
