"""What the ledger adds to prices over CostService: budgets of an estimate, and records that are priced anew."""

from __future__ import annotations

import datetime as dt
from typing import Any

import grpc.aio
import pytest
from tests.server.conftest import ONE_ATTEMPT, Serve, chat_request, error_info, events_of
from tests.server.ledger.served import PRICES, make_budget, records, untruths, with_ledger

from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.resilience.accounted import known_so_far
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

#: A thousand tokens of prompt, two of an answer.
USED: list[dict[str, Any]] = [{"text": "Hi"}, {"usage": {"input": 1_000, "output": 2}}]


def chat(**fields: Any) -> chat_pb2.ChatRequest:
    return chat_request(USED, model="scripted/echo", **fields)


async def test_an_estimate_tells_the_budgets_that_it_touches(
    serve: Serve, database: Database, database_url: str
) -> None:
    """Budgets that the chat would count for are told with what is left of them, and no others."""
    platform = {**ONE_ATTEMPT, "models": {"scripted/echo": PRICES}}
    async with serve(with_ledger(database_url), platform=platform) as served:
        await make_budget(served, database, "500", provider="scripted")
        await events_of(served.chat.Chat(chat()))
        request = cost_pb2.EstimateCostRequest(chat=chat(), output_tokens=10)
        (route,) = (await served.costs.EstimateCost(request)).routes
        (status,) = route.budgets
        assert (status.budget.id, status.spent.nanos) == ("b", 1_004_000_000)
        assert status.remaining.nanos == 500 * 10**9 - status.spent.nanos
        await make_other_budget(served)
        await served.app.accounting.books.ledger.refresh()  # type: ignore[union-attr]  # there is a ledger
        (route,) = (await served.costs.EstimateCost(request)).routes
        assert [each.budget.id for each in route.budgets] == ["b"]


async def make_other_budget(served: Any) -> None:
    """Make a budget that counts nobody here."""
    limit = common_pb2.Money(currency_code="USD", nanos=1)
    budget = cost_pb2.Budget(id="other", limit=limit, period=cost_pb2.BUDGET_PERIOD_DAY)
    budget.scope.tenant = "nobody"
    await served.costs.CreateBudget(cost_pb2.CreateBudgetRequest(budget=budget))


async def test_what_a_chat_would_cost_at_most_is_what_a_budget_needs(serve: Serve, database_url: str) -> None:
    """A budget with room for the most that was estimated lets the chat pass; with a nano less it refuses it."""
    platform = {**ONE_ATTEMPT, "models": {"scripted/echo": PRICES}}
    request = chat(sampling=chat_pb2.Sampling(max_output_tokens=100))
    async with serve(with_ledger(database_url), platform=platform) as served:
        estimate = await served.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=request))
        most = sum(line.amount.nanos for line in estimate.routes[0].most.lines)
        for nanos, passes in ((most - 1, False), (most, True)):
            limit = common_pb2.Money(currency_code="USD", nanos=nanos)
            budget = cost_pb2.Budget(id=f"b{nanos}", limit=limit, period=cost_pb2.BUDGET_PERIOD_MONTH)
            await served.costs.CreateBudget(cost_pb2.CreateBudgetRequest(budget=budget))
            if passes:
                await events_of(served.chat.Chat(request))
            else:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await events_of(served.chat.Chat(request))
                assert error_info(refused.value).reason == "BUDGET_EXCEEDED"
            await served.costs.DeleteBudget(cost_pb2.DeleteBudgetRequest(id=budget.id))


async def test_a_later_server_prices_what_an_earlier_one_could_not(
    serve: Serve, database: Database, database_url: str
) -> None:
    """Records without a price get one by RepriceUsage, once it stands in the configuration; sums and budgets follow."""
    async with serve(with_ledger(database_url)) as served:
        await make_budget(served, database, tokens=10**9)
        await events_of(served.chat.Chat(chat()))
        answer = await served.costs.RepriceUsage(cost_pb2.RepriceUsageRequest())
        assert (answer.examined, answer.corrected, answer.still_unpriced) == (1, 0, 1)
        assert list(answer.unpriced_models) == ["scripted/echo"]
    prices = [{"provider": "scripted", "model": "echo", "input": 1, "output": 500, "version": "late"}]
    async with serve(with_ledger(database_url), platform={**ONE_ATTEMPT, "prices": prices}) as served:
        dry = await served.costs.RepriceUsage(cost_pb2.RepriceUsageRequest(dry_run=True))
        wet = await served.costs.RepriceUsage(cost_pb2.RepriceUsageRequest())
        assert dry == wet
        assert (wet.corrected, [each.nanos for each in wet.difference]) == (1, [1_000_000 + 1_000_000])
        assert (await served.costs.RepriceUsage(cost_pb2.RepriceUsageRequest())).corrected == 0
        total = (await served.costs.SummarizeUsage(cost_pb2.SummarizeUsageRequest())).total
        assert (total.records, total.unpriced, [each.nanos for each in total.costs]) == (1, 0, [2_000_000])
        (chat_record, correction) = await records(database)
        told = await served.costs.GetUsageRecord(cost_pb2.GetUsageRecordRequest(id=chat_record.id))
        assert (list(told.corrections), told.cost_status) == ([correction], usage_pb2.COST_STATUS_ESTIMATED)
        assert correction.cost.price_version == "late"
        assert await untruths(database) == []
        wrong = cost_pb2.UsageFilter(labels={"": "x"})
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await served.costs.RepriceUsage(cost_pb2.RepriceUsageRequest(filter=wrong))
        assert error_info(failed.value).reason == "INVALID_REQUEST"


async def test_a_chat_is_priced_for_the_model_that_went_on_with_it(
    serve: Serve, database: Database, database_url: str
) -> None:
    """Where a provider goes on with another model its price counts, and the record says which model it was."""
    changed = {"route": {"provider": "scripted", "servedModel": "bigger"}, "origin": "ROUTE_CHANGE_ORIGIN_PROVIDER"}
    script = [{"text": "Hi"}, {"route_changed": changed}, {"text": "!"}, {"usage": {"input": 10, "output": 2}}]
    prices = [{"provider": "scripted", "model": "bigger", "input": 1_000, "output": 1_000, "version": "big"}]
    async with serve(with_ledger(database_url), platform={**ONE_ATTEMPT, "prices": prices}) as served:
        events = await events_of(served.chat.Chat(chat_request(script, model="scripted/echo")))
    assert events[-1].finished.cost.price_version == "big"
    (kept,) = await records(database)
    assert [each.nanos for each in kept.totals] == [12_000_000]
    assert (kept.attempts[0].model, kept.attempts[0].served_model) == ("echo", "bigger")


async def test_a_cost_is_that_of_the_time_at_which_the_chat_arrived() -> None:
    """Whatever holds when an answer ends, it is priced for when the chat arrived, and for the model that answered."""
    asked: list[dict[str, Any]] = []

    class Costs:
        def cost(self, *_: object, **more: Any) -> usage_pb2.Cost:
            asked.append(more)
            return usage_pb2.Cost()

    journal = Journal()
    journal.facts = Facts("id", "request", started=1_772_323_200_000_001)
    entry = journal.begin(Leg("scripted", "echo"), chat_pb2.ATTEMPT_CAUSE_FIRST)
    entry.served_model = "bigger"
    known_so_far(entry, chat(), Costs())
    assert asked == [{"served": "bigger", "at": dt.datetime(2026, 3, 1, microsecond=1, tzinfo=dt.UTC)}]


async def test_work_done_before_is_priced_for_when_it_began(serve: Serve, database_url: str) -> None:
    """What is told of last month costs what it cost then."""
    now = dt.datetime.now(dt.UTC)
    month = now - dt.timedelta(days=30)
    change = (now - dt.timedelta(days=10)).isoformat()
    entry = {"provider": "scripted", "model": "echo"}
    prices = [{**entry, "input": 1, "until": change}, {**entry, "input": 9, "from": change}]
    item = usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=1_000_000)
    work: dict[str, Any] = {**entry, "usage": usage_pb2.Usage(items=[item])}
    async with serve(with_ledger(database_url), platform={**ONE_ATTEMPT, "prices": prices}) as served:
        before = cost_pb2.RecordUsageRequest(request_id="before", **work)
        before.start_time.FromDatetime(month)
        told = [
            (await served.costs.RecordUsage(each)).record.totals[0].nanos
            for each in (before, cost_pb2.RecordUsageRequest(request_id="today", **work))
        ]
    assert told == [10**9, 9 * 10**9]
