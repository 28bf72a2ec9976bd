"""Asks the same model again when a failure is one that passes."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import Retries
from execution_platform.server.resilience.retry_budget import RetryBudget
from execution_platform.v1 import chat_pb2

__all__ = ["Attempts", "Chance", "Retrying", "backoff"]

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


@dataclass(frozen=True, slots=True)
class Chance:
    """Time and luck.

    Attributes:
        draw: a number from 0 to 1.
        sleep: waits so many seconds.
        clock: seconds, monotonic.
    """

    draw: Callable[[], float] = random.random
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    clock: Callable[[], float] = time.monotonic


_CHANCE = Chance()


class Attempts(Protocol):
    """Makes an attempt with each stream.

    Attributes:
        cause: why the next one is made.
    """

    cause: chat_pb2.AttemptCause.ValueType

    def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make one attempt. Raises AdapterError."""
        ...


class Retrying:
    """Makes attempts at one model until one has output, the failure does not pass, or no retry is left.

    Never after output; never past the deadline; never sooner than the provider asks; only as far as the provider's
    retry budget goes.

    Args:
        inner: makes one attempt.
        policy: how often and how soon; None: never.
        budget: of the provider.
        deadline: when the chat's time is over, on the clock.
        alone: tells whether no other model is left to fall back to.
        after: what the model has failed with already, so that the first attempt is a retry as well; None: nothing.
        chance: time and luck.
    """

    def __init__(
        self,
        inner: Attempts,
        policy: Retries | None,
        budget: RetryBudget,
        deadline: float,
        *,
        alone: Callable[[], bool],
        after: AdapterError | None = None,
        chance: Chance = _CHANCE,
    ) -> None:
        self._inner = inner
        self._policy = policy
        self._budget = budget
        self._deadline = deadline
        self._alone = alone
        self._after = after
        self._chance = chance

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises the AdapterError of the last one that was asked."""
        number = 0
        failure = self._after
        while True:
            if failure is not None:
                number += 1
                wait = self._wait(number, failure)
                if wait is None:
                    raise failure
                await self._chance.sleep(wait)
            if number == 0:
                self._budget.asked()
            output = False
            try:
                async with aclosing(self._inner.stream(call)) as stream:
                    async for events in stream:
                        if not output:
                            output = True
                            self._budget.answered()
                        yield events
                return  # noqa: TRY300 - the answer is complete; an else block would say so further away
            except AdapterError as error:
                if output:
                    raise
                if not error.asked:
                    if failure is not None:
                        raise failure from None  # what it failed with tells more than that it is left alone for that
                    self._budget.passed_over()
                failure = error
            self._inner.cause = chat_pb2.ATTEMPT_CAUSE_RETRY

    async def aclose(self) -> None:
        """Do nothing: the provider's adapter is shared."""

    def _wait(self, number: int, error: AdapterError) -> float | None:
        """Return the seconds before the next attempt; None: there is none."""
        policy = self._policy
        if policy is None or not error.decision.retry or not error.asked:
            return None
        alone = self._alone()
        if number > (policy.most if alone else min(policy.most, policy.most_before_fallback)):
            return None
        wait = max(backoff(number, policy.first_wait, policy.longest_wait, self._chance.draw), error.retry_after or 0.0)
        if not alone and wait > policy.longest_wait_before_fallback:
            return None
        if self._chance.clock() + wait + _LEAST_LEFT > self._deadline:
            return None
        return wait if self._budget.withdraw() else None
