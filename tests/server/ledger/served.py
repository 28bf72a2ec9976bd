"""A server with a ledger, and a second connection that reads what it has written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, func, select
from tests.server.conftest import ONE_ATTEMPT, Served
from tests.server.ledger.chats import put_budget, untrue_windows

from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_leases, budget_windows, open_chats, usage_records
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

#: A dollar for a thousand tokens of prompt, two for a thousand of an answer: 1,000,000 and 2,000,000 nanos a token.
PRICES: Mapping[str, Any] = {"input_price": "1000", "output_price": "2000"}

#: Providers `scripted` and `other` with prices; what fails is told at once.
PRICED: Mapping[str, Any] = {**ONE_ATTEMPT, "models": {"scripted/echo": PRICES, "other/echo": PRICES}}


def with_ledger(url: str, **settings: str) -> dict[str, str]:
    """The settings of a server with a ledger."""
    return {"EP_LEDGER": "on", "EP_DATABASE_URL": url, **settings}


def records_in(connection: Connection) -> list[cost_pb2.UsageRecord]:
    """All records, in the order in which their chats arrived."""
    found = connection.scalars(select(usage_records.c.data).order_by(usage_records.c.id))
    return [cost_pb2.UsageRecord.FromString(data) for data in found]


async def records(database: Database) -> list[cost_pb2.UsageRecord]:
    """All records."""
    return await database.read(records_in)


async def record_of(database: Database, request_id: str) -> cost_pb2.UsageRecord:
    """The one record of a request."""
    found = [record for record in await records(database) if record.request_id == request_id]
    assert len(found) == 1, f"{len(found)} records of {request_id}"
    return found[0]


async def make_budget(
    served: Served, database: Database, dollars: str = "", *, tokens: int = 0, **scope: Any
) -> cost_pb2.Budget:
    """Make a hard budget of a month, which the server knows of when this returns."""
    budget = cost_pb2.Budget(id="b", period=cost_pb2.BUDGET_PERIOD_MONTH, max_tokens=tokens)
    budget.scope.CopyFrom(cost_pb2.BudgetScope(**scope))
    if dollars:
        budget.limit.CopyFrom(common_pb2.Money(currency_code="USD", nanos=int(Decimal(dollars) * 10**9)))
    await database.write(lambda connection: put_budget(connection, budget))
    assert served.app.accounting is not None
    await served.app.accounting.books.ledger.refresh()
    return budget


async def held(database: Database) -> dict[str, int]:
    """What is still held or open, and what windows say of it; empty: nothing."""

    def count(connection: Connection) -> dict[str, int]:
        found = {
            "chats": connection.scalar(select(func.count()).select_from(open_chats)),
            "leases": connection.scalar(select(func.count()).select_from(budget_leases)),
            "nanos": connection.scalar(select(func.coalesce(func.sum(budget_windows.c.reserved_nanos), 0))),
            "tokens": connection.scalar(select(func.coalesce(func.sum(budget_windows.c.reserved_tokens), 0))),
        }
        return {name: int(value or 0) for name, value in found.items() if value}

    return await database.read(count)


async def spent(database: Database) -> tuple[int, int]:
    """Nanos and tokens that the windows of budgets have seen."""

    def sums(connection: Connection) -> tuple[int, int]:
        window = budget_windows.c
        row = connection.execute(select(func.sum(window.spent_nanos), func.sum(window.spent_tokens))).one()
        return int(row[0] or 0), int(row[1] or 0)

    return await database.read(sums)


async def untruths(database: Database) -> list[str]:
    """What windows say that is not so."""
    return await database.read(untrue_windows)


def nanos_of(*costs: usage_pb2.Cost) -> int:
    """What costs come to."""
    return sum(line.amount.nanos for cost in costs for line in cost.lines)


def tokens_of(usage: usage_pb2.Usage, *kinds: int) -> int:
    """Tokens of these kinds."""
    return sum(item.quantity for item in usage.items if item.kind in kinds)


def asked(attempts: Sequence[chat_pb2.Attempt]) -> list[chat_pb2.Attempt]:
    """Those that asked somebody."""
    return [attempt for attempt in attempts if attempt.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED]


def check(record: cost_pb2.UsageRecord, end: chat_pb2.ChatEvent | None = None) -> None:
    """Fail where a record's sums are not its attempts', or it says something else than the chat's last event."""
    assert nanos_of(record.cost) == nanos_of(*(each.cost for each in record.attempts))
    assert {each.currency_code: each.nanos for each in record.totals} == (
        {"USD": nanos_of(record.cost)} if record.cost.lines else {}
    )
    told = usage_pb2
    prompt = (told.USAGE_KIND_INPUT, told.USAGE_KIND_CACHE_READ, told.USAGE_KIND_CACHE_WRITE)
    answer = (told.USAGE_KIND_OUTPUT, told.USAGE_KIND_REASONING)
    assert record.input_tokens == sum(tokens_of(each.usage, *prompt) for each in record.attempts)
    assert record.output_tokens == sum(tokens_of(each.usage, *answer) for each in record.attempts)
    if end is None:
        return
    last = end.finished if end.HasField("finished") else end.failed
    theirs = {
        (each.provider, each.model, each.cause, each.outcome, nanos_of(each.cost)) for each in asked(last.attempts)
    }
    ours = {(each.provider, each.model, each.cause, each.outcome, nanos_of(each.cost)) for each in record.attempts}
    assert ours == theirs
    if end.HasField("finished"):
        assert (record.outcome, record.finish_reason) == (cost_pb2.USAGE_OUTCOME_FINISHED, end.finished.reason)
    else:
        assert (record.outcome, record.error_reason) == (cost_pb2.USAGE_OUTCOME_FAILED, end.failed.error.reason)
