"""Models that need no library: means that forget, and days drawn from those that were."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from random import Random
from statistics import fmean, median, pstdev
from typing import Protocol

from execution_platform.server.ledger.forecasts.days import WEEK, History, Scale, without_spikes

__all__ = ["Errors", "MeanOfDays", "Model", "ResampledDays"]

#: Weight of the newest day in a mean, once there are more days than its inverse.
_NEWEST = 0.08

#: Errors as logarithms that are reckoned with beside those of less than two weeks, which may not have seen a weekend:
#: the deciles 1, 3, 5, 7 and 9 of a normal distribution with a deviation of 0.6.
_USUAL = (-0.77, -0.31, 0.0, 0.31, 0.77)

#: Most by which errors are widened for what the model has learned from the same days.
_WIDEST = 1.6

#: Days that further ones are drawn from.
_DRAWN_FROM = 56


class Model(Protocol):
    """A way to carry a history on."""

    @property
    def method(self) -> str:
        """Its name, as the contract tells it."""
        ...

    @property
    def said(self) -> Sequence[float]:
        """What it would have said of each day of the history the day before, and what it says of today."""
        ...

    @property
    def wider(self) -> float:
        """By how much it is farther off than `said` is on the history, from which it has learned."""
        ...

    def todays(self, futures: int, random: Random) -> list[float]:
        """Return what today may come to, as if nothing were known of it yet: one for each future."""
        ...

    def onward(self, todays: Sequence[float], days: int, random: Random) -> list[array[float]]:
        """Return what the days after today may come to.

        Args:
            todays: what today comes to in each future.
            days: how many days more.
            random: where chance comes from.

        Returns:
            For each day what it comes to in each future, in their order.
        """
        ...


class Errors:
    """How far a model was off on the days of the history: what it will be off by is drawn from them.

    Args:
        seen: the days without spikes.
        raw: the days.
        said: what was said of them.
        learned: numbers that the model has learned from the same days, so that it is less off there than it will be.
    """

    def __init__(self, seen: Sequence[float], raw: Sequence[float], said: Sequence[float], learned: int) -> None:
        count = len(seen)
        self.wider = min((count / max(count - learned, 1)) ** 0.5, _WIDEST)
        off = [((value - told) * self.wider, wild - value) for value, wild, told in zip(seen, raw, said, strict=True)]
        self._ordinary = [error for error, spike in off if not spike] or [0.0]
        self._spikes = [(error, spike) for error, spike in off if spike]
        if count < 2 * WEEK:
            self._ordinary += _USUAL
        self.range: tuple[float, float] = (min(self._ordinary), max(self._ordinary))
        self.deviation = pstdev(self._ordinary)

    def rates(self, futures: int, random: Random) -> list[float]:
        """Return how often there are spikes, in each future: a few days say it roughly (beta distribution)."""
        spikes, ordinary = len(self._spikes), len(self._ordinary)
        if not spikes:
            return [0.0] * futures
        return [random.betavariate(spikes + 1, ordinary + 1) for _ in range(futures)]

    def draw(self, rate: float, random: Random) -> tuple[float, float]:
        """Return the error of one day, and the spike that comes on top of it; mostly 0."""
        if rate and random.random() < rate:
            return random.choice(self._spikes)
        return random.choice(self._ordinary), 0.0

    def bounded(self, error: float) -> float:
        """Return the part of an error that is no spike."""
        return min(max(error, self.range[0]), self.range[1])


class MeanOfDays:
    """A mean in which newer days weigh more; with a factor for each weekday, once there are four weeks.

    Args:
        history: at least one day, with something spent.
    """

    def __init__(self, history: History) -> None:
        self._history = history
        self._scale = scale = Scale(history.values)
        weekdays = [history.weekday_of(day) for day in range(len(history))]
        raw = [scale.to(value) for value in history.values]
        seen = without_spikes(raw, weekdays)
        weekly = len(history) >= 4 * WEEK
        self.method = "mean-of-weekdays" if weekly else "mean-of-days"
        self._weekly = _weekly(seen, weekdays) if weekly else [0.0] * WEEK
        levels = self._levels([value - self._weekly[weekday] for value, weekday in zip(seen, weekdays, strict=True)])
        self._level = levels[-1]
        # Of the first day nothing could be said: it says what it was itself, and counts for no error.
        said = [level + self._weekly[history.weekday_of(day)] for day, level in enumerate([levels[0], *levels])]
        self.said = [scale.back(value) for value in said]
        self._errors = Errors(seen[1:], raw[1:], said[1:-1], WEEK if weekly else 1)
        self.wider = self._errors.wider

    @staticmethod
    def _levels(values: Sequence[float]) -> list[float]:
        levels = [values[0]]
        for day, value in enumerate(values[1:], start=1):
            levels.append(levels[-1] + _weight(day) * (value - levels[-1]))
        return levels

    def todays(self, futures: int, random: Random) -> list[float]:
        """Return what today may come to."""
        said = self._level + self._weekly[self._history.weekday_of(len(self._history))]
        return [
            self._scale.back(said + sum(self._errors.draw(rate, random)))
            for rate in self._errors.rates(futures, random)
        ]

    def onward(self, todays: Sequence[float], days: int, random: Random) -> list[array[float]]:
        """Return what the days after today may come to."""
        now = len(self._history)
        weight = _weight(now)
        weekly = [self._weekly[self._history.weekday_of(day)] for day in range(now, now + days + 1)]
        errors, to, back = self._errors, self._scale.to, self._scale.back
        rates = errors.rates(len(todays), random)
        levels = [self._level + weight * errors.bounded(to(today) - self._level - weekly[0]) for today in todays]
        # The mean itself is off, and on all days by the same: as much as a mean that forgets varies.
        off = [random.gauss(0, errors.deviation * (weight / (2 - weight)) ** 0.5) for _ in todays]
        found = []
        for factor in weekly[1:]:
            day = array("d")
            for future, rate in enumerate(rates):
                error, spike = errors.draw(rate, random)
                day.append(back(levels[future] + factor + off[future] + error + spike))
                levels[future] += weight * errors.bounded(error)
            found.append(day)
        return found


class ResampledDays:
    """Days drawn from those that were, where days without any spending come between others.

    Args:
        history: at least one day.
    """

    method = "resampled-days"
    wider = 1.0

    def __init__(self, history: History) -> None:
        self._values = list(history.values[-_DRAWN_FROM:])
        self.said = [fmean(self._values)] * (len(history) + 1)

    def todays(self, futures: int, random: Random) -> list[float]:
        """Return what today may come to."""
        return random.choices(self._values, k=futures)

    def onward(self, todays: Sequence[float], days: int, random: Random) -> list[array[float]]:
        """Return what the days after today may come to."""
        # Other days might have been as well: each future draws from other ones (bootstrap).
        found = [array("d") for _ in range(days)]
        for _ in todays:
            values = random.choices(self._values, k=len(self._values))
            for day, value in zip(found, random.choices(values, k=days), strict=True):
                day.append(value)
        return found


def _weight(day: int) -> float:
    return max(1 / (day + 1), _NEWEST)


def _weekly(values: Sequence[float], weekdays: Sequence[int]) -> list[float]:
    """Return by how much each weekday is off from the week around it."""
    found: list[list[float]] = [[] for _ in range(WEEK)]
    for first in range(len(values) - WEEK + 1):
        middle = first + WEEK // 2
        found[weekdays[middle]].append(values[middle] - fmean(values[first : first + WEEK]))
    return [median(off) for off in found]
