"""When a budget's window begins and ends: minutes, hours, days, weeks and months of a time zone.

Windows follow one another without a gap and without an overlap, whatever clocks do:

- A day begins at the first moment whose date it is. Where clocks jump over midnight that is the moment of the jump;
  where they are put back over midnight the hour that comes twice belongs to the day that had begun already. So there
  are days of 23 and of 25 hours, and a day that a zone leaves out has no window.
- Hours and minutes are those of the zone's clock, so hours begin at half past in a zone that is half an hour off. A
  shift of the clock by whole hours leaves them alone; another shift cuts the hour in which it falls.

All that happens to clocks happens at whole seconds, so that is what is reckoned in here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta

from execution_platform.server.config.time_zones import UnknownTimeZoneError, time_zone
from execution_platform.v1 import cost_pb2

__all__ = ["Calendar", "UnknownTimeZoneError", "time_zone", "window_of"]

_MICROS = 1_000_000
_CLOCK_SECONDS = {cost_pb2.BUDGET_PERIOD_MINUTE: 60, cost_pb2.BUDGET_PERIOD_HOUR: 3_600}


class Calendar:
    """The windows of one period in one time zone. Remembers the last one, in which nearly all questions lie.

    Args:
        period: how long a window is.
        zone: IANA name of the time zone; empty: UTC.

    Raises:
        UnknownTimeZoneError: there is none of that name.
        ValueError: the period is not set.
    """

    __slots__ = ("_last", "_period", "_zone")

    def __init__(self, period: cost_pb2.BudgetPeriod.ValueType, zone: str) -> None:
        if period == cost_pb2.BUDGET_PERIOD_UNSPECIFIED or period not in cost_pb2.BudgetPeriod.values():
            raise ValueError("a budget's period has to be set")
        self._period = period
        self._zone = time_zone(zone)
        self._last = (0, 0)

    def window(self, micros: int) -> tuple[int, int]:
        """Return the beginning and the end of a window, in microseconds since the epoch.

        Args:
            micros: a moment of it, in microseconds since the epoch.
        """
        last = self._last
        if last[0] <= micros < last[1]:
            return last
        seconds = micros // _MICROS
        length = _CLOCK_SECONDS.get(self._period)
        start, end = self._days(seconds) if length is None else self._clock(seconds, length)
        self._last = last = (start * _MICROS, end * _MICROS)
        return last

    def _clock(self, seconds: int, length: int) -> tuple[int, int]:
        offset = self._offset(seconds)
        start = (seconds + offset) // length * length - offset
        end = start + length
        if (self._offset(start) - offset) % length:
            start = self._first(start, seconds, lambda moment: self._offset(moment) == offset)
        if (self._offset(end - 1) - offset) % length:
            end = self._first(seconds, end - 1, lambda moment: self._offset(moment) != offset)
        return start, end

    def _days(self, seconds: int) -> tuple[int, int]:
        first = self._first_day(datetime.fromtimestamp(seconds, self._zone).date())
        start = self._begins(first)
        while True:
            following = self._next(first)
            end = self._begins(following)
            if seconds < end:
                return start, end
            first, start = following, end

    def _first_day(self, day: date) -> date:
        if self._period == cost_pb2.BUDGET_PERIOD_WEEK:
            return day - timedelta(days=day.weekday())
        return day.replace(day=1) if self._period == cost_pb2.BUDGET_PERIOD_MONTH else day

    def _next(self, first: date) -> date:
        if self._period == cost_pb2.BUDGET_PERIOD_MONTH:
            return (first + timedelta(days=31)).replace(day=1)
        return first + timedelta(days=7 if self._period == cost_pb2.BUDGET_PERIOD_WEEK else 1)

    def _begins(self, day: date) -> int:
        """Return the first moment at which the zone's clock has come to the midnight that a day begins with."""
        midnight = datetime.combine(day, time.min, self._zone)
        # Of a midnight that comes twice the first; in a jump these two lie on either side of it, the later one first.
        moment, other = (int(midnight.replace(fold=fold).timestamp()) for fold in (0, 1))
        if moment <= other:
            return moment
        wall = midnight.replace(tzinfo=None)
        return self._first(
            other, moment, lambda at: datetime.fromtimestamp(at, self._zone).replace(tzinfo=None) >= wall
        )

    def _offset(self, seconds: int) -> int:
        offset = datetime.fromtimestamp(seconds, self._zone).utcoffset()
        assert offset is not None  # noqa: S101  # a ZoneInfo knows it at every moment
        return offset.days * 86_400 + offset.seconds

    @staticmethod
    def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
        """Return the first moment above `low` and up to `high` from which on something holds."""
        while high - low > 1:
            middle = (low + high) // 2
            if holds(middle):
                high = middle
            else:
                low = middle
        return high


def window_of(budget: cost_pb2.Budget, micros: int) -> tuple[int, int]:
    """Return the window of a budget in which a moment lies: its beginning, and its end, which is not in it.

    Who asks often keeps a :class:`Calendar`, which remembers.

    Args:
        budget: its period and time zone count.
        micros: the moment, in microseconds since the epoch, as are both ends.

    Raises:
        UnknownTimeZoneError: the budget's time zone is not known.
        ValueError: the budget has no period.
    """
    return Calendar(budget.period, budget.time_zone).window(micros)
