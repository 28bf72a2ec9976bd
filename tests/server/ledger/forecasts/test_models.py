"""What models make of histories: which is chosen, and what spikes, shifts and zeros do to them."""

from __future__ import annotations

import math
from random import Random

import pytest

from execution_platform.server.ledger.forecasts import smoothing
from execution_platform.server.ledger.forecasts.choice import choose
from execution_platform.server.ledger.forecasts.days import WEEK, History, interval, quantile, shift_of, without_spikes
from execution_platform.server.ledger.forecasts.today import Morning, rest_of_today


def noisy(days: int, level: float = 100.0, seed: int = 1) -> list[float]:
    """Days around a level."""
    random = Random(seed)  # noqa: S311 - a simulation
    return [level * math.exp(random.gauss(0, 0.1)) for _ in range(days)]


def middle(history: History, *, smooth: bool = True, ahead: int = 7) -> float:
    """What is likeliest of the day so many after today."""
    model = choose(history, smooth=smooth).model
    assert model is not None
    random = Random(1)  # noqa: S311 - a simulation
    days = model.onward(model.todays(300, random), ahead, random)
    return interval(days[-1], 0.8)[0]


@pytest.mark.parametrize(
    ("values", "smooth", "method", "reason"),
    [
        ([], True, "none", "nothing was spent before today"),
        ([0.0] * 40, True, "none", "nothing was spent before today"),
        (noisy(1), True, "mean-of-days", "too few days: 1 of 28"),
        (noisy(27), True, "mean-of-days", "too few days: 27 of 28"),
        (noisy(28), True, "holt-winters", ""),
        (noisy(28), False, "mean-of-weekdays", "the extra `forecast` is not installed"),
        ([0.0, 0.0, 5.0] * 20, True, "resampled-days", "too many days without spending"),
        ([5.0, 0.0] * 3, True, "resampled-days", "too few days: 6 of 28"),
        ([value if day % 7 < 5 else 0.0 for day, value in enumerate(noisy(56))], True, "holt-winters", ""),
    ],
)
def test_the_method_goes_with_the_history(values: list[float], smooth: bool, method: str, reason: str) -> None:
    """The best method for a history is chosen, and why it is not a better one is said."""
    choice = choose(History(values), smooth=smooth)
    assert (choice.method, choice.reason) == (method, reason)


def test_a_fit_that_fails_falls_back_by_name() -> None:
    """Where the library cannot fit, the mean of weekdays is taken, and the reason says so."""
    choice = choose(History([*noisy(40), math.inf]), smooth=False)
    assert choice.method == "mean-of-weekdays"
    with pytest.raises(smoothing.FitError):
        smoothing.HoltWinters(History([*noisy(40), math.inf]))


@pytest.mark.parametrize("smooth", [True, False])
def test_a_spike_does_not_lift_what_is_likely(smooth: bool) -> None:
    """A day at fifty times the usual leaves the likeliest value of later days where it was."""
    values = noisy(60)
    values[-2] *= 50
    assert middle(History(values), smooth=smooth) == pytest.approx(100, rel=0.15)


@pytest.mark.parametrize("smooth", [True, False])
def test_a_shift_is_followed(smooth: bool) -> None:
    """Spending that jumped three weeks ago goes on at its new level, not between the two."""
    values = noisy(60) + noisy(21, 300)
    cut, factor = shift_of(History(values))
    assert abs(cut - 60) <= 1
    aligned = [value * factor for value in values[:cut]] + values[cut:]
    assert middle(History(aligned), smooth=smooth) == pytest.approx(300, rel=0.15)


def test_a_trend_is_no_shift() -> None:
    """Steady growth is left as it is."""
    assert shift_of(History([value * 1.01**day for day, value in enumerate(noisy(120))])) == (0, 1.0)


def test_weekends_keep_their_place() -> None:
    """A forecast of a weekend is a weekend's."""
    values = [value * (0.2 if day % WEEK > 4 else 1) for day, value in enumerate(noisy(84))]
    # The history begins on a Monday, so today is one; the day after five more is a Sunday.
    assert middle(History(values), ahead=6) == pytest.approx(20, rel=0.2)
    assert middle(History(values), ahead=1) == pytest.approx(100, rel=0.2)


def test_only_what_stands_out_is_drawn_in() -> None:
    """Nearly all ordinary days stay as they are; a spike comes down to the edge of what is usual."""
    values = [math.log(value) for value in noisy(70)]
    wild = list(values)
    wild[20] += 5
    found = without_spikes(wild, [day % WEEK for day in range(70)])
    changed = [
        day for day, (before, after) in enumerate(zip(values, found, strict=True)) if before != pytest.approx(after)
    ]
    assert 20 in changed
    assert len(changed) <= 4
    assert values[20] < found[20] < values[20] + 1


def test_an_interval_holds_its_share_also_where_nothing_is_likely() -> None:
    """Where most days are empty the interval begins at 0 and leaves a fifth above it."""
    assert interval([0.0] * 60 + [float(value) for value in range(40)], 0.8) == pytest.approx((0.0, 0.0, 19.2))
    assert interval(range(101), 0.8) == pytest.approx((50, 10, 90))


def test_quantiles_are_linear_between_values() -> None:
    """Quantiles lie between the values around them."""
    assert [quantile([0.0, 10.0, 20.0], share) for share in (0, 0.25, 0.5, 1)] == [0, 5, 10, 20]


def test_the_rest_of_today_follows_how_it_has_begun() -> None:
    """A lead that used to last is expected to last; one that never did is not."""
    random = Random(3)  # noqa: S311 - a simulation
    starts = [math.exp(random.gauss(0, 0.4)) for _ in range(50)]
    lasting = [Morning(50 * start, 50 * start, 100) for start in starts]
    passing = [Morning(50 * start, 50, 100) for start in starts]
    led = [interval(rest_of_today(days, 75, 100, 1.0, 400, random), 0.8)[0] for days in (lasting, passing)]
    assert led[0] > 65
    assert led[1] == pytest.approx(50, abs=6)
