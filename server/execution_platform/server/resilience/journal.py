"""What was tried for one chat: who was asked, why, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from google.protobuf import duration_pb2

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.routing.plan import Leg
from execution_platform.server.status import error_detail
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Entry", "Journal", "duration"]


def duration(seconds: float) -> duration_pb2.Duration:
    """Return a span of time as the contract tells it; a negative one as 0."""
    nanos = max(0, int(seconds * 1_000_000_000))
    return duration_pb2.Duration(seconds=nanos // 1_000_000_000, nanos=nanos % 1_000_000_000)


@dataclass(slots=True)
class Entry:
    """One attempt. Times are on the monotonic clock.

    Attributes:
        leg: who is asked.
        cause: why there is this attempt.
        began: when.
        usage: what it has used so far, as the provider told it.
        outcome: how it ended; RUNNING until then.
        error: why it failed or was passed over.
        first_output: when its first output came; None: there was none.
        ended: when; None: it runs.
        cost: what it costs, where that is known.
    """

    leg: Leg
    cause: chat_pb2.AttemptCause.ValueType
    began: float = field(default_factory=time.monotonic)
    usage: usage_pb2.Usage = field(default_factory=usage_pb2.Usage)
    outcome: chat_pb2.AttemptOutcome.ValueType = chat_pb2.ATTEMPT_OUTCOME_RUNNING
    error: AdapterError | None = None
    first_output: float | None = None
    ended: float | None = None
    cost: usage_pb2.Cost | None = None

    def end(self, outcome: chat_pb2.AttemptOutcome.ValueType, error: AdapterError | None = None) -> None:
        """Note how it ended. The first word counts."""
        if self.ended is None:
            self.ended, self.outcome, self.error = time.monotonic(), outcome, error

    def attempt(self) -> chat_pb2.Attempt:
        """Return it as the contract tells it."""
        attempt = chat_pb2.Attempt(
            provider=self.leg.provider,
            model=self.leg.model,
            region=self.leg.region,
            outcome=self.outcome,
            cause=self.cause,
            latency=duration((self.ended if self.ended is not None else time.monotonic()) - self.began),
        )
        if self.error is not None:
            attempt.error.CopyFrom(error_detail(self.error, self.leg.provider, self.leg.model))
        if self.ended is not None and self.usage.ListFields():
            attempt.usage.CopyFrom(self.usage)
        if self.cost is not None:
            attempt.cost.CopyFrom(self.cost)
        return attempt


class Journal:
    """The attempts of one chat, in the order in which they began.

    Attributes:
        entries: the attempts.
        current: the one whose output the caller sees, else the one that began last; None: there is none yet.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.current: Entry | None = None

    def begin(self, leg: Leg, cause: chat_pb2.AttemptCause.ValueType) -> Entry:
        """Note that an attempt begins."""
        entry = Entry(leg, cause if self.entries else chat_pb2.ATTEMPT_CAUSE_FIRST)
        self.entries.append(entry)
        if self.current is None or self.current.ended is not None:
            self.current = entry
        return entry

    def attempts(self) -> list[chat_pb2.Attempt]:
        """Return the attempts as the contract tells them, the current one last."""
        entries = [entry for entry in self.entries if entry is not self.current]
        if self.current is not None:
            entries.append(self.current)
        return [entry.attempt() for entry in entries]

    def asked(self) -> int:
        """Return how many providers were really asked."""
        return sum(entry.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED for entry in self.entries)
