"""What the ledger adds to prices: the budgets that a chat would count for, and prices for records that had none."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from execution_platform.server.ledger.budgets.changes import statuses_of
from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.pricing.repricing import Repricing
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["BehindPrices"]


class BehindPrices:
    """Answers for prices from the ledger.

    Args:
        database: of the ledger.
        budgets: gives the budgets as this process knows them.
        repricing: prices records anew.
        clock: microseconds since the epoch.
    """

    def __init__(
        self, database: Database, budgets: Callable[[], Budgets], repricing: Repricing, clock: Callable[[], int]
    ) -> None:
        self._database = database
        self._budgets = budgets
        self._repricing = repricing
        self._clock = clock

    async def budgets(self, facts: Facts, legs: Sequence[tuple[str, str]]) -> list[list[cost_pb2.BudgetStatus]]:
        """Return how much is left of the budgets that attempts of a chat would count for, for each provider and model.

        Raises:
            LedgerUnavailableError: the ledger cannot be read.
        """
        known = self._budgets()
        touched = [[terms.id for terms in known.touched(facts, provider, model)] for provider, model in legs]
        wanted = {terms.id: terms.budget for terms in known if any(terms.id in ids for ids in touched)}
        if not wanted:
            return [[] for _ in legs]
        now = self._clock()
        statuses = await self._database.read(lambda connection: statuses_of(connection, wanted.values(), now))
        by_id = dict(zip(wanted, statuses, strict=True))
        return [[by_id[each] for each in ids] for ids in touched]

    async def reprice(self, request: cost_pb2.RepriceUsageRequest) -> cost_pb2.RepriceUsageResponse:
        """Price records anew.

        Raises:
            InvalidRequestError: the filter is wrong.
            LedgerUnavailableError: the ledger cannot be read or written. What was corrected before stays.
        """
        selection = Selection.of(request.filter)
        found = await self._repricing.run(selection, priced_too=request.priced_too, dry_run=request.dry_run)
        return cost_pb2.RepriceUsageResponse(
            examined=found.examined,
            corrected=found.corrected,
            still_unpriced=found.still_unpriced,
            difference=[
                common_pb2.Money(currency_code=currency, nanos=nanos)
                for currency, nanos in sorted(found.difference.items())
            ],
            unpriced_models=sorted(found.unpriced_models),
        )
