"""A ledger on the seam: one budget, held and counted in memory."""

from __future__ import annotations

from dataclasses import dataclass, field

from execution_platform.server.errors import BudgetExceededError, LedgerUnavailableError
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.ledger import Lease, Snapshot
from execution_platform.v1 import cost_pb2


@dataclass
class MemoryLedger:
    """Holds one hard budget, which every attempt touches.

    Attributes:
        nanos: most that may be spent; None: money is not limited.
        tokens: most tokens; None: they are not limited.
        leases: what is held, by chat and attempt.
        records: what was settled.
        asked: what was to be held, in order.
        away: the database is away.
        allows_unpriced: what has no known price may be asked.
    """

    nanos: int | None = None
    tokens: int | None = None
    leases: dict[tuple[str, int], Lease] = field(default_factory=dict)
    records: list[cost_pb2.UsageRecord] = field(default_factory=list)
    asked: list[Demand] = field(default_factory=list)
    away: bool = False
    allows_unpriced: bool = False

    def touches(self, facts: Facts, provider: str, model: str) -> bool:
        """Every attempt touches it."""
        return bool(facts.id and provider and model)

    def admit(self) -> None:
        """Refuse while the database is away."""
        self._check()

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
        """Hold a demand, or the least of it."""
        self._check()
        try:
            self._fit(demand, None)
        except BudgetExceededError:
            if least is None:
                raise
            self._fit(least, None)
            demand = least
        lease = Lease(facts, attempt, provider, model, demand, snapshot)
        self.leases[facts.id, attempt] = lease
        return lease

    async def extend(self, lease: Lease, demand: Demand) -> None:
        """Hold another one."""
        self._check()
        self._fit(demand, lease)
        lease.held = demand

    async def settle(self, facts: Facts, record: cost_pb2.UsageRecord) -> None:
        """Write it down, and give back what is held."""
        self._check()
        self.records.append(record)
        for key in [key for key in self.leases if key[0] == facts.id]:
            del self.leases[key]

    def _check(self) -> None:
        if self.away:
            raise LedgerUnavailableError("the database is away")

    def _fit(self, demand: Demand, lease: Lease | None) -> None:
        self.asked.append(demand)
        held = [each.held for each in self.leases.values() if each is not lease]
        nanos = sum(each.nanos or 0 for each in held) + (demand.nanos or 0)
        tokens = sum(each.tokens for each in held) + demand.tokens
        refused = demand.nanos is None and not self.allows_unpriced
        over = (self.nanos is not None and (nanos > self.nanos or refused)) or (
            self.tokens is not None and tokens > self.tokens
        )
        more = lease is None or demand.tokens > lease.held.tokens or (demand.nanos or 0) > (lease.held.nanos or 0)
        if over and more:
            raise BudgetExceededError("budget b: no room", budget_id="b", retry_after=60.0)
