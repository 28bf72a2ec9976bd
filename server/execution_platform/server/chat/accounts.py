"""What the ledger keeps of a chat: made of its plan, its journal and its clock."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from execution_platform.server.chat.sequencing import ChatClock
from execution_platform.server.config.personas import DEFAULT_TENANT
from execution_platform.server.ledger.facts import Facts, mint_id
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.accounted import account, known_so_far
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.routing.plan import Plan
from execution_platform.server.routing.rates import ANSWER, PROMPT
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, error_pb2, usage_pb2

__all__ = ["Account", "Ending", "sum_up"]

#: Names of kinds of tokens in the metrics.
_KINDS: Mapping[int, str] = {
    usage_pb2.USAGE_KIND_INPUT: "input",
    usage_pb2.USAGE_KIND_TOOL_INPUT: "input",
    usage_pb2.USAGE_KIND_CACHE_READ: "cache_read",
    usage_pb2.USAGE_KIND_CACHE_WRITE: "cache_write",
    usage_pb2.USAGE_KIND_OUTPUT: "output",
    usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED: "output",
    usage_pb2.USAGE_KIND_PREDICTION_REJECTED: "output",
    usage_pb2.USAGE_KIND_REASONING: "reasoning",
}


@dataclass(frozen=True, slots=True)
class Ending:
    """How a chat has ended.

    Attributes:
        outcome: in a word.
        finish_reason: of one that is FINISHED.
        error_reason: of one that is FAILED.
    """

    outcome: cost_pb2.UsageOutcome.ValueType
    finish_reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_UNSPECIFIED
    error_reason: error_pb2.ErrorReason.ValueType = error_pb2.ERROR_REASON_UNSPECIFIED


class Account:
    """One chat's account. Makes its facts known to the journal, where attempts find them.

    Args:
        plan: of the chat.
        journal: of the chat.
        clock: of the chat.
        request_id: of the request, the caller's or a minted one.
        caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.
        limits: know whose a caller is, and what usages cost.

    Attributes:
        facts: whose the chat is.
        record: what the ledger keeps; None: the chat runs.
    """

    def __init__(
        self, plan: Plan, journal: Journal, clock: ChatClock, request_id: str, caller: str, limits: Limits
    ) -> None:
        self._plan = plan
        self._journal = journal
        self._limits = limits
        context = plan.request.context
        self.facts = Facts(
            id=mint_id(int(clock.arrived_at * 1000)),
            request_id=request_id,
            started=int(clock.arrived_at * 1_000_000),
            tenant=limits.scopes.tenant(caller) if caller else DEFAULT_TENANT,
            project=limits.scopes.project(caller) if caller else "",
            persona=plan.persona,
            end_user_id=context.end_user_id,
            session_id=context.session_id,
            labels=dict(context.labels) if context.labels else {},
        )
        self.record: cost_pb2.UsageRecord | None = None
        journal.facts = self.facts
        journal.snapshot = self.snapshot

    @property
    def empty(self) -> bool:
        """Whether there is nothing to keep: no provider was reached, and no part of a budget may be held."""
        return not self._journal.holds and not any(entry.reached for entry in self._journal.entries)

    def close(self, ending: Ending) -> cost_pb2.UsageRecord:
        """Make the record of the chat, which has ended. What still runs beside the answer is taken for cancelled."""
        for entry in self._journal.entries:
            entry.end(chat_pb2.ATTEMPT_OUTCOME_CANCELLED)
            account(entry, entry.leg.request or self._plan.request, self._limits.estimates)
        self.record = self._record(ending)
        return self.record

    def snapshot(self) -> cost_pb2.UsageRecord:
        """Return what the record would be if nothing more were heard of the chat."""
        return self._record(Ending(cost_pb2.USAGE_OUTCOME_LOST))

    def count(self, metrics: Metrics) -> None:
        """Count what each attempt has used, once the chat is closed."""
        for entry in self._journal.entries:
            if not entry.reached or entry.cost is None:
                continue
            unpriced = entry.cost.status == usage_pb2.COST_STATUS_UNPRICED
            tokens: dict[str, int] = {}
            for item in (entry.reckoned or entry.usage).items:
                kind = _KINDS.get(item.kind)
                if kind is not None and item.unit == usage_pb2.USAGE_UNIT_TOKEN:
                    tokens[kind] = tokens.get(kind, 0) + item.quantity
            metrics.spent(
                self._plan.persona,
                entry.leg.provider,
                entry.leg.model,
                nanos=None if unpriced else sum(line.amount.nanos for line in entry.cost.lines),
                tokens=tokens,
            )

    def _record(self, ending: Ending) -> cost_pb2.UsageRecord:
        facts = self.facts
        record = cost_pb2.UsageRecord(
            id=facts.id,
            kind=cost_pb2.USAGE_RECORD_KIND_CHAT,
            request_id=facts.request_id,
            tenant=facts.tenant,
            project=facts.project,
            persona=facts.persona,
            end_user_id=facts.end_user_id,
            session_id=facts.session_id,
            labels=facts.labels,
            outcome=ending.outcome,
            finish_reason=ending.finish_reason,
            error_reason=ending.error_reason,
        )
        record.start_time.FromMicroseconds(facts.started)
        record.end_time.FromNanoseconds(time.time_ns())
        current = self._journal.current
        if current is not None:
            record.route.CopyFrom(current.route())
        for entry in self._journal.entries:
            if entry.reached and entry.asked:
                record.usage_estimated |= self._add(record, entry)
        sum_up(record)
        return record

    def _add(self, record: cost_pb2.UsageRecord, entry: Entry) -> bool:
        """Add an attempt to a record. Returns whether any of its usage was reckoned."""
        attempt = entry.attempt()
        reckoned = entry.reckoned
        if entry.ended is None:
            attempt.outcome = chat_pb2.ATTEMPT_OUTCOME_CANCELLED
            reckoned, cost = known_so_far(entry, entry.leg.request or self._plan.request, self._limits.estimates)
            attempt.usage.CopyFrom(entry.usage)
            attempt.cost.CopyFrom(cost)
        if reckoned is not None:
            attempt.usage.CopyFrom(reckoned)
        record.attempts.append(attempt)
        return reckoned is not None


def sum_up(record: cost_pb2.UsageRecord) -> None:
    """Write the sums of a record's attempts into it."""
    cost = record.cost
    if not record.attempts:
        cost.status = usage_pb2.COST_STATUS_ESTIMATED
        return
    sums: dict[str, int] = {}
    prompt = answer = 0
    for attempt in record.attempts:
        lines = attempt.cost.lines
        cost.lines.extend(lines)
        for line in lines:
            currency = line.amount.currency_code
            sums[currency] = sums.get(currency, 0) + line.amount.nanos
        for item in attempt.usage.items:
            if item.unit != usage_pb2.USAGE_UNIT_TOKEN:
                continue
            if item.kind in PROMPT:
                prompt += item.quantity
            elif item.kind in ANSWER:
                answer += item.quantity
    record.input_tokens, record.output_tokens = prompt, answer
    cost.status = _status(attempt.cost.status for attempt in record.attempts if attempt.HasField("cost"))
    cost.price_version = ", ".join(_versions(attempt.cost.price_version for attempt in record.attempts))
    record.totals.extend(common_pb2.Money(currency_code=code, nanos=nanos) for code, nanos in sums.items())


def _status(statuses: Iterable[usage_pb2.CostStatus.ValueType]) -> usage_pb2.CostStatus.ValueType:
    """Return how well a sum is known: as its worst part. Where nothing is known to have been used, that is a guess."""
    seen = set(statuses)
    if usage_pb2.COST_STATUS_UNPRICED in seen:
        return usage_pb2.COST_STATUS_UNPRICED
    return usage_pb2.COST_STATUS_EXACT if seen == {usage_pb2.COST_STATUS_EXACT} else usage_pb2.COST_STATUS_ESTIMATED


def _versions(told: Iterable[str]) -> Iterable[str]:
    """Return each version once; one attempt may have several, which ", " divides."""
    return dict.fromkeys(version for each in told for version in each.split(", ") if version)
