"""What a chat costs, by the prices of the configuration and those that providers publish.

Published prices are those inside the installed package `genai-prices`; nothing is fetched. Usage items are disjoint, so
each is one line of the cost at one price; a line is rounded once. What has no price makes the whole cost UNPRICED: the
lines that are known stand, but nobody takes their sum for the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from execution_platform.server.config.personas import ModelFacts, PlatformConfiguration
from execution_platform.server.config.prices import PriceSettings
from execution_platform.server.routing.declared import Declared, declared_of, entries_of, entry_at, facts_declared
from execution_platform.server.routing.listed import Found, PriceList
from execution_platform.server.routing.rates import PROMPT, Rate, Rates, UnknownPriceError
from execution_platform.v1 import common_pb2, content_pb2, usage_pb2

__all__ = ["Prices"]

#: Words of providers for the ordinary tier and speed, in lower case and without their prefixes.
_ORDINARY: Final = frozenset({"", "auto", "default", "on_demand", "standard", "unspecified"})

#: What it costs at Anthropic to be served from one region only. Every other word is unknown.
#: Source: platform.claude.com/docs/en/manage-claude/data-residency, read 2026-11-21.
_REGIONS: Final = {"": Decimal(1), "global": Decimal(1), "not_available": Decimal(1), "us": Decimal("1.1")}

_KINDS: Final = {number: name.removeprefix("USAGE_KIND_").lower() for name, number in usage_pb2.UsageKind.items()}

#: Models of which prices are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED: Final = 1_024


class Prices:
    """Prices of models.

    Args:
        configuration: gives the configuration in force; its prices go before the list's.
        now: the time, for which prices are told where no other is asked for.
    """

    def __init__(
        self,
        configuration: Callable[[], PlatformConfiguration],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._configuration = configuration
        self._now = now
        self._list = PriceList()
        self._known = _Known(configuration())

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost in US dollars, without caches; None: no price is known."""
        rates = self._rates(_Asked(provider, model), self._now())
        try:
            asked = rates.of_tokens(usage_pb2.USAGE_KIND_INPUT, input_tokens)
            answered = rates.of_tokens(usage_pb2.USAGE_KIND_OUTPUT, input_tokens)
        except UnknownPriceError:
            return None
        return asked.of(input_tokens) + answered.of(output_tokens)

    def cost(
        self, provider: str, model: str, usage: usage_pb2.Usage, *, served: str = "", at: datetime | None = None
    ) -> usage_pb2.Cost:
        """Return what a usage costs.

        Args:
            provider: who was asked.
            model: the model that was asked for.
            usage: what was used.
            served: the model that really answered, where the provider told; its price counts.
            at: when the chat began, aware; None: now.

        Returns:
            ESTIMATED, or UNPRICED where the price of any part is not known. Its lines are what is known.
        """
        at = at or self._now()
        lines: list[usage_pb2.CostLine] = []
        versions: dict[str, None] = {}
        unknown = not usage.items
        tier, speed, region = _ordinary(_tier(usage.service_tier)), _ordinary(usage.speed.lower()), usage.region.lower()
        for other in dict.fromkeys([item.model for item in usage.items]):
            asked = _Asked(provider, other or model, "" if other else served, tier, speed, region)
            rates = self._rates(asked, at)
            items = [item for item in usage.items if item.model == other]
            for rate, item in _priced(rates, items, with_fee=not other):
                try:
                    if rate is None:
                        raise UnknownPriceError
                    lines.append(_line(rate, 1 if item is None else item.quantity, item))
                except UnknownPriceError:
                    unknown = True
                else:
                    versions[rate.version or self._list.version] = None
        listed = versions.keys() & {self._list.version}
        return usage_pb2.Cost(
            status=usage_pb2.COST_STATUS_UNPRICED if unknown else usage_pb2.COST_STATUS_ESTIMATED,
            lines=lines,
            price_version=", ".join([*sorted(versions.keys() - listed), *listed]),
        )

    def _rates(self, asked: _Asked, at: datetime) -> Rates:
        """Return the prices of a model at a time."""
        configuration = self._configuration()
        if configuration is not self._known.configuration:
            self._known = _Known(configuration)
        known = self._known.models.get(asked)
        if known is None:
            known = self._look_up(configuration, asked)
            if len(self._known.models) >= _REMEMBERED:
                del self._known.models[next(iter(self._known.models))]
            self._known.models[asked] = known
        entry = entry_at(known.entries, at) if known.entries else None
        key = (id(entry), None if known.found is None else known.found.phase(at))
        rates = known.rates.get(key)
        if rates is None:
            if len(known.rates) >= _REMEMBERED:
                known.rates.clear()
            rates = known.rates[key] = self._made(asked, known, entry, at)
        return rates

    def _look_up(self, configuration: PlatformConfiguration, asked: _Asked) -> _Model:
        names = list(filter(None, (asked.model, asked.served)))
        facts = next(filter(None, (configuration.models.get(f"{asked.provider}/{name}") for name in names)), None)
        # The provider's bill is for the model that served; an operator's prices are for the name that is asked for.
        return _Model(
            entries_of(configuration, asked.provider, *names), facts, self._list.find(asked.provider, names[::-1])
        )

    def _made(self, asked: _Asked, known: _Model, entry: PriceSettings | None, at: datetime) -> Rates:
        words = asked.words()
        declared = None if entry is None else declared_of(entry, words, asked.region)
        all_declared = tuple(filter(None, (declared, facts_declared(known.facts))))
        factor = _region_factor(asked, declared)
        listed = None
        if factor is not None and known.found is not None:
            listed = known.found.prices(at, words if declared is None else declared.listed_words)
        if declared is not None:
            factor = (factor or Decimal(1)) * declared.factor
        return Rates(asked.provider, listed, all_declared, factor or Decimal(1))


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a price depends on, besides the time."""

    provider: str
    model: str
    served: str = ""
    tier: str = ""
    speed: str = ""
    region: str = ""

    def words(self) -> tuple[str, ...]:
        """Return tier and speed as far as they are out of the ordinary."""
        return tuple(filter(None, (self.tier, self.speed)))


@dataclass(frozen=True, slots=True)
class _Model:
    """What is known of one model, whenever it holds, and its prices as far as they were asked for."""

    entries: tuple[PriceSettings, ...]
    facts: ModelFacts | None
    found: Found | None
    rates: dict[object, Rates] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What follows from one configuration and is remembered while it is in force."""

    configuration: PlatformConfiguration
    models: dict[_Asked, _Model] = field(default_factory=dict)


def _region_factor(asked: _Asked, declared: Declared | None) -> Decimal | None:
    """Return what a region makes of the list's prices; None: nobody knows."""
    if asked.provider != "anthropic" or (declared is not None and declared.says_region):
        return Decimal(1)
    return _REGIONS.get(asked.region)


def _priced(
    rates: Rates, items: list[usage_pb2.UsageItem], *, with_fee: bool
) -> Iterator[tuple[Rate | None, usage_pb2.UsageItem | None]]:
    """Yield each item of a model with its price, None: it has none; then the fee of the request, if there is one."""
    prompt = sum([item.quantity for item in items if item.kind in PROMPT and item.unit == usage_pb2.USAGE_UNIT_TOKEN])
    for item in items:
        try:
            yield rates.of_item(item, prompt), item
        except UnknownPriceError:
            yield None, item
    fee = rates.of_request() if with_fee else None
    if fee is not None:
        yield fee, None


def _ordinary(word: str) -> str:
    """Return a word for a tier or speed; nothing for the ordinary one."""
    return "" if word in _ORDINARY else word


def _tier(word: str) -> str:
    """Return a provider's word for a tier as the price list writes it: ``ON_DEMAND_FLEX`` is ``flex``."""
    return word.lower().removeprefix("service_tier_").removeprefix("on_demand_")


def _description(item: usage_pb2.UsageItem) -> str:
    words = [_KINDS[item.kind]]
    if item.modality not in {content_pb2.MODALITY_UNSPECIFIED, content_pb2.MODALITY_TEXT}:
        words.append(content_pb2.Modality.Name(item.modality).removeprefix("MODALITY_").lower())
    if item.cache_ttl.seconds:
        words.append(f"{item.cache_ttl.seconds} s")
    return " ".join([*words, *filter(None, (item.tool, item.model))])


def _line(rate: Rate, quantity: int, item: usage_pb2.UsageItem | None) -> usage_pb2.CostLine:
    """Return the line of an item, or of a request. Raises UnknownPriceError where it is too much."""
    return usage_pb2.CostLine(
        amount=common_pb2.Money(currency_code="USD", nanos=rate.amount(quantity)),
        source=usage_pb2.COST_SOURCE_CONFIGURATION if rate.version else usage_pb2.COST_SOURCE_LIST_PRICE,
        description="request" if item is None else _description(item),
        quantity=quantity,
        price=rate.price(),
        per_quantity=rate.per,
        item=item,
    )
