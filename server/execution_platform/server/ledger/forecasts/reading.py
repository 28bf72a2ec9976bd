"""What was spent, by hours and days, out of the ledger."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

from sqlalchemy import Connection

from execution_platform.server.ledger.budgets.windows import Calendar, time_zone
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.spans import Spans
from execution_platform.server.ledger.reading.summaries import SummaryPlan, summarize
from execution_platform.v1 import cost_pb2

__all__ = ["MONEY", "TOKENS", "Day", "Hour", "Spending", "read_spending"]

#: Days that a forecast is made from, at most: half a year.
_DAYS: Final = 182
_DAY: Final = 86_400_000_000
_MOST_HOURS: Final = 10_000

#: Which amount of an hour is meant.
MONEY: Final = 0
TOKENS: Final = 1


@dataclass(frozen=True, slots=True)
class Hour:
    """What was spent in an hour.

    Attributes:
        start: when it began, in microseconds since the epoch.
        end: when it ended.
        amounts: nanos (1e-9 US dollars), and tokens of all kinds.
    """

    start: int
    end: int
    amounts: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Day:
    """A day of a time zone.

    Attributes:
        start: when it began, in microseconds since the epoch.
        end: when it ended.
        hours: those in which something was spent.
    """

    start: int
    end: int
    hours: tuple[Hour, ...] = ()

    def total(self, which: int) -> int:
        """Return what was spent in it."""
        return sum(hour.amounts[which] for hour in self.hours)

    def by(self, elapsed: int, which: int) -> float:
        """Return what was spent within its first microseconds; of the hour in which they end, a part of its sum."""
        moment = self.start + elapsed
        return sum(
            hour.amounts[which] * min(1.0, (moment - hour.start) / (hour.end - hour.start))
            for hour in self.hours
            if hour.start < moment
        )


@dataclass(frozen=True, slots=True)
class Spending:
    """The days of a spending.

    Attributes:
        now: the moment, in microseconds since the epoch.
        days: whole ones, the oldest first, from the first on in which there is a record.
        today: the present one.
        zone: IANA name of the time zone; empty: UTC.
        unpriced: attempts without a known price.
    """

    now: int
    days: tuple[Day, ...]
    today: Day
    zone: str
    unpriced: int

    def since(self, start: int, which: int) -> int:
        """Return what has been spent since a moment, which begins an hour of the time zone."""
        days = (*self.days, self.today)
        first = bisect_right(days, start, key=lambda day: day.start) - 1
        return sum(hour.amounts[which] for day in days[max(first, 0) :] for hour in day.hours if hour.start >= start)

    def weekday(self) -> int:
        """Return the weekday of the first day; 0: Monday."""
        first = (self.days or (self.today,))[0]
        return datetime.fromtimestamp(first.start / 1_000_000, time_zone(self.zone)).weekday()

    def ahead(self, count: int) -> list[Day]:
        """Return the days after today."""
        calendar = Calendar(cost_pb2.BUDGET_PERIOD_DAY, self.zone)
        found: list[Day] = []
        end = self.today.end
        for _ in range(count):
            start, end = calendar.window(end)
            found.append(Day(start, end))
        return found


def read_spending(connection: Connection, usage_filter: cost_pb2.UsageFilter, zone: str, now: int) -> Spending:
    """Read what was spent in the last half year.

    Args:
        connection: within a transaction.
        usage_filter: which records; its time is not taken.
        zone: IANA name of the time zone; empty: UTC.
        now: microseconds since the epoch.
    """
    days = Spans.covering(cost_pb2.GRANULARITY_DAY, zone, now - _DAYS * _DAY, now + 1).bounds
    chosen = cost_pb2.UsageFilter()
    chosen.CopyFrom(usage_filter)
    chosen.time_range.start_time.FromMicroseconds(days[0])
    chosen.time_range.end_time.FromMicroseconds(days[-1])
    plan = SummaryPlan(Selection.of(chosen), granularity=cost_pb2.GRANULARITY_HOUR, time_zone=zone, limit=_MOST_HOURS)
    summary = summarize(connection, plan).message()
    hours = [_hour(row) for row in summary.rows]
    made = _days(days, hours)
    return Spending(now, tuple(made[:-1]), made[-1], zone, summary.total.unpriced)


def _hour(row: cost_pb2.UsageSum) -> Hour:
    nanos = sum(cost.nanos for cost in row.costs if cost.currency_code == "USD")
    tokens = (
        row.input_tokens + row.cache_read_tokens + row.cache_write_tokens + row.output_tokens + row.reasoning_tokens
    )
    span = row.time_range
    return Hour(span.start_time.ToMicroseconds(), span.end_time.ToMicroseconds(), (nanos, tokens))


def _days(bounds: Sequence[int], hours: Sequence[Hour]) -> list[Day]:
    """Return the days from the first on that has an hour, today at the end."""
    inside: dict[int, list[Hour]] = {}
    for hour in hours:
        inside.setdefault(bisect_right(bounds, hour.start) - 1, []).append(hour)
    first = min(inside, default=len(bounds) - 2)
    return [
        Day(start, end, tuple(inside.get(number, ())))
        for number, (start, end) in enumerate(pairwise(bounds))
        if number >= first
    ]
