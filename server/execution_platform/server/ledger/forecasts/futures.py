"""Many possible futures of a spending, day by day. The same ledger at the same moment has the same futures."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from execution_platform.server.ledger.forecasts.choice import choose
from execution_platform.server.ledger.forecasts.days import History, shift_of
from execution_platform.server.ledger.forecasts.plain import MeanOfDays
from execution_platform.server.ledger.forecasts.reading import Day, Spending
from execution_platform.server.ledger.forecasts.today import Morning, rest_of_today

__all__ = ["FUTURES", "Futures", "see"]

#: How many futures are looked at: quantiles of them are off by about one percent.
FUTURES = 1_000

#: A day of which less than this part has passed says nothing of its rest by itself.
_LEAST_PART = 0.05

_SEED = 20_261_121


@dataclass(frozen=True, slots=True)
class Futures:
    """Possible futures. All amounts are floats: what comes of them is rounded.

    Attributes:
        so_far: what has been spent today.
        rest: what is still to come today, in each future.
        days: what each day after today comes to, in each future.
        method: how they were made.
        reason: why not with a better method; empty: it is the best.
    """

    so_far: int
    rest: Sequence[float]
    days: Sequence[Sequence[float]]
    method: str
    reason: str

    def sums(self, days: int) -> list[float]:
        """Return what the rest of today and so many days after it come to together, in each future."""
        return [sum(amounts) for amounts in zip(self.rest, *self.days[:days], strict=True)]


def see(spending: Spending, which: int, days: int, *, smooth: bool, futures: int = FUTURES) -> Futures:
    """Return possible futures of a spending. Takes its time: to be called in a thread.

    Args:
        spending: what was spent.
        which: amount that is meant.
        days: how many after today.
        smooth: exponential smoothing may be used.
        futures: how many.
    """
    # Chance is the same each time, so that a forecast changes only with what it is made from.
    random = Random(_SEED)  # noqa: S311 - a simulation
    so_far = spending.today.total(which)
    totals = [float(max(day.total(which), 0)) for day in spending.days]
    cut, factor = shift_of(History(totals, spending.weekday()))
    factors = [factor] * cut + [1.0] * (len(totals) - cut)
    history = History([total * by for total, by in zip(totals, factors, strict=True)], spending.weekday())
    chosen = choose(history, smooth=smooth)
    if chosen.model is None:
        return _by_today(spending, so_far, days, futures, random)
    elapsed = spending.now - spending.today.start
    mornings = [
        _morning(day, elapsed, which, by, said)
        for day, by, said in zip(spending.days, factors, chosen.model.said, strict=False)
    ]
    rest = rest_of_today(mornings, so_far, chosen.model.said[-1], chosen.model.wider, futures, random)
    onward = chosen.model.onward([so_far + more for more in rest], days, random)
    return Futures(so_far, rest, onward, chosen.method, chosen.reason)


def _morning(day: Day, elapsed: int, which: int, factor: float, said: float) -> Morning:
    before = max(day.by(elapsed, which), 0.0)
    return Morning(before * factor, max(day.total(which) - before, 0.0) * factor, said)


def _by_today(spending: Spending, so_far: int, days: int, futures: int, random: Random) -> Futures:
    """Go on as today has begun, where that is all that is known."""
    if so_far <= 0:
        nothing = array("d", [0.0]) * futures
        return Futures(so_far, nothing, [nothing] * days, "none", "nothing has been spent yet")
    passed = max((spending.now - spending.today.start) / (spending.today.end - spending.today.start), _LEAST_PART)
    model = MeanOfDays(History([so_far / passed]))
    rest = [max(today - so_far, 0.0) for today in model.todays(futures, random)]
    onward = model.onward([so_far + more for more in rest], days, random)
    return Futures(so_far, rest, onward, "rate-of-today", "nothing was spent before today")
