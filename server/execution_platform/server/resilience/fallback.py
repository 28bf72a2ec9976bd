"""Asks the next model when one fails before its first output."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import Protocol

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.errors import BudgetExceededError, NoHealthyRouteError
from execution_platform.server.routing.plan import Leg

__all__ = ["Fallback", "Route", "Steps"]


class Route(Protocol):
    """Attempts at one model, or at some that run beside each other."""

    def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises AdapterError."""
        ...


class Steps:
    """What failed before any output, and what follows from that.

    Args:
        tell: is told of each step: who failed, how, and who is asked next.
    """

    def __init__(self, tell: Callable[[Leg, AdapterError, Leg], None]) -> None:
        self._tell = tell
        self._failures: list[AdapterError] = []

    def failed(self, error: AdapterError) -> None:
        """Remember a failure."""
        self._failures.append(error)

    def step(self, failed: Leg, error: AdapterError, following: Leg) -> None:
        """Tell that the next is asked."""
        self._tell(failed, error, following)

    def verdict(self) -> AdapterError:
        """Return the failure that tells most.

        Of those that were asked the last that may pass, since then the chat may succeed later; else the last. Where
        nobody was asked, that nobody can be; but what is wrong, where that does not pass, and which budget has no room.
        """
        failures = self._failures
        asked = [error for error in failures if error.asked]
        if asked:
            return next((error for error in reversed(asked) if error.retryable), asked[-1])
        if len(failures) == 1 or not any(error.retryable for error in failures):
            return failures[0]
        if all(isinstance(error, BudgetExceededError) for error in failures):
            return failures[-1]  # which budget it is tells more than that nobody can be asked
        waits = [error.retry_after for error in failures if error.retry_after is not None]
        told = "; ".join(f"{error.provider}/{error.model}: {error.message}" for error in failures)
        return NoHealthyRouteError(
            f"none of {len(failures)} routes can be asked: {told}", retry_after=min(waits, default=None)
        )


class Fallback:
    """Asks one after the other until one has output.

    Args:
        routes: whom to ask, in order, each with the leg that it stands for; at least one.
        steps: takes what fails; routes that run attempts beside each other share it.
    """

    def __init__(self, routes: Sequence[tuple[Leg, Route]], steps: Steps) -> None:
        self._routes = routes
        self._steps = steps

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts.

        Raises:
            AdapterError: after output the one that broke it off; else that which tells most.
            NoHealthyRouteError: nobody of several could be asked.
        """
        for index, (leg, route) in enumerate(self._routes):
            output = False
            try:
                async with aclosing(route.stream(call)) as stream:
                    async for events in stream:
                        output = True
                        yield events
                return  # noqa: TRY300 - the answer is complete; an else block would say so further away
            except AdapterError as error:
                self._steps.failed(error)
                if output:
                    raise
                if not error.decision.fall_back:
                    break
                if index + 1 < len(self._routes):
                    self._steps.step(leg, error, self._routes[index + 1][0])
        raise self._steps.verdict()

    async def aclose(self) -> None:
        """Do nothing: the providers' adapters are shared."""
