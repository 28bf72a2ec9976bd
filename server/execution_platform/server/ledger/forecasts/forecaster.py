"""Makes a forecast out of a ledger: reads, thinks in a thread, and tells."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby

from execution_platform.server.ledger.budgets.budget_set import load_budgets
from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.server.ledger.budgets.windows import Calendar
from execution_platform.server.ledger.forecasts.days import interval
from execution_platform.server.ledger.forecasts.futures import Futures, see
from execution_platform.server.ledger.forecasts.outlook import (
    Judged,
    Limit,
    concerns,
    dollars,
    filter_of,
    interval_of,
    judge,
    limits_of,
    outlook_of,
)
from execution_platform.server.ledger.forecasts.reading import MONEY, Day, Spending, read_spending
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["Forecaster", "Wanted"]

#: Forecasts that are thought out at the same time in one process.
_AT_ONCE = 1

_LEAST_DAYS = 7
_LONGEST_MONTH = 31


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to forecast.

    Attributes:
        filter: which spending.
        zone: IANA name of the time zone; empty: UTC.
        confidence: of the intervals.
        days: ahead, today among them; 0: to the end of the month, at least 7.
        budgets: whether budgets will hold is told as well.
    """

    filter: cost_pb2.UsageFilter
    zone: str = ""
    confidence: float = 0.8
    days: int = 0
    budgets: bool = True


class Forecaster:
    """Makes forecasts.

    Args:
        database: of the ledger.
        smooth: exponential smoothing may be used.
        clock: microseconds since the epoch.
    """

    def __init__(
        self, database: Database, *, smooth: bool, clock: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._database = database
        self._smooth = smooth
        self._clock = clock
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def forecast(self, wanted: Wanted) -> cost_pb2.ForecastCostResponse:
        """Make a forecast.

        Raises:
            LedgerUnavailableError: the ledger cannot be read.
        """
        now = self._clock()
        spending = await self._read(wanted.filter, wanted.zone, now)
        month = Calendar(cost_pb2.BUDGET_PERIOD_MONTH, wanted.zone).window(now)
        days = wanted.days or max(_days_until(spending, month[1]) + 1, _LEAST_DAYS)
        futures = await self._see(spending, MONEY, days)
        told = await asyncio.to_thread(_told, spending, futures, month, days, wanted.confidence)
        if wanted.budgets:
            told.budgets.extend(await self._outlooks(wanted, now))
        return told

    async def _outlooks(self, wanted: Wanted, now: int) -> list[cost_pb2.BudgetOutlook]:
        concerned = [terms for terms in await self._database.read(load_budgets) if concerns(terms, wanted.filter)]
        told = []
        # Those that count the same are thought out together.
        for _, same in groupby(sorted(concerned, key=_counts), key=_counts):
            told += await self._outlooks_of(list(same), wanted.confidence, now)
        return sorted(told, key=lambda each: each.budget_id)

    async def _outlooks_of(
        self, budgets: Sequence[BudgetTerms], confidence: float, now: int
    ) -> list[cost_pb2.BudgetOutlook]:
        budget = budgets[0].budget
        spending = await self._read(filter_of(budget.scope), budget.time_zone, now)
        seen: dict[int, Futures] = {}
        told = []
        for terms in budgets:
            judged: list[tuple[Limit, Judged]] = []
            for limit in limits_of(terms):
                if limit.which not in seen:
                    seen[limit.which] = await self._see(spending, limit.which)
                work = partial(judge, spending, seen[limit.which], limit, terms.window(now), confidence)
                judged.append((limit, await asyncio.to_thread(work)))
            told.append(outlook_of(terms, judged))
        return told

    async def _read(self, usage_filter: cost_pb2.UsageFilter, zone: str, now: int) -> Spending:
        return await self._database.read(partial(read_spending, usage_filter=usage_filter, zone=zone, now=now))

    async def _see(self, spending: Spending, which: int, days: int = 0) -> Futures:
        """Return futures as far as any month, or so many days, today among them."""
        ahead = max(days - 1, _LONGEST_MONTH)
        async with self._turns:
            return await asyncio.to_thread(partial(see, spending, which, ahead, smooth=self._smooth))


def _counts(terms: BudgetTerms) -> tuple[bytes, str]:
    """Return what a budget counts, and in which days."""
    return terms.budget.scope.SerializeToString(deterministic=True), terms.budget.time_zone


def _days_until(spending: Spending, end: int) -> int:
    """Return how many days after today begin before a moment."""
    calendar = Calendar(cost_pb2.BUDGET_PERIOD_DAY, spending.zone)
    count, start = 0, spending.today.end
    while start < end:
        start = calendar.window(start)[1]
        count += 1
    return count


def _told(
    spending: Spending, futures: Futures, month: tuple[int, int], days: int, confidence: float
) -> cost_pb2.ForecastCostResponse:
    so_far = spending.since(month[0], MONEY)
    rest = interval(futures.rest, confidence)
    ahead = spending.ahead(days - 1)
    points = [_point(Day(spending.now, spending.today.end), rest)]
    points += [_point(day, interval(amounts, confidence)) for day, amounts in zip(ahead, futures.days, strict=False)]
    return cost_pb2.ForecastCostResponse(
        day_end=interval_of(rest, futures.so_far),
        month_end=interval_of(interval(futures.sums(_days_until(spending, month[1])), confidence), so_far),
        points=points,
        history=[_point(day, (day.total(MONEY),) * 3) for day in spending.days],
        method=futures.method,
        method_reason=futures.reason,
        spent_today=dollars(futures.so_far),
        spent_this_month=dollars(so_far),
        unpriced=spending.unpriced,
    )


def _point(day: Day, amounts: tuple[float, float, float]) -> cost_pb2.ForecastPoint:
    span = common_pb2.TimeRange()
    span.start_time.FromMicroseconds(day.start)
    span.end_time.FromMicroseconds(day.end)
    return cost_pb2.ForecastPoint(time_range=span, cost=interval_of(amounts))
