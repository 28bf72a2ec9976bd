"""Prices of the configuration: which entry holds, for what, and what the list still says."""

from __future__ import annotations

import datetime as dt
from importlib import metadata
from typing import Any

import pytest
from tests.server.listings import LISTINGS
from tests.server.test_prices import (
    AUDIO,
    CACHE_READ,
    CACHE_WRITE,
    INPUT,
    OUTPUT,
    REASONING,
    calls,
    item,
    nanos,
)

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.prices import matches, same_names
from execution_platform.server.routing.prices import Prices
from execution_platform.v1 import usage_pb2

DAY = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
PUBLISHED = f"genai-prices {metadata.version('genai-prices')}"
CONFIGURATION, LIST = usage_pb2.COST_SOURCE_CONFIGURATION, usage_pb2.COST_SOURCE_LIST_PRICE


def declared(*entries: dict[str, Any], models: dict[str, Any] | None = None) -> Prices:
    whole = [{"provider": "vllm", "model": "m", **entry} for entry in entries]
    configuration = PlatformConfiguration.model_validate({"prices": whole, "models": models or {}})
    return Prices(lambda: configuration, LISTINGS, lambda: DAY)


def cost(
    prices: Prices, *items: usage_pb2.UsageItem, provider: str = "vllm", model: str = "m", **said: Any
) -> usage_pb2.Cost:
    more = {name: said.pop(name) for name in ("served", "at") if name in said}
    return prices.cost(provider, model, usage_pb2.Usage(items=items, **said), **more)


def test_each_kind_has_its_own_price() -> None:
    """A token costs what the entry says of its kind, lifetime and modality, in millionths of these dollars."""
    prices = declared(
        {
            "input": 1,
            "output": 2,
            "cache_read": 3,
            "cache_write": 4,
            "cache_write_1h": 5,
            "cache_writes": {"12h": 6},
            "reasoning": 7,
            "input_audio": 8,
            "output_audio": 9,
            "cache_read_audio": 10,
            "tools": {"search": 11},
            "request": "0.000012",
        }
    )
    used = [
        item(INPUT, 1),
        item(OUTPUT, 1),
        item(CACHE_READ, 1),
        item(CACHE_WRITE, 1, ttl=300),
        item(CACHE_WRITE, 1, ttl=3_600),
        item(CACHE_WRITE, 1, ttl=43_200),
        item(REASONING, 1),
        item(INPUT, 1, modality=AUDIO),
        item(OUTPUT, 1, modality=AUDIO),
        item(CACHE_READ, 1, modality=AUDIO),
        calls("search", 1),
    ]
    expected = [1_000 * each for each in range(1, 11)] + [11_000_000, 12_000]
    assert nanos(cost(prices, *used)) == expected


def test_what_has_no_price_of_its_own_costs_what_the_whole_costs() -> None:
    """With prices of input and output alone they are those of what is cached, thought, seen and heard."""
    prices = declared({"input": 1, "output": 2})
    used = [item(CACHE_READ, 1), item(CACHE_WRITE, 1), item(REASONING, 1), item(INPUT, 1, modality=AUDIO)]
    assert nanos(cost(prices, *used)) == [1_000, 1_000, 2_000, 1_000]


@pytest.mark.parametrize(
    "used", [item(CACHE_WRITE, 1, ttl=3_600), item(CACHE_WRITE, 1, ttl=43_200), calls("search", 1)], ids=str
)
def test_what_may_cost_far_more_is_not_guessed(used: usage_pb2.UsageItem) -> None:
    """Long cache entries and tools have no price unless an entry gives one: the whole is UNPRICED."""
    told = cost(declared({"input": 1, "output": 2}), item(INPUT, 1), used)
    assert (told.status, [line.amount.nanos for line in told.lines]) == (usage_pb2.COST_STATUS_UNPRICED, [1_000])


@pytest.mark.parametrize(("tokens", "each"), [(200_000, 1_000), (200_001, 3_000), (500_000, 3_000), (500_001, 9_000)])
def test_every_token_of_a_long_prompt_costs_the_tiers_price(tokens: int, each: int) -> None:
    """A tier begins above its number, cached tokens counted; what it leaves out costs as in shorter prompts."""
    prices = declared(
        {"input": 1, "output": 2, "tiers": [{"above": 500_000, "input": 9}, {"above": 200_000, "input": 3}]}
    )
    used = [item(INPUT, tokens - 1), item(CACHE_READ, 1), item(OUTPUT, 1)]
    assert nanos(cost(prices, *used)) == [(tokens - 1) * each, each, 2_000]


def test_entries_hold_for_a_time() -> None:
    """An entry holds from its first moment up to the last before its end; which one is decided by the chat's time."""
    prices = declared(
        {"input": 1, "until": "2026-03-01", "version": "one"},
        {"input": 2, "from": "2026-03-01T01:00:00+01:00", "until": "2026-04-01", "version": "two"},
    )
    march = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
    april = dt.datetime(2026, 4, 1, tzinfo=dt.UTC)
    tick = dt.timedelta(microseconds=1)
    told = {at: cost(prices, item(INPUT, 1), at=at) for at in (march - tick, march, april - tick, april)}
    assert [(each.price_version, sum(line.amount.nanos for line in each.lines)) for each in told.values()] == [
        ("one", 1_000),
        ("two", 2_000),
        ("two", 2_000),
        ("", 0),
    ]
    assert told[april].status == usage_pb2.COST_STATUS_UNPRICED


def test_the_digest_pins_what_an_entry_says() -> None:
    """Without a version of its own an entry has one that changes with its prices, and with nothing else."""
    versions = [
        cost(declared(entry), item(INPUT, 1)).price_version
        for entry in ({"input": 1}, {"input": "1"}, {"input": 2}, {"input": 1, "until": "2027-01-01"})
    ]
    assert versions[0] == versions[1]
    assert len(set(versions)) == 3
    assert all(version.startswith("configuration ") for version in versions)


def test_a_whole_name_goes_before_a_pattern() -> None:
    """`*` stands for anything in a name, whatever the case; a whole name goes before it, and both before the list."""
    prices = declared(
        {"provider": "openai", "model": "gpt-5*", "input": 7, "version": "pattern"},
        {"provider": "openai", "model": "gpt-5-mini", "input": 8, "version": "name"},
    )
    told = {name: cost(prices, item(INPUT, 1), provider="openai", model=name) for name in ("GPT-5", "gpt-5-mini", "o3")}
    assert [(each.price_version, each.lines[0].amount.nanos) for each in told.values()] == [
        ("pattern", 7_000),
        ("name", 8_000),
        (PUBLISHED, 2_000),
    ]


def test_what_an_entry_leaves_open_the_list_says() -> None:
    """An entry's price of input leaves the answer to the list; both sources and versions are told."""
    prices = declared({"provider": "openai", "model": "gpt-5", "input": 1, "version": "contract"})
    told = cost(prices, item(INPUT, 1), item(OUTPUT, 1), calls("web_search", 1), provider="openai", model="gpt-5")
    assert nanos(told) == [1_000, 10_000, 10_000_000]
    assert [line.source for line in told.lines] == [CONFIGURATION, LIST, LIST]
    assert told.price_version == f"contract, {PUBLISHED}"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, [1_000, 2_000]),
        ({"service_tier": "standard"}, [1_000, 2_000]),
        ({"service_tier": "batch"}, [500, 1_000]),
        ({"service_tier": "PRIORITY"}, [5_000, 4_000]),
        ({"region": "eu"}, [1_200, 2_400]),
        ({"region": "mars"}, [1_000, 2_000]),
        ({"region": "at-home"}, [0, 2_000]),
        ({"service_tier": "batch", "region": "eu"}, [600, 1_200]),
        ({"speed": "fast"}, [10_000, 20_000]),
    ],
    ids=str,
)
def test_tiers_and_regions_have_prices_of_their_own(said: dict[str, str], expected: list[int]) -> None:
    """A tier's price goes before a region's and that before the entry's; factors are for what comes from behind."""
    entry = {
        "input": 1,
        "output": 2,
        "service_tiers": {
            "batch": {"factor": "0.5"},
            "priority": {"input": 5, "factor": 2},
            "fast": {"factor": 10},
        },
        "regions": {"eu": {"factor": "1.2"}, "At-Home": {"input": 0}},
    }
    assert nanos(cost(declared(entry), item(INPUT, 1), item(OUTPUT, 1), **said)) == expected


def test_a_tier_that_an_entry_does_not_name_is_the_lists() -> None:
    """An entry without a tier says nothing of it: the list's price for that tier holds, or there is none."""
    prices = declared({"provider": "openai", "model": "gpt-5", "input": 1}, {"input": 1})
    told = cost(prices, item(INPUT, 1), provider="openai", model="gpt-5", service_tier="priority")
    assert (nanos(told), told.price_version) == ([2_500], PUBLISHED)
    assert cost(prices, item(INPUT, 1), service_tier="priority").status == usage_pb2.COST_STATUS_UNPRICED


def test_a_factor_alone_is_for_the_lists_prices() -> None:
    """An entry may say only what a tier or a region makes of the list's prices; both versions are pinned."""
    entry = {"provider": "openai", "model": "gpt-5", "regions": {"eu": {"factor": "1.1"}}, "version": "uplift"}
    told = cost(declared(entry), item(INPUT, 1), provider="openai", model="gpt-5", region="eu")
    assert (nanos(told), told.price_version) == ([1_375], f"uplift, {PUBLISHED}")
    assert told.lines[0].source == CONFIGURATION


def test_anthropics_own_factor_gives_way_to_a_declared_one() -> None:
    """What the entry says of a region holds in place of what the list's provider asks for it."""
    entry = {"provider": "anthropic", "model": "*", "regions": {"us": {"factor": 2}}}
    with_us = {"provider": "anthropic", "model": "claude-opus-4-6", "region": "us"}
    assert nanos(cost(declared(entry), item(INPUT, 1), **with_us)) == [10_000]
    assert nanos(cost(declared(), item(INPUT, 1), **with_us)) == [5_500]


def test_prices_of_models_come_behind_entries() -> None:
    """The two prices that stand at `models` still hold for what no entry gives."""
    prices = declared({"input": 1}, models={"vllm/m": {"input_price": 5, "output_price": 6}})
    assert nanos(cost(prices, item(INPUT, 1), item(OUTPUT, 1), item(CACHE_WRITE, 1, ttl=43_200))) == [
        1_000,
        6_000,
        5_000,
    ]


def test_the_model_that_served_is_priced() -> None:
    """The name that was asked for decides where the configuration has it; else the model that really answered."""
    prices = declared({"provider": "azure", "model": "my-deployment", "input": 7})
    told = cost(prices, item(INPUT, 1), provider="azure", model="other-deployment", served="gpt-5-mini")
    assert nanos(told) == [250]
    told = cost(prices, item(INPUT, 1), provider="azure", model="my-deployment", served="gpt-5-mini")
    assert nanos(told) == [7_000]
    told = cost(declared({"model": "served", "input": 3}), item(INPUT, 1), served="served")
    assert nanos(told) == [3_000]


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        ("a", "a", True),
        ("A", "a", True),
        ("a", "b", False),
        ("a*", "*b", True),
        ("a*c", "a*b", False),
        ("*", "", True),
        ("gpt-5*", "gpt-4*", False),
        ("*-mini", "gpt-*", True),
        ("a*b*c", "ab*bc", True),
        ("a.c", "abc", False),
    ],
)
def test_patterns_that_share_a_name_are_known(first: str, second: str, *, same: bool) -> None:
    """Whether two patterns may mean the same model is told, whichever comes first."""
    assert same_names(first, second) is same
    assert same_names(second, first) is same


def test_a_pattern_means_names() -> None:
    """A star stands for anything, nothing among it; a point is a point."""
    assert matches("gpt-5*", "gpt-5")
    assert matches("*/x", "a/b/x")
    assert not matches("gpt.5", "gpt-5")
    assert not matches("gpt-5", "gpt-5-mini")
