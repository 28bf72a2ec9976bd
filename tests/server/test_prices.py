"""Prices: figures worked out by hand, what is not known, and the usage of recorded answers."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import duration_pb2
from tests.server.listings import LISTINGS

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.prices import Prices
from execution_platform.v1 import content_pb2, usage_pb2

K = usage_pb2.UsageKind
INPUT, CACHE_READ, CACHE_WRITE = K.USAGE_KIND_INPUT, K.USAGE_KIND_CACHE_READ, K.USAGE_KIND_CACHE_WRITE
OUTPUT, REASONING, TOOL_INPUT = K.USAGE_KIND_OUTPUT, K.USAGE_KIND_REASONING, K.USAGE_KIND_TOOL_INPUT
ACCEPTED, REJECTED = K.USAGE_KIND_PREDICTION_ACCEPTED, K.USAGE_KIND_PREDICTION_REJECTED
CALL, MEDIA = K.USAGE_KIND_SERVER_TOOL_CALL, K.USAGE_KIND_MEDIA
AUDIO, IMAGE = content_pb2.MODALITY_AUDIO, content_pb2.MODALITY_IMAGE

#: A day on which the figures below were worked out from the installed list.
DAY = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)


def prices(models: Mapping[str, Any] | None = None, now: dt.datetime = DAY) -> Prices:
    configuration = PlatformConfiguration.model_validate({"models": models or {}})
    return Prices(lambda: configuration, LISTINGS, lambda: now)


@pytest.fixture(scope="module")
def listed() -> Prices:
    return prices()


def item(kind: K.ValueType, quantity: int, *, ttl: int = 0, **more: Any) -> usage_pb2.UsageItem:
    made = usage_pb2.UsageItem(kind=kind, quantity=quantity, **{"unit": usage_pb2.USAGE_UNIT_TOKEN, **more})
    if ttl:
        made.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
    return made


def calls(tool: str, quantity: int) -> usage_pb2.UsageItem:
    return item(CALL, quantity, tool=tool, unit=usage_pb2.USAGE_UNIT_CALL)


def nanos(cost: usage_pb2.Cost) -> list[int]:
    assert cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert all(line.amount.currency_code == "USD" for line in cost.lines)
    return [line.amount.nanos for line in cost.lines]


@pytest.mark.parametrize(
    ("provider", "model", "items", "expected"),
    [
        # Claude Sonnet 4.5: $3 in, $0.30 cache reads, $3.75 and $6 cache writes (5 minutes, 1 hour), $15 out.
        (
            "anthropic",
            "claude-sonnet-4-5-20250929",
            [
                item(INPUT, 1_000),
                item(CACHE_READ, 20_000),
                item(CACHE_WRITE, 4_000, ttl=300),
                item(CACHE_WRITE, 2_000, ttl=3_600),
                item(OUTPUT, 500),
                item(REASONING, 300),
            ],
            [3_000_000, 6_000_000, 15_000_000, 12_000_000, 7_500_000, 4_500_000],
        ),
        # Above 100,000 tokens of prompt, cached or not, every token of Claude Haiku 5.5 costs five times as much.
        (
            "anthropic",
            "claude-haiku-5-5",
            [item(INPUT, 1), item(CACHE_READ, 100_000), item(OUTPUT, 2)],
            [500, 5_000_000, 5_000],
        ),
        # At 100,000 it does not.
        ("anthropic", "claude-haiku-5-5", [item(CACHE_READ, 100_000)], [1_000_000]),
        # Web searches are $10 a thousand, beside the tokens; fetching pages is free.
        ("anthropic", "claude-sonnet-4-5", [calls("web_search", 3), calls("web_fetch", 5)], [30_000_000, 0]),
        # OpenAI's searches; the first version of its web search is dearer with models that do not reason.
        ("openai", "gpt-5", [calls("web_search", 3), calls("file_search", 2)], [30_000_000, 5_000_000]),
        ("openai", "gpt-5", [calls("web_search_preview", 1)], [10_000_000]),
        ("openai", "gpt-4.1-mini", [calls("web_search_preview", 1)], [25_000_000]),
        # GPT-5: $1.25 in, $0.125 cached, $10 out, reasoning and predictions too; cache writes cost what input costs.
        (
            "openai",
            "gpt-5",
            [
                item(INPUT, 800),
                item(CACHE_READ, 200),
                item(CACHE_WRITE, 100),
                item(OUTPUT, 10),
                item(REASONING, 640),
                item(ACCEPTED, 5),
                item(REJECTED, 7),
            ],
            [1_000_000, 25_000, 125_000, 100_000, 6_400_000, 50_000, 70_000],
        ),
        # Gemini 2.5 Pro: $1.25 and $2.50 above 200,000; thoughts are output: $10 and $15.
        ("gemini", "gemini-2.5-pro", [item(INPUT, 200_000), item(REASONING, 1_000)], [250_000_000, 10_000_000]),
        (
            "gemini",
            "gemini-2.5-pro",
            [item(INPUT, 150_000), item(TOOL_INPUT, 50_001), item(REASONING, 1_000)],
            [375_000_000, 125_002_500, 15_000_000],
        ),
        # Gemini 2.5 Flash: audio is $1 in a prompt of $0.30; pictures are as text.
        ("gemini", "gemini-2.5-flash", [item(INPUT, 10, modality=AUDIO)], [10_000]),
        ("gemini", "gemini-2.5-flash", [item(INPUT, 10, modality=IMAGE)], [3_000]),
        ("gemini", "gemini-2.5-flash", [item(CACHE_READ, 10, modality=AUDIO)], [1_000]),
        # gpt-audio: $32 and $64 for audio beside $2.50 and $10 for text.
        (
            "openai",
            "gpt-audio",
            [item(INPUT, 10, modality=AUDIO), item(INPUT, 10), item(OUTPUT, 10, modality=AUDIO)],
            [320_000, 25_000, 640_000],
        ),
        # An advisor's tokens are at the advisor's price: Opus 4.5 is $5 and $25.
        (
            "anthropic",
            "claude-sonnet-4-5",
            [item(INPUT, 100), item(INPUT, 100, model="claude-opus-4-5"), item(OUTPUT, 10, model="claude-opus-4-5")],
            [300_000, 500_000, 250_000],
        ),
        # Azure sells OpenAI's models at OpenAI's prices.
        ("azure", "gpt-5", [item(INPUT, 1_000)], [1_250_000]),
        # Sonar Pro asks $14 a thousand requests beside the tokens.
        ("perplexity", "sonar-pro", [item(INPUT, 1_000)], [3_000_000, 14_000_000]),
    ],
)
def test_what_a_usage_costs(
    listed: Prices, provider: str, model: str, items: list[usage_pb2.UsageItem], expected: list[int]
) -> None:
    """Each item is one line at its own price: figures worked out by hand from the published prices."""
    cost = listed.cost(provider, model, usage_pb2.Usage(items=items))
    assert nanos(cost) == expected
    assert {line.source for line in cost.lines} == {usage_pb2.COST_SOURCE_LIST_PRICE}
    assert cost.price_version.startswith("genai-prices 0.2.")


@pytest.mark.parametrize(
    ("provider", "model", "usage"),
    [
        ("ollama", "llama3.2", usage_pb2.Usage(items=[item(INPUT, 1)])),
        ("compatible", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 1)])),
        ("openai", "a-model-of-tomorrow", usage_pb2.Usage(items=[item(INPUT, 1)])),
        ("openai", "gpt-5", usage_pb2.Usage()),
        ("openai", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 1), calls("code_interpreter", 1)])),
        ("openai", "gpt-5", usage_pb2.Usage(items=[item(MEDIA, 1, unit=usage_pb2.USAGE_UNIT_IMAGE)])),
        ("openai", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 1)], service_tier="scale")),
        ("azure", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 1)], service_tier="priority")),
        ("azure", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 1), calls("web_search", 1)])),
        ("gemini", "gemini-2.5-flash", usage_pb2.Usage(items=[item(INPUT, 1)], service_tier="PROVISIONED_THROUGHPUT")),
        ("openai", "gpt-4o-audio-preview", usage_pb2.Usage(items=[item(OUTPUT, 1, modality=AUDIO)])),
        ("openai", "gpt-6.1-terra", usage_pb2.Usage(items=[item(CACHE_WRITE, 1, ttl=12 * 3_600)])),
        ("anthropic", "claude-haiku-4-5", usage_pb2.Usage(items=[item(INPUT, 1)], speed="fast")),
        ("anthropic", "claude-haiku-4-5", usage_pb2.Usage(items=[item(INPUT, 1)], region="mars")),
        ("anthropic", "claude-haiku-4-5", usage_pb2.Usage(items=[item(INPUT, 1, model="claude-of-tomorrow")])),
        ("openai", "gpt-5", usage_pb2.Usage(items=[item(INPUT, 2**63 - 1)])),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_has_no_price_is_not_free(listed: Prices, provider: str, model: str, usage: usage_pb2.Usage) -> None:
    """Where the price of anything that was used is not known the whole is UNPRICED; only what is known has lines."""
    cost = listed.cost(provider, model, usage)
    assert cost.status == usage_pb2.COST_STATUS_UNPRICED
    assert bool(cost.lines) == bool(cost.price_version)
    assert len(cost.lines) < max(1, len(usage.items))


@pytest.mark.parametrize(
    ("provider", "model", "said", "expected"),
    [
        ("openai", "gpt-5", {"service_tier": "default"}, 1_250_000),
        ("openai", "gpt-5", {"service_tier": "flex"}, 625_000),
        ("openai", "gpt-5", {"service_tier": "priority"}, 2_500_000),
        ("groq", "openai/gpt-oss-120b", {"service_tier": "on_demand"}, 150_000),
        ("gemini", "gemini-2.5-flash", {"service_tier": "ON_DEMAND"}, 300_000),
        ("anthropic", "claude-opus-4-6", {"service_tier": "standard", "region": "global"}, 5_000_000),
        ("anthropic", "claude-opus-4-6", {"region": "us"}, 5_500_000),
        ("anthropic", "claude-haiku-4-5", {"region": "not_available", "speed": "standard"}, 1_000_000),
    ],
)
def test_tier_speed_and_region_change_the_price(
    listed: Prices, provider: str, model: str, said: Mapping[str, str], expected: int
) -> None:
    """A thousand tokens of input cost what the tier, the speed and the place that were used ask for."""
    cost = listed.cost(provider, model, usage_pb2.Usage(items=[item(INPUT, 1_000)], **said))
    assert nanos(cost) == [expected]


def test_a_price_follows_the_calendar() -> None:
    """Gemini 3.8 Flash costs twice as much from 2027 on."""
    usage = usage_pb2.Usage(items=[item(INPUT, 1_000)])
    assert nanos(prices().cost("gemini", "gemini-3.8-flash", usage)) == [750_000]
    later = prices(now=dt.datetime(2027, 1, 1, tzinfo=dt.UTC))
    assert nanos(later.cost("gemini", "gemini-3.8-flash", usage)) == [1_500_000]


def test_tiers_end_with_the_beta_that_they_were_of() -> None:
    """A prompt of Claude Sonnet 4.5 beyond its window is the sum of several requests, none of which was so long."""
    usage = usage_pb2.Usage(items=[item(INPUT, 1), item(CACHE_READ, 200_000), item(OUTPUT, 2)])
    assert nanos(prices().cost("anthropic", "claude-sonnet-4-5", usage)) == [3_000, 60_000_000, 30_000]
    before = dt.datetime(2026, 4, 29, tzinfo=dt.UTC)
    cost = prices().cost("anthropic", "claude-sonnet-4-5", usage, at=before)
    assert nanos(cost) == [6_000, 120_000_000, 45_000]


@pytest.mark.parametrize(
    ("price", "quantity", "expected"), [("0.0005", 1, 0), ("0.0015", 1, 2), ("0.0025", 1, 2), ("0.0015", 3, 4)]
)
def test_a_line_is_rounded_once_and_half_to_even(price: str, quantity: int, expected: int) -> None:
    """1e-9 dollars are the least; a half goes to the even neighbour, after the quantity is counted in."""
    declared = prices({"vllm/m": {"input_price": price}})
    assert nanos(declared.cost("vllm", "m", usage_pb2.Usage(items=[item(INPUT, quantity)]))) == [expected]


def test_the_configurations_prices_go_before_the_list() -> None:
    """A declared price is that of every token of its side; the other side stays the list's, and both are named."""
    declared = prices({"openai/gpt-5": {"input_price": "2"}})
    usage = usage_pb2.Usage(
        items=[item(INPUT, 10), item(CACHE_READ, 10), item(CACHE_WRITE, 10, ttl=9), item(OUTPUT, 10)]
    )
    cost = declared.cost("openai", "gpt-5", usage)
    assert nanos(cost) == [20_000, 20_000, 20_000, 100_000]
    sources = [line.source for line in cost.lines]
    assert sources == [usage_pb2.COST_SOURCE_CONFIGURATION] * 3 + [usage_pb2.COST_SOURCE_LIST_PRICE]
    assert re.fullmatch(r"configuration [0-9a-f]{12}, genai-prices 0\.2\.\d+", cost.price_version)


def test_the_configuration_prices_what_no_list_knows() -> None:
    """A server of one's own costs what one says, and nothing only if one says so."""
    usage = usage_pb2.Usage(items=[item(INPUT, 1_000), item(REASONING, 1_000)])
    declared = prices(
        {"vllm/m": {"input_price": "0.5", "output_price": "1"}, "vllm/free": {"input_price": 0, "output_price": 0}}
    )
    cost = declared.cost("vllm", "m", usage)
    assert nanos(cost) == [500_000, 1_000_000]
    assert re.fullmatch("configuration [0-9a-f]{12}", cost.price_version)
    assert nanos(declared.cost("vllm", "free", usage)) == [0, 0]
    assert declared.estimate("vllm", "m", 1_000_000, 1_000_000) == Decimal("1.5")


def test_half_a_declaration_is_no_price_of_the_other_half() -> None:
    """With a price of input alone an answer of a model that no list knows has no price."""
    declared = prices({"vllm/m": {"input_price": "0.5"}})
    assert declared.estimate("vllm", "m", 1, 1) is None
    usage = usage_pb2.Usage(items=[item(INPUT, 1), item(OUTPUT, 1)])
    assert declared.cost("vllm", "m", usage).status == usage_pb2.COST_STATUS_UNPRICED


def test_lines_tell_what_they_are_for(listed: Prices) -> None:
    """The description names kind, modality, lifetime, tool and model, as far as they matter."""
    items = [
        item(INPUT, 1),
        item(INPUT, 1, modality=AUDIO),
        item(CACHE_WRITE, 1, ttl=300),
        item(OUTPUT, 1, model="claude-opus-4-5"),
        calls("web_search", 1),
    ]
    cost = listed.cost("anthropic", "claude-haiku-4-5", usage_pb2.Usage(items=items))
    told = [line.description for line in cost.lines]
    assert told == [
        "input",
        "input audio",
        "cache_write 300 s",
        "server_tool_call web_search",
        "output claude-opus-4-5",
    ]


@pytest.mark.parametrize(
    ("provider", "model", "tokens", "expected"),
    [
        ("anthropic", "claude-haiku-4-5", (1_000, 1_000), Decimal("0.006")),
        ("openai", "gpt-5", (1_000_000, 0), Decimal("1.25")),
        ("gemini", "gemini-2.5-pro", (200_001, 10), Decimal("0.5001525")),
        ("xai", "grok-4.3", (0, 0), Decimal(0)),
        ("lmstudio", "any", (1, 1), None),
        ("openai", "a-model-of-tomorrow", (1, 1), None),
    ],
)
def test_estimates(
    listed: Prices, provider: str, model: str, tokens: tuple[int, int], expected: Decimal | None
) -> None:
    """An estimate is the list price of tokens, at the tier that the prompt reaches; None where none is known."""
    assert listed.estimate(provider, model, *tokens) == expected
