"""What Bedrock and runs of the Claude Agent SDK cost by the published prices: by region, tier, cache and model."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from google.protobuf import duration_pb2
from tests.server.listings import LISTINGS

from execution_platform.adapters.registry import Registry
from execution_platform.adapters.spi import ProviderConfig
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.price_sheet import PriceSheet
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.providers import Providers
from execution_platform.v1 import usage_pb2

DAY = datetime(2026, 11, 20, tzinfo=UTC)
INPUT, OUTPUT, WRITE = usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_OUTPUT, usage_pb2.USAGE_KIND_CACHE_WRITE
SONNET = "anthropic.claude-sonnet-4-5-20250929-v1:0"

#: Cents for a million tokens; None: nobody knows.
Cents = int | None


def priced(platform: PlatformConfiguration | None = None, region: str = "eu-central-1") -> Prices:
    """The published prices for a server whose Bedrock is in a region."""
    registry = Registry.discover()
    configs = {spec.name: ProviderConfig(spec.name, options={"region": region}) for spec in registry.specs()}
    providers = Providers(registry, configs)
    configuration = platform or PlatformConfiguration()
    return Prices(lambda: configuration, LISTINGS, lambda: DAY, providers.place)


def item(
    kind: usage_pb2.UsageKind.ValueType = INPUT, quantity: int = 1_000_000, ttl: int = 0, model: str = ""
) -> usage_pb2.UsageItem:
    """Some tokens."""
    made = usage_pb2.UsageItem(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity, model=model)
    if ttl:
        made.cache_ttl.CopyFrom(duration_pb2.Duration(seconds=ttl))
    return made


def cents(cost: usage_pb2.Cost) -> Cents:
    """What a cost comes to."""
    if cost.status == usage_pb2.COST_STATUS_UNPRICED:
        return None
    return round(sum(line.amount.nanos for line in cost.lines) / 10_000_000)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (f"global.{SONNET}", 300),
        (f"eu.{SONNET}", 330),
        (f"us.{SONNET}", 330),
        (SONNET, 330),
        (f"ap-northeast-1/{SONNET}", 330),
        (f"us-gov-west-1/us-gov.{SONNET}", None),
        (f"us-gov-west-1/{SONNET}", None),
        ("us-east-1/amazon.nova-pro-v1:0", 80),
        ("us-east-1/us.amazon.nova-pro-v1:0", 80),
        ("eu.amazon.nova-pro-v1:0", None),
        ("amazon.nova-pro-v1:0", None),
        ("eu-west-2/meta.llama3-70b-instruct-v1:0", None),
        ("global.amazon.nova-2-lite-v1:0", 30),
        ("eu.amazon.nova-2-lite-v1:0", 33),
    ],
)
def test_bedrock_costs_what_its_region_costs(model: str, expected: Cents) -> None:
    """A region costs a tenth more than `global` where Anthropic says so; where the list knows none, nothing is told."""
    assert cents(priced().cost("bedrock", model, usage_pb2.Usage(items=[item()]))) == expected


def test_the_configured_region_decides_where_the_name_tells_none() -> None:
    """A bare model is priced where this server asks for it."""
    usage = usage_pb2.Usage(items=[item()])
    assert cents(priced(region="us-west-2").cost("bedrock", "amazon.nova-pro-v1:0", usage)) == 80
    assert priced(region="us-west-2").estimate("bedrock", "amazon.nova-pro-v1:0", 1_000_000, 0) is not None
    assert priced(region="eu-west-1").estimate("bedrock", "amazon.nova-pro-v1:0", 1_000_000, 0) is None


def test_what_the_configuration_says_of_a_place_is_charged() -> None:
    """An entry of the configuration may say what the list's price is multiplied with in a place."""
    entry = {"provider": "bedrock", "model": "amazon.nova-pro-v1:0", "regions": {"eu-central-1": {"factor": "1.3125"}}}
    prices = priced(PlatformConfiguration.model_validate({"prices": [entry]}))
    assert cents(prices.cost("bedrock", "amazon.nova-pro-v1:0", usage_pb2.Usage(items=[item()]))) == 105


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("", 330), ("default", 330), ("flex", None), ("priority", None), ("reserved", None)],
)
def test_tiers_of_bedrock_that_the_list_does_not_know_have_no_price(tier: str, expected: Cents) -> None:
    """Only the ordinary tier has a price: what AWS takes off or adds for others is not in the list."""
    usage = usage_pb2.Usage(items=[item()], service_tier=tier)
    assert cents(priced().cost("bedrock", f"eu.{SONNET}", usage)) == expected


@pytest.mark.parametrize(
    ("model", "ttl", "expected"),
    [
        (f"eu.{SONNET}", 300, 412),
        (f"eu.{SONNET}", 3_600, 660),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", 300, 375),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", 3_600, None),
    ],
)
def test_written_caches_of_bedrock_are_charged_by_their_lifetime(model: str, ttl: int, expected: Cents) -> None:
    """An hour has its own price, or none: never that of five minutes."""
    usage = usage_pb2.Usage(items=[item(WRITE, ttl=ttl)])
    assert cents(priced().cost("bedrock", model, usage)) == expected


def test_lists_of_prices_say_where_they_hold() -> None:
    """A price that holds in the United States only is listed for there, and one that holds everywhere for no place."""
    prices = priced()
    sheet = PriceSheet(PlatformConfiguration, prices.list)
    rows = {row.message().model: row.message().region for row in sheet.rows("bedrock", "", DAY)}
    assert rows["amazon.nova-pro-v1:0"] == "us"
    assert rows[f"global.{SONNET}"] == rows[f"regional.{SONNET}"] == ""


def test_a_run_costs_what_each_of_its_models_costs() -> None:
    """A run is charged at Anthropic's prices: of what it is asked for, and of the models that it calls beside that."""
    items = [item(), item(quantity=50_000, model="claude-haiku-5-5"), item(model="claude-opus-5-5")]
    cost = priced().cost("claude_agent", "sonnet", usage_pb2.Usage(items=items))
    assert cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert [line.amount.nanos // 1_000_000 for line in cost.lines] == [2_000, 5, 4_000]
    assert {line.source for line in cost.lines} == {usage_pb2.COST_SOURCE_LIST_PRICE}


def test_a_run_that_calls_a_model_without_a_price_has_none() -> None:
    """What is known of it stands; the whole is not told."""
    items = [item(), item(model="claude-of-next-year")]
    cost = priced().cost("claude_agent", "sonnet", usage_pb2.Usage(items=items))
    assert cost.status == usage_pb2.COST_STATUS_UNPRICED
    assert [line.amount.nanos // 1_000_000 for line in cost.lines] == [2_000]


def test_rules_of_anthropic_hold_for_its_agent() -> None:
    """A region costs what it costs at Anthropic, its fetches nothing, and its searches what they do."""
    tools = [
        usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, unit=usage_pb2.USAGE_UNIT_CALL, quantity=1_000)
        for _ in range(2)
    ]
    tools[0].tool, tools[1].tool = "web_fetch", "web_search"
    for provider, model in (("anthropic", "claude-sonnet-5-5"), ("claude_agent", "sonnet")):
        told = [
            priced().cost(provider, model, usage_pb2.Usage(items=[item(OUTPUT), *tools], region=region))
            for region in ("", "us", "mars")
        ]
        assert [cents(each) for each in told] == [2_000, 2_100, None]


def test_calls_of_a_run_together_are_charged_as_one_long_prompt() -> None:
    """Where prices rise with a prompt's length a run costs at most what is told: no call is longer than all of them."""
    usage = usage_pb2.Usage(items=[item(quantity=150_000, model="claude-haiku-5-5")])
    assert priced().cost("claude_agent", "sonnet", usage).lines[0].price.nanos == 500_000_000
    usage.items[0].quantity = 90_000
    assert priced().cost("claude_agent", "sonnet", usage).lines[0].price.nanos == 100_000_000
