"""Budgets are made, changed and deleted while chats run, and stay the sum of what they stand for."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import Mapping
from functools import partial
from random import Random
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from tests.server.ledger import chats
from tests.server.ledger.chats import DOLLAR, money, record, untrue_windows
from tests.server.ledger.conftest import MakeLedger

from execution_platform.adapters.errors import InvalidRequestError, NotFoundError
from execution_platform.server.errors import AlreadyExistsError, BudgetExceededError, EtagMismatchError
from execution_platform.server.ledger.budgets.configured import put_configured
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.ledger import Lease
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_leases, budget_windows, open_chats, usage_records
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.services.costs.budgets import LedgerBudgets
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import common_pb2, cost_pb2

HOUR = 3_600_000_000
#: 2026-11-18T12:00:00Z, in the middle of a day, a week and a month: no window ends while a test runs.
NOON = 1_795_003_200_000_000
PERIODS = (cost_pb2.BUDGET_PERIOD_HOUR, cost_pb2.BUDGET_PERIOD_DAY, cost_pb2.BUDGET_PERIOD_MONTH)


class Clock:
    """A clock that a test moves, in microseconds since the epoch."""

    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """That clock."""
    return Clock()


@pytest.fixture
def store(database: Database, ledger: SqlLedger, clock: Clock) -> LedgerBudgets:
    """The part of CostService, of the process that `ledger` is of."""
    return LedgerBudgets(database, ledger.refresh, lambda name: f"personas.yaml:7 ({name})", clock)


@pytest.fixture
async def ledger(make_ledger: MakeLedger, clock: Clock) -> SqlLedger:
    """A ledger that goes by that clock."""
    return await make_ledger(clock=clock)


def facts(persona: str = "writer", *, started: int = NOON, labels: Mapping[str, str] | None = None) -> Facts:
    """A chat that arrives at that time."""
    return chats.facts(persona, started=started, labels=labels)


def budget(name: str = "b", nanos: int = DOLLAR, **fields: Any) -> cost_pb2.Budget:
    """A hard budget of a month."""
    fields = {"period": cost_pb2.BUDGET_PERIOD_MONTH, "limit": money(nanos), **fields}
    return cost_pb2.Budget(id=name, **fields)


async def create(store: LedgerBudgets, *args: Any, **fields: Any) -> cost_pb2.BudgetStatus:
    made = await store.create(cost_pb2.CreateBudgetRequest(budget=budget(*args, **fields)))
    return made.status


async def get(store: LedgerBudgets, name: str = "b") -> cost_pb2.BudgetStatus:
    return (await store.get(cost_pb2.GetBudgetRequest(id=name))).status


async def change(store: LedgerBudgets, name: str = "b", **fields: Any) -> cost_pb2.BudgetStatus:
    """Change some fields of a budget as it is now."""
    now = (await get(store, name)).budget
    wanted = cost_pb2.Budget()
    wanted.CopyFrom(now)
    for field in fields:
        wanted.ClearField(field)  # type: ignore[arg-type]  # its name is known at run time only
    wanted.MergeFrom(cost_pb2.Budget(**fields))
    return (await store.update(cost_pb2.UpdateBudgetRequest(budget=wanted))).status


async def reserve(ledger: SqlLedger, chat: Facts, nanos: int, tokens: int = 0) -> Lease | None:
    lost = record(chat, 0, outcome=cost_pb2.USAGE_OUTCOME_LOST)
    return await ledger.reserve(chat, 1, "scripted", "plain", Demand(nanos, tokens), lambda: lost)


async def chat_of(ledger: SqlLedger, *costs: int | None, **named: Any) -> Facts:
    """A chat that is over."""
    chat = facts(**named)
    await ledger.settle(chat, record(chat, *costs))
    return chat


async def test_a_budget_tells_what_it_is(store: LedgerBudgets) -> None:
    """A new budget is told with what was left out filled in, its window and all of its limit left."""
    made = await create(store, display_name="All of it", max_tokens=7, alert_percents=[100, 50, 100])
    told = made.budget
    assert told.enforcement == cost_pb2.BUDGET_ENFORCEMENT_HARD
    assert list(told.alert_percents) == [50, 100]
    assert told.etag
    assert told.create_time == told.update_time
    assert made.window.start_time.seconds <= told.create_time.seconds < made.window.end_time.seconds
    assert (made.remaining, made.remaining_tokens, made.spent, made.reserved) == (money(DOLLAR), 7, money(0), money(0))
    assert await get(store) == made


async def test_a_budget_without_an_id_gets_one(store: LedgerBudgets) -> None:
    """Ids are minted where none is given, each another one."""
    first, second = await create(store, ""), await create(store, "")
    assert first.budget.id != second.budget.id
    assert await get(store, second.budget.id) == second


async def test_an_id_is_there_once(store: LedgerBudgets) -> None:
    """A second budget of the same id is refused, and the first stays."""
    made = await create(store)
    with pytest.raises(AlreadyExistsError, match="'b'"):
        await create(store, nanos=5)
    assert await get(store) == made


WRONG = {
    "id": budget("a b"),
    "id ": budget("persona.writer.tokens_per_min"),
    "display_name": budget(display_name="x" * 129),
    "scope.tenant": budget(scope=cost_pb2.BudgetScope(tenant="a\nb")),
    "scope.labels": budget(scope=cost_pb2.BudgetScope(labels={str(n): "" for n in range(33)})),
    "scope.labels ": budget(scope=cost_pb2.BudgetScope(labels={"": "x"})),
    "limit.currency_code": budget(limit=common_pb2.Money(currency_code="EUR", nanos=5)),
    "limit.nanos": budget(nanos=0),
    "limit": cost_pb2.Budget(period=cost_pb2.BUDGET_PERIOD_DAY),
    "max_tokens": budget(max_tokens=-1),
    "period": budget(period=cost_pb2.BUDGET_PERIOD_UNSPECIFIED),
    "time_zone": budget(time_zone="Europe"),
    "alert_percents": budget(alert_percents=[0]),
    "alert_percents ": budget(alert_percents=[1001]),
}


@pytest.mark.parametrize("field", WRONG)
@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_a_budget_that_cannot_be_is_refused(store: LedgerBudgets, field: str) -> None:
    """What is wrong with a budget is told by its field, and nothing is made."""
    with pytest.raises(InvalidRequestError) as caught:
        await store.create(cost_pb2.CreateBudgetRequest(budget=WRONG[field]))
    assert caught.value.field == f"budget.{field.strip()}"
    assert caught.value.message.startswith(f"budget.{field.strip()}: ")
    assert not (await store.page(cost_pb2.ListBudgetsRequest())).statuses


async def test_who_changes_has_read_the_newest(store: LedgerBudgets) -> None:
    """A change with an etag that is not the newest is refused; with the newest it is made, and brings another one."""
    made = (await create(store)).budget
    changed = (await change(store, limit=money(5))).budget
    assert (changed.limit, changed.create_time) == (money(5), made.create_time)
    assert changed.etag != made.etag
    with pytest.raises(EtagMismatchError):
        await store.update(cost_pb2.UpdateBudgetRequest(budget=made))
    with pytest.raises(EtagMismatchError):
        await store.delete(cost_pb2.DeleteBudgetRequest(id="b", etag=made.etag))
    with pytest.raises(InvalidRequestError, match="etag"):
        await store.update(cost_pb2.UpdateBudgetRequest(budget=budget()))
    await store.delete(cost_pb2.DeleteBudgetRequest(id="b", etag=changed.etag))
    with pytest.raises(NotFoundError):
        await get(store)


async def test_what_is_not_there_is_not_found(store: LedgerBudgets) -> None:
    """Reading, changing and deleting a budget that there is not say so; without an id they ask for it."""
    with pytest.raises(NotFoundError):
        await store.update(cost_pb2.UpdateBudgetRequest(budget=budget(etag="1")))
    with pytest.raises(NotFoundError):
        await store.delete(cost_pb2.DeleteBudgetRequest(id="b"))
    for ask in (store.get(cost_pb2.GetBudgetRequest()), store.delete(cost_pb2.DeleteBudgetRequest())):
        with pytest.raises(InvalidRequestError):
            await ask


async def test_pages_are_by_id(store: LedgerBudgets) -> None:
    """Pages together are all budgets by id; a token is of the list that it was given for."""
    for name in ("c", "a", "B", "d.1"):
        await create(store, name, scope=cost_pb2.BudgetScope(tenant="acme" if name != "B" else "other"))
    first = await store.page(cost_pb2.ListBudgetsRequest(page_size=3))
    second = await store.page(cost_pb2.ListBudgetsRequest(page_size=3, page_token=first.next_page_token))
    assert [each.budget.id for page in (first, second) for each in page.statuses] == ["B", "a", "c", "d.1"]
    assert not second.next_page_token
    acme = await store.page(cost_pb2.ListBudgetsRequest(tenant="acme"))
    assert [each.budget.id for each in acme.statuses] == ["a", "c", "d.1"]
    with pytest.raises(InvalidRequestError):
        await store.page(cost_pb2.ListBudgetsRequest(tenant="acme", page_token=first.next_page_token))


async def test_a_new_budget_counts_what_there_was(store: LedgerBudgets, ledger: SqlLedger) -> None:
    """A budget begins with what its window has seen of its scope, labels and unpriced attempts included."""
    await chat_of(ledger, 5, 7, labels={"team": "red", "site": "x"})
    await chat_of(ledger, None, labels={"team": "red"})
    await chat_of(ledger, 100, labels={"team": "blue"})
    await chat_of(ledger, 1_000, persona="reader")
    red = await create(store, "red", scope=cost_pb2.BudgetScope(labels={"team": "red"}), max_tokens=1000)
    assert (red.spent, red.unpriced, red.spent_tokens) == (money(12), 1, 30)
    writer = await create(store, "writer", scope=cost_pb2.BudgetScope(persona="writer", model="plain"))
    assert (writer.spent, writer.remaining) == (money(112), money(DOLLAR - 112))
    await chat_of(ledger, 1, labels={"team": "red"})
    assert (await get(store, "red")).spent == money(13)


async def test_a_new_budget_holds_for_running_chats(
    store: LedgerBudgets, ledger: SqlLedger, database: Database
) -> None:
    """What running chats hold of other budgets they hold of a new one as well, and give back at their end."""
    await create(store, "all", 10 * DOLLAR)
    chat = facts()
    await reserve(ledger, chat, DOLLAR // 2, 50)
    await reserve(ledger, facts("reader"), DOLLAR, 0)
    late = await create(store, "late", scope=cost_pb2.BudgetScope(persona="writer"))
    assert (late.reserved, late.reserved_tokens, late.remaining) == (money(DOLLAR // 2), 50, money(DOLLAR // 2))
    with pytest.raises(BudgetExceededError, match="late"):
        await reserve(ledger, facts(), DOLLAR // 2 + 1)
    await ledger.settle(chat, record(chat, 9))
    now = await get(store, "late")
    assert (now.spent, now.reserved) == (money(9), money(0))
    assert await database.read(untrue_windows) == []


async def test_a_change_of_scope_and_period_counts_anew(
    store: LedgerBudgets, ledger: SqlLedger, database: Database
) -> None:
    """A budget with another scope, period or time zone counts what that stands for, while a chat holds a part of it."""
    chats = [facts(), facts("reader")]
    await create(store)
    for chat in chats:
        await reserve(ledger, chat, 1_000)
    await chat_of(ledger, 5)
    await chat_of(ledger, 7, persona="reader")
    await chat_of(ledger, 11, started=facts().started - 40 * 24 * HOUR)
    changed = await change(
        store, scope=cost_pb2.BudgetScope(persona="reader"), period=cost_pb2.BUDGET_PERIOD_DAY, time_zone="Asia/Tokyo"
    )
    assert (changed.spent, changed.reserved) == (money(7), money(1_000))
    assert await database.read(untrue_windows) == []
    for chat in chats:
        await ledger.settle(chat, record(chat, 100))
    now = await get(store)
    assert (now.spent, now.reserved) == (money(107), money(0))
    assert await database.read(untrue_windows) == []


async def test_a_change_of_the_limit_keeps_the_count(store: LedgerBudgets, ledger: SqlLedger) -> None:
    """Another limit holds for what was spent already, at once."""
    await create(store)
    await chat_of(ledger, DOLLAR // 2)
    await change(store, limit=money(DOLLAR // 2 + 10))
    with pytest.raises(BudgetExceededError):
        await reserve(ledger, facts(), 11)
    chat = facts()
    assert await reserve(ledger, chat, 10) is not None
    lowered = await change(store, limit=money(1))
    assert (lowered.remaining, lowered.reached_percent) == (money(0), 100)
    await ledger.settle(chat, record(chat, 10))


async def test_a_deleted_budget_holds_nobody(store: LedgerBudgets, ledger: SqlLedger, database: Database) -> None:
    """With a budget go its windows and what chats hold of it; the ledger keeps their records, and chats go on."""
    await create(store)
    await create(store, "other", 10 * DOLLAR)
    chat = facts()
    lease = await reserve(ledger, chat, DOLLAR)
    await chat_of(ledger, 3)
    await store.delete(cost_pb2.DeleteBudgetRequest(id="b"))
    assert await reserve(ledger, facts(), 2 * DOLLAR) is not None
    assert lease is not None
    await ledger.extend(lease, Demand(3 * DOLLAR))
    await ledger.settle(chat, record(chat, 4))

    def counted(connection: Connection) -> tuple[int, ...]:
        of_b = [
            select(func.count()).select_from(table).where(table.c.budget_id == "b")
            for table in (budget_windows, budget_leases)
        ]
        return tuple(connection.scalar(each) or 0 for each in [*of_b, select(func.count()).select_from(usage_records)])

    assert await database.read(counted) == (0, 0, 2)
    assert (await get(store, "other")).spent == money(7)
    assert await database.read(untrue_windows) == []
    again = await create(store)
    assert again.spent == money(7)


async def test_a_configured_budget_is_changed_in_its_file(store: LedgerBudgets, database: Database) -> None:
    """A budget of the configuration is refused to be changed or deleted here, with a word on where it is."""
    await database.write(partial(put_configured, wanted={"b": budget()}, clock=lambda: NOON))
    read = (await get(store)).budget
    assert read.configured
    for ask in (
        store.update(cost_pb2.UpdateBudgetRequest(budget=read)),
        store.delete(cost_pb2.DeleteBudgetRequest(id="b", etag=read.etag)),
    ):
        with pytest.raises(InvalidRequestError, match=r"personas\.yaml:7 \(b\)"):
            await ask
    assert (await get(store)).budget == read


async def test_a_window_that_begins_later_begins_with_nothing(
    database: Database, ledger: SqlLedger, store: LedgerBudgets, clock: Clock
) -> None:
    """Windows after a budget's making are true from their first entry on, also where a clock was ahead of ours."""
    await chat_of(ledger, 100, started=clock.now + HOUR)
    made = await create(store, period=cost_pb2.BUDGET_PERIOD_HOUR)
    assert made.spent == money(0)
    for hours in (1, 2, 3):
        clock.now += HOUR
        assert (await get(store)).spent == money(100 if hours == 1 else 0)
        await chat_of(ledger, hours, started=clock.now)
        assert (await get(store)).spent == money(101 if hours == 1 else hours)
    # Of a window that is over the ledger is asked.
    await chat_of(ledger, 7, started=clock.now - 10 * HOUR)
    await chat_of(ledger, 8, started=clock.now - 10 * HOUR)
    assert await database.read(untrue_windows) == []


@pytest.mark.parametrize("seed", range(3))
async def test_budgets_are_true_whatever_changes_meanwhile(
    store: LedgerBudgets, make_ledger: MakeLedger, database: Database, database_url: str, clock: Clock, seed: int
) -> None:
    """While chats of two processes reserve, extend and end, and budgets come, change and go, windows stay true."""
    random = Random(seed)  # noqa: S311 - no secret
    scopes = [
        cost_pb2.BudgetScope(),
        cost_pb2.BudgetScope(persona="writer"),
        cost_pb2.BudgetScope(labels={"team": "red"}),
        cost_pb2.BudgetScope(provider="scripted", model="plain", tenant="acme"),
    ]

    async def chat() -> None:
        started = facts().started - random.choice([0, 0, 0, HOUR, 25 * HOUR])
        labels = {"team": random.choice(["red", "blue"])}
        ledger = random.choice(ledgers)
        who = facts(random.choice(["writer", "reader"]), started=started, labels=labels)
        try:
            lease = await reserve(ledger, who, random.randrange(1, 1_000), random.randrange(100))
            if lease is not None and random.random() < 0.5:
                await ledger.extend(lease, Demand(random.randrange(2_000), random.randrange(200)))
        except BudgetExceededError:
            pass
        costs = [random.choice([None, random.randrange(500)]) for _ in range(random.randrange(1, 3))]
        await ledger.settle(who, record(who, *costs))

    async def changes(name: str) -> None:
        for _ in range(6):
            enforcement = random.choice([cost_pb2.BUDGET_ENFORCEMENT_HARD, cost_pb2.BUDGET_ENFORCEMENT_SOFT])
            fields = {
                "scope": random.choice(scopes),
                "period": random.choice(PERIODS),
                "time_zone": random.choice(["", "Asia/Kolkata", "Europe/Berlin"]),
                "unpriced": cost_pb2.UNPRICED_POLICY_ALLOW,
                "enforcement": enforcement,
            }
            try:
                await change(store, name, limit=money(random.randrange(1, 50_000)), **fields)
            except NotFoundError:
                await create(store, name, 50_000, **fields)
            if random.random() < 0.3:
                await store.delete(cost_pb2.DeleteBudgetRequest(id=name))

    async def several(count: int) -> None:
        for _ in range(count):
            await chat()

    async with contextlib.aclosing(
        Database(DatabaseAddress.parse(database_url), make_logger("info", "json", io.StringIO()))
    ) as another:
        await another.start()
        ledgers = [await make_ledger(clock=clock), await make_ledger(another, clock=clock)]
        await asyncio.gather(*(several(10) for _ in range(8)), *(changes(name) for name in ("one", "two", "three")))
        for each in ledgers:
            await each.aclose()
    assert await database.read(untrue_windows) == []

    def counted(connection: Connection) -> tuple[int, ...]:
        tables = (usage_records, open_chats, budget_leases)
        return tuple(connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables)

    assert await database.read(counted) == (80, 0, 0)
