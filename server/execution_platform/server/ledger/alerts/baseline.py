"""How dear an hour usually is, and how far it may be off: medians of the same hour in the weeks before.

For an hour that costs ``x``, of a spender whose last 8 weeks are known, with ``w`` of them seen (4 or more)::

    m     = median of the same hour of the week in those weeks
    d     = median of their distances from m                       (MAD)
    r     = median of d/m over all hours of the week with m > 0    (how restless this spender is as a whole)
    s     = max(1.4826 d, 1.4826 r m, m / 10)
    x is told if  x - m > k s  and  x - m >= least amount

1.4826 makes a MAD a standard deviation where the noise is normal (Rousseeuw and Croux, "Alternatives to the Median
Absolute Deviation", 1993). A few weeks give a poor `d`, which may be near 0 by chance: `r` stands in for it, and a
tenth of the median below that. `k` is `alerts.anomalies.deviations`, 6 if nothing is configured. Medians do not mind
that up to half of those weeks had spikes of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
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
        usual: the median.
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
        least_amount: nanos above the median below which nothing is told.
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
        usual, distance = _middle(before)
        if observed - usual < self._least_amount:
            # The usual case, without a look at the rest of the week.
            return Judgement(observed, usual, usual + self._least_amount, len(before))
        scale = max(_NORMAL * distance, _NORMAL * self._restlessness(hour) * usual, _LEAST_SHARE * usual)
        limit = usual + max(int(self._deviations * scale), self._least_amount - 1)
        return Judgement(observed, usual, limit, len(before))

    def _before(self, hour: int) -> list[int]:
        """Return the same hour of the weeks before, as far as the spender was seen by then."""
        hours = range(hour - _HOURS, hour - WEEKS * _HOURS - 1, -_HOURS)
        return [self._sums.get(each, 0) for each in hours if each >= self._first]

    def _restlessness(self, hour: int) -> Decimal:
        shares: list[Decimal] = []
        for each in range(hour - _HOURS + 1, hour + 1):
            usual, distance = _middle(self._before(each) or [0])
            if usual > 0:
                shares.append(Decimal(distance) / usual)
        return median_low(shares) if shares else Decimal(0)


def _middle(amounts: list[int]) -> tuple[int, int]:
    """Return the median, and the median distance from it."""
    usual = median_low(amounts)
    return usual, median_low([abs(amount - usual) for amount in amounts])
