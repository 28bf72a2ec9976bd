"""Holds a provider's limits while it is asked, and tells what attempts have used."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.limits.limiter import Limiter, Reservation, Scope
from execution_platform.server.resilience.journal import Entry
from execution_platform.v1 import chat_pb2

__all__ = ["Limited", "settle"]


class Limited(WrappingAdapter):
    """Asks the wrapped adapter as far as its provider's limits let it.

    Args:
        inner: the adapter.
        scope: the provider's limits.
        entry: of the attempt.
        limiter: holds limits.
        estimates: of what the attempt will use.
    """

    def __init__(self, inner: Adapter, scope: Scope, entry: Entry, limiter: Limiter, estimates: Estimates) -> None:
        super().__init__(inner)
        self._scope = scope
        self._entry = entry
        self._limiter = limiter
        self._estimates = estimates

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises LimitReachedError without asking, and AdapterError."""
        reservation = self._estimates.expected(self._entry.leg.provider, call.model, call.request)
        async with self._limiter.held([self._scope], reservation):
            try:
                async with aclosing(self.inner.stream(call)) as stream:
                    async for events in stream:
                        yield events
            except AdapterError as error:
                # What it counts for depends on how it failed.
                failed, skipped = chat_pb2.ATTEMPT_OUTCOME_FAILED, chat_pb2.ATTEMPT_OUTCOME_SKIPPED
                self._entry.end(failed if error.asked else skipped, error)
                raise
            except BaseException:
                self._entry.end(chat_pb2.ATTEMPT_OUTCOME_CANCELLED)
                raise
            finally:
                settle(reservation, [self._entry], call.request, self._estimates)


def settle(
    reservation: Reservation, entries: Iterable[Entry], request: chat_pb2.ChatRequest, estimates: Estimates
) -> None:
    """Put into a reservation what attempts have used.

    That is what the providers told; of an attempt that ended before its provider told anything, an estimate of what it
    may charge for; and nothing of one whose provider told its failure before any output.

    Args:
        reservation: is changed.
        entries: of the attempts.
        request: that was made.
        estimates: know what usages cost.
    """
    reservation.tokens = reservation.cost_nanos = reservation.requests = 0
    for entry in entries:
        leg = entry.leg
        if entry.outcome == chat_pb2.ATTEMPT_OUTCOME_SKIPPED:
            continue
        reservation.requests = 1
        answered = entry.first_output is not None
        if entry.usage.items:
            used = estimates.told(leg.provider, leg.model, entry.usage, entry.cost)
        elif entry.charged:
            used = estimates.unheard(leg.provider, leg.model, leg.request or request, answered=answered)
        else:
            continue
        reservation.tokens += used.tokens
        reservation.cost_nanos += used.cost_nanos
