"""What a chat costs, by the prices of the configuration and those that providers publish.

Published prices are those inside the installed package `genai-prices`; nothing is fetched. Usage items are disjoint, so
each is one line of the cost at one price; a line is rounded once. What has no price makes the whole cost UNPRICED: the
lines that are known stand, but nobody takes their sum for the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final, NamedTuple

from execution_platform.adapters.spi import PriceListing
from execution_platform.server.config.personas import ModelFacts, PlatformConfiguration
from execution_platform.server.config.prices import PriceSettings
from execution_platform.server.routing.declared import Declared, declared_of, entries_of, entry_at, facts_declared
from execution_platform.server.routing.listed import Found, PriceList
from execution_platform.server.routing.rates import PROMPT, Rate, Rates, UnknownPriceError
from execution_platform.v1 import common_pb2, content_pb2, usage_pb2

__all__ = ["ORDINARY", "Prices"]

#: Words of providers for the ordinary tier and speed, in lower case and without their prefixes.
ORDINARY: Final = frozenset({"", "auto", "default", "on_demand", "standard", "unspecified"})

_KINDS: Final = {number: name.removeprefix("USAGE_KIND_").lower() for name, number in usage_pb2.UsageKind.items()}

#: Models of which prices are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED: Final = 1_024


class Prices:
    """Prices of models.

    Args:
        configuration: gives the configuration in force; its prices go before the list's.
        listings: where providers' published prices are, by their names.
        where: tells where a provider runs a model, as far as that is known before it says so itself; empty: not.
        now: the time, for which prices are told where no other is asked for.

    Attributes:
        list: the published prices.
    """

    def __init__(
        self,
        configuration: Callable[[], PlatformConfiguration],
        listings: Mapping[str, PriceListing],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        where: Callable[[str, str], str] = lambda *_: "",
    ) -> None:
        self._configuration = configuration
        self._where = where
        self._now = now
        self.list = PriceList(listings)
        self._known = _Known(configuration())

    def estimate(self, provider: str, model: str, input_tokens: int, output_tokens: int) -> Decimal | None:
        """Return what so many tokens would cost in US dollars, without caches; None: no price is known."""
        asked_for = _Asked(provider, model, region=self._region(provider, model))
        rates = self._pricing(asked_for, self._now()).rates
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
        cost = usage_pb2.Cost()
        versions: set[str] = set()
        unknown = not usage.items
        tier, speed, region = _ordinary(_tier(usage.service_tier)), _ordinary(usage.speed.lower()), usage.region.lower()
        region = region or self._region(provider, model)
        for other in dict.fromkeys([item.model for item in usage.items]):
            asked = (provider, other or model, "" if other else served, tier, speed, region)
            pricing = self._pricing(_Asked(*asked), at)
            items = [item for item in usage.items if item.model == other]
            for priced, quantity in pricing.of(items, with_fee=not other):
                if priced is None or not priced.add_to(cost, quantity):
                    unknown = True
                else:
                    versions.update((priced.rate.version or self.list.version).split(", "))
        cost.status = usage_pb2.COST_STATUS_UNPRICED if unknown else usage_pb2.COST_STATUS_ESTIMATED
        cost.price_version = ", ".join(sorted(versions, key=lambda version: (version == self.list.version, version)))
        return cost

    def _region(self, provider: str, model: str) -> str:
        """Return where a model runs, where its provider has not said so."""
        regions = self._known_now().regions
        region = regions.get((provider, model))
        if region is None:
            region = regions[provider, model] = self._where(provider, model).lower()
            if len(regions) > _REMEMBERED:
                del regions[next(iter(regions))]
        return region

    def _known_now(self) -> _Known:
        configuration = self._configuration()
        if configuration is not self._known.configuration:
            self._known = _Known(configuration)
        return self._known

    def _pricing(self, asked: _Asked, at: datetime) -> _Pricing:
        """Return the prices of a model at a time."""
        configuration = self._known_now().configuration
        known = self._known.models.get(asked)
        if known is None:
            known = self._look_up(configuration, asked)
            if len(self._known.models) >= _REMEMBERED:
                del self._known.models[next(iter(self._known.models))]
            self._known.models[asked] = known
        entry = entry_at(known.entries, at) if known.entries else None
        key = (id(entry), None if known.found is None else known.found.phase(at))
        pricing = known.pricings.get(key)
        if pricing is None:
            if len(known.pricings) >= _REMEMBERED:
                known.pricings.clear()
            pricing = known.pricings[key] = _Pricing(self._rates(asked, known, entry, at))
        return pricing

    def _look_up(self, configuration: PlatformConfiguration, asked: _Asked) -> _Model:
        names = list(filter(None, (asked.model, asked.served)))
        facts = next(filter(None, (configuration.models.get(f"{asked.provider}/{name}") for name in names)), None)
        # The provider's bill is for the model that served; an operator's prices are for the name that is asked for.
        return _Model(
            entries_of(configuration, asked.provider, *names), facts, self.list.find(asked.provider, names[::-1])
        )

    def _rates(self, asked: _Asked, known: _Model, entry: PriceSettings | None, at: datetime) -> Rates:
        words = asked.words()
        declared = None if entry is None else declared_of(entry, words, asked.region)
        all_declared = tuple(filter(None, (declared, facts_declared(known.facts))))
        listing = self.list.listing(asked.provider)
        factor = Decimal(1) if known.found is None else _region_factor(asked, listing, known.found, declared)
        listed = None
        if factor is not None and known.found is not None:
            listed = known.found.prices(at, words if declared is None else declared.listed_words)
        if declared is not None:
            factor = (factor or Decimal(1)) * declared.factor
        marks = "" if declared is None else declared.marks(self.list.version)
        return Rates(listing, listed, all_declared, factor or Decimal(1), marks)


class _Asked(NamedTuple):
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
    pricings: dict[object, _Pricing] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Known:
    """What follows from one configuration and is remembered while it is in force."""

    configuration: PlatformConfiguration
    models: dict[_Asked, _Model] = field(default_factory=dict)
    regions: dict[tuple[str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Priced:
    """A price, and the line that it makes: filling a copy in takes a fifth of the time that making one does."""

    rate: Rate
    line: usage_pb2.CostLine

    def add_to(self, cost: usage_pb2.Cost, quantity: int) -> bool:
        """Add a line for so many. Returns whether it can be told at all."""
        try:
            nanos = self.rate.amount(quantity)
        except UnknownPriceError:
            return False
        line = cost.lines.add()
        line.CopyFrom(self.line)
        line.amount.nanos = nanos
        line.quantity = quantity
        if line.HasField("item"):
            line.item.quantity = quantity
        return True


@dataclass(slots=True)
class _Pricing:
    """The prices of one model at a time, and the lines that they make as far as they were asked for."""

    rates: Rates
    lines: dict[object, _Priced | None] = field(default_factory=dict)

    def of(self, items: list[usage_pb2.UsageItem], *, with_fee: bool) -> Iterator[tuple[_Priced | None, int]]:
        """Yield the price of each item of a model, None: it has none; then the fee of a request, if there is one."""
        prompt = sum(
            [item.quantity for item in items if item.kind in PROMPT and item.unit == usage_pb2.USAGE_UNIT_TOKEN]
        )
        band = self.rates.band(prompt)
        for item in items:
            key = (item.kind, item.modality, item.cache_ttl.seconds, item.tool, item.unit, item.model, band)
            if key not in self.lines:
                if len(self.lines) >= _REMEMBERED:
                    self.lines.clear()
                self.lines[key] = self._priced(item, prompt)
            yield self.lines[key], item.quantity
        if with_fee:
            if None not in self.lines:
                fee = self.rates.of_request()
                self.lines[None] = None if fee is None else _Priced(fee, _line(fee, None))
            if self.lines[None] is not None:
                yield self.lines[None], 1

    def _priced(self, item: usage_pb2.UsageItem, prompt: int) -> _Priced | None:
        try:
            rate = self.rates.of_item(item, prompt)
        except UnknownPriceError:
            return None
        return _Priced(rate, _line(rate, item))


def _region_factor(asked: _Asked, listing: PriceListing, found: Found, declared: Declared | None) -> Decimal | None:
    """Return what a region makes of the list's prices; None: nobody knows."""
    regions = listing.regions(found.model.id)
    if regions is None or (declared is not None and declared.says_region):
        return Decimal(1)
    return regions.get(asked.region)


def _ordinary(word: str) -> str:
    """Return a word for a tier or speed; nothing for the ordinary one."""
    return "" if word in ORDINARY else word


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


def _line(rate: Rate, item: usage_pb2.UsageItem | None) -> usage_pb2.CostLine:
    """Return the line of an item, or of a request, without amount and quantity."""
    return usage_pb2.CostLine(
        amount=common_pb2.Money(currency_code="USD"),
        source=usage_pb2.COST_SOURCE_CONFIGURATION if rate.version else usage_pb2.COST_SOURCE_LIST_PRICE,
        description="request" if item is None else _description(item),
        price=rate.price(),
        per_quantity=rate.per,
        item=item,
    )
