"""Keeps the stream's promises: what comes first, what is held back, what ends it, and what the end tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from google.protobuf import duration_pb2

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.routing.router import Target
from execution_platform.server.status import error_detail
from execution_platform.v1 import chat_pb2, error_pb2, usage_pb2

__all__ = ["ChatClock", "Sequencer"]

Event = chat_pb2.ChatEvent

#: Events that tell nothing of the answer itself: they wait for the first one that does.
_HELD = frozenset({"started", "notice", "usage_updated", "provider_event", "heartbeat"})


def _duration(seconds: float) -> duration_pb2.Duration:
    nanos = max(0, int(seconds * 1_000_000_000))
    return duration_pb2.Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


@dataclass(slots=True)
class ChatClock:
    """Times of one chat, in seconds: `arrived_at` since the epoch, the others on the monotonic clock."""

    arrived_at: float = field(default_factory=time.time)
    arrived: float = field(default_factory=time.monotonic)
    sent: float | None = None
    first_output: float | None = None

    def timing(self) -> chat_pb2.Timing:
        """Return the times so far."""
        timing = chat_pb2.Timing(total=_duration(time.monotonic() - self.arrived))
        if self.sent is not None:
            timing.queue.CopyFrom(_duration(self.sent - self.arrived))
        if self.first_output is not None:
            timing.first_token.CopyFrom(_duration(self.first_output - self.arrived))
        timing.arrival_time.FromNanoseconds(int(self.arrived_at * 1_000_000_000))
        return timing

    def attempt_latency(self) -> duration_pb2.Duration:
        """Return the time since the request was sent to the provider."""
        return _duration(time.monotonic() - (self.sent if self.sent is not None else self.arrived))


class Sequencer:
    """Turns one attempt's events into what the caller sees, and remembers what the end must tell."""

    def __init__(self, request_id: str, target: Target, clock: ChatClock) -> None:
        self._request_id = request_id
        self._target = target
        self._clock = clock
        self._held: list[Event] = []
        self._started = chat_pb2.Started()
        self.output_began = False
        self.usage = usage_pb2.Usage()
        self.finished: chat_pb2.Finished | None = None

    def take(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that may go out now, in order."""
        out: list[Event] = []
        for event in events:
            kind = event.WhichOneof("event")
            if kind != "block_delta":
                if kind == "usage_updated":
                    self.usage = event.usage_updated.usage
                elif kind == "finished":
                    self._complete(event.finished)
                if not self.output_began:
                    if kind in _HELD:
                        self._hold(event, kind)
                        continue
                    out.extend(self._begin())
            out.append(event)
        return out

    def fail(self, error: AdapterError) -> tuple[list[Event], error_pb2.ErrorDetail]:
        """Return what the caller sees of a failure: what was held back that still matters, and `failed`."""
        detail = error_detail(error, self._target.provider, self._target.model)
        failed = chat_pb2.Failed(error=detail, usage=self.usage, route=self.route(), timing=self._clock.timing())
        failed.cost.CopyFrom(_unpriced())
        failed.attempts.append(self.attempt(chat_pb2.ATTEMPT_OUTCOME_FAILED, detail))
        return [Event(failed=failed)], detail

    def route(self) -> chat_pb2.Route:
        """Return who answers, as far as known."""
        return chat_pb2.Route(
            provider=self._target.provider, model=self._target.model, served_model=self._started.route.served_model
        )

    def attempt(
        self, outcome: chat_pb2.AttemptOutcome.ValueType, error: error_pb2.ErrorDetail | None = None
    ) -> chat_pb2.Attempt:
        """Return the attempt as it stands."""
        attempt = chat_pb2.Attempt(
            provider=self._target.provider,
            model=self._target.model,
            outcome=outcome,
            latency=self._clock.attempt_latency(),
        )
        if error is not None:
            attempt.error.CopyFrom(error)
        if outcome != chat_pb2.ATTEMPT_OUTCOME_RUNNING:
            attempt.usage.CopyFrom(self.usage)
        return attempt

    def _hold(self, event: Event, kind: str | None) -> None:
        if kind == "started":
            self._started.CopyFrom(event.started)
        else:
            self._held.append(event)

    def _begin(self) -> list[Event]:
        """Release what was held back: `started` first, with who answers and how it came to that."""
        self.output_began = True
        if self._clock.first_output is None:
            self._clock.first_output = time.monotonic()
        started = self._started
        started.request_id = self._request_id
        started.route.CopyFrom(self.route())
        started.attempts.append(self.attempt(chat_pb2.ATTEMPT_OUTCOME_RUNNING))
        released = [Event(started=started)]
        if self._target.notice is not None:
            released.append(Event(notice=self._target.notice))
        released.extend(self._held)
        self._held = []
        return released

    def _complete(self, finished: chat_pb2.Finished) -> None:
        if finished.HasField("usage"):
            self.usage = finished.usage
        else:
            finished.usage.CopyFrom(self.usage)
        if not finished.HasField("cost"):
            finished.cost.CopyFrom(_unpriced())
        finished.route.CopyFrom(self.route())
        finished.attempts.append(self.attempt(chat_pb2.ATTEMPT_OUTCOME_FINISHED))
        finished.timing.CopyFrom(self._clock.timing())
        self.finished = finished


def _unpriced() -> usage_pb2.Cost:
    return usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
