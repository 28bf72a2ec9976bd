"""What reports are made of: sums of the ledger, all of one moment, and the tables that show them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from sqlalchemy import Connection, func, select

from execution_platform.server.ledger.budgets.windows import time_zone
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.reports.document import (
    Cell,
    Line,
    Table,
    Weight,
    decimal_text,
    money_text,
)
from execution_platform.server.ledger.store.tables import usage_entries
from execution_platform.v1 import common_pb2, cost_pb2, usage_pb2

__all__ = [
    "Failures",
    "Scope",
    "amount",
    "costs_text",
    "count",
    "day_of",
    "failures_of",
    "moment_text",
    "name",
    "sums_of",
    "sums_table",
    "usd",
]

#: What a sum stands under that has no name.
NONE: Final = "(none)"

Dimension: TypeAlias = cost_pb2.UsageDimension.ValueType


@dataclass(frozen=True, slots=True)
class Scope:
    """What a report is of.

    Attributes:
        filter: which records, with their time.
        zone: IANA name of the time zone; empty: UTC.
        start: of the time, in microseconds since the epoch.
        end: of the time, which is not in it.
        now: the moment, in microseconds since the epoch.
    """

    filter: cost_pb2.UsageFilter
    zone: str
    start: int
    end: int
    now: int

    @property
    def running(self) -> bool:
        """Whether its time is not over yet."""
        return self.end > self.now

    def during(self, start: int, end: int) -> Scope:
        """Return the same of another time."""
        chosen = cost_pb2.UsageFilter()
        chosen.CopyFrom(self.filter)
        chosen.time_range.start_time.FromMicroseconds(start)
        chosen.time_range.end_time.FromMicroseconds(end)
        return Scope(chosen, self.zone, start, end, self.now)

    def of_kind(self, kind: cost_pb2.UsageRecordKind.ValueType) -> Scope | None:
        """Return the same of one kind of records only; None: the filter has none of them."""
        if self.filter.kinds and kind not in self.filter.kinds:
            return None
        chosen = cost_pb2.UsageFilter()
        chosen.CopyFrom(self.filter)
        del chosen.kinds[:]
        chosen.kinds.append(kind)
        return Scope(chosen, self.zone, self.start, self.end, self.now)

    def anywhere(self) -> cost_pb2.UsageFilter:
        """Return the filter without its time."""
        chosen = cost_pb2.UsageFilter()
        chosen.CopyFrom(self.filter)
        chosen.ClearField("time_range")
        return chosen

    def about(self) -> list[str]:
        """Return lines that say what the report is of."""
        zone = self.zone or "UTC"
        lines = [f"From {moment_text(self.start, self.zone)} to {moment_text(self.end, self.zone)}, {zone}."]
        named = [
            f"{field.name.replace('_', ' ')} {value}"
            for field, value in self.filter.ListFields()
            if isinstance(value, str)
        ]
        named += [f"label {key} = {value}" for key, value in sorted(self.filter.labels.items())]
        kinds = map(cost_pb2.UsageRecordKind.Name, self.filter.kinds)
        outcomes = map(cost_pb2.UsageOutcome.Name, self.filter.outcomes)
        statuses = map(usage_pb2.CostStatus.Name, self.filter.cost_statuses)
        named += [_word(word) for word in (*kinds, *outcomes, *statuses)]
        if named:
            lines.append(f"Only: {', '.join(named)}.")
        lines.append(f"Made {moment_text(self.now, self.zone)} from what the ledger held then.")
        return lines


@dataclass(frozen=True, slots=True)
class Failures:
    """What attempts of one model that failed have cost."""

    provider: str
    model: str
    failed: int
    currency: str
    nanos: int


def sums_of(
    connection: Connection,
    scope: Scope,
    *dimensions: Dimension,
    limit: int = 10_000,
    granularity: cost_pb2.Granularity.ValueType = cost_pb2.GRANULARITY_UNSPECIFIED,
) -> cost_pb2.SummarizeUsageResponse:
    """Return what SummarizeUsage tells."""
    request = cost_pb2.SummarizeUsageRequest(
        filter=scope.filter, dimensions=dimensions, limit=limit, granularity=granularity, time_zone=scope.zone
    )
    return summarize(connection, plan_of(request)).message()


def failures_of(connection: Connection, scope: Scope) -> list[Failures]:
    """Return what failed attempts have cost, the dearest first: what a fallback or a retry was paid for before it."""
    entry = usage_entries.c
    failed, nanos = func.sum(entry.failed_attempts), func.sum(entry.nanos)
    query = (
        select(entry.provider, entry.model, failed, entry.currency, nanos)
        .where(*Selection.of(scope.filter).conditions(), entry.failed_attempts > 0)
        .group_by(entry.provider, entry.model, entry.currency)
    )
    found = [Failures(row[0], row[1], int(row[2]), row[3], int(row[4])) for row in connection.execute(query)]
    return sorted(found, key=lambda each: (-each.nanos, each.provider, each.model, each.currency))


def usd(one: cost_pb2.UsageSum) -> int:
    """Return what a sum comes to in US dollars, in nanos."""
    return sum(cost.nanos for cost in one.costs if cost.currency_code == "USD")


def costs_text(costs: Iterable[common_pb2.Money]) -> str:
    """Return amounts in all their currencies, for people."""
    return " + ".join(money_text(cost.nanos, cost.currency_code) for cost in costs) or money_text(0)


def name(text: str) -> Cell:
    """Return a cell with a name that somebody has chosen."""
    return Cell(text or NONE, value=text, name=True)


def count(number: int) -> Cell:
    """Return a cell with a number."""
    return Cell(f"{number:,}", value=str(number), number=True)


def amount(one: cost_pb2.UsageSum, whole: int = 0) -> Cell:
    """Return a cell with what a sum comes to.

    Args:
        one: the sum.
        whole: what all come to, in nanos, of which a bar shows the share; 0: no bar.
    """
    share = max(usd(one), 0) / whole if whole > 0 else None
    value = decimal_text(usd(one)) if all(cost.currency_code == "USD" for cost in one.costs) else None
    return Cell(costs_text(one.costs), value=value, number=True, share=share)


def sums_table(heads: Sequence[str], sums: cost_pb2.SummarizeUsageResponse, most: int, empty: str) -> Table:
    """Return a table of sums, the dearest first, with what they do not show and the total.

    Args:
        heads: of what they are told apart by.
        sums: not cut into spans of time.
        most: rows that are shown.
        empty: what is said where there are none.
    """
    whole = usd(sums.total)
    lines = [Line([*map(name, row.values), *_numbers(row, whole)]) for row in sums.rows[:most]]
    hidden = [*sums.rows[most:], *([sums.others] if sums.HasField("others") else [])]
    if hidden:
        lines.append(Line([*_named("all others", len(heads)), *_numbers(_added(hidden), whole)], Weight.REST))
    if lines:
        lines.append(Line([*_named("total", len(heads)), *_numbers(sums.total, 0)], Weight.TOTAL))
    return Table([*heads, "cost", "requests", "tokens in", "tokens out", "unpriced"], lines, empty)


def _added(rows: Iterable[cost_pb2.UsageSum]) -> cost_pb2.UsageSum:
    whole = cost_pb2.UsageSum()
    costs: dict[str, int] = {}
    for row in rows:
        for cost in row.costs:
            costs[cost.currency_code] = costs.get(cost.currency_code, 0) + cost.nanos
        for field in _NUMBERS:
            setattr(whole, field, getattr(whole, field) + getattr(row, field))
    whole.costs.extend(common_pb2.Money(currency_code=code, nanos=nanos) for code, nanos in sorted(costs.items()))
    return whole


_NUMBERS: Final = tuple(
    field.name for field in cost_pb2.UsageSum.DESCRIPTOR.fields if field.cpp_type == field.CPPTYPE_INT64
)


def _word(of_enum: str) -> str:
    for prefix in ("USAGE_RECORD_KIND_", "USAGE_OUTCOME_", "COST_STATUS_"):
        of_enum = of_enum.removeprefix(prefix)
    return of_enum.lower()


def _numbers(row: cost_pb2.UsageSum, whole: int) -> list[Cell]:
    tokens_in = row.input_tokens + row.cache_read_tokens + row.cache_write_tokens
    return [
        amount(row, whole),
        count(row.records),
        count(tokens_in),
        count(row.output_tokens + row.reasoning_tokens),
        count(row.unpriced),
    ]


def _named(text: str, columns: int) -> list[Cell]:
    return [Cell(text), *[Cell("") for _ in range(columns - 1)]]


def moment_text(micros: int, zone: str) -> str:
    """Return a moment as clocks of a time zone show it."""
    return datetime.fromtimestamp(micros / 1_000_000, time_zone(zone)).strftime("%Y-%m-%d %H:%M")


def day_of(micros: int, zone: str) -> str:
    """Return the date of a moment in a time zone."""
    return moment_text(micros, zone)[:10]
