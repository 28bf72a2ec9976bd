"""What is raised when records are settled and budgets run out.

Whoever writes the ledger shows an :class:`Observer` what a transaction does, within that transaction, so that an alert
is there exactly if what raised it is. An ordinary chat costs no statement: what has been raised is remembered in the
windows of budgets and in the process, and `topic` is unique in the database where several processes raise the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

from execution_platform.server.ledger.alerts import wording
from execution_platform.server.ledger.alerts.observer import Observer, Outage, Refusal, Seen, Window
from execution_platform.server.ledger.alerts.outbox import Outbox, topic_of
from execution_platform.server.ledger.budgets.budget_status import reached_percent
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

__all__ = ["Observer", "Outage", "PriceOf", "Refusal", "Rules", "Seen", "Window"]

_HOUR: Final = 3_600_000_000
_DAY: Final = 24 * _HOUR
_OUTAGES_ARE_ONE_WITHIN: Final = 600_000_000

#: Tokens of prompts.
_ASKED: Final = frozenset(
    {
        usage_pb2.USAGE_KIND_INPUT,
        usage_pb2.USAGE_KIND_CACHE_READ,
        usage_pb2.USAGE_KIND_CACHE_WRITE,
        usage_pb2.USAGE_KIND_TOOL_INPUT,
    }
)

#: Topics that are remembered to have been raised. Callers may name any model, so there has to be an end.
_REMEMBERED: Final = 4_096

#: What a usage costs by list prices, in 1e-9 US dollars, by provider and model; None: no price is known.
PriceOf = Callable[[str, str, usage_pb2.Usage], int | None]


@dataclass(frozen=True, slots=True)
class _Mark:
    """An alert of a window, and what is to be remembered there."""

    topic: str
    alert: cost_pb2.Alert
    window: Window
    percent: int = 0
    refusal: bool = False


class Rules:
    """The observer that raises alerts.

    Args:
        outbox: takes them.
        price_of: gives list prices.
        clock: microseconds since the epoch.
        logger: gets faults.
    """

    def __init__(self, outbox: Outbox, price_of: PriceOf, clock: Callable[[], int], logger: Logger) -> None:
        self._outbox = outbox
        self._price_of = price_of
        self._clock = clock
        self._logger = logger
        self._raised: dict[str, None] = {}
        self._topic = lru_cache(_REMEMBERED)(topic_of)

    def observe(self, connection: Connection, seen: Seen) -> None:
        """Raise what is to be raised."""
        try:
            raised = dict(self._of_records(seen.records))
            marks = [*self._crossed(seen.windows), *self._refused(seen.refusals)]
        except Exception:
            # The ledger's own transaction is worth more than an alert.
            self._logger.exception("alert_rules_fault")
            return
        for mark in marks:
            raised.setdefault(mark.topic, mark.alert)
        if raised and self._put(connection, raised):
            for mark in marks:
                mark.window.alerted_percent = max(mark.window.alerted_percent, mark.percent)
                mark.window.alerted_refusal = mark.window.alerted_refusal or mark.refusal

    def _crossed(self, windows: Sequence[Window]) -> Iterator[_Mark]:
        """Yield the highest percent that each window has newly reached; what is only reserved does not count."""
        for window in windows:
            percent = reached_percent(window.budget, window.spent_nanos, window.spent_tokens)
            if percent > window.alerted_percent:
                budget = window.budget
                topic = topic_of(
                    "threshold", budget.id, window.started_at, percent, budget.limit.nanos, budget.max_tokens
                )
                yield _Mark(topic, wording.threshold(window, percent), window, percent)

    def _refused(self, refusals: Sequence[Refusal]) -> Iterator[_Mark]:
        """Yield the first refusal of each window; of windows of a minute one in an hour."""
        for refusal in refusals:
            window = refusal.window
            if window.alerted_refusal:
                continue
            began = window.started_at
            if window.budget.period == cost_pb2.BUDGET_PERIOD_MINUTE:
                began -= began % _HOUR
            topic = topic_of("exceeded", window.budget.id, began)
            if topic not in self._raised:
                alert = wording.exceeded(window, refusal.facts, refusal.provider, refusal.model, refusal.running)
                yield _Mark(topic, alert, window, refusal=True)

    def _of_records(self, records: Sequence[cost_pb2.UsageRecord]) -> Iterator[tuple[str, cost_pb2.Alert]]:
        for record in records:
            if record.kind == cost_pb2.USAGE_RECORD_KIND_CORRECTION:
                continue
            if record.cost.status == usage_pb2.COST_STATUS_UNPRICED:
                yield from self._unpriced(record)
            if len(record.attempts) > 1:
                yield from self._dearer(record)

    def _unpriced(self, record: cost_pb2.UsageRecord) -> Iterator[tuple[str, cost_pb2.Alert]]:
        day = self._clock() // _DAY
        for attempt in record.attempts:
            if attempt.cost.status != usage_pb2.COST_STATUS_UNPRICED:
                continue
            topic = self._topic("unpriced", attempt.provider, attempt.model, day)
            if topic not in self._raised:
                yield topic, wording.unpriced(attempt.provider, attempt.model, record)

    def _dearer(self, record: cost_pb2.UsageRecord) -> Iterator[tuple[str, cost_pb2.Alert]]:
        """Yield that whoever answered is dearer than whoever was asked first, and failed."""
        first, last = record.attempts[0], record.attempts[-1]
        failed = first.outcome == chat_pb2.ATTEMPT_OUTCOME_FAILED
        answered = last.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED
        if not failed or not answered or (first.provider, first.model) == (last.provider, last.model):
            return
        hour = self._clock() // _HOUR
        topic = self._topic("dearer", first.provider, first.model, last.provider, last.model, hour)
        if topic in self._raised:
            return
        prices = self._prices_of(first, last)
        if prices is not None and prices[1] > prices[0]:
            yield topic, wording.dearer(record, first, last, *prices)

    def _prices_of(self, first: chat_pb2.Attempt, last: chat_pb2.Attempt) -> tuple[int, int] | None:
        """Return what the answer's usage costs at both, in nanos; None: nobody knows.

        Where one of them has no price for what only the other has (its caches, tools and tiers), both are compared by
        their plain tokens.
        """
        for usage in (_without_vendor(last.usage), _plain(last.usage)):
            here = self._price_of(last.provider, last.model, usage)
            there = self._price_of(first.provider, first.model, usage)
            if here is not None and there is not None:
                return there, here
        return None

    def outage(self, connection: Connection, outage: Outage) -> None:
        """Raise that the ledger was away; what several processes noticed within ten minutes is one."""
        alert = wording.outage(outage.began, outage.ended, outage.spooled, outage.refused)
        self._put(connection, {topic_of("outage", outage.ended // _OUTAGES_ARE_ONE_WITHIN): alert})

    def _put(self, connection: Connection, raised: dict[str, cost_pb2.Alert]) -> bool:
        """Write alerts; in one order, so that two processes never wait for each other."""
        try:
            with connection.begin_nested():
                known = [topic for topic in sorted(raised) if not self._outbox.put(connection, topic, raised[topic])]
        except DBAPIError as error:
            if not isinstance(error, DataError | IntegrityError | ProgrammingError):
                raise  # the database is away, or another transaction was in the way: all of it is tried again
            self._logger.exception("alerts_not_written")
            return False
        except Exception:
            self._logger.exception("alerts_not_written")
            return False
        for topic in known:
            # Only what was there before: this transaction's own may still be rolled back.
            self._remember(topic)
        return True

    def _remember(self, topic: str) -> None:
        self._raised[topic] = None
        while len(self._raised) > _REMEMBERED:
            del self._raised[next(iter(self._raised))]


def _without_vendor(usage: usage_pb2.Usage) -> usage_pb2.Usage:
    """Return a usage without the words of whoever told it: tiers, regions, models of its own."""
    items = [usage_pb2.UsageItem() for _ in usage.items]
    for item, source in zip(items, usage.items, strict=True):
        item.CopyFrom(source)
        item.ClearField("model")
    return usage_pb2.Usage(items=items)


def _plain(usage: usage_pb2.Usage) -> usage_pb2.Usage:
    """Return a usage's tokens as if there were no caches, modalities and reasoning."""
    sums = {usage_pb2.USAGE_KIND_INPUT: 0, usage_pb2.USAGE_KIND_OUTPUT: 0}
    for item in usage.items:
        if item.unit == usage_pb2.USAGE_UNIT_TOKEN:
            asked = item.kind in _ASKED
            sums[usage_pb2.USAGE_KIND_INPUT if asked else usage_pb2.USAGE_KIND_OUTPUT] += item.quantity
    items = [
        usage_pb2.UsageItem(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
        for kind, quantity in sums.items()
    ]
    return usage_pb2.Usage(items=items)
