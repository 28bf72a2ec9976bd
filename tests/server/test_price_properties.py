"""What holds of every cost, whatever was used and whatever prices are."""

from __future__ import annotations

import ast
import datetime as dt
import inspect
from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from types import ModuleType
from typing import Any

import pytest
from genai_prices.data import providers
from genai_prices.types import ModelInfo
from google.protobuf import duration_pb2
from hypothesis import given
from hypothesis import strategies as st
from tests.server.listings import LISTINGS

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.ledger.pricing import repricing
from execution_platform.server.routing import declared, listed, price_sheet, prices, rates
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.rates import Rate
from execution_platform.v1 import content_pb2, usage_pb2

DAY = dt.datetime(2026, 11, 21, 12, tzinfo=dt.UTC)
LISTED = Prices(PlatformConfiguration, LISTINGS, lambda: DAY)
ESTIMATED, UNPRICED = usage_pb2.COST_STATUS_ESTIMATED, usage_pb2.COST_STATUS_UNPRICED

#: Our names of providers with prices, and the list's.
SELLERS = {"anthropic": "anthropic", "openai": "openai", "gemini": "google", "xai": "x-ai", "deepseek": "deepseek"}
MODELS: list[tuple[str, ModelInfo]] = [
    (ours, model)
    for each in providers
    for ours, theirs in SELLERS.items()
    if theirs == each.id
    for model in each.models
]

KINDS = st.sampled_from(usage_pb2.UsageKind.values()[1:])
quantities = st.one_of(st.integers(0, 10**6), st.sampled_from([1, 199_999, 200_000, 200_001, 2**40]))


@st.composite
def items(draw: st.DrawFn) -> usage_pb2.UsageItem:
    kind = draw(KINDS)
    calls = kind == usage_pb2.USAGE_KIND_SERVER_TOOL_CALL
    made = usage_pb2.UsageItem(
        kind=kind,
        modality=draw(st.sampled_from(content_pb2.Modality.values())),
        tool=draw(st.sampled_from(["", "web_search", "search"])) if calls else "",
        unit=draw(st.sampled_from(usage_pb2.UsageUnit.values())),
        quantity=draw(quantities),
        model=draw(st.sampled_from(["", "", "", "claude-opus-4-5", "of-tomorrow"])),
    )
    if draw(st.booleans()):
        made.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=draw(st.sampled_from([300, 3_600, 43_200]))))
    return made


usages = st.builds(
    usage_pb2.Usage,
    items=st.lists(items(), max_size=6),
    service_tier=st.sampled_from(["", "default", "batch", "flex", "priority", "unheard of"]),
    speed=st.sampled_from(["", "standard", "fast"]),
    region=st.sampled_from(["", "us", "global", "mars"]),
)
dollars = st.decimals(0, 1_000, places=6)
factors = st.decimals(0, 10, places=3)
prices_of_tokens = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("input", "output", "cache_read", "cache_write", "reasoning", "input_audio"), dollars)
)
entries = st.builds(
    lambda tokens, tiers, special, more: {**tokens, "tiers": tiers, "service_tiers": special, **more},
    prices_of_tokens,
    st.lists(
        st.builds(lambda above, tokens: {**tokens, "above": above}, st.integers(1, 10**6), prices_of_tokens),
        max_size=2,
        unique_by=lambda tier: tier["above"],
    ),
    st.dictionaries(
        st.sampled_from(["batch", "priority"]),
        st.builds(lambda tokens, factor: {**tokens, "factor": factor}, prices_of_tokens, factors),
    ),
    st.fixed_dictionaries({}, optional={"request": dollars, "tools": st.just({"web_search": "10", "search": "0.003"})}),
)


def rounded(exact: Fraction) -> int:
    """A fraction rounded half to even, by another library than ours."""
    return round(exact)


def check(cost: usage_pb2.Cost, usage: usage_pb2.Usage) -> None:
    """Fail where a cost is not the sum of its lines, each an item at a price, rounded once."""
    used = [item.SerializeToString(deterministic=True) for item in usage.items]
    for line in cost.lines:
        assert line.amount.currency_code == line.price.currency_code == "USD"
        assert line.amount.nanos == rounded(Fraction(line.price.nanos * line.quantity, line.per_quantity))
        assert line.amount.nanos >= 0
        if line.HasField("item"):
            assert line.quantity == line.item.quantity
            used.remove(line.item.SerializeToString(deterministic=True))  # each item is in one line at most
        else:
            assert (line.description, line.quantity) == ("request", 1)
    assert cost.status == (UNPRICED if used or not usage.items else ESTIMATED)
    assert bool(cost.price_version) == bool(cost.lines)


@given(st.sampled_from(MODELS), usages)
def test_a_cost_is_its_lines_by_the_list(sold: tuple[str, ModelInfo], usage: usage_pb2.Usage) -> None:
    """By list prices each item is in one line at its price, rounded once, or the whole is UNPRICED."""
    provider, model = sold
    check(LISTED.cost(provider, model.id, usage), usage)


@given(entries, st.sampled_from(["vllm", "openai"]), usages)
def test_a_cost_is_its_lines_by_declared_prices(entry: dict[str, Any], provider: str, usage: usage_pb2.Usage) -> None:
    """The same holds of whatever is declared."""
    configuration = PlatformConfiguration.model_validate({"prices": [{"provider": provider, "model": "*", **entry}]})
    check(Prices(lambda: configuration, LISTINGS, lambda: DAY).cost(provider, "gpt-5", usage), usage)


@given(st.sampled_from(MODELS), st.lists(st.integers(0, 10**6), min_size=2, max_size=4))
def test_a_prompt_costs_the_same_in_whatever_parts_it_is_told(sold: tuple[str, ModelInfo], parts: list[int]) -> None:
    """Kinds are disjoint: two items of a kind cost what one with both costs, but for what each line rounds."""
    provider, model = sold
    apart = [
        usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=each)
        for each in parts
    ]
    together = usage_pb2.UsageItem(kind=apart[0].kind, unit=apart[0].unit, quantity=sum(parts))
    first, second = (LISTED.cost(provider, model.id, usage_pb2.Usage(items=each)) for each in (apart, [together]))
    assert first.status == second.status
    sums = [sum(line.amount.nanos for line in each.lines) for each in (first, second)]
    assert abs(sums[0] - sums[1]) <= len(parts)


@pytest.mark.parametrize(("provider", "model"), MODELS, ids=lambda value: getattr(value, "id", value))
def test_no_listed_price_is_nothing(provider: str, model: ModelInfo) -> None:
    """A million tokens of prompt and of answer cost something with every model that has prices, or are UNPRICED."""
    usage = usage_pb2.Usage()
    for kind in (usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_OUTPUT):
        usage.items.add(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=1_000_000)
    cost = LISTED.cost(provider, model.id, usage)
    assert cost.status == UNPRICED or sum(line.amount.nanos for line in cost.lines) > 0


@pytest.mark.parametrize(
    "module", [declared, listed, price_sheet, prices, rates, repricing], ids=lambda one: str(one.__name__)
)
def test_money_is_never_a_float(module: ModuleType) -> None:
    """No code that prices has a number with a point, divides into one, or speaks of such."""
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        assert not (isinstance(node, ast.Constant) and isinstance(node.value, float)), ast.dump(node)
        assert not (isinstance(node, ast.Name) and node.id == "float"), node.lineno


@given(dollars, st.sampled_from([1, 1_000, 1_000_000]), st.integers(0, 10**6))
def test_a_rate_is_exact(price: Decimal, per: int, quantity: int) -> None:
    """A price keeps all of its digits, and an amount is rounded once, half to even, without a float."""
    rate = Rate.of_dollars(price, per)
    assert Fraction(rate.nanos, rate.per) == Fraction(price) * 10**9 / per
    exact = price * quantity * 10**9 / per
    assert rate.amount(quantity) == int(exact.quantize(Decimal(1), ROUND_HALF_EVEN))
    assert isinstance(rate.of(quantity), Decimal)


LENGTHS = (5_000, 199_999, 200_000, 200_001, 272_000, 272_001, 10**6)


#: Those with a price of prompts, that are found by their own name; without the one whose tier has ended.
OF_PROMPTS = [
    (provider, model)
    for provider, model in MODELS
    if getattr(model.get_prices(DAY), "input_mtok", None) is not None
    and model.is_match(model.id)
    and model.id != "claude-sonnet-4-5"
]


@pytest.mark.parametrize(("provider", "model"), OF_PROMPTS, ids=lambda value: getattr(value, "id", value))
def test_tiers_begin_where_the_list_says(provider: str, model: ModelInfo) -> None:
    """The price of a prompt is the last of the list's tiers that begins below its length, read independently."""
    price: Any = getattr(model.get_prices(DAY), "input_mtok", None)
    for prompt in LENGTHS:
        expected = price
        if not isinstance(price, Decimal):
            expected = next((tier.price for tier in reversed(price.tiers) if prompt > tier.start), price.base)
        item = usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=prompt)
        (line, *_) = LISTED.cost(provider, model.id, usage_pb2.Usage(items=[item])).lines
        assert Fraction(line.price.nanos, line.per_quantity) == Fraction(expected) * 10**9 / 10**6
