"""The part of today that is still to come: what models say of today, corrected by what it has come to already.

On each past day it is known what had been spent by this time, and what came after. How much of a lead or a lag lasts
is found by least squares over these days; what that left unexplained is what the rest of today may be off by.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

__all__ = ["Morning", "rest_of_today"]

#: Days that are looked at.
_DAYS = 56

#: A day farther off than so much of itself tells little of how long a lead lasts.
_FAR = 1.0

#: As so many days on which no lead lasted.
_PRIOR = 2.0

#: A day that should have been cheaper than this part of the mean has no proportions.
_LEAST = 0.05

#: Of less than two weeks: errors that are reckoned with beside those that were seen, as parts of what is to come.
_USUAL = (-0.5, -0.25, 0.0, 0.3, 0.7)
_FEW = 14


@dataclass(frozen=True, slots=True)
class Morning:
    """A past day, cut at the time that it is now.

    Attributes:
        before: what had been spent by then.
        after: what came then.
        said: what was said of the whole day the day before.
    """

    before: float
    after: float
    said: float


def rest_of_today(
    mornings: Sequence[Morning], so_far: float, said: float, wider: float, futures: int, random: Random
) -> list[float]:
    """Return what may still be spent today, one for each future.

    Args:
        mornings: the days of the history, the oldest first; at least one.
        so_far: what has been spent today.
        said: what is said of today, as if nothing were known of it yet.
        wider: by how much more it will be off than on the days of the history.
        futures: how many.
        random: where chance comes from.
    """
    days = mornings[-_DAYS:]
    whole = sum(day.before + day.after for day in days)
    share = sum(day.before for day in days) / whole if whole else 0.0
    least = _LEAST * whole / len(days) or 1.0
    leads: list[float] = []
    lasts: list[float] = []
    for day in days:
        usual = max(day.said, least)
        leads.append(_near(day.before / usual - share))
        lasts.append(day.after / usual - (1 - share))
    slope = sum(lead * _near(last) for lead, last in zip(leads, lasts, strict=True))
    slope = max(slope / (sum(lead * lead for lead in leads) + _PRIOR * share * share + 1e-9), 0.0)
    errors = [(last - slope * lead) * wider for lead, last in zip(leads, lasts, strict=True)]
    if len(days) < _FEW:
        errors += [(1 - share) * error for error in _USUAL]
    usual = max(said, least)
    middle = 1 - share + slope * _near(so_far / usual - share)
    return [max(usual * (middle + error), 0.0) for error in random.choices(errors, k=futures)]


def _near(part: float) -> float:
    return min(max(part, -_FAR), _FAR)
