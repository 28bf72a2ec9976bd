"""Spans of time into which sums are cut: hours, days, weeks and months of a time zone, as SQL can tell them apart.

A year has hundreds of days, but only a few stretches in which all days are equally long: clocks are changed twice. In
such a run the number of a day is a division, so the database compares with the beginnings of runs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import ColumnElement, case, literal

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.windows import Calendar
from execution_platform.v1 import cost_pb2

__all__ = ["MOST_SPANS", "Piece", "Spans"]

#: Most spans of one sum: two years of hours.
MOST_SPANS: Final = 20_000

_HOUR: Final = 3_600_000_000
#: The budget period of the same length, and the microseconds that it lasts at least.
_PERIODS: Final = {
    cost_pb2.GRANULARITY_HOUR: (cost_pb2.BUDGET_PERIOD_HOUR, _HOUR),
    cost_pb2.GRANULARITY_DAY: (cost_pb2.BUDGET_PERIOD_DAY, 23 * _HOUR),
    cost_pb2.GRANULARITY_WEEK: (cost_pb2.BUDGET_PERIOD_WEEK, 167 * _HOUR),
    cost_pb2.GRANULARITY_MONTH: (cost_pb2.BUDGET_PERIOD_MONTH, 671 * _HOUR),
}


@dataclass(frozen=True, slots=True)
class _Run:
    """Spans that follow one another and are equally long."""

    number: int
    start: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """A piece of time.

    Attributes:
        number: of the span that it is a part of; None: it may hold several.
        start: in microseconds since the epoch.
        end: of the piece, which is not in it.
    """

    number: int | None
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Spans:
    """Spans that follow one another without a gap, as windows of budgets do.

    Attributes:
        bounds: where each begins, and where the last one ends, in microseconds since the epoch.
    """

    bounds: tuple[int, ...]

    @classmethod
    def covering(cls, granularity: cost_pb2.Granularity.ValueType, time_zone: str, start: int, end: int) -> Spans:
        """Return the spans that a time lies in.

        Args:
            granularity: how long they are. UNSPECIFIED: one span, the time itself.
            time_zone: IANA name of the zone in which days begin; empty: UTC.
            start: of the time, in microseconds since the epoch.
            end: of the time, which is not in it.

        Raises:
            InvalidRequestError: they would be more than MOST_SPANS.
        """
        if granularity == cost_pb2.GRANULARITY_UNSPECIFIED:
            return cls((start, end))
        period, length = _PERIODS[granularity]
        if (end - start) // length > MOST_SPANS:
            word = cost_pb2.Granularity.Name(granularity)
            raise InvalidRequestError(
                f"granularity: {word} cuts the time of these records into more than {MOST_SPANS} spans: "
                "choose a longer one, or a shorter filter.time_range",
                field="granularity",
            )
        calendar = Calendar(period, time_zone)
        bounds = [calendar.window(start)[0]]
        while bounds[-1] < end:
            bounds.append(calendar.window(bounds[-1])[1])
        return cls(tuple(bounds))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self.bounds) - 1

    def number(self, moment: ColumnElement[int]) -> ColumnElement[Any]:
        """Return in which of them, from 0 on, a moment within them lies, as an expression of SQL."""
        return _number(self._runs(), moment)

    def pieces(self, most: int, start: int, end: int) -> list[Piece]:
        """Cut a time into at most so many pieces: spans into equal parts, or, where there are more of them, whole ones.

        Args:
            most: pieces.
            start: of the time, which lies in the first span.
            end: of the time, which lies in the last span, or is its end.
        """
        if len(self) > most:
            inner = range(0, len(self), -(-len(self) // most))
            cuts = [start, *(self.bounds[number] for number in inner[1:]), end]
            return [Piece(None, *each) for each in pairwise(cuts)]
        pieces: list[Piece] = []
        for number, (first, last) in enumerate(pairwise([start, *self.bounds[1:-1], end])):
            step = -(-(last - first) // (most // len(self)))
            pieces += [Piece(number, *each) for each in pairwise([*range(first, last, step), last])]
        return pieces

    def _runs(self) -> list[_Run]:
        runs: list[_Run] = []
        for number, (start, end) in enumerate(pairwise(self.bounds)):
            if not runs or runs[-1].length != end - start:
                runs.append(_Run(number, start, end - start))
        return runs


def _number(runs: Sequence[_Run], moment: ColumnElement[int]) -> ColumnElement[Any]:
    if len(runs) > 1:
        middle = len(runs) // 2
        before = moment < runs[middle].start
        return case((before, _number(runs[:middle], moment)), else_=_number(runs[middle:], moment))
    run = runs[0]
    return literal(run.number) + (moment - run.start) // run.length
