"""Exponential smoothing with a damped trend and a weekly season, by statsmodels.

The state space form ETS(A,Ad,A) of Holt and Winters' method (Hyndman, Koehler, Ord and Snyder 2008) on logarithms. The
library finds the weights and carries futures on; their errors are drawn from those that it made on the history.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from random import Random
from typing import Any

import numpy as np
from statsmodels.tsa.exponential_smoothing.ets import ETSModel

from execution_platform.server.ledger.forecasts.days import WEEK, History, Scale, without_spikes
from execution_platform.server.ledger.forecasts.plain import Errors

__all__ = ["FitError", "HoltWinters"]

#: Numbers learned from the history: three weights, the damping, level and trend, and the week's seven less one.
_LEARNED = 12

#: Days that say where level, trend and season begin.
_BEGINNING = 8 * WEEK

_STEPS = 200


class FitError(Exception):
    """The model cannot be fitted to this history. The message says why."""


class HoltWinters:
    """Exponential smoothing.

    Args:
        history: at least four weeks, most days with something spent.

    Raises:
        FitError: the library finds no weights, or such as lead nowhere.
    """

    method = "holt-winters"

    def __init__(self, history: History) -> None:
        self._scale = scale = Scale(history.values)
        raw = [scale.to(value) for value in history.values]
        seen = without_spikes(raw, [history.weekday_of(day) for day in range(len(history))])
        self._fit = fit = _fitted(np.array(seen))
        self._next = float(fit.forecast(1)[0])
        said = [*map(float, fit.fittedvalues), self._next]
        if not np.isfinite(said).all():
            raise FitError("the fit is not finite")
        self.said = [scale.back(value) for value in said]
        # The first week set the season up.
        self._errors = Errors(seen[WEEK:], raw[WEEK:], said[WEEK:-1], _LEARNED)
        self.wider = self._errors.wider

    def todays(self, futures: int, random: Random) -> list[float]:
        """Return what today may come to."""
        errors = self._errors
        return [self._scale.back(self._next + sum(errors.draw(rate, random))) for rate in errors.rates(futures, random)]

    def onward(self, todays: Sequence[float], days: int, random: Random) -> list[array[float]]:
        """Return what the days after today may come to."""
        futures = len(todays)
        errors = np.empty((days + 1, futures))
        spikes = np.zeros((days + 1, futures))
        errors[0] = [self._errors.bounded(self._scale.to(today) - self._next) for today in todays]
        rates = self._errors.rates(futures, random)
        for day in range(1, days + 1):
            drawn = np.array([self._errors.draw(rate, random) for rate in rates])
            errors[day], spikes[day] = drawn.T
        # A spike is over when the day is: of its error only the part that is no spike is learned from.
        learned = np.clip(errors, *self._errors.range)
        spikes += errors - learned
        paths = self._fit.simulate(days + 1, anchor="end", repetitions=futures, random_errors=learned)
        paths += spikes + self._misjudged(days, futures, random)
        return [array("d", map(self._scale.back, paths[day])) for day in range(1, days + 1)]

    def _misjudged(self, days: int, futures: int, random: Random) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return by how much each day is off where level and trend are not what they seem.

        As for a line through the history: the variances of its end and of its slope, and their covariance.
        """
        count = len(self.said) - 1
        deviation = self._errors.deviation
        normal = np.array([[random.gauss(0, 1) for _ in range(futures)] for _ in range(2)])
        level = normal[0] * deviation * 2 / count**0.5
        trend = (normal[0] * 3**0.5 + normal[1]) * 3**0.5 * deviation / count**1.5
        damping = float(self._fit.damping_trend)
        growth: np.ndarray[Any, np.dtype[np.float64]] = np.cumsum(damping ** np.arange(1, days + 2))
        off: np.ndarray[Any, np.dtype[np.float64]] = level + np.outer(growth, trend)
        return off


def _fitted(seen: np.ndarray[Any, np.dtype[np.float64]]) -> Any:
    level, trend, season = _beginning(seen)
    try:
        # Numpy's warnings and the library's are told as errors of our own. Filters of Python's warnings are one for all
        # threads, so they are left alone.
        with np.errstate(all="raise", under="ignore"):
            fit = ETSModel(
                seen,
                error="add",
                trend="add",
                damped_trend=True,
                seasonal="add",
                seasonal_periods=WEEK,
                initialization_method="known",
                initial_level=level,
                initial_trend=trend,
                initial_seasonal=season,
            ).fit(disp=False, maxiter=_STEPS, warn_convergence=False)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
        raise FitError(f"the fit failed: {error}") from error
    if not fit.mle_retvals["converged"]:
        raise FitError("the fit found no end")
    return fit


def _beginning(seen: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, np.ndarray[Any, Any]]:
    """Return level, trend and season to begin with: a line and a week through the first days, by least squares."""
    days = np.arange(min(len(seen), _BEGINNING))
    terms = np.column_stack([days, np.equal.outer(days % WEEK, np.arange(WEEK))])
    trend, *week = np.linalg.lstsq(terms, seen[: len(days)], rcond=None)[0]
    level = float(np.mean(week))
    return level - float(trend), float(trend), np.array(week) - level
