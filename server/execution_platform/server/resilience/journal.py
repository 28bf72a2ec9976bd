"""What was tried for one chat: who was asked, why, and what came of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from google.protobuf import duration_pb2

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.ledger import Lease, Snapshot
from execution_platform.server.limits.reckoning import Streamed
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
        began: when it began to wait for its turn, then when its provider was asked.
        usage: what it has used so far, as the provider told it.
        outcome: how it ended; RUNNING until then.
        error: why it failed or was passed over.
        first_output: when its first output came; None: there was none.
        startup: seconds that a process of its provider's own took to start; None: it has none.
        ended: when; None: it runs.
        cost: what it costs, where that is known.
        reckoned: what it has used, where its provider has not told everything; None: it has, or it runs.
        streamed: what has streamed since the provider told its usage last.
        cut: it was ended here because a budget was used up.
        reached: its provider's adapter was called, rather than only waited for.
        lease: what it holds of budgets; None: nothing.
        served_model: the model that really answers, where the provider told.
        arrived: when its chat did, whose prices hold for all of it; None: nobody keeps account, now is near enough.
        finish_reason: how its answer ended; UNSPECIFIED: it has not.
    """

    leg: Leg
    cause: chat_pb2.AttemptCause.ValueType
    began: float = field(default_factory=time.monotonic)
    usage: usage_pb2.Usage = field(default_factory=usage_pb2.Usage)
    outcome: chat_pb2.AttemptOutcome.ValueType = chat_pb2.ATTEMPT_OUTCOME_RUNNING
    error: AdapterError | None = None
    first_output: float | None = None
    startup: float | None = None
    ended: float | None = None
    cost: usage_pb2.Cost | None = None
    reckoned: usage_pb2.Usage | None = None
    streamed: Streamed = field(default_factory=Streamed)
    cut: bool = False
    reached: bool = False
    lease: Lease | None = None
    served_model: str = ""
    arrived: datetime | None = None
    finish_reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_UNSPECIFIED

    @property
    def asked(self) -> bool:
        """Whether the provider was really asked."""
        return self.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED

    @property
    def charged(self) -> bool:
        """Whether its provider may charge for it, though it may have told nothing of that.

        It does for what it has begun to answer, and for a prompt that it was not let answer: cancelled, given up for
        its silence, or with its connection broken. A failure that it told itself costs nothing.
        """
        if not self.reached or not self.asked:
            return False
        if self.first_output is not None or self.outcome == chat_pb2.ATTEMPT_OUTCOME_CANCELLED:
            return True
        return self.error is not None and self.error.unanswered

    def end(self, outcome: chat_pb2.AttemptOutcome.ValueType, error: AdapterError | None = None) -> None:
        """Note how it ended. The first word counts."""
        if self.ended is None:
            self.ended, self.outcome, self.error = time.monotonic(), outcome, error

    def route(self) -> chat_pb2.Route:
        """Return who it is, as the contract tells it."""
        leg = self.leg
        return chat_pb2.Route(provider=leg.provider, model=leg.model, region=leg.region, served_model=self.served_model)

    def attempt(self) -> chat_pb2.Attempt:
        """Return it as the contract tells it."""
        until = self.ended or self.first_output or time.monotonic()
        attempt = chat_pb2.Attempt(
            provider=self.leg.provider,
            model=self.leg.model,
            region=self.leg.region,
            outcome=self.outcome,
            cause=self.cause,
            latency=duration(until - self.began),
            served_model=self.served_model,
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
        answering: the one whose output the caller sees; None: there is none, or it broke off and others followed.
        facts: whose the chat is, for the ledger; None: there is no ledger.
        snapshot: tells what the ledger would keep of the chat now; set with `facts`.
        holds: it may hold parts of budgets.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.answering: Entry | None = None
        self.facts: Facts | None = None
        self.snapshot: Snapshot | None = None
        self.holds = False

    @property
    def current(self) -> Entry | None:
        """The one that answers, else the one that was asked last; None: nobody was."""
        if self.answering is not None:
            return self.answering
        return next((entry for entry in reversed(self.entries) if entry.asked), None)

    def begin(self, leg: Leg, cause: chat_pb2.AttemptCause.ValueType) -> Entry:
        """Note that an attempt begins."""
        entry = Entry(leg, cause if self.entries else chat_pb2.ATTEMPT_CAUSE_FIRST)
        if self.facts is not None:
            entry.arrived = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.facts.started)
        self.entries.append(entry)
        if self.answering is not None and self.answering.ended is not None:
            self.answering = None
        return entry

    def attempts(self) -> list[chat_pb2.Attempt]:
        """Return the attempts as the contract tells them, the one that answers last."""
        entries = [entry for entry in self.entries if entry is not self.answering]
        if self.answering is not None:
            entries.append(self.answering)
        return [entry.attempt() for entry in entries]

    def asked(self) -> int:
        """Return how many attempts really asked somebody."""
        return sum(entry.asked for entry in self.entries)
