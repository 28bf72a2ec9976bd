"""What providers ask for: list prices, and what a chat costs by them.

Prices are those inside the installed package `genai-prices`; nothing is fetched. Usage items are disjoint, so each is
one line of the cost at one price; a line is rounded once. What has no price of its own makes the whole cost unknown:
a sum without it would be read as the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from importlib import metadata
from typing import TYPE_CHECKING, Final

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.rates import PROMPT, Rate, Rates, UnknownPriceError
from execution_platform.v1 import common_pb2, content_pb2, usage_pb2

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider

__all__ = ["Prices"]

#: The package's names of the providers whose prices it knows. Who is not here runs on a machine of the operator's, or
#: publishes no prices.
_THEIR_NAMES: Final = {
    "anthropic": "anthropic",
    "azure": "azure",
    "bedrock_mantle": "aws",
    "cerebras": "cerebras",
    "databricks": "databricks",
    "deepseek": "deepseek",
    "doubleword": "doubleword",
    "fireworks": "fireworks",
    "gemini": "google",
    "groq": "groq",
    "mistral": "mistral",
    "moonshot": "moonshotai",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "together": "together",
    "xai": "x-ai",
    "zai": "zai",
}

#: Words of providers for the ordinary tier and speed, in lower case and without their prefixes.
_ORDINARY: Final = frozenset({"", "auto", "default", "on_demand", "standard", "unspecified"})

#: What it costs at Anthropic to be served from one region only. Every other word is unknown.
#: Source: platform.claude.com/docs/en/manage-claude/data-residency, read 2026-11-21.
_REGIONS: Final = {"": Decimal(1), "global": Decimal(1), "not_available": Decimal(1), "us": Decimal("1.1")}

#: Models of which prices are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED: Final = 1_024


class Prices:
    """List prices of models.

    Args:
        configuration: gives the configuration in force; its prices go before the list's.
        now: the time, which some prices depend on.
    """

    def __init__(
        self,
        configuration: Callable[[], PlatformConfiguration],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - an eighth of a second, which only servers shall pay

        self._configuration = configuration
        self._now = now
        self._providers: dict[str, Provider] = {provider.id: provider for provider in providers}
        self._find = lru_cache(_REMEMBERED)(self._look_up)
        self._version = f"genai-prices {metadata.version('genai-prices')}"

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost in US dollars, without caches; None: no price is known."""
        rates = self._rates(provider, model, usage_pb2.Usage())
        try:
            asked = rates.of_tokens(usage_pb2.USAGE_KIND_INPUT, input_tokens)
            answered = rates.of_tokens(usage_pb2.USAGE_KIND_OUTPUT, input_tokens)
        except UnknownPriceError:
            return None
        return asked.of(input_tokens) + answered.of(output_tokens)

    def cost(self, provider: str, model: str, usage: usage_pb2.Usage) -> usage_pb2.Cost:
        """Return what a usage costs: ESTIMATED, or UNPRICED where the price of a part of it is not known."""
        try:
            lines = list(self._lines(provider, model, usage))
        except UnknownPriceError:
            lines = []
        if not lines:
            return usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
        sources = {line.source for line in lines}
        versions = {
            usage_pb2.COST_SOURCE_CONFIGURATION: "configuration",
            usage_pb2.COST_SOURCE_LIST_PRICE: self._version,
        }
        return usage_pb2.Cost(
            status=usage_pb2.COST_STATUS_ESTIMATED,
            lines=lines,
            price_version=", ".join(word for source, word in versions.items() if source in sources),
        )

    def _lines(self, provider: str, model: str, usage: usage_pb2.Usage) -> Iterator[usage_pb2.CostLine]:
        """Yield a line for each item. Raises UnknownPriceError."""
        for other in dict.fromkeys(item.model for item in usage.items):
            items = [item for item in usage.items if item.model == other]
            rates = self._rates(provider, other or model, usage)
            prompt = sum(
                item.quantity for item in items if item.kind in PROMPT and item.unit == usage_pb2.USAGE_UNIT_TOKEN
            )
            for item in items:
                yield _line(rates.of_item(item, prompt), item.quantity, _description(item))
            fee = rates.of_request() if not other else None
            if fee is not None:
                yield _line(fee, 1, "request")

    def _rates(self, provider: str, model: str, usage: usage_pb2.Usage) -> Rates:
        factor = _REGIONS.get(usage.region.lower()) if provider == "anthropic" else Decimal(1)
        listed = None if factor is None else self._listed(provider, model, usage)
        declared = self._configuration().models.get(f"{provider}/{model}")
        return Rates(provider, listed, declared, factor or Decimal(1))

    def _listed(self, provider: str, model: str, usage: usage_pb2.Usage) -> ModelPrice | None:
        """Return the list's prices for what was used; None: none is known for its tier or speed."""
        found, is_its_own = self._find(provider, model)
        if found is None:
            return None
        context: dict[str, str] = {}
        for key, word in (("service_tier", _tier(usage.service_tier)), ("speed", usage.speed.lower())):
            if word in _ORDINARY:
                continue
            # What another seller asks for a tier of the same model says nothing.
            if not is_its_own or not any(variant.when == {key: word} for variant in found.price_variants or ()):
                return None
            context[key] = word
        return found.get_prices(self._now(), context)

    def _look_up(self, provider: str, model: str) -> tuple[ModelInfo | None, bool]:
        """Return a model's entry, and whether it is the provider's own rather than the maker's of the model."""
        theirs = self._providers.get(_THEIR_NAMES.get(provider, ""))
        if theirs is None:
            return None, False
        found = theirs.find_model(model, all_providers=list(self._providers.values()))
        return found, any(found is each for each in theirs.models)


def _tier(word: str) -> str:
    """Return a provider's word for a tier as the price list writes it: ``ON_DEMAND_FLEX`` is ``flex``."""
    return word.lower().removeprefix("service_tier_").removeprefix("on_demand_")


def _description(item: usage_pb2.UsageItem) -> str:
    words = [usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_").lower()]
    if item.modality not in {content_pb2.MODALITY_UNSPECIFIED, content_pb2.MODALITY_TEXT}:
        words.append(content_pb2.Modality.Name(item.modality).removeprefix("MODALITY_").lower())
    if item.cache_ttl.seconds:
        words.append(f"{item.cache_ttl.seconds} s")
    return " ".join([*words, *filter(None, (item.tool, item.model))])


def _line(rate: Rate, quantity: int, description: str) -> usage_pb2.CostLine:
    return usage_pb2.CostLine(
        amount=common_pb2.Money(currency_code="USD", nanos=rate.nanos(quantity)),
        source=usage_pb2.COST_SOURCE_CONFIGURATION if rate.declared else usage_pb2.COST_SOURCE_LIST_PRICE,
        description=description,
    )
