"""Sums of records by any dimensions and spans of time. Exact: everything is added up in integers.

The database groups; what it finds comes in the order of its groups, a few at a time, and only the rows that are asked
for are kept. With SQLite the time is cut into pieces that are grouped one by one: sorting a few ten thousand rows is
quick, sorting a million at once is not (docs/usage-records.md has figures).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final, NoReturn

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    func,
    literal,
    literal_column,
    select,
    union_all,
)
from sqlalchemy.exc import DBAPIError

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.windows import UnknownTimeZoneError, time_zone
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.spans import Piece, Spans
from execution_platform.server.ledger.store.tables import usage_entries, usage_labels
from execution_platform.server.ledger.writing.entries import AMOUNTS
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["Summary", "SummaryPlan", "plan_of", "summarize"]

_DEFAULT_LIMIT: Final = 10_000
_MOST_ROWS: Final = 100_000
_MOST_LABELS: Final = 8

#: Pieces of time that SQLite groups by themselves.
_PIECES: Final = 96
#: Groups that are fetched at once.
_BATCH: Final = 1_000

_MOST: Final = 2**63 - 1
#: Sums that may be larger than 64 bits, where SQLite's sum() fails: their halves are added up by themselves then.
_LARGE: Final = ("nanos", *(name for name in AMOUNTS if name.endswith("tokens")))

_COLUMNS: Final = {
    cost_pb2.USAGE_DIMENSION_TENANT: "tenant",
    cost_pb2.USAGE_DIMENSION_PROJECT: "project",
    cost_pb2.USAGE_DIMENSION_PERSONA: "persona",
    cost_pb2.USAGE_DIMENSION_END_USER: "end_user_id",
    cost_pb2.USAGE_DIMENSION_SESSION: "session_id",
    cost_pb2.USAGE_DIMENSION_PROVIDER: "provider",
    cost_pb2.USAGE_DIMENSION_MODEL: "model",
    cost_pb2.USAGE_DIMENSION_OUTCOME: "outcome",
}


@dataclass(frozen=True, slots=True)
class SummaryPlan:
    """A request for sums that has been found to be right."""

    selection: Selection
    dimensions: tuple[cost_pb2.UsageDimension.ValueType, ...] = ()
    label_keys: tuple[str, ...] = ()
    granularity: cost_pb2.Granularity.ValueType = cost_pb2.GRANULARITY_UNSPECIFIED
    time_zone: str = ""
    limit: int = _DEFAULT_LIMIT


@dataclass(slots=True)
class _Sum:
    """What some entries come to.

    Attributes:
        span: number of the span of time; -1: the whole.
        values: what they have in common.
        costs: in 1e-9 units, by currency.
        amounts: all of AMOUNTS but the money, in their order.
    """

    span: int = -1
    values: tuple[str, ...] = ()
    costs: dict[str, int] = field(default_factory=dict)
    amounts: list[int] = field(default_factory=lambda: [0] * (len(AMOUNTS) - 1))

    def add(self, currency: str, nanos: int, amounts: Sequence[int]) -> None:
        self.costs[currency] = self.costs.get(currency, 0) + nanos
        self.amounts = [mine + more for mine, more in zip(self.amounts, amounts, strict=True)]

    def add_all(self, other: _Sum) -> None:
        for currency, nanos in other.costs.items():
            self.costs[currency] = self.costs.get(currency, 0) + nanos
        self.amounts = [mine + more for mine, more in zip(self.amounts, other.amounts, strict=True)]

    def rank(self) -> tuple[int, int, tuple[int, ...], tuple[str, ...]]:
        """What sums are ordered by: time, then the dearest in US dollars, then in other currencies, then values."""
        others = tuple(-self.costs[currency] for currency in sorted(self.costs) if currency != "USD")
        return self.span, -self.costs.get("USD", 0), others, self.values


class Summary:
    """Sums, as many as are asked for, of however many there are.

    Args:
        limit: most sums that are kept; the others are added up.
    """

    def __init__(self, limit: int, selection: Selection) -> None:
        self.spans: Spans | None = None
        self._limit = limit
        self._selection = selection
        self._rows: list[_Sum] = []
        self._total = _Sum()
        self._others: _Sum | None = None

    def add(self, row: _Sum) -> None:
        """Take a sum in."""
        self._total.add_all(row)
        self._rows.append(row)
        if len(self._rows) >= 2 * self._limit:
            self._cut()

    def _cut(self) -> None:
        self._rows.sort(key=_Sum.rank)
        for row in self._rows[self._limit :]:
            if self._others is None:
                self._others = _Sum()
            self._others.add_all(row)
        del self._rows[self._limit :]

    def message(self) -> cost_pb2.SummarizeUsageResponse:
        """Return them as the contract tells them.

        Raises:
            InvalidRequestError: one of them is larger than the contract can tell.
        """
        self._cut()
        response = cost_pb2.SummarizeUsageResponse(total=self._told(self._total))
        response.rows.extend(self._told(row) for row in self._rows)
        if self._others is not None:
            response.others.CopyFrom(self._told(self._others))
        return response

    def _told(self, row: _Sum) -> cost_pb2.UsageSum:
        numbers = dict(zip(AMOUNTS[1:], row.amounts, strict=True))
        if any(abs(number) > _MOST for number in (*numbers.values(), *row.costs.values())):
            _refuse(
                "filter",
                f"lets through more than a sum of the contract can tell ({_MOST} of 1e-9 units, or as many tokens): "
                "choose a shorter filter.time_range",
            )
        told = cost_pb2.UsageSum(values=row.values)
        for name, number in numbers.items():
            setattr(told, name, number)
        told.costs.extend(
            common_pb2.Money(currency_code=currency, nanos=nanos) for currency, nanos in sorted(row.costs.items())
        )
        if row.span >= 0 and self.spans is not None:
            start, end = self.spans.bounds[row.span], self.spans.bounds[row.span + 1]
            start = start if self._selection.start is None else max(start, self._selection.start)
            end = end if self._selection.end is None else min(end, self._selection.end)
            told.time_range.start_time.FromMicroseconds(start)
            told.time_range.end_time.FromMicroseconds(end)
        return told


def plan_of(request: cost_pb2.SummarizeUsageRequest) -> SummaryPlan:
    """Check what is to be summed.

    Raises:
        InvalidRequestError: a field of the request cannot be meant so; the message says how it can.
    """
    selection = Selection.of(request.filter)
    _check_dimensions(request)
    if request.granularity not in cost_pb2.Granularity.values():
        _refuse("granularity", f"must be one of {', '.join(cost_pb2.Granularity.keys())}")
    try:
        time_zone(request.time_zone)
    except UnknownTimeZoneError as error:
        _refuse("time_zone", f'{error}: write an IANA name such as "Europe/Berlin", or leave it empty for UTC')
    if not 0 <= request.limit <= _MOST_ROWS:
        _refuse("limit", f"must be 1 to {_MOST_ROWS}, or 0 for {_DEFAULT_LIMIT}")
    return SummaryPlan(
        selection,
        tuple(request.dimensions),
        tuple(request.label_keys),
        request.granularity,
        request.time_zone,
        request.limit or _DEFAULT_LIMIT,
    )


def summarize(connection: Connection, plan: SummaryPlan) -> Summary:
    """Sum up.

    Args:
        connection: within a transaction.
        plan: what to sum.

    Raises:
        InvalidRequestError: the time would be cut into too many spans.
    """
    try:
        return _summarize(connection, plan, halves=False)
    except DBAPIError as error:
        if "integer overflow" not in str(error.orig):
            raise
    return _summarize(connection, plan, halves=True)


def _summarize(connection: Connection, plan: SummaryPlan, *, halves: bool) -> Summary:
    summary = Summary(plan.limit, plan.selection)
    found = _times(connection, plan.selection)
    if found is None:
        return summary
    spans = Spans.covering(plan.granularity, plan.time_zone, *found)
    if plan.granularity:
        summary.spans = spans
    sums = _Sums(halves=halves)
    pieces = spans.pieces(_PIECES if connection.dialect.name == "sqlite" else 1, *found)
    statement = _statement(plan, spans, sums, pieces)
    for row in _folded(connection, statement, plan.dimensions, sums):
        if summary.spans is None:
            row.span = -1
        summary.add(row)
    return summary


def _times(connection: Connection, selection: Selection) -> tuple[int, int] | None:
    """Return when the first and the last entry of a time began, the end not included; None: there is none."""
    column = usage_entries.c.started_at
    query = select(column).where(*selection.during()).limit(1)
    first = connection.scalar(query.order_by(column))
    last = connection.scalar(query.order_by(column.desc()))
    return None if first is None or last is None else (first, last + 1)


class _Sums:
    """How amounts are added up, and read.

    Args:
        halves: large ones in two halves.
    """

    def __init__(self, *, halves: bool) -> None:
        self._halved = frozenset(_LARGE if halves else ())
        self.names = [each for name in AMOUNTS for each in self._parts(name)]

    def _parts(self, name: str) -> list[str]:
        return [f"{name}_high", f"{name}_low"] if name in self._halved else [name]

    def inner(self) -> Iterator[ColumnElement[Any]]:
        """Yield sums of entries."""
        for name in AMOUNTS:
            column = usage_entries.c[name]
            if name in self._halved:
                yield func.sum(column.bitwise_rshift(32)).label(f"{name}_high")
                yield func.sum(column.bitwise_and(2**32 - 1)).label(f"{name}_low")
            else:
                yield func.sum(column).label(name)

    def outer(self, pieces: FromClause) -> Iterator[ColumnElement[Any]]:
        """Yield sums of sums."""
        for name in self.names:
            yield func.sum(pieces.c[name]).label(name)

    def read(self, row: Sequence[Any]) -> list[int]:
        """Return the amounts, from what the database says."""
        values = map(int, row)
        return [(next(values) << 32) + next(values) if name in self._halved else next(values) for name in AMOUNTS]


def _statement(plan: SummaryPlan, spans: Spans, sums: _Sums, pieces: Sequence[Piece]) -> Select[Any]:
    grouped = [_grouped(plan, spans, sums, piece) for piece in pieces]
    groups = (grouped[0] if len(grouped) == 1 else union_all(*grouped)).subquery("pieces")
    keys = list(groups.c)[: len(plan.dimensions) + 2]
    if len(grouped) == 1:
        return select(*groups.c).order_by(*keys[:-1])
    return select(*keys, *sums.outer(groups)).group_by(*keys).order_by(*keys[:-1])


def _grouped(plan: SummaryPlan, spans: Spans, sums: _Sums, piece: Piece) -> Select[Any]:
    """Return the sums of the entries of a piece of time."""
    moment = usage_entries.c.started_at
    span = spans.number(moment) if piece.number is None else literal(piece.number)
    keys: list[ColumnElement[Any]] = [span.label("span")]
    source: FromClause = usage_entries
    labels = iter(plan.label_keys)
    for number, dimension in enumerate(plan.dimensions):
        if dimension == cost_pb2.USAGE_DIMENSION_LABEL:
            table = usage_labels.alias(f"label_{number}")
            is_it = and_(table.c.record_id == usage_entries.c.record_id, table.c.key == next(labels))
            source = source.outerjoin(table, is_it)
            keys.append(func.coalesce(table.c.value, "").label(f"key_{number}"))
        else:
            keys.append(usage_entries.c[_COLUMNS[dimension]].label(f"key_{number}"))
    keys.append(usage_entries.c.currency.label("currency"))
    rows = select(*keys, *sums.inner()).select_from(source)
    rows = rows.where(moment >= piece.start, moment < piece.end, *plan.selection.matching())
    # By the names of the results: PostgreSQL would not take two expressions with parameters for the same one. What is
    # the same in all rows need not be sorted by.
    told_apart = keys if piece.number is None else keys[1:]
    return rows.group_by(*(literal_column(key.name) for key in told_apart))


def _folded(
    connection: Connection,
    statement: Select[Any],
    dimensions: Sequence[cost_pb2.UsageDimension.ValueType],
    sums: _Sums,
) -> Iterator[_Sum]:
    """Yield a sum for each span and values, with all its currencies."""
    result = connection.execute(statement, execution_options={"stream_results": True, "max_row_buffer": _BATCH})
    currency = len(dimensions) + 1
    try:
        rows = (row for batch in result.partitions(_BATCH) for row in batch)
        for (span, *values), group in groupby(rows, key=lambda row: tuple(row[:currency])):
            folded = _Sum(int(span), tuple(map(_value, dimensions, values)))
            for row in group:
                nanos, *amounts = sums.read(row[currency + 1 :])
                folded.add(row[currency], nanos, amounts)
            yield folded
    finally:
        result.close()


def _value(dimension: cost_pb2.UsageDimension.ValueType, value: Any) -> str:
    if dimension == cost_pb2.USAGE_DIMENSION_OUTCOME and value in cost_pb2.UsageOutcome.values():
        return cost_pb2.UsageOutcome.Name(value).removeprefix("USAGE_OUTCOME_")
    return str(value)


def _check_dimensions(request: cost_pb2.SummarizeUsageRequest) -> None:
    seen: set[int] = set()
    for index, dimension in enumerate(request.dimensions):
        place = f"dimensions[{index}]"
        if dimension == 0 or dimension not in cost_pb2.UsageDimension.values():
            _refuse(place, f"must be one of {', '.join(cost_pb2.UsageDimension.keys()[1:])}")
        if dimension in seen and dimension != cost_pb2.USAGE_DIMENSION_LABEL:
            _refuse(place, f"is {cost_pb2.UsageDimension.Name(dimension)} for the second time: leave one out")
        seen.add(dimension)
    labels = list(request.dimensions).count(cost_pb2.USAGE_DIMENSION_LABEL)
    if labels != len(request.label_keys):
        _refuse("label_keys", f"must name a key for each LABEL in dimensions: {labels}, not {len(request.label_keys)}")
    if labels > _MOST_LABELS:
        _refuse("label_keys", f"are more than {_MOST_LABELS}: leave some out")
    for index, key in enumerate(request.label_keys):
        if not key or "\0" in key or key in request.label_keys[:index]:
            _refuse(f"label_keys[{index}]", "must be the key of a label, and of another one than those before")


def _refuse(field: str, why: str) -> NoReturn:
    raise InvalidRequestError(f"{field}: {why}", field=field)
