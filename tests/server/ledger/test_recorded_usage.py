"""RecordUsage and its neighbours, over the wire: work that was done elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, error_info
from tests.server.ledger.served import PRICED, make_budget, records, spent, untruths, with_ledger

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.services.costs.usage_checks import check_recorded
from execution_platform.v1 import common_pb2, cost_pb2, cost_pb2_grpc, usage_pb2

_KEY = "a-made-up-key"
_DIGEST = hashlib.sha256(_KEY.encode()).hexdigest()
_UNSET = [cost_pb2.USAGE_RECORD_KIND_UNSPECIFIED]
_ACME = {**PRICED, "tenants": {"acme": {"projects": {"web": {"key_sha256": [_DIGEST]}}}}}


def _told(**fields: Any) -> cost_pb2.RecordUsageRequest:
    """A thousand tokens asked and a hundred answered: 1.2 dollars by the prices of served.py."""
    usage = usage_pb2.Usage()
    for kind, quantity in ((usage_pb2.USAGE_KIND_INPUT, 1_000), (usage_pb2.USAGE_KIND_OUTPUT, 100)):
        usage.items.add(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
    return cost_pb2.RecordUsageRequest(
        **{"request_id": "job 1", "provider": "scripted", "model": "echo", "usage": usage, **fields}
    )


@contextlib.asynccontextmanager
async def _served(serve: Serve, url: str, **settings: str) -> AsyncIterator[tuple[Served, Any]]:
    async with serve(with_ledger(url, **settings), platform=_ACME) as served:
        yield served, cost_pb2_grpc.CostServiceStub(served.channel)


async def test_told_work_is_priced_and_counts(serve: Serve, database_url: str, database: Database) -> None:
    """Told work is priced by this server, is its credential's, and counts for budgets, which never refuse it."""
    async with _served(serve, database_url) as (served, stub):
        await make_budget(served, database, "1", tenant="acme")
        request = _told(persona="reviewer", labels={"team": "x"}, note="nightly", session_id="s", end_user_id="u")
        answer = await stub.RecordUsage(request, metadata=(("authorization", f"Bearer {_KEY}"),))
        record = answer.record
        assert (record.kind, record.tenant, record.project) == (cost_pb2.USAGE_RECORD_KIND_EXTERNAL, "acme", "web")
        assert [(money.currency_code, money.nanos) for money in record.totals] == [("USD", 1_200_000_000)]
        assert (record.cost.status, record.input_tokens, record.output_tokens) == (
            usage_pb2.COST_STATUS_ESTIMATED,
            1_000,
            100,
        )
        assert (record.persona, dict(record.labels), record.note) == ("reviewer", {"team": "x"}, "nightly")
        assert not answer.existed
        assert await records(database) == [record]
        assert await spent(database) == (1_200_000_000, 1_100)
        assert await untruths(database) == []
        listed = await stub.ListUsageRecords(cost_pb2.ListUsageRecordsRequest())
        assert list(listed.records) == [record]
        got = await stub.GetUsageRecord(cost_pb2.GetUsageRecordRequest(request_id="job 1"))
        assert (got.record, got.cost_status) == (record, usage_pb2.COST_STATUS_ESTIMATED)


async def test_told_twice_is_written_once(serve: Serve, database_url: str, database: Database) -> None:
    """The same request again, also at the same moment, answers with the record that is there and counts nothing."""
    async with _served(serve, database_url) as (_, stub):
        answers = await asyncio.gather(*(stub.RecordUsage(_told()) for _ in range(5)))
        again = await stub.RecordUsage(_told())
        assert len({answer.record.id for answer in (*answers, again)}) == 1
        assert sorted(answer.existed for answer in answers) == [False, True, True, True, True]
        assert again.existed
        assert len(await records(database)) == 1
        # Another tenant's request of the same name is its own.
        theirs = await stub.RecordUsage(_told(), metadata=(("authorization", f"Bearer {_KEY}"),))
        assert not theirs.existed


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"persona": "b"},
        {"labels": {"team": "y"}},
        {"note": "other"},
        {"usage": usage_pb2.Usage()},
        {"start_time": "now"},
        {"cost": usage_pb2.Cost(lines=[usage_pb2.CostLine(amount=common_pb2.Money(currency_code="USD", nanos=1))])},
    ],
    ids=lambda change: next(iter(change)),
)
async def test_other_work_needs_another_id(serve: Serve, database_url: str, change: dict[str, Any]) -> None:
    """Another body with an id that is there is refused, and nothing is written."""
    async with _served(serve, database_url) as (_, stub):
        await stub.RecordUsage(_told())
        request = _told(**{name: value for name, value in change.items() if value != "now"})
        if "usage" in change:
            request.usage.items.add(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=1)
        if "start_time" in change:
            request.start_time.FromSeconds(int(time.time()) - 60)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.RecordUsage(request)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert error_info(refused.value).reason == "REQUEST_ID_REUSED"
        summed = await stub.SummarizeUsage(cost_pb2.SummarizeUsageRequest())
        assert (summed.total.records, summed.total.input_tokens) == (1, 1_000)


async def test_a_cost_that_is_told_stands(serve: Serve, database_url: str) -> None:
    """A told cost is the provider's word, of any currency, and its time is the one that was told."""
    cost = usage_pb2.Cost(lines=[usage_pb2.CostLine(amount=common_pb2.Money(currency_code="EUR", nanos=5))])
    request = _told(cost=cost, provider="elsewhere", model="unheard-of", request_id="with a cost")
    request.ClearField("usage")
    began = int(time.time()) - 86_400
    request.start_time.FromSeconds(began)
    request.end_time.FromSeconds(began + 90)
    async with _served(serve, database_url) as (_, stub):
        record = (await stub.RecordUsage(request)).record
        assert [(money.currency_code, money.nanos) for money in record.totals] == [("EUR", 5)]
        assert record.cost.status == usage_pb2.COST_STATUS_EXACT
        assert record.cost.lines[0].source == usage_pb2.COST_SOURCE_PROVIDER
        assert (record.start_time, record.end_time) == (request.start_time, request.end_time)
        assert (await stub.RecordUsage(request)).existed
        unknown = (await stub.RecordUsage(_told(model="unheard-of", provider="elsewhere", request_id="2"))).record
        assert unknown.cost.status == usage_pb2.COST_STATUS_UNPRICED
        assert not unknown.totals


async def test_files_come_over_the_wire(serve: Serve, database_url: str) -> None:
    """ExportUsage streams a file, and refuses what it cannot write before the first piece."""
    async with _served(serve, database_url) as (_, stub):
        await stub.RecordUsage(_told())
        pieces = [piece async for piece in stub.ExportUsage(cost_pb2.ExportUsageRequest())]
        assert pieces[-1].rows == 1
        assert b"".join(piece.data for piece in pieces).startswith(b"record_id,kind,")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            async for _ in stub.ExportUsage(cost_pb2.ExportUsageRequest(filter=cost_pb2.UsageFilter(kinds=_UNSET))):
                pass
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "filter.kinds[0]" in str(refused.value.details())


async def test_a_page_token_is_of_its_list(serve: Serve, database_url: str) -> None:
    """A page follows by its token; the token of another filter, or a made-up one, is refused."""
    async with _served(serve, database_url) as (_, stub):
        for number in range(3):
            await stub.RecordUsage(_told(request_id=str(number)))
        request = cost_pb2.ListUsageRecordsRequest(page_size=2)
        first = await stub.ListUsageRecords(request)
        request.page_token = first.next_page_token
        last = await stub.ListUsageRecords(request)
        assert [record.request_id for record in (*first.records, *last.records)] == ["2", "1", "0"]
        assert not last.next_page_token
        for wrong in ("made-up", "4p8=", ""):
            request.page_token = wrong or first.next_page_token
            request.filter.tenant = "" if wrong else "default"
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await stub.ListUsageRecords(request)
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert "page_token" in str(refused.value.details())


def _with_item(**fields: Any) -> usage_pb2.Usage:
    return usage_pb2.Usage(items=[usage_pb2.UsageItem(**{"kind": 1, "unit": 1, **fields})])


def _with_line(**fields: Any) -> usage_pb2.Cost:
    amount = common_pb2.Money(currency_code="USD", nanos=1)
    return usage_pb2.Cost(lines=[usage_pb2.CostLine(**{"amount": amount, **fields})])


def _at(**seconds: int) -> dict[str, Any]:
    return {name: {"seconds": int(time.time()) + shift} for name, shift in seconds.items()}


_WRONG: dict[str, tuple[Callable[[], dict[str, Any]], str, str]] = {
    "no id": (lambda: {"request_id": ""}, "request_id", "makes a retry harmless"),
    "long id": (lambda: {"request_id": "x" * 129}, "request_id", "1 to 128 printable characters"),
    "id in two lines": (lambda: {"request_id": "a\nb"}, "request_id", "printable"),
    "no provider": (lambda: {"provider": ""}, "provider", "must say who did it"),
    "no model": (lambda: {"model": ""}, "model", "must say who did it"),
    "persona": (lambda: {"persona": "no such!"}, "persona", "letters, digits"),
    "user": (lambda: {"end_user_id": "x" * 513}, "end_user_id", "longer than 512"),
    "session": (lambda: {"session_id": "\0"}, "session_id", "zero character"),
    "note": (lambda: {"note": "x" * 257}, "note", "longer than 256"),
    "label without a key": (lambda: {"labels": {"": "x"}}, "labels", "name the label"),
    "many labels": (lambda: {"labels": {str(n): "" for n in range(33)}}, "labels", "more than 32"),
    "long label": (lambda: {"labels": {"a": "x" * 129}}, "labels", "longer than 128"),
    "nothing used": (lambda: {"usage": None}, "usage", "must tell what was used"),
    "kind": (lambda: {"usage": _with_item(kind=0)}, "usage.items[0].kind", "must be one of USAGE_KIND_INPUT"),
    "unit": (lambda: {"usage": _with_item(unit=9)}, "usage.items[0].unit", "must be one of USAGE_UNIT_TOKEN"),
    "quantity": (lambda: {"usage": _with_item(quantity=-1)}, "usage.items[0].quantity", "must be 0 to"),
    "old": (lambda: _at(start_time=-401 * 86_400), "start_time", "more than 400 days ago"),
    "future": (lambda: _at(start_time=600), "start_time", "in the future"),
    "end before": (lambda: _at(start_time=-60, end_time=-61), "end_time", "is before start_time"),
    "end later": (lambda: _at(start_time=-60, end_time=600), "end_time", "in the future"),
    "only an end": (lambda: _at(end_time=-60), "start_time", "must be told where end_time is"),
    "unpriced": (lambda: {"cost": usage_pb2.Cost(status=3)}, "cost.status", "leave cost out"),  # type: ignore[arg-type]  # by number
    "no lines": (lambda: {"cost": usage_pb2.Cost()}, "cost.lines", "must be 1 to 256 lines"),
    "currency": (
        lambda: {"cost": _with_line(amount=common_pb2.Money(currency_code="usd"))},
        "cost.lines[0].amount.currency_code",
        "three capital letters",
    ),
    "amount": (
        lambda: {"cost": _with_line(amount=common_pb2.Money(currency_code="USD", nanos=-1))},
        "cost.lines[0].amount.nanos",
        "must be 0 to",
    ),
    "source": (lambda: {"cost": _with_line(source=2)}, "cost.lines[0].source", "leave cost out to have it priced here"),
}


@pytest.mark.parametrize("case", _WRONG)
def test_what_is_told_wrongly_is_refused(case: str) -> None:
    """What cannot be meant so names its field and the fix."""
    make, field, words = _WRONG[case]
    with pytest.raises(InvalidRequestError) as refused:
        check_recorded(_told(**make()), time.time_ns() // 1000)
    assert refused.value.field == field
    assert words in refused.value.message
