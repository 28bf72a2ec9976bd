"""How often what really comes lies where forecasts say it will."""

from __future__ import annotations

import pytest
from tests.server.ledger.forecasts.backtest import KINDS, score

_SEEDS = 12


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("smooth", [True, False], ids=["smoothing", "plain"])
def test_intervals_of_80_percent_hold_70_to_90_percent(smooth: bool) -> None:
    """Of what is spent by a day's end, on a day and in a month, 70 to 90 % lies within the 80 % interval."""
    scores = [score(name, _SEEDS, smooth=smooth, futures=300) for name in KINDS]
    for what in ("day_ends", "days", "months"):
        hits = [hit for each in scores for hit in getattr(each, what)]
        assert 0.7 <= sum(hits) / len(hits) <= 0.9, what


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("name", KINDS)
def test_days_of_each_kind_of_spending_are_held(name: str) -> None:
    """Of the days of each kind of spending, 70 to 90 % lie within the 80 % interval."""
    days = score(name, 2 * _SEEDS, futures=300).days
    assert 0.7 <= sum(days) / len(days) <= 0.9
