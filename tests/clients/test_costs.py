"""The ledger from both clients."""

from __future__ import annotations

from contextlib import aclosing

import grpc
import pytest
from tests.clients.platform_server import Platform, abort

from execution_platform.client import (
    AsyncExecutionPlatformClient,
    BudgetExceededError,
    ConflictError,
    ExecutionPlatformClient,
    RateLimitedError,
    UnavailableError,
)
from execution_platform.v1 import common_pb2, cost_pb2

BUDGET = cost_pb2.Budget(id="team", limit=common_pb2.Money(currency_code="USD", nanos=1))


def fill(platform: Platform) -> None:
    """Let the server have two pages of everything, two pieces of a file and two alerts."""
    records = [cost_pb2.UsageRecord(id=name) for name in "ba"]
    statuses = [cost_pb2.BudgetStatus(budget=cost_pb2.Budget(id=name)) for name in "ab"]
    prices = [cost_pb2.ModelPrice(provider="p", model=name) for name in "ab"]
    platform.costs.will_answer(
        cost_pb2.RecordUsageResponse(existed=True),
        cost_pb2.GetUsageRecordResponse(record=records[0]),
        cost_pb2.ListUsageRecordsResponse(records=records[:1], next_page_token="2"),
        cost_pb2.ListUsageRecordsResponse(records=records[1:]),
        cost_pb2.SummarizeUsageResponse(rows=[cost_pb2.UsageSum(records=3)]),
        cost_pb2.RenderReportResponse(data=b"report"),
        cost_pb2.ForecastCostResponse(method="holt-winters"),
        cost_pb2.EstimateCostResponse(input_tokens=4),
        cost_pb2.ListPricesResponse(prices=prices[:1], next_page_token="2"),
        cost_pb2.ListPricesResponse(prices=prices[1:]),
        cost_pb2.RepriceUsageResponse(corrected=5),
        cost_pb2.GetBudgetResponse(status=statuses[0]),
        cost_pb2.ListBudgetsResponse(statuses=statuses[:1], next_page_token="2"),
        cost_pb2.ListBudgetsResponse(statuses=statuses[1:]),
        cost_pb2.ExportUsageResponse(data=b"a"),
        cost_pb2.ExportUsageResponse(data=b"b", rows=2),
        cost_pb2.WatchBudgetAlertsResponse(alerts=[cost_pb2.Alert(id="1")]),
        cost_pb2.WatchBudgetAlertsResponse(alerts=[cost_pb2.Alert(id="2")]),
    )


def test_every_call_of_the_ledger_answers(platform: Platform, target: str) -> None:
    """Each method of the synchronous client sends its RPC, lists go over all pages, and streams come piece by piece."""
    fill(platform)
    with ExecutionPlatformClient(target, token="made-up", persona="reviewer") as client:
        costs = client.costs
        assert costs.record(cost_pb2.RecordUsageRequest(request_id="r")).existed
        assert costs.get("b").record.id == "b"
        assert [record.id for record in costs.records(cost_pb2.UsageFilter(tenant="t"))] == ["b", "a"]
        assert costs.summarize(cost_pb2.SummarizeUsageRequest()).rows[0].records == 3
        assert costs.report(cost_pb2.RenderReportRequest()).data == b"report"
        assert costs.forecast(cost_pb2.ForecastCostRequest()).method == "holt-winters"
        assert costs.estimate("Hello", output_tokens=7).input_tokens == 4
        estimated = platform.costs.requests[-1]
        assert [price.model for price in costs.prices("p")] == ["a", "b"]
        assert costs.reprice(cost_pb2.RepriceUsageRequest()).corrected == 5
        assert costs.create_budget(BUDGET).budget == BUDGET
        assert costs.get_budget("a").budget.id == "a"
        assert [status.budget.id for status in costs.budgets()] == ["a", "b"]
        assert costs.update_budget(BUDGET).budget == BUDGET
        costs.delete_budget("team", "e1")
        deleted = platform.costs.requests[-1]
        with costs.export(cost_pb2.ExportUsageRequest()) as pieces:
            assert [piece.data for piece in pieces] == [b"a", b"b"]
        with costs.alerts(cost_pb2.WatchBudgetAlertsRequest()) as watched:
            assert [alert.id for response in watched for alert in response.alerts] == ["1", "2"]
    assert (estimated.chat.persona, estimated.output_tokens) == ("reviewer", 7)
    assert (deleted.id, deleted.etag) == ("team", "e1")
    assert {call["authorization"] for call in platform.costs.metadata} == {"Bearer made-up"}


async def test_every_call_of_the_ledger_answers_asynchronously(platform: Platform, target: str) -> None:
    """The asynchronous client has the same methods, which give the same."""
    fill(platform)
    async with AsyncExecutionPlatformClient(target) as client:
        costs = client.costs
        assert (await costs.record(cost_pb2.RecordUsageRequest(request_id="r"))).existed
        assert (await costs.get(request_id="r")).record.id == "b"
        async with aclosing(costs.records()) as records:
            assert [record.id async for record in records] == ["b", "a"]
        assert (await costs.summarize(cost_pb2.SummarizeUsageRequest())).rows[0].records == 3
        assert (await costs.report(cost_pb2.RenderReportRequest())).data == b"report"
        assert (await costs.forecast(cost_pb2.ForecastCostRequest())).method == "holt-winters"
        assert (await costs.estimate("Hello")).input_tokens == 4
        async with aclosing(costs.prices()) as prices:
            assert [price.model async for price in prices] == ["a", "b"]
        assert (await costs.reprice(cost_pb2.RepriceUsageRequest())).corrected == 5
        assert (await costs.create_budget(BUDGET)).budget == BUDGET
        assert (await costs.get_budget("a")).budget.id == "a"
        async with aclosing(costs.budgets()) as budgets:
            assert [status.budget.id async for status in budgets] == ["a", "b"]
        assert (await costs.update_budget(BUDGET)).budget == BUDGET
        await costs.delete_budget("team")
        async with costs.export(cost_pb2.ExportUsageRequest()) as pieces:
            assert [piece.data async for piece in pieces] == [b"a", b"b"]
        async with costs.alerts(cost_pb2.WatchBudgetAlertsRequest()) as watched:
            assert [alert.id async for response in watched for alert in response.alerts] == ["1", "2"]


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED", BudgetExceededError),
        (grpc.StatusCode.ABORTED, "ETAG_MISMATCH", ConflictError),
        (grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS", ConflictError),
    ],
)
def test_refusals_of_the_ledger_have_their_own_errors(
    platform: Platform, target: str, code: grpc.StatusCode, reason: str, kind: type[Exception]
) -> None:
    """What a budget or another writer refuses is told apart by its class, and a budget's is a limit's."""
    platform.failing = lambda context: abort(context, code, reason, "refused")
    with ExecutionPlatformClient(target) as client, pytest.raises(kind) as caught:
        client.chat("Hello")
    assert getattr(caught.value, "reason", "") == reason
    assert issubclass(BudgetExceededError, RateLimitedError)


async def test_a_watched_stream_that_is_left_ends_its_call(platform: Platform, target: str) -> None:
    """Leaving the block after the first message closes the stream for good."""
    fill(platform)
    async with AsyncExecutionPlatformClient(target) as client:
        async with client.costs.alerts(cost_pb2.WatchBudgetAlertsRequest()) as watched:
            assert (await anext(watched)).alerts[0].id == "1"
        with pytest.raises(StopAsyncIteration):
            await anext(watched)
    with ExecutionPlatformClient(target) as client:
        with client.costs.alerts(cost_pb2.WatchBudgetAlertsRequest()) as alerts:
            assert next(alerts).alerts[0].id == "1"
        assert list(alerts) == []


def test_a_stream_of_the_ledger_that_fails_raises_ours(platform: Platform, target: str) -> None:
    """What gRPC raises while a stream is read is raised as the client's error, and the stream is over."""
    platform.costs.failing = lambda context: abort(context, grpc.StatusCode.UNAVAILABLE, "DRAINING", "later")
    with ExecutionPlatformClient(target) as client:
        stream = client.costs.alerts(cost_pb2.WatchBudgetAlertsRequest())
        with pytest.raises(UnavailableError), stream:
            next(stream)
        assert list(stream) == []
