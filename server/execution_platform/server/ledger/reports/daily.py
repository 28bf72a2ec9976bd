"""One day, as it is mailed in the morning after."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from execution_platform.server.ledger.reports.budgets import budgets_section, forecast_section
from execution_platform.server.ledger.reports.document import Document, Facts, Section, money_text
from execution_platform.server.ledger.reports.overview import (
    Gathered,
    breakdown,
    failures_section,
    gather,
    unpriced_section,
)
from execution_platform.server.ledger.reports.sums import Scope, costs_text, day_of, sums_of, usd
from execution_platform.v1 import cost_pb2

__all__ = ["DayGathered", "daily", "daily_title", "gather_day"]

_MOST: Final = 10
_WEEK_DAYS: Final = 7
_BY: Final = (
    cost_pb2.USAGE_DIMENSION_MODEL,
    cost_pb2.USAGE_DIMENSION_TENANT,
    cost_pb2.USAGE_DIMENSION_PERSONA,
    cost_pb2.USAGE_DIMENSION_END_USER,
)


@dataclass(frozen=True, slots=True)
class DayGathered:
    """Sums of one moment: of the day, and of as long a time on the days before."""

    day: Gathered
    before: int
    week: int


def gather_day(connection: Connection, scope: Scope) -> DayGathered:
    """Read all sums, within one transaction that reads."""
    length = scope.end - scope.start
    before = sums_of(connection, scope.during(scope.start - length, scope.start))
    week = sums_of(connection, scope.during(scope.start - _WEEK_DAYS * length, scope.start))
    return DayGathered(gather(connection, scope), usd(before.total), usd(week.total))


def daily_title(scope: Scope, total: cost_pb2.UsageSum) -> str:
    """Return the report's title: the day, and what it cost."""
    last = day_of(scope.end - 1, scope.zone)
    first = day_of(scope.start, scope.zone)
    days = first if first == last else f"{first} to {last}"
    return f"Spending of {days}: {costs_text(total.costs)}"


def daily(
    found: DayGathered, forecast: cost_pb2.ForecastCostResponse, statuses: dict[str, cost_pb2.BudgetStatus]
) -> Document:
    """Write the report."""
    day = found.day
    total = day.total
    facts = Facts(
        [
            ("Cost", costs_text(total.costs)),
            ("The time before, as long", f"{money_text(found.before)}{_change(usd(total), found.before)}"),
            ("Mean of seven such times", f"{money_text(found.week // _WEEK_DAYS)}"),
            ("Requests", f"{total.records:,}"),
            ("Attempts that failed", f"{total.failed_attempts:,} of {total.attempts:,}"),
            ("Attempts without a known price", f"{total.unpriced:,}"),
        ]
    )
    sections = [Section("In short", [facts]), forecast_section(forecast)]
    sections.append(budgets_section(forecast, statuses, day.scope.zone))
    sections += [breakdown(day, dimension, _MOST) for dimension in _BY]
    sections += [failures_section(day), unpriced_section(day)]
    return Document(daily_title(day.scope, total), day.scope.about(), sections)


def _change(now: int, before: int) -> str:
    return f" ({100 * (now - before) / before:+.0f} %)" if before > 0 else ""
