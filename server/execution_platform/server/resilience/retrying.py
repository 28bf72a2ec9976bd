"""Asks the same model again when a failure is one that passes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import Retries
from execution_platform.server.resilience.recorded import Recorded
from execution_platform.server.resilience.retry_budget import RetryBudget
from execution_platform.v1 import chat_pb2

__all__ = ["Retrying", "backoff"]

#: Seconds of the chat's time that must be left behind a wait: an attempt without time only costs.
_LEAST_LEFT = 0.05


def backoff(number: int, first: float, longest: float, draw: Callable[[], float] = random.random) -> float:
    """Return the seconds before a retry: exponential backoff with full jitter.

    Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

    Args:
        number: of the retry, from 1.
        first: longest wait before the first one; doubles with each.
        longest: longest wait of all.
        draw: a number from 0 to 1.
    """
    return float(min(longest, first * 2 ** (number - 1)) * draw())


class Retrying:
    """Makes attempts at one model until one has output, the failure does not pass, or no retry is left.

    Never after output; never past the deadline; never sooner than the provider asks; only as far as the provider's
    retry budget goes.

    Args:
        inner: makes one attempt.
        policy: how often and how soon; None: never.
        budget: of the provider.
        deadline: when the chat's time is over, on the monotonic clock.
        alone: no other model is left to fall back to.
    """

    def __init__(
        self, inner: Recorded, policy: Retries | None, budget: RetryBudget, deadline: float, *, alone: bool
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self._alone = alone

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises the AdapterError of the last one."""
        self._budget.asked()
        number = 0
        while True:
            output = False
            try:
                async with aclosing(self._inner.stream(call)) as stream:
                    async for events in stream:
                        output = True
                        yield events
                self._budget.answered()
                return  # noqa: TRY300 - the answer is complete; an else block would say so further away
            except AdapterError as error:
                number += 1
                wait = None if output else self._wait(number, error)
                if wait is None:
                    raise
            await asyncio.sleep(wait)
            self._inner.cause = chat_pb2.ATTEMPT_CAUSE_RETRY

    async def aclose(self) -> None:
        """Do nothing: the provider's adapter is shared."""

    def _wait(self, number: int, error: AdapterError) -> float | None:
        """Return the seconds before the next attempt; None: there is none."""
        policy = self._policy
        if policy is None or not error.decision.retry or not error.asked:
            return None
        if number > (policy.most if self._alone else min(policy.most, policy.most_before_fallback)):
            return None
        wait = max(backoff(number, policy.first_wait, policy.longest_wait), error.retry_after or 0.0)
        if not self._alone and wait > policy.longest_wait_before_fallback:
            return None
        if time.monotonic() + wait + _LEAST_LEFT > self._deadline:
            return None
        return wait if self._budget.withdraw() else None
