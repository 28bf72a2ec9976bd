"""Keeps retries from doubling the load on a provider that is down."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from execution_platform.server.config.personas import RetryBudgetSettings
from execution_platform.server.metrics import Metrics

__all__ = ["RetryBudget", "RetryBudgets"]

#: Parts of the window: counts are kept for each.
_PARTS = 10


class RetryBudget:
    """How many retries one provider's requests of the last seconds have paid for.

    Each request pays for a tenth of a retry, each answer for a further quarter: in a full outage retries add a tenth
    to the load, while a provider that fails now and then can be asked again each time
    (docs/decisions/2026-11-21-retry-budget.md).

    Args:
        settings: the shares, and the span that is looked at.
        clock: seconds, monotonic.
        on_denied: is told of each retry that is not paid for.
    """

    def __init__(
        self,
        settings: RetryBudgetSettings,
        clock: Callable[[], float] = time.monotonic,
        on_denied: Callable[[], None] = lambda: None,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._on_denied = on_denied
        #: Parts of the window: when it began, requests, answers, retries.
        self._parts: deque[list[float]] = deque()

    def asked(self) -> None:
        """Count a request."""
        self._part()[1] += 1

    def answered(self) -> None:
        """Count an answer."""
        self._part()[2] += 1

    def withdraw(self) -> bool:
        """Return whether one more retry is paid for, and if so count it."""
        part = self._part()
        requests, answers, retries = (sum(each[index] for each in self._parts) for index in (1, 2, 3))
        paid = self._settings.ratio * requests + self._settings.ratio_of_answers * answers
        if retries + 1 > max(paid, self._settings.least):
            self._on_denied()
            return False
        part[3] += 1
        return True

    def _part(self) -> list[float]:
        now = self._clock()
        span = self._settings.window_seconds
        while self._parts and self._parts[0][0] <= now - span:
            self._parts.popleft()
        if not self._parts or self._parts[-1][0] <= now - span / _PARTS:
            self._parts.append([now, 0, 0, 0])
        return self._parts[-1]


class RetryBudgets:
    """The retry budgets of all providers.

    Args:
        settings: gives the settings that are in force.
        metrics: count what the budgets deny.
    """

    def __init__(self, settings: Callable[[], RetryBudgetSettings], metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self._budgets: dict[str, tuple[RetryBudgetSettings, RetryBudget]] = {}

    def of(self, provider: str) -> RetryBudget:
        """Return a provider's budget; a new one after its settings have changed."""
        settings = self._settings()
        known = self._budgets.get(provider)
        if known is None or known[0] != settings:
            known = self._budgets[provider] = (
                settings,
                RetryBudget(settings, on_denied=partial(self._metrics.retry_denied, provider)),
            )
        return known[1]
