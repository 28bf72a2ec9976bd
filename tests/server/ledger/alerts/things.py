"""Windows, records and clocks for the tests of alerts."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, select

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.outbox import Outbox
from execution_platform.server.ledger.alerts.rules import Rules
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.store.tables import alert_deliveries, alerts
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 3_600 * SECOND
DAY = 24 * HOUR
USD = 1_000_000_000

#: A Monday, 10:00:00 UTC.
MONDAY = 1_795_428_000 * SECOND


class Clock:
    """A clock that is set by hand, in microseconds since the epoch."""

    def __init__(self, now: int = MONDAY) -> None:
        self.now = now

    def __call__(self) -> int:
        """Return the time."""
        return self.now

    def go(self, micros: int) -> None:
        """Let time pass."""
        self.now += micros


@dataclass
class Book:
    """A window of a budget, as the ledger keeps it."""

    budget: cost_pb2.Budget
    started_at: int = MONDAY - 10 * HOUR
    ends_at: int = MONDAY + 14 * HOUR
    spent_nanos: int = 0
    spent_tokens: int = 0
    reserved_nanos: int = 0
    reserved_tokens: int = 0
    unpriced: int = 0
    alerted_percent: int = 0
    alerted_refusal: bool = False


class Log:
    """What was logged, line by line."""

    def __init__(self) -> None:
        self.text = io.StringIO()
        self.logger = make_logger("debug", "json", self.text)

    def of(self, event: str) -> list[dict[str, Any]]:
        """Return the lines of an event."""
        lines = [json.loads(line) for line in self.text.getvalue().splitlines()]
        return [line for line in lines if line["event"] == event]


@dataclass
class Prices:
    """List prices: nanos for each token of what was used."""

    each: dict[str, int] = field(default_factory=dict)
    asked: int = 0

    def __call__(self, provider: str, model: str, usage: usage_pb2.Usage) -> int | None:
        """Return what a usage costs."""
        self.asked += 1
        price = self.each.get(f"{provider}/{model}")
        return None if price is None else price * sum(item.quantity for item in usage.items)


def rules_of(clock: Clock, log: Log, settings: AlertSettings | None = None, prices: Prices | None = None) -> Rules:
    """Return the rules of one process."""
    made = settings or AlertSettings()
    return Rules(outbox_of(clock, made), prices or Prices(), clock, log.logger)


def outbox_of(clock: Clock, settings: AlertSettings) -> Outbox:
    """Return the outbox of one process."""
    return Outbox(lambda: [_Named(name, target) for name, target in settings.targets.items()], clock)


class _Named:
    def __init__(self, name: str, target: Any) -> None:
        self.name = name
        self.wants = target.wants


def budget(percents: tuple[int, ...] = (), **changes: Any) -> cost_pb2.Budget:
    """Return a daily budget of 10 USD for the tenant acme."""
    made = cost_pb2.Budget(
        id="team",
        display_name="Team",
        scope=cost_pb2.BudgetScope(tenant="acme", labels={"team": "search"}),
        limit=common_pb2.Money(currency_code="USD", nanos=10 * USD),
        period=cost_pb2.BUDGET_PERIOD_DAY,
        alert_percents=percents,
    )
    made.MergeFrom(cost_pb2.Budget(**changes))
    return made


def record(*attempts: chat_pb2.Attempt, **changes: Any) -> cost_pb2.UsageRecord:
    """Return the record of a chat of the tenant acme."""
    statuses = {attempt.cost.status for attempt in attempts}
    unpriced = usage_pb2.COST_STATUS_UNPRICED in statuses
    status = usage_pb2.COST_STATUS_UNPRICED if unpriced else usage_pb2.COST_STATUS_ESTIMATED
    made = cost_pb2.UsageRecord(
        id="0" * 31 + "7",
        kind=cost_pb2.USAGE_RECORD_KIND_CHAT,
        tenant="acme",
        project="web",
        persona="writer",
        attempts=attempts,
        cost=usage_pb2.Cost(status=status),
    )
    made.MergeFrom(cost_pb2.UsageRecord(**changes))
    return made


def attempt(route: str, outcome: int = chat_pb2.ATTEMPT_OUTCOME_FINISHED, *, priced: bool = True) -> chat_pb2.Attempt:
    """Return an attempt of 1000 tokens in and 100 out."""
    provider, _, model = route.partition("/")
    status = usage_pb2.COST_STATUS_ESTIMATED if priced else usage_pb2.COST_STATUS_UNPRICED
    tokens = usage_pb2.USAGE_UNIT_TOKEN
    items = [
        usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_INPUT, unit=tokens, quantity=1000),
        usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=tokens, quantity=100),
    ]
    return chat_pb2.Attempt(
        provider=provider,
        model=model,
        outcome=outcome,  # type: ignore[arg-type]  # an int is one
        usage=usage_pb2.Usage(items=items if outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED else []),
        cost=usage_pb2.Cost(status=status),
    )


def facts() -> Facts:
    """Return whose a chat is."""
    return Facts(id="0" * 31 + "8", request_id="r", started=MONDAY, tenant="acme", project="web", persona="writer")


def alert(title: str = "Budget Team has reached 80 %", **changes: Any) -> cost_pb2.Alert:
    """Return an alert that is not raised yet."""
    made = cost_pb2.Alert(
        kind=cost_pb2.ALERT_KIND_THRESHOLD, title=title, message="Spent: 8.00 USD of 10.00 USD.", tenant="acme"
    )
    made.MergeFrom(cost_pb2.Alert(**changes))
    return made


def raised(connection: Connection) -> list[cost_pb2.Alert]:
    """Return all alerts, the oldest first."""
    rows = connection.scalars(select(alerts.c.data).order_by(alerts.c.id))
    return [cost_pb2.Alert.FromString(row) for row in rows]


def queue(connection: Connection) -> list[tuple[str, int, bool]]:
    """Return each delivery: target, attempts, whether it was delivered."""
    rows = connection.execute(select(alert_deliveries).order_by(alert_deliveries.c.alert_id, alert_deliveries.c.target))
    return [(row.target, row.attempts, row.delivered_at is not None) for row in rows]


def stamp(micros: int) -> Timestamp:
    """Return a time of the contract."""
    return Timestamp(seconds=micros // SECOND, nanos=micros % SECOND * 1000)
