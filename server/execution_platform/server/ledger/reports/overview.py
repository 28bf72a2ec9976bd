"""Where the money went: by day, provider, model, persona, tenant and user, with budgets and what is to come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy import Connection

from execution_platform.server.ledger.reports.budgets import budgets_section, forecast_bars, forecast_section
from execution_platform.server.ledger.reports.document import (
    Bar,
    Cell,
    Chart,
    Document,
    Facts,
    Line,
    Note,
    Section,
    Table,
    money_text,
)
from execution_platform.server.ledger.reports.sums import (
    Failures,
    Scope,
    amount,
    costs_text,
    count,
    day_of,
    failures_of,
    name,
    sums_of,
    sums_table,
    usd,
)
from execution_platform.v1 import cost_pb2

__all__ = ["Gathered", "breakdown", "failures_section", "gather", "overview", "unpriced_section"]

#: Rows of each table, and bars of the chart.
_MOST: Final = 20
_MOST_BARS: Final = 92
_DAY: Final = 86_400_000_000

_BY: Final = {
    cost_pb2.USAGE_DIMENSION_PROVIDER: ("By provider", "provider"),
    cost_pb2.USAGE_DIMENSION_MODEL: ("By model", "model"),
    cost_pb2.USAGE_DIMENSION_PERSONA: ("By persona", "persona"),
    cost_pb2.USAGE_DIMENSION_TENANT: ("By tenant", "tenant"),
    cost_pb2.USAGE_DIMENSION_PROJECT: ("By project", "project"),
    cost_pb2.USAGE_DIMENSION_END_USER: ("Top users", "end user"),
    cost_pb2.USAGE_DIMENSION_OUTCOME: ("How they ended", "outcome"),
}
_SPANS: Final = (
    (cost_pb2.GRANULARITY_DAY, "day", 1),
    (cost_pb2.GRANULARITY_WEEK, "week", 7),
    (cost_pb2.GRANULARITY_MONTH, "month", 30),
)


@dataclass(slots=True)
class Gathered:
    """Sums of one moment.

    Attributes:
        scope: what they are of.
        by: the sums, by what they are told apart by.
        models: by provider and model.
        over_time: by days, or longer spans.
        span: what those are called.
        failures: what failed attempts have cost.
    """

    scope: Scope
    by: dict[cost_pb2.UsageDimension.ValueType, cost_pb2.SummarizeUsageResponse] = field(default_factory=dict)
    models: cost_pb2.SummarizeUsageResponse = field(default_factory=cost_pb2.SummarizeUsageResponse)
    over_time: cost_pb2.SummarizeUsageResponse = field(default_factory=cost_pb2.SummarizeUsageResponse)
    span: str = "day"
    failures: list[Failures] = field(default_factory=list)

    @property
    def total(self) -> cost_pb2.UsageSum:
        """What all come to."""
        return self.models.total


def gather(connection: Connection, scope: Scope) -> Gathered:
    """Read all sums, within one transaction that reads."""
    found = Gathered(scope)
    for dimension in _BY:
        if dimension != cost_pb2.USAGE_DIMENSION_MODEL:
            found.by[dimension] = sums_of(connection, scope, dimension, limit=_MOST)
    found.models = sums_of(connection, scope, cost_pb2.USAGE_DIMENSION_PROVIDER, cost_pb2.USAGE_DIMENSION_MODEL)
    days = (scope.end - scope.start) / _DAY
    granularity, found.span, _ = next((each for each in _SPANS if days / each[2] <= _MOST_BARS), _SPANS[-1])
    found.over_time = sums_of(connection, scope, granularity=granularity)
    found.failures = failures_of(connection, scope)
    return found


def overview(
    found: Gathered, forecast: cost_pb2.ForecastCostResponse, statuses: dict[str, cost_pb2.BudgetStatus]
) -> Document:
    """Write the report."""
    scope = found.scope
    sections = [_key_numbers(found), _over_time(found, forecast)]
    if scope.running:
        sections.append(forecast_section(forecast))
    sections.append(budgets_section(forecast, statuses, scope.zone))
    sections += [breakdown(found, dimension, _MOST) for dimension in _BY]
    sections += [failures_section(found), unpriced_section(found)]
    return Document("What was spent", scope.about(), sections)


def _key_numbers(found: Gathered) -> Section:
    total = found.total
    return Section(
        "In short",
        [
            Facts(
                [
                    ("Cost", costs_text(total.costs)),
                    ("Requests", f"{total.records:,}"),
                    ("Attempts", f"{total.attempts:,}"),
                    ("Attempts that failed", f"{total.failed_attempts:,}"),
                    ("Attempts without a known price", f"{total.unpriced:,}"),
                ]
            )
        ],
    )


def _over_time(found: Gathered, forecast: cost_pb2.ForecastCostResponse) -> Section:
    scope = found.scope
    lines = []
    bars = []
    for row in found.over_time.rows:
        day = day_of(row.time_range.start_time.ToMicroseconds(), scope.zone)
        lines.append(Line([Cell(day), amount(row, usd(found.total)), count(row.records), count(row.unpriced)]))
        bars.append(Bar(day[5:] if found.span == "day" else day, max(usd(row), 0), costs_text(row.costs)))
    if scope.running and found.span == "day":
        bars += forecast_bars(forecast, scope)
    caption = f"Cost by {found.span} in US dollars" + ("; lighter: forecast" if scope.running else "")
    table = Table([found.span, "cost", "requests", "unpriced"], lines, "Nothing was recorded in this time.")
    return Section(f"By {found.span}", [Chart(caption, bars), table])


def breakdown(found: Gathered, dimension: cost_pb2.UsageDimension.ValueType, most: int) -> Section:
    """Tell sums apart by a dimension."""
    heading, head = _BY[dimension]
    if dimension == cost_pb2.USAGE_DIMENSION_MODEL:
        return Section(heading, [sums_table(["provider", "model"], found.models, most, "Nothing.")])
    return Section(heading, [sums_table([head], found.by[dimension], most, "Nothing.")])


def failures_section(found: Gathered) -> Section:
    """Tell what failed attempts have cost."""
    lines = [
        Line([name(each.provider), name(each.model), count(each.failed), _cost(each)])
        for each in found.failures[:_MOST]
    ]
    wasted = sum(each.nanos for each in found.failures if each.currency == "USD")
    note = Note(f"Attempts that failed, before a retry or a fallback, or for good, have cost {money_text(wasted)}.")
    table = Table(["provider", "model", "failed", "cost"], lines, "No attempt has failed.")
    return Section("Failures and fallbacks", [note, table] if lines else [table])


def _cost(each: Failures) -> Cell:
    return Cell(money_text(each.nanos, each.currency), number=True)


def unpriced_section(found: Gathered) -> Section:
    """Name the models whose price is not known."""
    lines = [Line([*map(name, row.values), count(row.unpriced)]) for row in _unpriced(found)]
    empty = "The price of every model that was used is known."
    parts: list[Note | Table] = [Table(["provider", "model", "attempts"], lines, empty)]
    if lines:
        parts.insert(0, Note("What these have used is in none of the sums. Give their prices, then reprice."))
    return Section("Models without a known price", parts)


def _unpriced(found: Gathered) -> Iterator[cost_pb2.UsageSum]:
    return (row for row in found.models.rows if row.unpriced > 0)
