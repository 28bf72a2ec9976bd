"""Keeps the stream's promises: what comes first, what is held back, what ends it, and what the end tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.resilience.held import is_output
from execution_platform.server.resilience.journal import Journal, duration
from execution_platform.server.routing.plan import Plan
from execution_platform.server.status import error_detail
from execution_platform.v1 import chat_pb2, error_pb2, usage_pb2

__all__ = ["ChatClock", "Sequencer"]

Event = chat_pb2.ChatEvent


@dataclass(slots=True)
class ChatClock:
    """Times of one chat, in seconds: `arrived_at` since the epoch, `startup` a span, the others monotonic."""

    arrived_at: float = field(default_factory=time.time)
    arrived: float = field(default_factory=time.monotonic)
    sent: float | None = None
    first_output: float | None = None
    startup: float | None = None

    def started_up(self, seconds: float) -> None:
        """Take how long a process of the provider's own took to start; of several attempts the last one counts."""
        self.startup = seconds

    def timing(self) -> chat_pb2.Timing:
        """Return the times so far."""
        timing = chat_pb2.Timing(total=duration(time.monotonic() - self.arrived))
        if self.sent is not None:
            timing.queue.CopyFrom(duration(self.sent - self.arrived))
        if self.first_output is not None:
            timing.first_token.CopyFrom(duration(self.first_output - self.arrived))
        if self.startup is not None:
            timing.startup.CopyFrom(duration(self.startup))
        timing.arrival_time.FromNanoseconds(int(self.arrived_at * 1_000_000_000))
        return timing


class Sequencer:
    """Turns the events of a chat's attempts into what the caller sees, and remembers what the end must tell."""

    def __init__(self, request_id: str, plan: Plan, journal: Journal, clock: ChatClock) -> None:
        self._request_id = request_id
        self._plan = plan
        self._journal = journal
        self._clock = clock
        self._held: list[Event] = []
        self._started = chat_pb2.Started()
        self.output_began = False
        self.finished: chat_pb2.Finished | None = None

    def take(self, events: Sequence[Event]) -> list[Event]:
        """Return the events that may go out now, in order."""
        out: list[Event] = []
        for event in events:
            kind = event.WhichOneof("event")
            if kind != "block_delta":
                if kind == "finished":
                    self._complete(event.finished)
                if not self.output_began:
                    if not is_output(event):
                        self._hold(event, kind)
                        continue
                    out.extend(self._begin())
            out.append(event)
        return out

    def fail(self, error: AdapterError) -> tuple[list[Event], error_pb2.ErrorDetail]:
        """Return what the caller sees of a failure: `failed`, with all that was tried."""
        route = self.route()
        detail = error_detail(error, route.provider, route.model)
        failed = chat_pb2.Failed(error=detail, timing=self._clock.timing(), attempts=self._journal.attempts())
        if route.provider:
            failed.route.CopyFrom(route)
        failed.usage.CopyFrom(self.usage)
        failed.cost.CopyFrom(self._cost())
        return [Event(failed=failed)], detail

    def route(self) -> chat_pb2.Route:
        """Return who answers, as far as known; empty: nobody has been asked."""
        current = self._journal.current
        return chat_pb2.Route() if current is None else current.route()

    @property
    def usage(self) -> usage_pb2.Usage:
        """What the attempt that answers has used so far, or the last one, as its provider told it."""
        current = self._journal.current
        return usage_pb2.Usage() if current is None else current.usage

    def _cost(self) -> usage_pb2.Cost:
        """Return what the answer costs, as far as known."""
        current = self._journal.current
        if current is None or current.cost is None:
            return usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
        return current.cost

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
        started.attempts.extend(self._journal.attempts())
        # What came in one piece with its end has ended by now; the caller is told the end where it comes.
        started.attempts[-1].outcome = chat_pb2.ATTEMPT_OUTCOME_RUNNING
        started.attempts[-1].ClearField("usage")
        started.attempts[-1].ClearField("cost")
        released = [Event(started=started), *(Event(notice=notice) for notice in self._notices())]
        released.extend(self._held)
        self._held = []
        return released

    def _notices(self) -> list[chat_pb2.Notice]:
        """Return what the choice of the route makes worth telling."""
        notices = [] if self._plan.notice is None else [self._plan.notice]
        current = self._journal.current
        if current is None:
            return notices
        first = self._journal.entries[0].leg
        if current.leg.name != first.name:
            notices.append(
                chat_pb2.Notice(
                    code=chat_pb2.NOTICE_CODE_FALLBACK_USED,
                    message=f"{current.leg.name} answers in place of {first.name}; attempts tell why",
                )
            )
        return [*notices, *current.leg.notices]

    def _complete(self, finished: chat_pb2.Finished) -> None:
        if not finished.HasField("usage"):
            finished.usage.CopyFrom(self.usage)
        if not finished.HasField("cost"):
            finished.cost.CopyFrom(self._cost())
        finished.route.CopyFrom(self.route())
        finished.attempts.extend(self._journal.attempts())
        finished.timing.CopyFrom(self._clock.timing())
        self.finished = finished
