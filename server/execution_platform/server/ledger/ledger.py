"""The one door that chats come through: reserve before an attempt, settle before the end is told.

What chats ask for at the same time is done in one transaction (group commit), so under load no chat pays for one of
its own. Nobody here knows of gRPC, adapters or plans.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.v1 import cost_pb2

__all__ = ["Lease", "Ledger", "Snapshot"]

#: What a chat's record would be if nothing more were ever heard of it: outcome LOST, each attempt with what is known
#: of its usage and cost by now. Called when something is reserved and with each renewal, on the event loop, until the
#: chat is settled.
Snapshot = Callable[[], cost_pb2.UsageRecord]


@dataclass(slots=True)
class Lease:
    """What one attempt holds of the budgets that it touches. It is renewed until the chat is settled.

    Attributes:
        facts: of the chat.
        attempt: number of the attempt within the chat, from 1.
        provider: who is asked.
        model: its model.
        held: what is held; of each budget this much, in the unit that it limits.
        snapshot: tells what is known of the chat.
    """

    facts: Facts
    attempt: int
    provider: str
    model: str
    held: Demand
    snapshot: Snapshot


class Ledger(Protocol):
    """Keeps the account of all chats. All methods may be called by many chats at once."""

    def touches(self, facts: Facts, provider: str, model: str) -> bool:
        """Return whether an attempt touches any budget, as far as this process knows. Asks nobody."""
        ...

    def admit(self) -> None:
        """Let a chat begin, or not. Asks nobody.

        Raises:
            LedgerUnavailableError: the database is known to be away, and chats are to be refused then.
        """
        ...

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
        """Hold the worst case of an attempt in every budget that it touches: all of them, or none.

        A chat that called this, whatever came of it and also if it was cancelled, must be settled at its end.

        Args:
            facts: of the chat.
            attempt: number of the attempt within the chat, from 1.
            provider: who is to be asked.
            model: its model.
            demand: what it may spend at most.
            snapshot: tells what is known of the chat.
            least: what to hold where there is no room for all that it may spend; None: then it is refused.

        Returns:
            What is held, by its `held`; None: it touches no budget, or the database is away and chats go on.

        Raises:
            BudgetExceededError: a hard budget has no room. Says which, how much is left and when it begins anew.
            LedgerUnavailableError: the database is away, and chats are to be refused then.
        """
        ...

    async def extend(self, lease: Lease, demand: Demand) -> None:
        """Hold so much in place of what a lease holds.

        More where more is spent than was thought; less where an attempt has ended and others follow.

        Raises:
            BudgetExceededError: there is no room for more; the lease stays as it is.
            LedgerUnavailableError: as for :meth:`reserve`.
        """
        ...

    async def settle(self, facts: Facts, record: cost_pb2.UsageRecord) -> None:
        """Write a chat's record, count what it spent, and give back all that it held. Durable when this returns.

        What budgets count is what the record's attempts cost. Once begun it is carried to its end, also if the caller
        is cancelled meanwhile. Writing the same record twice leaves one. While the database is away the record goes
        into the spool, a durable local file that is replayed.

        Args:
            facts: of the chat.
            record: its id is that of the facts.

        Raises:
            LedgerUnavailableError: neither the database nor the spool can be written. The record is kept in memory, and
                tried again while this process lives.
        """
        ...
