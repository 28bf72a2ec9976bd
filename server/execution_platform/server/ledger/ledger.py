"""The one door that chats come through: reserve before an attempt, settle before the end is told.

What chats ask for at the same time is done in one transaction (group commit), so under load no chat pays for one of
its own. Nobody here knows of gRPC, adapters or plans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from execution_platform.server.ledger.facts import Demand, Facts, Spend
from execution_platform.v1 import cost_pb2

__all__ = ["Lease", "Ledger"]


@dataclass(slots=True)
class Lease:
    """What one attempt holds of the budgets that it touches.

    Attributes:
        facts: of the chat.
        attempt: number of the attempt within the chat, from 1.
        provider: who is asked.
        model: its model.
        held: what is held; of each budget this much, in the unit that it limits.
        known: what the attempt is known to have spent so far. Set by whoever watches the stream; it is written down
            with the next renewal, and is what is settled if this process ends.
        budgets: ids of the budgets that it holds a part of.
    """

    facts: Facts
    attempt: int
    provider: str
    model: str
    held: Demand
    known: Demand = field(default_factory=Demand)
    budgets: tuple[str, ...] = ()


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
        self, facts: Facts, attempt: int, provider: str, model: str, demand: Demand, stub: cost_pb2.UsageRecord
    ) -> Lease | None:
        """Hold the worst case of an attempt in every budget that it touches: all of them, or none.

        Args:
            facts: of the chat.
            attempt: number of the attempt within the chat, from 1.
            provider: who is to be asked.
            model: its model.
            demand: what it may spend at most.
            stub: the chat's record if nothing more were ever heard of it.

        Returns:
            What is held; None: it touches no budget.

        Raises:
            BudgetExceededError: a hard budget has no room. Says which, how much is left and when it begins anew.
            LedgerUnavailableError: the database is away, and chats are to be refused then.
        """
        ...

    async def extend(self, lease: Lease, demand: Demand) -> None:
        """Hold so much in place of what a lease holds, because more is being spent than was thought.

        Raises:
            BudgetExceededError: there is no room; the lease stays as it is.
            LedgerUnavailableError: as for :meth:`reserve`.
        """
        ...

    async def settle(
        self, facts: Facts, record: cost_pb2.UsageRecord, spends: Sequence[Spend], leases: Sequence[Lease]
    ) -> None:
        """Write a chat's record, count what it spent, and give back what it held. Durable when this returns.

        Once begun it is carried to its end, also if the caller is cancelled meanwhile. Writing the same record twice
        leaves one. While the database is away the record goes into the spool, a durable local file that is replayed.

        Args:
            facts: of the chat.
            record: its id is that of the facts.
            spends: what each attempt that asked somebody has spent.
            leases: what is held for it.

        Raises:
            LedgerUnavailableError: neither the database nor the spool can be written. The record is kept in memory, and
                tried again while this process lives.
        """
        ...
