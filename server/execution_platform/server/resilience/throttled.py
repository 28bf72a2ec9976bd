"""Leaves a provider alone that has said that its limits are reached, and listens to what it says about them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from execution_platform.adapters.decisions import ErrorKind
from execution_platform.adapters.errors import AdapterError, RateLimitedError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.limits.throttles import Throttles
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.journal import Entry
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Throttled"]

#: Longest wait for a provider, in seconds; a caller would rather know.
_LONGEST_WAIT = 20.0

#: Seconds of the chat's time that must be left behind a wait.
_LEAST_LEFT = 0.05

#: Failures in which a provider says when to come back.
_TELLING = frozenset({ErrorKind.RATE_LIMITED, ErrorKind.OVERLOADED})


class Throttled(WrappingAdapter):
    """Asks the wrapped adapter when its provider's limits allow it.

    While they do not, the attempt is passed over, so that another model is asked; if there is none it waits, as long as
    that is short and within the chat's time.

    Args:
        inner: the adapter; yields nothing before its first output.
        entry: of the attempt.
        throttles: remember what providers said.
        metrics: count attempts that are passed over.
        alone: no other model is left.
    """

    def __init__(self, inner: Adapter, entry: Entry, throttles: Throttles, metrics: Metrics, *, alone: bool) -> None:
        super().__init__(inner)
        self._entry = entry
        self._leg = entry.leg
        self._throttles = throttles
        self._metrics = metrics
        self._alone = alone

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises RateLimitedError without asking, and AdapterError."""
        provider, model = self._leg.provider, self._leg.model
        await self._wait(call)
        answered_at: float | None = None
        self._throttles.began(provider, model)
        try:
            async with aclosing(self.inner.stream(call)) as stream:
                async for events in stream:
                    if answered_at is None:
                        answered_at = time.monotonic()
                    if events[-1].WhichOneof("event") == "finished":
                        self._listen(events[-1].finished, answered_at)
                    yield events
        except AdapterError as error:
            if error.asked and error.retry_after is not None and error.kind in _TELLING:
                self._throttles.refused(provider, model, error.retry_after)
            raise
        finally:
            self._throttles.ended(provider, model)

    async def _wait(self, call: Call) -> None:
        provider, model = self._leg.provider, self._leg.model
        wait = self._throttles.wait(provider, model)
        longest = min(_LONGEST_WAIT, call.timeout - _LEAST_LEFT) if call.timeout is not None else _LONGEST_WAIT
        if wait and (not self._alone or wait > longest):
            self._metrics.limited("provider", "told_by_provider")
            error = RateLimitedError(
                f"{self._leg.name} has said that its limits are reached; it is left alone for {wait:.1f} s",
                retry_after=wait,
            )
            error.asked = False
            raise error
        wait = self._throttles.take_turn(provider, model)
        if wait:
            await asyncio.sleep(wait)
            # What was waited for here says nothing of how soon the model answers.
            self._entry.began = time.monotonic()

    def _listen(self, finished: chat_pb2.Finished, answered_at: float) -> None:
        if finished.rate_limits:
            items = finished.usage.items
            tokens = sum(item.quantity for item in items if item.unit == usage_pb2.USAGE_UNIT_TOKEN)
            self._throttles.told(
                self._leg.provider, self._leg.model, finished.rate_limits, tokens=tokens, answered_at=answered_at
            )
