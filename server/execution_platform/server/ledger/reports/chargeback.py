"""What each tenant and project owes. The lines add up to the total, to the nano."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection

from execution_platform.server.ledger.reports.document import (
    Cell,
    Document,
    Line,
    Section,
    Table,
    Weight,
    decimal_text,
)
from execution_platform.server.ledger.reports.sums import Scope, costs_text, count, moment_text, name, sums_of
from execution_platform.v1 import cost_pb2

__all__ = ["Owed", "chargeback", "gather_owed"]

#: Lines; what is more is in one of its own.
_MOST: Final = 10_000

#: Columns that fit a page: the others are for programs.
_SHOWN: Final = 6

_HEADS: Final = (
    "tenant",
    "project",
    "currency",
    "cost",
    "of which corrections",
    "requests",
    "attempts",
    "failed attempts",
    "unpriced attempts",
    "input tokens",
    "cache read tokens",
    "cache write tokens",
    "output tokens",
    "reasoning tokens",
)


@dataclass(frozen=True, slots=True)
class Owed:
    """Sums of one moment.

    Attributes:
        scope: what they are of.
        sums: by tenant and project.
        corrections: the part of them that corrections are, likewise.
    """

    scope: Scope
    sums: cost_pb2.SummarizeUsageResponse
    corrections: cost_pb2.SummarizeUsageResponse


def gather_owed(connection: Connection, scope: Scope) -> Owed:
    """Read all sums, within one transaction that reads."""
    by = (cost_pb2.USAGE_DIMENSION_TENANT, cost_pb2.USAGE_DIMENSION_PROJECT)
    corrections = scope.of_kind(cost_pb2.USAGE_RECORD_KIND_CORRECTION)
    none = cost_pb2.SummarizeUsageResponse()
    return Owed(
        scope,
        sums_of(connection, scope, *by, limit=_MOST),
        none if corrections is None else sums_of(connection, corrections, *by, limit=_MOST),
    )


def chargeback(owed: Owed) -> Document:
    """Write the report."""
    corrected = {tuple(row.values): row for row in owed.corrections.rows}
    lines: list[Line] = []
    for row in sorted(owed.sums.rows, key=lambda each: tuple(each.values)):
        part = corrected.get(tuple(row.values))
        lines += _lines(list(map(name, row.values)), row, part, Weight.PLAIN)
    if owed.sums.HasField("others"):
        # Which part of them corrections are is told of the total only.
        lines += _lines([Cell("all others", value=""), Cell("")], owed.sums.others, None, Weight.REST)
    if lines:
        lines += _lines([Cell("total", value=""), Cell("")], owed.sums.total, owed.corrections.total, Weight.TOTAL)
    table = Table(_HEADS, lines, "Nothing was recorded in this time.", shown=_SHOWN)
    return Document("Chargeback", [*owed.scope.about(), *_notes(owed)], [Section("By tenant and project", [table])])


def _notes(owed: Owed) -> list[str]:
    end = moment_text(owed.scope.end, owed.scope.zone)
    if owed.scope.running:
        state = f"The period is still open: it ends {end}, and these sums will grow."
    else:
        state = f"The period is closed since {end}. Chats that began in it and still ran, and corrections, change it."
    notes = [state]
    if any(cost.nanos for cost in owed.corrections.total.costs):
        notes.append(f"Corrections of work of this period are in it: {costs_text(owed.corrections.total.costs)}.")
    if owed.sums.total.unpriced:
        notes.append(f"{owed.sums.total.unpriced:,} attempts have no known price, and cost nothing here until they do.")
    if owed.sums.HasField("others"):
        notes.append(f"The dearest {len(owed.sums.rows):,} have a line each; all others are one.")
    return notes


def _lines(
    names: list[Cell], row: cost_pb2.UsageSum, corrected: cost_pb2.UsageSum | None, weight: Weight
) -> list[Line]:
    """Return a line for each currency; what is no money stands in the first."""
    corrections = {cost.currency_code: cost.nanos for cost in corrected.costs} if corrected is not None else {}
    numbers = [
        row.records,
        row.attempts,
        row.failed_attempts,
        row.unpriced,
        row.input_tokens,
        row.cache_read_tokens,
        row.cache_write_tokens,
        row.output_tokens,
        row.reasoning_tokens,
    ]
    lines = []
    for cost in row.costs:
        money = [_money(cost.nanos), _money(corrections.get(cost.currency_code, 0))]
        cells = [*names, Cell(cost.currency_code), *money, *map(count, numbers)]
        lines.append(Line(cells, weight))
        numbers = [0] * len(numbers)
    return lines


def _money(nanos: int) -> Cell:
    return Cell(decimal_text(nanos, grouped=True), value=decimal_text(nanos), number=True)
