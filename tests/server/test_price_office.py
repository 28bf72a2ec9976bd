"""Prices over CostService, without a ledger: lists of them, and what a chat would cost."""

from __future__ import annotations

import datetime as dt
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import grpc.aio
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from tests.server.conftest import ONE_ATTEMPT, Serve, Served, chat_request, error_info
from tests.server.test_resilience_of_a_server import spec

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import PriceListing
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

#: The scripted provider's model twice: for a while, and from then on; with everything that an entry may say.
PRICES: list[dict[str, Any]] = [
    {"provider": "scripted", "model": "echo", "until": "2026-01-01", "version": "first", "input": 1},
    {
        "provider": "scripted",
        "model": "echo",
        "from": "2026-01-01",
        "version": "second",
        "input": 2,
        "output": 4,
        "cache_read": 1,
        "cache_writes": {"12h": 9},
        "tiers": [{"above": 200_000, "input": 5}],
        "service_tiers": {"batch": {"factor": "0.5"}},
        "regions": {"eu": {"input": 3}},
        "tools": {"search": 10},
        "request": "0.25",
    },
]
PLATFORM = {**ONE_ATTEMPT, "prices": PRICES, "models": {"other/echo": {"input_price": 7, "output_price": 8}}}


@pytest.fixture
async def priced(serve: Serve) -> AsyncIterator[Served]:
    """A server without a ledger, with two providers that have prices of their own."""
    other = spec("other", ScriptedAdapter([{"text": "Hi"}]))
    async with serve(specs=[other], platform=PLATFORM) as one:
        yield one


async def listed(served: Served, **fields: Any) -> list[cost_pb2.ModelPrice]:
    """All pages of a list of prices."""
    found: list[cost_pb2.ModelPrice] = []
    request = cost_pb2.ListPricesRequest(**fields)
    while True:
        page = await served.costs.ListPrices(request)
        found += page.prices
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def told(price: cost_pb2.ModelPrice) -> list[tuple[str, float, int, int]]:
    """What each component is for, its dollars, for how many and above which prompt."""
    return [
        (
            "request"
            if each.per_request
            else " ".join(
                [
                    usage_pb2.UsageKind.Name(each.item.kind).removeprefix("USAGE_KIND_").lower(),
                    *filter(None, [each.item.tool, str(each.item.cache_ttl.seconds or "")]),
                ]
            ),
            each.price.nanos / 10**9,
            each.per_quantity,
            each.above_prompt_tokens,
        )
        for each in price.components
    ]


def stamp(day: str) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(dt.datetime.fromisoformat(day).replace(tzinfo=dt.UTC))
    return made


async def test_declared_prices_are_listed_whole(priced: Served) -> None:
    """Each tier and region of the entry that holds is one price, with all its components, source, version and time."""
    found = await listed(priced, provider="scripted", model="echo")
    assert [(each.service_tier, each.region) for each in found] == [("", ""), ("", "eu"), ("batch", "")]
    ordinary, europe, batch = found
    assert {each.version for each in found} == {"second"}
    assert {each.source for each in found} == {usage_pb2.COST_SOURCE_CONFIGURATION}
    assert ordinary.effective_time.start_time == stamp("2026-01-01")
    assert not ordinary.effective_time.HasField("end_time")
    million = 1_000_000
    assert told(ordinary) == [
        ("input", 2, million, 0),
        ("cache_read", 1, million, 0),
        ("output", 4, million, 0),
        ("cache_write 43200", 9, million, 0),
        ("input", 5, million, 200_000),
        ("server_tool_call search", 10, 1_000, 0),
        ("request", 0.25, 1, 0),
    ]
    assert told(europe)[0] == ("input", 3, million, 0)
    assert told(batch)[:3] == [("input", 1, million, 0), ("cache_read", 0.5, million, 0), ("output", 2, million, 0)]


async def test_prices_are_those_of_a_time(priced: Served) -> None:
    """What held at the time that is asked for is listed."""
    found = await listed(priced, provider="scripted", at=stamp("2025-12-31"))
    assert [(each.version, told(each)) for each in found] == [("first", [("input", 1, 1_000_000, 0)])]


async def test_published_prices_come_behind_declared_ones(serve: Serve) -> None:
    """A model of the list has its declared price first, then the published one of each tier that the list has."""
    platform = {**ONE_ATTEMPT, "prices": [{"provider": "openai", "model": "gpt-5*", "input": 1, "version": "ours"}]}
    gpt = replace(spec("openai", ScriptedAdapter([{"text": "Hi"}])), price_listing=PriceListing("openai"))
    async with serve(specs=[gpt], platform=platform) as served:
        found = await listed(served, provider="openai", model="gpt-5")
        whole = await listed(served, provider="openai", page_size=1_000)
        paged = await listed(served, provider="openai", page_size=7)
        everything = await listed(served, page_size=1_000)
    assert [(each.model, each.version) for each in found][:2] == [("gpt-5*", "ours"), ("gpt-5", found[1].version)]
    assert found[1].version.startswith("genai-prices ")
    assert {each.service_tier for each in found} >= {"", "batch", "flex", "priority"}
    assert told(found[1])[:3] == [
        ("input", 1.25, 1_000_000, 0),
        ("cache_read", 0.125, 1_000_000, 0),
        ("output", 10, 1_000_000, 0),
    ]
    assert paged == whole
    assert len(whole) > 100
    assert {each.provider for each in everything} == {"openai"}


@pytest.mark.parametrize(
    ("fields", "code", "field"),
    [
        ({"provider": "opnai"}, grpc.StatusCode.NOT_FOUND, "provider"),
        ({"page_size": -1}, grpc.StatusCode.INVALID_ARGUMENT, "page_size"),
        ({"page_token": "x"}, grpc.StatusCode.INVALID_ARGUMENT, "page_token"),
        ({"at": Timestamp(seconds=2**60)}, grpc.StatusCode.INVALID_ARGUMENT, "at"),
    ],
)
async def test_what_cannot_be_listed_is_told(
    priced: Served, fields: dict[str, Any], code: grpc.StatusCode, field: str
) -> None:
    """A field that cannot be meant is named."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await listed(priced, **fields)
    assert failed.value.code() == code
    assert field in (failed.value.details() or "")


async def test_a_token_is_of_its_list(priced: Served) -> None:
    """A page's token leads nowhere in another list."""
    page = await priced.costs.ListPrices(cost_pb2.ListPricesRequest(provider="scripted", page_size=1))
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await priced.costs.ListPrices(
            cost_pb2.ListPricesRequest(provider="other", page_size=1, page_token=page.next_page_token)
        )
    assert "page_token" in (failed.value.details() or "")


def chat(**fields: Any) -> chat_pb2.ChatRequest:
    """A chat with a prompt of about a thousand tokens."""
    return chat_request(text="word" * 1_000, model="scripted/echo", **fields)


def total(cost: usage_pb2.Cost) -> int:
    return sum(line.amount.nanos for line in cost.lines)


async def test_a_chat_is_estimated(priced: Served) -> None:
    """What is expected is the prompt and a usual answer at today's prices; at most it is dearer, and longer."""
    request = chat(sampling=chat_pb2.Sampling(max_output_tokens=3_000))
    answer = await priced.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=request))
    (route,) = answer.routes
    assert (route.route.provider, route.route.model) == ("scripted", "echo")
    assert (route.expected_output_tokens, route.most_output_tokens) == (1_000, 3_000)
    fee = 250_000_000
    assert total(route.expected) == answer.input_tokens * 2_000 + 1_000 * 4_000 + fee
    assert route.expected.price_version == route.most.price_version == "second"
    prompt, output, request_fee = route.most.lines
    assert (output.amount.nanos, request_fee.amount.nanos) == (3_000 * 4_000, fee)
    assert prompt.quantity > answer.input_tokens
    assert prompt.amount.nanos == prompt.quantity * 2_000
    assert 1_000 <= answer.input_tokens <= 1_100
    assert not route.budgets


async def test_the_length_of_the_answer_may_be_told(priced: Served) -> None:
    """With `output_tokens` both are reckoned with so many."""
    answer = await priced.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=chat(), output_tokens=50))
    (route,) = answer.routes
    assert (route.expected_output_tokens, route.most_output_tokens) == (50, 50)
    assert route.expected.lines[1].quantity == route.most.lines[1].quantity == 50


async def test_each_that_may_be_asked_is_estimated(serve: Serve) -> None:
    """The plan's legs come in its order, each at its own price; one without a price is UNPRICED, not free."""
    personas = {
        "p": {
            "provider": "other",
            "model": "echo",
            "fallback": [{"provider": "scripted", "model": "echo"}, {"provider": "third", "model": "echo"}],
        }
    }
    specs = [spec(name, ScriptedAdapter([{"text": "Hi"}])) for name in ("other", "third")]
    async with serve(specs=specs, platform={**PLATFORM, "personas": personas}) as served:
        request = chat_request(text="Hi", model="", persona="p", service_tier="batch")
        answer = await served.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=request, output_tokens=1_000_000))
    assert [each.route.provider for each in answer.routes] == ["other", "scripted", "third"]
    other, scripted, third = (each.expected for each in answer.routes)
    assert other.lines[1].amount.nanos == 8 * 10**9
    assert scripted.lines[1].amount.nanos == 2 * 10**9  # half, in batches
    assert (third.status, total(third)) == (usage_pb2.COST_STATUS_UNPRICED, 0)
    assert answer.routes[2].most.status == usage_pb2.COST_STATUS_UNPRICED


async def test_who_lacks_only_a_key_is_estimated_as_well(serve: Serve) -> None:
    """Prices are known before keys are there: those that were named come last, and say what is missing."""
    keyed = replace(spec("other", ScriptedAdapter([{"text": "Hi"}])), needs_key=True)
    request = chat_request(text="Hi", model="other/echo")
    request.routing.fallback_models.append("scripted/echo")
    async with serve(specs=[keyed], platform=PLATFORM) as served:
        both = await served.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=request, output_tokens=1_000_000))
        del request.routing.fallback_models[:]
        alone = await served.costs.EstimateCost(cost_pb2.EstimateCostRequest(chat=request))
    assert [(each.route.provider, each.missing) for each in both.routes] == [
        ("scripted", ""),
        ("other", "set EP_OTHER_API_KEY"),
    ]
    assert both.routes[1].expected.lines[1].amount.nanos == 8 * 10**9
    assert [each.route.provider for each in alone.routes] == ["other"]


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (cost_pb2.EstimateCostRequest(), "INVALID_REQUEST"),
        (cost_pb2.EstimateCostRequest(chat=chat_request(), output_tokens=-1), "INVALID_REQUEST"),
        (cost_pb2.EstimateCostRequest(chat=chat_request(model="nobody/knows")), "PROVIDER_NOT_FOUND"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_chat_that_cannot_be_is_not_estimated(
    priced: Served, request_: cost_pb2.EstimateCostRequest, reason: str
) -> None:
    """What would refuse the chat refuses its estimate, with the same reason."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await priced.costs.EstimateCost(request_)
    assert error_info(failed.value).reason == reason


async def test_without_a_ledger_nothing_is_priced_anew(priced: Served) -> None:
    """There are no records then, and the answer says so."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await priced.costs.RepriceUsage(cost_pb2.RepriceUsageRequest())
    assert "EP_LEDGER=off" in (failed.value.details() or "")
