"""Chats as the ledger sees them, for tests."""

from __future__ import annotations

import time
from collections.abc import Mapping

from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection, func, insert, select

from execution_platform.server.ledger.budgets.budget_set import lock_alone, raise_version
from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.facts import Facts, mint_id
from execution_platform.server.ledger.store.statements import sum_of_scope
from execution_platform.server.ledger.store.tables import budget_leases, budget_windows, budgets
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

#: A US dollar in nanos.
DOLLAR = 1_000_000_000


def facts(persona: str = "writer", *, started: int | None = None, labels: Mapping[str, str] | None = None) -> Facts:
    """A chat that has just arrived."""
    return Facts(
        id=mint_id(),
        request_id=mint_id(),
        started=time.time_ns() // 1000 if started is None else started,
        tenant="acme",
        persona=persona,
        labels=labels or {},
    )


def record(
    of: Facts,
    *costs: int | None,
    outcome: cost_pb2.UsageOutcome.ValueType = cost_pb2.USAGE_OUTCOME_FINISHED,
    tokens: int = 10,
) -> cost_pb2.UsageRecord:
    """A record with an attempt for each cost in nanos; None: its price is not known."""
    made = cost_pb2.UsageRecord(
        id=of.id,
        kind=cost_pb2.USAGE_RECORD_KIND_CHAT,
        request_id=of.request_id,
        tenant=of.tenant,
        persona=of.persona,
        labels=of.labels,
        outcome=outcome,
        start_time=_stamp(of.started),
        end_time=_stamp(of.started),
    )
    for nanos in costs:
        made.attempts.append(attempt(nanos, tokens))
    return made


def attempt(nanos: int | None, tokens: int = 10) -> chat_pb2.Attempt:
    """An attempt at scripted/plain that used so many tokens of an answer."""
    cost = usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
    if nanos is not None:
        amount = common_pb2.Money(currency_code="USD", nanos=nanos)
        cost = usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, lines=[usage_pb2.CostLine(amount=amount)])
    item = usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=tokens)
    return chat_pb2.Attempt(
        provider="scripted",
        model="plain",
        outcome=chat_pb2.ATTEMPT_OUTCOME_FINISHED,
        usage=usage_pb2.Usage(items=[item]),
        cost=cost,
    )


def money(nanos: int) -> common_pb2.Money:
    """An amount of dollars."""
    return common_pb2.Money(currency_code="USD", nanos=nanos)


def put_budget(connection: Connection, budget: cost_pb2.Budget) -> None:
    """Make a budget, as whoever makes budgets does it."""
    lock_alone(connection)
    if not budget.period:
        budget.period = cost_pb2.BUDGET_PERIOD_MONTH
    row = {"id": budget.id, "etag": "1", "created_at": 0, "updated_at": 0, "configured": False}
    connection.execute(insert(budgets), {**row, "data": budget.SerializeToString()})
    raise_version(connection)


def untrue_windows(connection: Connection) -> list[str]:
    """Say where a window is not the sum of what it stands for."""
    known = Budgets(0, [cost_pb2.Budget.FromString(data) for data in connection.scalars(select(budgets.c.data))])
    wrong: list[str] = []
    for row in connection.execute(select(budget_windows)):
        terms = known.get(row.budget_id)
        if terms is None:
            continue
        spent = sum_of_scope(connection, terms.budget.scope, row.started_at, row.ends_at)
        if spent != (row.spent_nanos, row.spent_tokens, row.unpriced):
            wrong.append(f"{row.budget_id}: spent {row.spent_nanos} {row.spent_tokens} {row.unpriced}, entries {spent}")
        lease = budget_leases.c
        sums = select(func.coalesce(func.sum(lease.nanos), 0), func.coalesce(func.sum(lease.tokens), 0)).where(
            lease.budget_id == row.budget_id, lease.window_started_at == row.started_at
        )
        held = tuple(int(each) for each in connection.execute(sums).one())
        if held != (row.reserved_nanos, row.reserved_tokens):
            wrong.append(f"{row.budget_id}: reserved {row.reserved_nanos} {row.reserved_tokens}, leases {held}")
    return wrong


def _stamp(micros: int) -> Timestamp:
    return Timestamp(seconds=micros // 1_000_000, nanos=micros % 1_000_000 * 1000)
