"""How dear an hour usually is, and how far it may be off: medians of the same hour in the weeks before.

Of a spender, with ``x`` the cost of the hour in question and ``y`` those of the same hour of the week in the last 8
weeks (4 at least) since it was first seen::

    m = median of y                    d = median of the distances of y from m          (MAD)
    g = median over the last 168 hours of x/m, at least 1            (how far this spender has grown since)
    r = median over the same hours of d/m                            (how restless it is as a whole)
    u = g m                                                          (what is usual)
    s = max(1.4826 g d, 1.4826 r u, u / 10)
    x is told if  x - u > k s  and  x - u >= least amount

Hours in which nothing is spent as a rule, so that m = 0, say nothing about the size of what is spent now and then. Then
y are those of this hour and its two neighbours in which something was spent, g is 1, and r is that of all such hours
of the 8 weeks. If there is none at all, whatever reaches the least amount is told.

1.4826 makes a MAD a standard deviation where the noise is normal (Rousseeuw and Croux, "Alternatives to the Median
Absolute Deviation", 1993). A few weeks give a poor `d`, which may be near 0 by chance: `r` stands in for it, and a
tenth of the usual below that. `k` is `alerts.anomalies.deviations`, 8 if nothing is configured: real spending has
longer tails than normal noise. Medians do not mind that half of those weeks had spikes of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from statistics import median_low
from typing import Final

__all__ = ["WEEKS", "Judgement", "Series"]

#: Weeks that are looked back.
WEEKS: Final = 8
_HOURS: Final = 168
_NORMAL: Final = Decimal("1.4826")
_LEAST_SHARE: Final = Decimal("0.1")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What is to be thought of an hour; amounts in nanos.

    Attributes:
        observed: what it costs.
        usual: what is usual.
        limit: what is told lies above this.
        weeks: how many it is compared with.
    """

    observed: int
    usual: int
    limit: int
    weeks: int

    @property
    def unusual(self) -> bool:
        """Whether somebody should know."""
        return self.observed > self.limit


class Series:
    """What one spender has spent, hour by hour.

    Args:
        sums: nanos by the hour's number, counted from the epoch. What is missing after the first one is 0.
        deviations: how many robust standard deviations are too many.
        least_weeks: weeks that must have been seen.
        least_amount: nanos above the usual below which nothing is told.
    """

    def __init__(self, sums: Mapping[int, int], *, deviations: Decimal, least_weeks: int, least_amount: int) -> None:
        self._sums = sums
        self._first = min(sums, default=0)
        self._deviations = deviations
        self._least_weeks = least_weeks
        self._least_amount = least_amount

    def judge(self, hour: int) -> Judgement | None:
        """Return what is to be thought of an hour; None: there is too little to compare it with."""
        before = self._before(hour)
        if len(before) < self._least_weeks:
            return None
        observed = self._sums.get(hour, 0)
        middle, distance = _middle(before)
        if observed - middle < self._least_amount:
            # Nearly all hours, without a look at the rest of the week: what is usual is never below the median.
            return Judgement(observed, middle, middle + self._least_amount, len(before))
        usual, scale = self._of_week(hour, middle, distance) if middle > 0 else self._of_now_and_then(hour)
        limit = usual + max(int(self._deviations * scale), self._least_amount - 1)
        return Judgement(observed, usual, limit, len(before))

    def _before(self, hour: int) -> list[int]:
        """Return the same hour of the weeks before, as far as the spender was seen by then."""
        hours = range(hour - _HOURS, hour - WEEKS * _HOURS - 1, -_HOURS)
        return [self._sums.get(each, 0) for each in hours if each >= self._first]

    def _of_week(self, hour: int, middle: int, distance: int) -> tuple[int, Decimal]:
        """Return what is usual and the scale, for an hour in which something is spent as a rule."""
        growths: list[Decimal] = []
        shares: list[Decimal] = []
        for each in range(hour - _HOURS, hour):
            usual, off = _middle(self._before(each) or [0])
            if usual > 0:
                growths.append(Decimal(self._sums.get(each, 0)) / usual)
                shares.append(Decimal(off) / usual)
        growth = max(median_low(growths or [Decimal(1)]), Decimal(1))
        return int(growth * middle), _scale(int(growth * middle), growth * distance, median_low(shares or [Decimal(0)]))

    def _of_now_and_then(self, hour: int) -> tuple[int, Decimal]:
        """Return what is usual and the scale, for an hour in which something is spent now and then."""
        near = [amount for each in (hour - 1, hour, hour + 1) for amount in self._before(each) if amount > 0]
        if not near:
            return 0, Decimal(0)
        anywhere = [amount for amount in self._all_before(hour) if amount > 0]
        middle, distance = _middle(anywhere)
        restlessness = Decimal(distance) / middle
        usual, distance = _middle(near)
        return usual, _scale(usual, Decimal(distance), restlessness)

    def _all_before(self, hour: int) -> Iterable[int]:
        return (self._sums.get(each, 0) for each in range(hour - WEEKS * _HOURS - 1, hour))


def _scale(usual: int, distance: Decimal, restlessness: Decimal) -> Decimal:
    return max(_NORMAL * distance, _NORMAL * restlessness * usual, _LEAST_SHARE * usual)


def _middle(amounts: list[int]) -> tuple[int, int]:
    """Return the median, and the median distance from it."""
    usual = median_low(amounts)
    return usual, median_low([abs(amount - usual) for amount in amounts])
