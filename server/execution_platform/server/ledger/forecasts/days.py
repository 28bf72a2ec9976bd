"""The days that a forecast is made from, on the scale that models see them on.

Spending grows and varies in proportion, so models see logarithms. Days without any are there as well, so a small part
of an ordinary day is added before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, linear_regression, median, pvariance

__all__ = ["WEEK", "History", "Scale", "interval", "quantile", "shift_of", "without_spikes"]

#: Days after which spending repeats itself.
WEEK = 7

#: Part of an ordinary day that is added before the logarithm is taken.
_OFFSET = 0.05

#: No simulated day is dearer than the dearest of the history by more than this factor.
_DEAREST = 100.0


#: A day farther off than so many robust standard deviations is a spike: about one in 4,000 ordinary ones.
_FAR = 3.5

#: Least standard deviation that is reckoned with, so that a history without any variation has no spikes of its own.
_LEAST_DEVIATION = 0.02

#: Days that a level must have lasted; how many standard deviations apart two levels are; and what part of the variance
#: around a line may be left around them.
_LASTING = 10
_APART = 3.0
_BETTER = 0.6

#: The share of days that says how far off ordinary ones are, and how many standard deviations that is for a normal
#: distribution. Not the median: what is usual goes through many of the days, which are then off by nothing.
_ORDINARY = 0.85
_NORMAL = 1.44


@dataclass(frozen=True, slots=True)
class History:
    """Whole days, the oldest first, up to yesterday.

    Attributes:
        values: what was spent in each, in any unit, none below 0.
        weekday: of the first day; 0: Monday.
    """

    values: Sequence[float]
    weekday: int = 0

    def __len__(self) -> int:
        """Return how many days there are."""
        return len(self.values)

    def weekday_of(self, day: int) -> int:
        """Return the weekday of a day: 0 is the first of the history, its length is today."""
        return (self.weekday + day) % WEEK

    def empty_share(self) -> float:
        """Return the share of days without spending; from four weeks on that which weekdays do not account for."""
        if len(self) < 4 * WEEK:
            return sum(not value for value in self.values) / max(len(self), 1)
        rare = 0
        for weekday in range(WEEK):
            days = [value > 0 for day, value in enumerate(self.values) if self.weekday_of(day) == weekday]
            rare += min(sum(days), len(days) - sum(days))
        return rare / len(self.values)


class Scale:
    """The logarithm, with a small part of an ordinary day added.

    Args:
        values: of the history; one is above 0.
    """

    __slots__ = ("_most", "_offset")

    def __init__(self, values: Sequence[float]) -> None:
        self._offset = _OFFSET * median(value for value in values if value > 0)
        self._most = math.log(max(values) * _DEAREST)

    def to(self, value: float) -> float:
        """Return a spending as models see it."""
        return math.log(value + self._offset)

    def back(self, seen: float) -> float:
        """Return the spending that a model means; never below 0."""
        return max(math.exp(min(seen, self._most)) - self._offset, 0.0)


def without_spikes(seen: Sequence[float], weekday_of: Sequence[int]) -> list[float]:
    """Return values with those that stand out drawn to the edge of what is usual around them.

    Usual is the median of the days around, and of what the weekday makes of it (winsorising by a robust deviation,
    Hampel 1974). A lasting shift is not a spike: after four days it is what is usual.

    Args:
        seen: on the scale of models.
        weekday_of: of each.
    """
    # Whole weeks, also at both ends: a part of one may be all weekend.
    last = max(len(seen) - WEEK, 0)
    weeks = [median(seen[first : first + WEEK]) for first in range(last + 1)]
    around = [weeks[min(max(day - WEEK // 2, 0), last)] for day in range(len(seen))]
    off = [value - usual for value, usual in zip(seen, around, strict=True)]
    weekly = _medians(off, weekday_of)
    rest = [value - weekly[weekday] for value, weekday in zip(off, weekday_of, strict=True)]
    middle = median(rest)
    ordinary = quantile(sorted(abs(value - middle) for value in rest), _ORDINARY)
    deviation = max(ordinary / _NORMAL, _LEAST_DEVIATION)
    low, high = middle - _FAR * deviation, middle + _FAR * deviation
    return [value - left + min(max(left, low), high) for value, left in zip(seen, rest, strict=True)]


def shift_of(history: History) -> tuple[int, float]:
    """Return since when spending lies on another level, if once it jumped, and by which factor.

    The day that cuts the history into the two flattest parts (least squares), if these are far apart, and fit much
    better than a line does. (0, 1.0): it did not jump.
    """
    days = len(history)
    if days < 2 * _LASTING or not any(history.values):
        return 0, 1.0
    scale = Scale(history.values)
    weekdays = [history.weekday_of(day) for day in range(days)]
    seen = without_spikes([scale.to(value) for value in history.values], weekdays)
    weekly = _medians(seen, weekdays)
    level = [value - weekly[weekday] for value, weekday in zip(seen, weekdays, strict=True)]
    cut = max(range(_LASTING, days - _LASTING + 1), key=lambda day: _between(level, day))
    before, after = level[:cut], level[cut:]
    apart = fmean(after) - fmean(before)
    rest = (pvariance(before) * cut + pvariance(after) * (days - cut)) / days
    slope, begin = linear_regression(range(days), level)
    line = fmean((value - begin - slope * day) ** 2 for day, value in enumerate(level))
    if rest > _BETTER * line or abs(apart) < _APART * max(rest**0.5, _LEAST_DEVIATION):
        return 0, 1.0
    return cut, math.exp(apart)


def _between(values: Sequence[float], cut: int) -> float:
    """Return how far apart two parts are, as the part of the variance that this accounts for."""
    apart = fmean(values[:cut]) - fmean(values[cut:])
    return apart * apart * cut * (len(values) - cut)


def _medians(values: Sequence[float], groups: Sequence[int]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for value, group in zip(values, groups, strict=True):
        found.setdefault(group, []).append(value)
    return {group: median(members) for group, members in found.items()}


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values, linear between two of them (Hyndman and Fan 1996, type 7)."""
    place = share * (len(ordered) - 1)
    below = int(place)
    if below + 1 >= len(ordered):
        return ordered[-1]
    return ordered[below] + (place - below) * (ordered[below + 1] - ordered[below])


def interval(values: Iterable[float], confidence: float) -> tuple[float, float, float]:
    """Return the middle of values, and the ends between which this share of them lies.

    As many lie below the low end as above the high one; but where it is not even unlikely that nothing is spent at all,
    the low end is 0, and no share is left below it.
    """
    ordered = sorted(values)
    tail = (1 - confidence) / 2
    low = quantile(ordered, tail)
    high = quantile(ordered, 1 - tail if low > 0 else confidence)
    return quantile(ordered, 0.5), low, max(high, quantile(ordered, 0.5))
