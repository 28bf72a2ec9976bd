"""Keeps retries from doubling the load on a provider that is down."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from execution_platform.server.config.personas import RetryBudgetSettings
from execution_platform.server.metrics import Metrics

__all__ = ["RetryBudget", "RetryBudgets"]

#: Parts of the window: counts are kept for each.
_PARTS = 10

#: Parts, the running one among them, whose answers show that the provider answers now.
_RECENT = 2


class RetryBudget:
    """How many retries one provider's requests and answers of the last seconds have paid for.

    A retry is paid for by the requests of the window, or by the answers of its last fifth. In a full outage there are
    no answers, and retries add a tenth to the load, from its first second on; a provider that fails now and then can
    be asked again each time (docs/decisions/2026-11-21-retry-budget.md).

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
        #: Parts of the window, the oldest first.
        self._parts: deque[_Part] = deque()

    def asked(self) -> None:
        """Count a request."""
        self._part().requests += 1

    def passed_over(self) -> None:
        """Take a request back for which nobody was asked after all."""
        self._part().requests -= 1

    def answered(self) -> None:
        """Count an answer that has begun."""
        self._part().answers += 1

    def withdraw(self) -> bool:
        """Return whether one more retry is paid for, and if so count it."""
        running = self._part()
        settings, parts = self._settings, self._parts
        recent = [part for part in parts if part.number > running.number - _RECENT]
        by_requests = settings.ratio * sum(part.requests for part in parts)
        by_answers = settings.ratio_of_answers * sum(part.answers for part in recent)
        if (
            sum(part.retries for part in parts) + 1 > max(by_requests, settings.least)
            and sum(part.retries for part in recent) + 1 > by_answers
        ):
            self._on_denied()
            return False
        running.retries += 1
        return True

    def _part(self) -> _Part:
        number = int(self._clock() / (self._settings.window_seconds / _PARTS))
        while self._parts and self._parts[0].number <= number - _PARTS:
            self._parts.popleft()
        if not self._parts or self._parts[-1].number != number:
            self._parts.append(_Part(number))
        return self._parts[-1]


@dataclass(slots=True)
class _Part:
    """What was counted in one part of the window, the number of which rises with time."""

    number: int
    requests: int = 0
    answers: int = 0
    retries: int = 0


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
