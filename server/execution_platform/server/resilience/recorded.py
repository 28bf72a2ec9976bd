"""Keeps the journal of one attempt, and what it says about its provider."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Protocol

from execution_platform.adapters.decisions import kind_of_finish
from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.server.errors import InternalError
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.accounted import account
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.plan import Leg
from execution_platform.server.routing.providers import Providers
from execution_platform.server.status import error_detail
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import chat_pb2

__all__ = ["Recorded", "Shared"]

#: Names in the metrics.
_OUTCOMES = {value: name.removeprefix("ATTEMPT_OUTCOME_").lower() for name, value in chat_pb2.AttemptOutcome.items()}
_CAUSES = {value: name.removeprefix("ATTEMPT_CAUSE_").lower() for name, value in chat_pb2.AttemptCause.items()}


class Shared(Protocol):
    """What chats share.

    Attributes:
        providers: get told how their provider answered.
        latencies: get told when the first output came.
        limits: tell what attempts cost.
        metrics: count attempts.
        logger: gets faults of adapters.
    """

    @property
    def providers(self) -> Providers: ...  # noqa: D102 - see the class
    @property
    def latencies(self) -> Latencies: ...  # noqa: D102 - the same
    @property
    def limits(self) -> Limits: ...  # noqa: D102 - the same
    @property
    def metrics(self) -> Metrics: ...  # noqa: D102 - the same
    @property
    def logger(self) -> Logger: ...  # noqa: D102 - the same


class Recorded:
    """One route to one model: each call of :meth:`stream` is an attempt of its own, with an entry in the journal.

    Args:
        leg: who is asked.
        stack: makes the adapters below this one for an attempt. Raises AdapterError where nobody can be asked.
        journal: of the chat.
        deadline: when the chat's time is over, on the monotonic clock.
        shared: with all chats.

    Attributes:
        cause: why the next attempt is made.
    """

    def __init__(
        self, leg: Leg, stack: Callable[[Entry], Adapter], journal: Journal, deadline: float, shared: Shared
    ) -> None:
        self.leg = leg
        self.cause: chat_pb2.AttemptCause.ValueType = chat_pb2.ATTEMPT_CAUSE_FIRST
        self._stack = stack
        self._journal = journal
        self._deadline = deadline
        self._shared = shared

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make one attempt. Raises AdapterError, and nothing else: a fault of an adapter as InternalError."""
        leg = self.leg
        entry = self._journal.begin(leg, self.cause)
        estimates = self._shared.limits.estimates
        record = self._shared.providers.record(leg.provider)
        record.running += 1
        told_before = call.on_startup

        def started_up(seconds: float) -> None:
            entry.startup = seconds
            told_before(seconds)

        call = replace(
            call,
            on_startup=started_up,
            request=leg.request or call.request,
            model=leg.model,
            timeout=max(0.001, self._deadline - time.monotonic()),
        )
        try:
            async with aclosing((await self._adapter(entry)).stream(call)) as stream:
                async for events in stream:
                    if self._journal.answering is not entry:
                        self._journal.answering = entry
                    if events[-1].WhichOneof("event") == "finished":
                        # Before it goes out: `finished` lists this attempt as finished.
                        entry.end(chat_pb2.ATTEMPT_OUTCOME_FINISHED)
                        account(entry, call.request, estimates, events[-1].finished)
                    yield events
        except AdapterError as error:
            if entry.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED:
                return  # the answer is whole, whatever becomes of its connection
            self._failed(entry, error, call)
            raise
        except Exception as fault:
            self._shared.logger.exception(
                "attempt_fault", request_id=call.request_id[:128], provider=leg.provider, model=leg.model
            )
            if entry.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED:
                return
            internal = InternalError()
            self._failed(entry, internal, call)
            raise internal from fault
        finally:
            record.running -= 1
            entry.end(chat_pb2.ATTEMPT_OUTCOME_CANCELLED)
            account(entry, call.request, estimates)
            self._tell(entry, call)

    async def aclose(self) -> None:
        """Do nothing: the provider's adapter is shared."""

    async def _adapter(self, entry: Entry) -> Adapter:
        try:
            await self._shared.providers.ready(self.leg.provider)
            return self._stack(entry)
        except AdapterError as error:
            error.asked = False
            raise

    def _failed(self, entry: Entry, error: AdapterError, call: Call) -> None:
        leg = self.leg
        self._shared.providers.without_secrets(leg.provider, error, call.request)
        error.provider, error.model = error.provider or leg.provider, error.model or leg.model
        if error.asked:
            entry.end(chat_pb2.ATTEMPT_OUTCOME_FAILED, error)
            self._shared.providers.record(leg.provider).failed_with(error_detail(error))
        else:
            entry.end(chat_pb2.ATTEMPT_OUTCOME_SKIPPED, error)

    def _tell(self, entry: Entry, call: Call) -> None:
        leg = entry.leg
        seconds = (entry.ended or entry.began) - entry.began
        first_output = None if entry.first_output is None else entry.first_output - entry.began
        if entry.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED:
            self._shared.providers.record(leg.provider).succeeded()
        if first_output is not None:
            soon = seconds if call.unary else first_output
            self._shared.latencies.note(leg.provider, leg.model, soon, whole=call.unary)
        kind = kind_of_finish(entry.finish_reason) if entry.error is None else entry.error.kind
        self._shared.metrics.attempt(
            leg.provider,
            leg.model,
            outcome=_OUTCOMES[entry.outcome],
            cause=_CAUSES[entry.cause],
            kind="" if kind is None else kind.value,
            seconds=seconds,
            first_output=first_output,
            startup=entry.startup,
        )
