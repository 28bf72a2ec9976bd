"""Which model carries a history on: the best for how long it is, and for what is installed."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass

from execution_platform.server.ledger.forecasts.days import WEEK, History
from execution_platform.server.ledger.forecasts.plain import MeanOfDays, Model, ResampledDays

__all__ = ["Choice", "can_smooth", "choose"]

#: Days that exponential smoothing with a week needs.
_ENOUGH = 4 * WEEK

#: Share of days whose being empty, or not, their weekday does not account for, from which on they are drawn.
_RARE = 0.2


@dataclass(frozen=True, slots=True)
class Choice:
    """A model, and why not a better one.

    Attributes:
        model: carries the history on; None: there is nothing to carry on.
        reason: why not a better one; empty: it is the best.
    """

    model: Model | None
    reason: str = ""

    @property
    def method(self) -> str:
        """Name of the model."""
        return "none" if self.model is None else self.model.method


def can_smooth() -> bool:
    """Return whether exponential smoothing is installed: the extra `forecast`."""
    return importlib.util.find_spec("statsmodels") is not None


def choose(history: History, *, smooth: bool) -> Choice:
    """Return the best model for a history.

    Args:
        history: may be empty.
        smooth: exponential smoothing may be used.
    """
    if not any(history.values):
        return Choice(None, "nothing was spent before today")
    few = f"too few days: {len(history)} of {_ENOUGH}" if len(history) < _ENOUGH else ""
    if history.empty_share() > _RARE:
        return Choice(ResampledDays(history), few or "too many days without spending")
    if few:
        return Choice(MeanOfDays(history), few)
    if not smooth:
        return Choice(MeanOfDays(history), "the extra `forecast` is not installed")
    return _smoothed(history)


def _smoothed(history: History) -> Choice:
    # Imported where it is needed: it takes seconds and much memory, and need not be installed.
    from execution_platform.server.ledger.forecasts.smoothing import FitError, HoltWinters  # noqa: PLC0415

    try:
        return Choice(HoltWinters(history))
    except FitError as error:
        return Choice(MeanOfDays(history), str(error))
