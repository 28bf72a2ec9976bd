"""Records are priced anew by corrections: once, exactly, and with the windows of budgets."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Connection, func, select
from tests.server.ledger.chats import DOLLAR, facts, money, put_budget, record, untrue_windows
from tests.server.listings import LISTINGS

from execution_platform.server.chat.accounts import sum_up
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.pricing.repricing import Repriced, Repricing
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.records import get_record
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import budget_windows, usage_entries, usage_records
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.routing.prices import Prices
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

ALL = Selection.of(cost_pb2.UsageFilter())
UNPRICED, ESTIMATED = usage_pb2.COST_STATUS_UNPRICED, usage_pb2.COST_STATUS_ESTIMATED


class Priced:
    """Prices that a test changes."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []
        self._configuration = PlatformConfiguration()
        self._prices = Prices(lambda: self._configuration, LISTINGS)

    def set(self, *entries: dict[str, Any]) -> None:
        """Declare these prices and no others."""
        self._configuration = PlatformConfiguration.model_validate(
            {"prices": [{"provider": "scripted", "model": "plain", **entry} for entry in entries]}
        )

    def cost(self, provider: str, model: str, usage: usage_pb2.Usage, **more: Any) -> usage_pb2.Cost:
        return self._prices.cost(provider, model, usage, **more)


class Books:
    """A ledger with records of chats, and prices."""

    def __init__(self, database: Database, ledger: SqlLedger) -> None:
        self.database = database
        self.ledger = ledger
        self.prices = Priced()

    def repricing(self, post: Any = None) -> Repricing:
        return Repricing(self.database, post or self.ledger.post, self.prices, lambda: time.time_ns() // 1000)

    async def reprice(self, selection: Selection = ALL, **options: bool) -> Repriced:
        return await self.repricing().run(selection, **options)

    async def chat(self, *costs: usage_pb2.Cost | None, of: Facts | None = None, tokens: int = 1_000_000) -> str:
        """Record a chat with an attempt for each cost, None: as it is priced now. Returns its id."""
        chat = of or facts()
        made = record(chat, *([None] * len(costs)), tokens=tokens)
        at = dt.datetime.fromtimestamp(chat.started / 1_000_000, dt.UTC)
        for attempt, cost in zip(made.attempts, costs, strict=True):
            attempt.cost.CopyFrom(cost or self.prices.cost("scripted", "plain", attempt.usage, at=at))
        sum_up(made)
        await self.ledger.settle(chat, made)
        return made.id

    async def told(self, record_id: str) -> cost_pb2.GetUsageRecordResponse:
        return await self.database.read(partial(get_record, request=cost_pb2.GetUsageRecordRequest(id=record_id)))

    async def totals(self, record_id: str) -> tuple[int, str]:
        """What a record comes to with its corrections, and how well that is known."""
        told = await self.told(record_id)
        return sum(each.nanos for each in told.totals), usage_pb2.CostStatus.Name(told.cost_status)

    async def sums(self) -> tuple[int, int, int, int]:
        """Of all entries: cost, what is unpriced, records and tokens."""

        def read(connection: Connection) -> tuple[int, int, int, int]:
            names = ("nanos", "unpriced", "records", "output_tokens")
            row = connection.execute(select(*(func.sum(usage_entries.c[name]) for name in names))).one()
            return int(row[0]), int(row[1]), int(row[2]), int(row[3])

        return await self.database.read(read)

    async def windows(self) -> list[tuple[int, int]]:
        """Of each window of a budget: what was spent, and what is unpriced."""
        query = select(budget_windows.c.spent_nanos, budget_windows.c.unpriced).order_by(budget_windows.c.started_at)
        rows = await self.database.read(lambda connection: connection.execute(query).all())
        return [(row.spent_nanos, row.unpriced) for row in rows]

    async def true(self) -> None:
        """Fail where a window is not the sum of its entries, or a record that of its lines."""
        assert await self.database.read(untrue_windows) == []
        rows = await self.database.read(lambda connection: connection.scalars(select(usage_records.c.data)).all())
        for data in rows:
            one = cost_pb2.UsageRecord.FromString(data)
            assert sum(line.amount.nanos for line in one.cost.lines) == sum(each.nanos for each in one.totals)


@pytest.fixture
def books(database: Database, ledger: SqlLedger) -> Books:
    return Books(database, ledger)


async def budgeted(books: Books) -> None:
    """Have a budget count everything."""
    budget = cost_pb2.Budget(id="all", limit=money(1_000 * DOLLAR), unpriced=cost_pb2.UNPRICED_POLICY_ALLOW)
    await books.database.write(partial(put_budget, budget=budget))
    await books.ledger.refresh()


async def test_what_had_no_price_gets_one(books: Books) -> None:
    """A record without a price is corrected when there is one: its sums, its status and the budget's window."""
    await budgeted(books)
    chat = await books.chat(None)
    assert await books.totals(chat) == (0, "COST_STATUS_UNPRICED")
    assert await books.windows() == [(0, 1)]
    books.prices.set({"output": "3", "version": "contract-1"})
    found = await books.reprice()
    assert (found.examined, found.corrected, found.still_unpriced) == (1, 1, 0)
    assert found.difference == {"USD": 3 * DOLLAR}
    assert await books.totals(chat) == (3 * DOLLAR, "COST_STATUS_ESTIMATED")
    assert await books.windows() == [(3 * DOLLAR, 0)]
    assert await books.sums() == (3 * DOLLAR, 0, 1, 1_000_000)
    (correction,) = (await books.told(chat)).corrections
    assert (correction.kind, correction.corrects) == (cost_pb2.USAGE_RECORD_KIND_CORRECTION, chat)
    assert correction.cost.price_version == "contract-1"
    (line,) = correction.cost.lines
    assert (line.quantity, line.price.nanos, line.per_quantity) == (1_000_000, 3 * DOLLAR, 1_000_000)
    await books.true()


async def test_twice_corrects_nothing_twice(books: Books) -> None:
    """Done again with the same prices there is nothing left to do."""
    await books.chat(None)
    books.prices.set({"output": "3"})
    assert (await books.reprice()).corrected == 1
    assert (await books.reprice()).examined == 0
    again = await books.reprice(priced_too=True)
    assert (again.examined, again.corrected, again.difference) == (1, 0, {})
    assert (await books.sums())[:2] == (3 * DOLLAR, 0)


async def test_two_at_once_correct_nothing_twice(books: Books) -> None:
    """Of two that price the same records at the same time one corrects each, and both together all."""
    await budgeted(books)
    for _ in range(7):
        await books.chat(None)
    books.prices.set({"output": "1"})
    met = asyncio.Barrier(2)

    async def post(postings: Sequence[Posting]) -> list[bool]:
        await met.wait()  # both have read the same records
        return await books.ledger.post(postings)

    both = await asyncio.gather(*(books.repricing(post).run(ALL) for _ in range(2)))
    assert sum(each.corrected for each in both) == 7
    assert sum(each.difference.get("USD", 0) for each in both) == 7 * DOLLAR
    assert await books.sums() == (7 * DOLLAR, 0, 7, 7_000_000)
    await books.true()


async def test_what_broke_off_is_gone_on_with(books: Books) -> None:
    """What a run that broke off has corrected stays, and the next one does the rest."""
    for _ in range(250):
        await books.chat(None)
    books.prices.set({"output": "1"})
    batches = 0

    async def post(postings: Sequence[Posting]) -> list[bool]:
        nonlocal batches
        batches += 1
        if batches == 2:
            raise ConnectionError
        return await books.ledger.post(postings)

    with pytest.raises(ConnectionError):
        await books.repricing(post).run(ALL)
    assert (await books.sums())[:2] == (100 * DOLLAR, 150)
    found = await books.reprice()
    assert (found.examined, found.corrected) == (150, 150)
    assert await books.sums() == (250 * DOLLAR, 0, 250, 250_000_000)


async def test_a_dry_run_tells_and_writes_nothing(books: Books) -> None:
    """It tells what would be corrected, and the ledger stays as it is."""
    chat = await books.chat(None)
    books.prices.set({"output": "2"})
    found = await books.reprice(dry_run=True)
    assert (found.corrected, found.difference) == (1, {"USD": 2 * DOLLAR})
    assert await books.totals(chat) == (0, "COST_STATUS_UNPRICED")
    assert await books.sums() == (0, 1, 1, 1_000_000)


async def test_other_prices_correct_there_and_back(books: Books) -> None:
    """With `priced_too` a changed price is corrected, and the old one again when it is set back; lines say what."""
    await budgeted(books)
    books.prices.set({"output": "2", "version": "old"})
    chat = await books.chat(None)
    books.prices.set({"output": "5", "version": "new"})
    assert (await books.reprice()).examined == 0
    assert (await books.reprice(priced_too=True)).difference == {"USD": 3 * DOLLAR}
    books.prices.set({"output": "2", "version": "old"})
    assert (await books.reprice(priced_too=True)).difference == {"USD": -3 * DOLLAR}
    assert await books.totals(chat) == (2 * DOLLAR, "COST_STATUS_ESTIMATED")
    assert await books.windows() == [(2 * DOLLAR, 0)]
    there, back = (await books.told(chat)).corrections
    told = [[(line.quantity, line.amount.nanos // DOLLAR) for line in each.cost.lines] for each in (there, back)]
    assert told == [[(-1_000_000, -2), (1_000_000, 5)], [(-1_000_000, -5), (1_000_000, 2)]]
    assert [there.cost.price_version, back.cost.price_version] == ["new", "old"]
    assert (await books.reprice(priced_too=True)).corrected == 0
    await books.true()


async def test_the_prices_of_its_own_time_count(books: Books) -> None:
    """A record is priced for when its chat began, whatever holds now."""
    day = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    before = replace(facts(), started=int((day - dt.timedelta(microseconds=1)).timestamp() * 1_000_000))
    at = replace(facts(), started=int(day.timestamp() * 1_000_000))
    early, late = await books.chat(None, of=before), await books.chat(None, of=at)
    books.prices.set({"output": "1", "until": "2026-03-01"}, {"output": "4", "from": "2026-03-01"})
    await books.reprice()
    assert [(await books.totals(each))[0] for each in (early, late)] == [DOLLAR, 4 * DOLLAR]


async def test_what_a_provider_states_is_never_touched(books: Books) -> None:
    """A stated cost stays, whatever prices say; an attempt beside it without a price gets one."""
    line = usage_pb2.CostLine(amount=money(7), source=usage_pb2.COST_SOURCE_PROVIDER)
    stated = usage_pb2.Cost(status=usage_pb2.COST_STATUS_EXACT, lines=[line])
    doubtful = usage_pb2.Cost(status=UNPRICED, lines=[line])
    alone, beside = await books.chat(stated), await books.chat(stated, None)
    unsure = await books.chat(doubtful)
    books.prices.set({"output": "1"})
    found = await books.reprice(priced_too=True)
    assert (found.examined, found.corrected, found.still_unpriced) == (3, 1, 1)
    assert await books.totals(alone) == (7, "COST_STATUS_EXACT")
    assert await books.totals(beside) == (7 + DOLLAR, "COST_STATUS_ESTIMATED")
    assert await books.totals(unsure) == (7, "COST_STATUS_UNPRICED")


async def test_a_price_that_is_gone_is_not_taken_away(books: Books) -> None:
    """What was priced stays priced where no price is known any more."""
    books.prices.set({"output": "2"})
    chat = await books.chat(None)
    books.prices.set()
    found = await books.reprice(priced_too=True)
    assert (found.examined, found.corrected, found.still_unpriced) == (1, 0, 0)
    assert await books.totals(chat) == (2 * DOLLAR, "COST_STATUS_ESTIMATED")


async def test_what_still_has_no_price_is_told(books: Books) -> None:
    """Models without a price are named; what is known of a part is taken, and the rest stays unpriced."""
    chat = await books.chat(None)
    made = record(facts(), None, tokens=1_000_000)
    made.attempts[0].usage.items.add(
        kind=usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, unit=usage_pb2.USAGE_UNIT_CALL, tool="search", quantity=2
    )
    sum_up(made)
    await books.ledger.settle(facts(), made)
    found = await books.reprice()
    assert (found.examined, found.corrected, found.still_unpriced) == (2, 0, 2)
    assert found.unpriced_models == {"scripted/plain"}
    books.prices.set({"output": "1"})
    found = await books.reprice()
    assert (found.corrected, found.still_unpriced, found.unpriced_models) == (2, 1, {"scripted/plain"})
    assert await books.totals(chat) == (DOLLAR, "COST_STATUS_ESTIMATED")
    assert await books.totals(made.id) == (DOLLAR, "COST_STATUS_UNPRICED")
    assert (await books.reprice()).corrected == 0
    books.prices.set({"output": "1", "tools": {"search": Decimal(500)}})
    assert (await books.reprice()).difference == {"USD": DOLLAR}
    assert await books.totals(made.id) == (2 * DOLLAR, "COST_STATUS_ESTIMATED")


async def test_only_what_is_asked_for(books: Books) -> None:
    """A filter leaves other records as they are, and other models' attempts of the same record."""
    red, blue = facts(labels={"team": "red"}), facts(labels={"team": "blue"})
    first, second = await books.chat(None, of=red), await books.chat(None, of=blue)
    mixed = record(facts(labels={"team": "blue"}), None, None, tokens=1_000_000)
    mixed.attempts[1].model = "other"
    sum_up(mixed)
    await books.ledger.settle(facts(), mixed)
    books.prices.set({"output": "1", "model": "*"})
    found = await books.reprice(Selection.of(cost_pb2.UsageFilter(labels={"team": "red"})))
    assert (found.examined, found.corrected) == (1, 1)
    assert [(await books.totals(each))[0] for each in (first, second)] == [DOLLAR, 0]
    found = await books.reprice(Selection.of(cost_pb2.UsageFilter(model="other")))
    assert (found.examined, found.corrected, found.still_unpriced) == (1, 1, 1)
    assert await books.totals(mixed.id) == (DOLLAR, "COST_STATUS_UNPRICED")
    assert (await books.reprice()).corrected == 2
    assert await books.totals(mixed.id) == (2 * DOLLAR, "COST_STATUS_ESTIMATED")


async def test_the_model_that_answered_is_priced(books: Books) -> None:
    """The price is that of the model that served the attempt, as when it was recorded."""
    made = record(facts(), None, tokens=1_000_000)
    made.attempts[0].served_model = "served"
    sum_up(made)
    await books.ledger.settle(facts(), made)
    books.prices.set({"output": "9", "model": "served"})
    assert (await books.reprice()).difference == {"USD": 9 * DOLLAR}


async def test_attempts_that_asked_nobody_or_used_nothing_stay(books: Books) -> None:
    """A record without anything that was used is not corrected."""
    made = record(facts(), tokens=0)
    made.attempts.add(provider="scripted", model="plain", outcome=chat_pb2.ATTEMPT_OUTCOME_SKIPPED)
    made.attempts.add(provider="scripted", model="plain", outcome=chat_pb2.ATTEMPT_OUTCOME_FAILED)
    sum_up(made)
    await books.ledger.settle(facts(), made)
    books.prices.set({"output": "1"})
    assert (await books.reprice(priced_too=True)).corrected == 0
    assert (await books.totals(made.id))[0] == 0
