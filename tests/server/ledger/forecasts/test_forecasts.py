"""Forecasts of a filled ledger, and whether its budgets will hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from random import Random
from typing import Any

import pytest
from tests.server.conftest import Serve
from tests.server.ledger.made_up import DAY, Try, Work, fill, id_of, micros
from tests.server.ledger.served import with_ledger

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.changes import create_budget
from execution_platform.server.ledger.forecasts.forecaster import Forecaster
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.services.costs.forecasts import LedgerForecasts
from execution_platform.v1 import common_pb2, cost_pb2

HOUR = DAY // 24
#: A Wednesday at 15:00; ten weeks before it there is a dollar in each hour of work, less on weekends.
NOW = micros("2026-03-18T15:00:00+00:00")
TODAY = NOW - 15 * HOUR
USD = 1_000_000_000
MONTH = cost_pb2.BUDGET_PERIOD_MONTH


def spending(days: int = 70, tenant: str = "acme", seed: int = 5) -> list[Work]:
    """Work of so many days before today, and of today until now."""
    random = Random(seed)  # noqa: S311 - a simulation
    found: list[Work] = []
    for day in range(days + 1):
        start = TODAY - (days - day) * DAY
        weekend = datetime.fromtimestamp(start / 1e6, UTC).weekday() > 4
        for hour in range(8, 20):
            at = start + hour * HOUR + 1
            if at < NOW:
                nanos = int((0.2 if weekend else 1.0) * random.uniform(0.7, 1.3) * USD)
                found.append(Work(id_of(len(found) + 1, at), at, tenant, tries=(Try(costs=(("USD", nanos),)),)))
    return found


def forecasts_of(database: Database, now: int = NOW, *, smooth: bool = True) -> LedgerForecasts:
    """The part of CostService, at a moment."""
    return LedgerForecasts(Forecaster(database, smooth=smooth, clock=lambda: now))


def total(works: list[Work], wanted: Callable[[Work], bool]) -> int:
    """What works come to."""
    return sum(nanos for work in works if wanted(work) for one in work.tries for _, nanos in one.costs or ())


def _within(works: list[Work], start: int, end: int) -> int:
    return total(works, lambda work: start <= work.started < end)


async def put(
    database: Database, name: str, limit: float, period: cost_pb2.BudgetPeriod.ValueType, **more: Any
) -> None:
    """Make a budget."""
    budget = cost_pb2.Budget(id=name, period=period, **more)
    if limit:
        budget.limit.CopyFrom(common_pb2.Money(currency_code="USD", nanos=int(limit * USD)))
    await database.write(partial(create_budget, budget=budget, clock=lambda: NOW))


async def test_a_forecast_is_made_from_the_days_before(database: Database) -> None:
    """What was spent is exact; what is to come is near what comes each week, and ends with the month."""
    works = spending()
    await fill(database, works)
    told = await forecasts_of(database).forecast(cost_pb2.ForecastCostRequest())
    assert (told.method, told.method_reason, told.unpriced) == ("holt-winters", "", 0)
    assert told.spent_today.nanos == total(works, lambda work: work.started >= TODAY)
    begin = micros("2026-03-01T00:00:00+00:00")
    assert told.spent_this_month.nanos == total(works, lambda work: work.started >= begin)
    assert len(told.history) == 70
    for point in told.history:
        start = point.time_range.start_time.ToMicroseconds()
        assert point.cost.expected.nanos == _within(works, start, start + DAY)
    assert len(told.points) == 14
    assert told.points[0].time_range.start_time.ToMicroseconds() == NOW
    assert told.points[-1].time_range.end_time.ToDatetime() == datetime(2026, 4, 1)  # noqa: DTZ001 - as protobuf has it
    # Five hours of work are left today; 9 working days and 4 days of weekends come after it.
    assert told.points[0].cost.expected.nanos == pytest.approx(5 * USD, rel=0.15)
    assert told.day_end.expected.nanos == pytest.approx(12 * USD, rel=0.1)
    rest = 5 + 9 * 12 + 4 * 2.4
    assert told.month_end.expected.nanos - told.spent_this_month.nanos == pytest.approx(rest * USD, rel=0.1)
    for each in (told.day_end, told.month_end, *(point.cost for point in told.points)):
        assert 0 <= each.low.nanos <= each.expected.nanos <= each.high.nanos
    assert told.day_end.low.nanos >= told.spent_today.nanos


async def test_the_same_ledger_at_the_same_moment_has_the_same_forecast(database: Database) -> None:
    """Asked twice, by two processes, the answer is the same to the nano."""
    await fill(database, spending())
    request = cost_pb2.ForecastCostRequest(time_zone="Europe/Berlin", days=40)
    first, second = [await forecasts_of(database).forecast(request) for _ in range(2)]
    assert first == second
    assert len(first.points) == 40


async def test_a_filter_and_a_confidence_are_obeyed(database: Database) -> None:
    """Only what the filter lets through counts, and a surer interval is wider."""
    works = [*spending(), *[replace(work, id=f"f{work.id[1:]}", tenant="other") for work in spending(seed=6)]]
    await fill(database, works)
    part = forecasts_of(database)
    asked = cost_pb2.ForecastCostRequest(filter=cost_pb2.UsageFilter(tenant="other"), confidence=0.5)
    narrow = await part.forecast(asked)
    asked.confidence = 0.95
    wide = await part.forecast(asked)
    assert narrow.spent_today.nanos == total(works, lambda work: work.tenant == "other" and work.started >= TODAY)
    assert wide.month_end.high.nanos > narrow.month_end.high.nanos
    assert wide.month_end.low.nanos < narrow.month_end.low.nanos


async def test_little_or_nothing_is_carried_on_plainly(database: Database) -> None:
    """With nothing there is nothing to come; with today only, its rate goes on; each says so."""
    part = forecasts_of(database)
    empty = await part.forecast(cost_pb2.ForecastCostRequest())
    assert (empty.method, empty.method_reason) == ("none", "nothing has been spent yet")
    assert (empty.month_end.high.nanos, len(empty.history)) == (0, 0)
    await fill(database, spending(0))
    first = await part.forecast(cost_pb2.ForecastCostRequest())
    assert (first.method, first.method_reason) == ("rate-of-today", "nothing was spent before today")
    assert first.day_end.expected.nanos > first.spent_today.nanos
    unpriced = Work(id_of(999, NOW - 1), NOW - 1, "acme", tries=(Try(costs=None),))
    await fill(database, [unpriced])
    assert (await part.forecast(cost_pb2.ForecastCostRequest())).unpriced == 1


async def test_without_the_extra_a_mean_is_taken(database: Database) -> None:
    """Where exponential smoothing is not installed, the forecast says so, and is near all the same."""
    await fill(database, spending())
    told = await forecasts_of(database, smooth=False).forecast(cost_pb2.ForecastCostRequest())
    assert (told.method, told.method_reason) == ("mean-of-weekdays", "the extra `forecast` is not installed")
    assert told.day_end.expected.nanos == pytest.approx(12 * USD, rel=0.1)


async def test_budgets_are_told_to_hold_or_to_break(database: Database) -> None:
    """Budgets of months, weeks, days and hours hold, are at risk, break at a time, or are broken."""
    works = spending()
    await fill(database, works)
    month = total(works, lambda work: work.started >= micros("2026-03-01T00:00:00+00:00")) / USD
    await put(database, "holds", month + 300, MONTH)
    await put(database, "breaks", month + 60, MONTH, display_name="Too small")
    await put(database, "at-risk", month + 124, MONTH)
    await put(database, "broken", month, MONTH)
    await put(database, "day", 30, cost_pb2.BUDGET_PERIOD_DAY)
    await put(database, "hour", 0.4, cost_pb2.BUDGET_PERIOD_HOUR)
    await put(database, "week", 40, cost_pb2.BUDGET_PERIOD_WEEK, time_zone="Asia/Tokyo")
    await put(database, "tokens", 0, cost_pb2.BUDGET_PERIOD_DAY, max_tokens=150)
    await put(database, "minute", 1, cost_pb2.BUDGET_PERIOD_MINUTE)
    await put(database, "others", 1, MONTH, scope=cost_pb2.BudgetScope(tenant="other"))
    told = await forecasts_of(database).forecast(
        cost_pb2.ForecastCostRequest(filter=cost_pb2.UsageFilter(tenant="acme"))
    )
    found = {each.budget_id: each for each in told.budgets}
    assert list(found) == ["at-risk", "breaks", "broken", "day", "holds", "hour", "tokens", "week"]
    outlooks = {name: cost_pb2.Outlook.Name(each.outlook)[8:] for name, each in found.items()}
    assert outlooks == {
        "at-risk": outlooks["at-risk"],
        "breaks": "BREAKS",
        "broken": "BROKEN",
        "day": "HOLDS",
        "holds": "HOLDS",
        "hour": "BREAKS",
        "tokens": "BREAKS",
        "week": "BREAKS",
    }
    # About 123 dollars are to come; the limit lies within the interval, on one side or the other.
    assert outlooks["at-risk"] in {"AT_RISK", "BREAKS"}
    assert found["at-risk"].at_reset.low.nanos < found["at-risk"].limit.nanos < found["at-risk"].at_reset.high.nanos
    assert {name for name, each in found.items() if each.HasField("break_time")} == {
        name for name, outlook in outlooks.items() if outlook == "BREAKS"
    }
    # Sixty dollars last for the five hours of today and 4.6 working days.
    breaks = found["breaks"].break_time.ToDatetime(UTC)
    assert datetime(2026, 3, 24, 12, tzinfo=UTC) < breaks < datetime(2026, 3, 26, 12, tzinfo=UTC)
    assert NOW < found["hour"].break_time.ToMicroseconds() < NOW + HOUR
    assert found["tokens"].max_tokens == 150
    assert found["tokens"].expected_tokens > 150
    assert found["holds"].max_tokens == found["holds"].expected_tokens == 0
    assert not found["tokens"].HasField("limit")
    assert not found["tokens"].HasField("at_reset")
    assert found["breaks"].display_name == "Too small"


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (cost_pb2.ForecastCostRequest(confidence=1.0), "confidence"),
        (cost_pb2.ForecastCostRequest(confidence=0.0), "confidence"),
        (cost_pb2.ForecastCostRequest(days=367), "days"),
        (cost_pb2.ForecastCostRequest(days=-1), "days"),
        (cost_pb2.ForecastCostRequest(time_zone="Mars/Olympus"), "time_zone"),
        (
            cost_pb2.ForecastCostRequest(filter=cost_pb2.UsageFilter(time_range=common_pb2.TimeRange())),
            "filter.time_range",
        ),
        (cost_pb2.ForecastCostRequest(filter=cost_pb2.UsageFilter(tenant="x" * 600)), "filter.tenant"),
    ],
)
async def test_what_cannot_be_meant_is_refused_with_its_field(
    database: Database, request_: cost_pb2.ForecastCostRequest, field: str
) -> None:
    """A wrong request is refused, and the field is named."""
    with pytest.raises(InvalidRequestError) as caught:
        await forecasts_of(database).forecast(request_)
    assert caught.value.field == field


async def test_a_server_forecasts(serve: Serve, database: Database, database_url: str) -> None:
    """ForecastCost answers out of the ledger of a server."""
    shift = int(datetime.now(UTC).timestamp()) * 1_000_000 - NOW
    works = [replace(work, started=work.started + shift // DAY * DAY) for work in spending(40)]
    await fill(database, [work for work in works if work.started < TODAY + shift // DAY * DAY])
    async with serve(with_ledger(database_url)) as served:
        told = await served.costs.ForecastCost(cost_pb2.ForecastCostRequest())
        assert told.method in {"holt-winters", "mean-of-weekdays"}
        assert len(told.history) >= 40
        assert told.month_end.high.nanos > 0
