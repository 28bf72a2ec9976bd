"""The ledger on both databases: what is held, what is spent, and what is there once."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, Table, func, select
from tests.server.ledger.chats import DOLLAR, facts, money, put_budget, record, untrue_windows

from execution_platform.server.errors import BudgetExceededError
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import (
    budget_leases,
    budget_windows,
    open_chats,
    usage_entries,
    usage_labels,
    usage_records,
)
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.v1 import cost_pb2

ROUTE = ("scripted", "plain")


async def with_budgets(database: Database, ledger: SqlLedger, *wanted: cost_pb2.Budget) -> None:
    for each in wanted:
        await database.write(partial(put_budget, budget=each))
    await ledger.refresh()


def budget(name: str, nanos: int = 0, tokens: int = 0, **fields: Any) -> cost_pb2.Budget:
    made = cost_pb2.Budget(id=name, max_tokens=tokens, **fields)
    if nanos:
        made.limit.CopyFrom(money(nanos))
    return made


async def window(database: Database, name: str) -> tuple[int, int]:
    """What was spent and what is held, in nanos."""
    columns = budget_windows.c
    query = select(columns.spent_nanos, columns.reserved_nanos).where(columns.budget_id == name)
    row = await database.read(lambda connection: connection.execute(query).one())
    return row.spent_nanos, row.reserved_nanos


async def count(database: Database, table: Table) -> int:
    query = select(func.count()).select_from(table)
    return await database.read(lambda connection: connection.execute(query).scalar_one())


async def reserve(ledger: SqlLedger, chat: Facts, nanos: int | None, tokens: int = 0, attempt: int = 1) -> object:
    lost = record(chat, 0, outcome=cost_pb2.USAGE_OUTCOME_LOST)
    return await ledger.reserve(chat, attempt, *ROUTE, Demand(nanos, tokens), lambda: lost)


async def test_a_chat_is_held_then_spent(database: Database, ledger: SqlLedger) -> None:
    """What is reserved is held until the chat is settled; then its record's cost is spent and nothing is held."""
    await with_budgets(database, ledger, budget("all", DOLLAR))
    chat = facts(labels={"team": "red"})
    assert await reserve(ledger, chat, DOLLAR // 2) is not None
    assert await window(database, "all") == (0, DOLLAR // 2)
    await ledger.settle(chat, record(chat, 7, 5))
    assert await window(database, "all") == (12, 0)
    tables = (usage_records, usage_entries, usage_labels, budget_leases, open_chats)
    assert [await count(database, table) for table in tables] == [1, 2, 1, 0, 0]


async def test_all_or_none(database: Database, ledger: SqlLedger) -> None:
    """An attempt that one of its budgets has no room for holds nothing of any."""
    await with_budgets(
        database,
        ledger,
        budget("large", 10 * DOLLAR),
        budget("small", DOLLAR, scope=cost_pb2.BudgetScope(persona="writer")),
    )
    assert await reserve(ledger, facts(), DOLLAR * 3 // 4)
    with pytest.raises(BudgetExceededError) as caught:
        await reserve(ledger, facts(), DOLLAR // 2)
    assert caught.value.budget_id == "small"
    assert "0.25 USD of 1.00 USD left (0.75 USD held for chats that run)" in str(caught.value)
    assert caught.value.retry_after is not None
    assert await window(database, "large") == (0, DOLLAR * 3 // 4)
    assert await database.read(untrue_windows) == []


async def test_a_budget_of_tokens(database: Database, ledger: SqlLedger) -> None:
    """A budget of tokens counts prompts and answers, and knows no money."""
    await with_budgets(database, ledger, budget("tokens", tokens=100))
    chat = facts()
    assert await reserve(ledger, chat, None, 90)
    with pytest.raises(BudgetExceededError, match=r"10 of 100 tokens left \(90 held"):
        await reserve(ledger, facts(), None, 20)
    await ledger.settle(chat, record(chat, None, tokens=30))
    assert await reserve(ledger, facts(), None, 70)


async def test_what_is_more_than_the_whole_budget_never_passes(database: Database, ledger: SqlLedger) -> None:
    """A demand above the limit is refused without a time to come back."""
    await with_budgets(database, ledger, budget("all", DOLLAR))
    with pytest.raises(BudgetExceededError, match="more than the whole budget") as caught:
        await reserve(ledger, facts(), DOLLAR + 1)
    assert caught.value.retry_after is None
    assert not caught.value.retryable


async def test_a_chat_without_a_price_is_refused_by_a_hard_budget_of_money(
    database: Database, ledger: SqlLedger
) -> None:
    """The refusal names the model and the fix; a budget that allows it lets it pass and counts it."""
    await with_budgets(database, ledger, budget("strict", DOLLAR, scope=cost_pb2.BudgetScope(persona="strict")))
    allowing = budget("lenient", DOLLAR, unpriced=cost_pb2.UNPRICED_POLICY_ALLOW)
    await with_budgets(database, ledger, allowing)
    with pytest.raises(BudgetExceededError, match=r"no price is known of scripted/plain; .*`prices:`.*ALLOW"):
        await reserve(ledger, facts("strict"), None, 5)
    chat = facts()
    assert await reserve(ledger, chat, None, 5)
    await ledger.settle(chat, record(chat, None))
    lenient = select(budget_windows).where(budget_windows.c.budget_id == "lenient")
    row = await database.read(lambda connection: connection.execute(lenient).one())
    assert (row.spent_nanos, row.unpriced) == (0, 1)


async def test_a_soft_budget_refuses_nobody(database: Database, ledger: SqlLedger) -> None:
    """A soft budget counts what is above its limit all the same."""
    await with_budgets(database, ledger, budget("soft", 5, enforcement=cost_pb2.BUDGET_ENFORCEMENT_SOFT))
    for _ in range(3):
        chat = facts()
        assert await reserve(ledger, chat, 10)
        await ledger.settle(chat, record(chat, 10))
    assert await window(database, "soft") == (30, 0)


async def test_extending(database: Database, ledger: SqlLedger) -> None:
    """More is held where there is room, less always; a refusal leaves the lease as it is."""
    await with_budgets(database, ledger, budget("all", 100))
    chat = facts()
    lease = await ledger.reserve(chat, 1, *ROUTE, Demand(40), lambda: record(chat))
    assert lease is not None
    await ledger.extend(lease, Demand(90))
    assert await window(database, "all") == (0, 90)
    with pytest.raises(BudgetExceededError):
        await ledger.extend(lease, Demand(101))
    assert (lease.held, await window(database, "all")) == (Demand(90), (0, 90))
    await ledger.extend(lease, Demand(10))
    assert await window(database, "all") == (0, 10)
    assert await reserve(ledger, chat, 90, attempt=2)
    await ledger.settle(chat, record(chat, 1, 2))
    assert await window(database, "all") == (3, 0)


async def test_a_record_is_there_once(database: Database, ledger: SqlLedger) -> None:
    """Settling again changes nothing."""
    await with_budgets(database, ledger, budget("all", DOLLAR))
    chat, other = facts(), facts()
    await ledger.settle(chat, record(chat, 7))
    await asyncio.gather(*(ledger.settle(each, record(each, 7)) for each in (chat, other, chat, other)))
    assert await window(database, "all") == (14, 0)
    assert await count(database, usage_records) == 2
    assert await database.read(untrue_windows) == []


async def test_a_new_budget_counts_what_was_before(database: Database, ledger: SqlLedger) -> None:
    """A budget that is made in the middle of its window begins with what the ledger holds for its scope."""
    for persona, cost in (("writer", 7), ("reader", 100), ("writer", 5)):
        chat = facts(persona, labels={"team": persona})
        await ledger.settle(chat, record(chat, cost))
    await with_budgets(
        database,
        ledger,
        budget("persona", 100, scope=cost_pb2.BudgetScope(persona="writer")),
        budget("label", 1000, scope=cost_pb2.BudgetScope(labels={"team": "reader"})),
    )
    chat = facts(labels={"team": "reader"})
    await ledger.settle(chat, record(chat, 1))
    assert await window(database, "persona") == (13, 0)
    assert await window(database, "label") == (101, 0)
    assert await database.read(untrue_windows) == []


async def test_a_budget_that_another_process_made_counts_at_once(database: Database, ledger: SqlLedger) -> None:
    """A settlement counts for a budget that its process has not heard of yet."""
    await database.write(lambda connection: put_budget(connection, budget("new", DOLLAR)))
    assert len(ledger.budgets) == 0
    chat = facts()
    await ledger.settle(chat, record(chat, 7))
    assert await window(database, "new") == (7, 0)
    assert len(ledger.budgets) == 1


async def test_many_at_once_share_a_limit_exactly(database: Database, ledger: SqlLedger) -> None:
    """Of 60 chats at once that want a tenth of a budget each, exactly ten pass."""
    await with_budgets(database, ledger, budget("all", 1000))
    chats = [facts() for _ in range(60)]
    results = await asyncio.gather(*(reserve(ledger, chat, 100) for chat in chats), return_exceptions=True)
    assert sum(isinstance(each, BudgetExceededError) for each in results) == 50
    assert await window(database, "all") == (0, 1000)
    await asyncio.gather(*(ledger.settle(chat, record(chat)) for chat in chats))
    assert await window(database, "all") == (0, 0)


async def test_cancelled_callers_leave_nothing_held(database: Database, ledger: SqlLedger) -> None:
    """Callers that go away while they reserve hold nothing once they are settled."""
    await with_budgets(database, ledger, budget("all", DOLLAR))
    chats = [facts() for _ in range(40)]
    tasks = [asyncio.create_task(reserve(ledger, chat, 100)) for chat in chats]
    for number, task in enumerate(tasks):
        await asyncio.sleep(0)
        if number % 3 == 0:
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    settling = [asyncio.create_task(ledger.settle(chat, record(chat, 1))) for chat in chats]
    await asyncio.sleep(0)
    for task in settling[::2]:
        task.cancel()
    await asyncio.gather(*settling, return_exceptions=True)
    last = facts()
    await ledger.settle(last, record(last))  # all before it are done
    assert await window(database, "all") == (40, 0)
    assert await count(database, open_chats) == 0
    assert await count(database, usage_records) == 41


async def test_names_that_a_column_cannot_hold(database: Database, ledger: SqlLedger) -> None:
    """A session of a zero character and a thousand others is written down; the record has it whole."""
    chat = facts()
    made = record(chat, 7)
    made.session_id = "\0" + "x" * 1000
    await ledger.settle(chat, made)

    def read(connection: Connection) -> tuple[str, bytes]:
        session = connection.scalar(select(usage_entries.c.session_id))
        return str(session), connection.scalar(select(usage_records.c.data)) or b""

    session, data = await database.read(read)
    assert session == "x" * 512
    assert cost_pb2.UsageRecord.FromString(data).session_id == made.session_id


async def test_one_that_cannot_be_written_does_not_harm_others(database: Database, ledger: SqlLedger) -> None:
    """A record that the database refuses fails alone; those in the same transaction are written."""
    chats = [facts() for _ in range(5)]
    records = [record(chat, 1) for chat in chats]
    records[2].attempts[0].cost.lines[0].amount.currency_code = "DOLLARS"
    records[2].attempts[0].usage.items[0].quantity = 2**63 - 1
    records[2].attempts[0].usage.items.add().CopyFrom(records[2].attempts[0].usage.items[0])
    results = await asyncio.gather(
        *(ledger.settle(chat, made) for chat, made in zip(chats, records, strict=True)), return_exceptions=True
    )
    assert [isinstance(each, Exception) for each in results] == [False, False, True, False, False]
    assert await count(database, usage_records) == 4
