"""What the configuration says models cost: which entry holds for a chat, and its prices for a tier and a region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Final

from execution_platform.server.config.personas import ModelFacts, PlatformConfiguration
from execution_platform.server.config.prices import PriceSettings, PriceTier, SpecialPrices, TokenPrices, matches

__all__ = ["NAMES", "Declared", "declared_of", "entries_of", "entry_at", "facts_declared"]

#: The price list's names of the prices that an entry may give; `cache_writes` have names of their own.
NAMES: Final[Mapping[str, str]] = {
    "input": "input_mtok",
    "output": "output_mtok",
    "cache_read": "cache_read_mtok",
    "cache_write": "cache_write_mtok",
    "cache_write_1h": "cache_write_1h_mtok",
    "reasoning": "output_reasoning_mtok",
    "input_audio": "input_audio_mtok",
    "input_image": "input_image_mtok",
    "input_video": "input_video_mtok",
    "cache_read_audio": "cache_audio_read_mtok",
    "cache_read_image": "cache_image_read_mtok",
    "output_audio": "output_audio_mtok",
    "output_image": "output_image_mtok",
    "output_video": "output_video_mtok",
}

#: A price for prompts of more tokens than this, the least first.
Bands = tuple[tuple[int, Decimal], ...]


@dataclass(frozen=True, slots=True)
class Declared:
    """Prices of one model, for the tier, speed and region of a usage.

    Attributes:
        version: what a cost says of where they are from.
        prices: of a million tokens, by the list's names.
        covers_all: its prices of input and output are those of every token of their side, whatever it is.
        tools: of a thousand calls, by name.
        request: of each request; None: it says nothing.
        factor: what prices of tokens are multiplied with that it does not give itself.
        listed_words: words for tiers and speeds that the list's prices have to be for.
        says_region: the factor is also that of the region.
    """

    version: str
    prices: Mapping[str, Bands]
    covers_all: bool = False
    tools: Mapping[str, Decimal] = field(default_factory=dict)
    request: Decimal | None = None
    factor: Decimal = Decimal(1)
    listed_words: tuple[str, ...] = ()
    says_region: bool = False

    def marks(self, listed: str) -> str:
        """Return what a cost says of prices of a list, of this version, that are multiplied here; empty: none are."""
        return f"{self.version}, {listed}" if self.factor != 1 else ""

    def of(self, whole: str, names: Iterable[str], prompt_tokens: int) -> Decimal | None:
        """Return the first of some prices that is given; None: none is.

        Args:
            whole: name of the price of the whole side.
            names: of the prices that will do, the most exact first.
            prompt_tokens: of the whole prompt.
        """
        for name in (whole,) if self.covers_all else names:
            price = None
            for above, each in self.prices.get(name, ()):
                if prompt_tokens > above:
                    price = each
            if price is not None:
                return price
        return None


def entries_of(configuration: PlatformConfiguration, provider: str, *models: str) -> tuple[PriceSettings, ...]:
    """Return the entries for the first of some names of a model that has any, whenever they hold; whole names first."""
    own = [entry for entry in configuration.prices if entry.provider == provider]
    for model in filter(None, models):
        found = [entry for entry in own if matches(entry.model, model)]
        if found:
            return tuple(sorted(found, key=lambda entry: "*" in entry.model))
    return ()


def entry_at(entries: Iterable[PriceSettings], at: datetime) -> PriceSettings | None:
    """Return the first entry that holds at a time; None: none does."""
    for entry in entries:
        if (entry.since is None or entry.since <= at) and (entry.until is None or at < entry.until):
            return entry
    return None


def declared_of(entry: PriceSettings, words: tuple[str, ...], region: str) -> Declared | None:
    """Return an entry's prices for a usage; None: it says nothing of its tier or speed.

    What a tier says goes before what the region says, and that before what the entry says of all; a factor is for
    what comes from behind it.

    Args:
        entry: of the configuration.
        words: tier and speed in lower case, without those that are ordinary.
        region: in lower case; empty: not told.
    """
    tiers = {name.lower(): special for name, special in entry.service_tiers.items()}
    if not all(word in tiers for word in words):
        return None
    special = [tiers[word] for word in words]
    placed = next((each for name, each in entry.regions.items() if name.lower() == region), None)
    layers: list[SpecialPrices] = [*special, *([placed] if placed is not None else [])]
    prices: dict[str, Bands] = {}
    factor = Decimal(1)
    for layer in layers:
        _lay(prices, layer, layer.tiers, factor)
        factor *= Decimal(1) if layer.factor is None else layer.factor
    _lay(prices, entry, entry.tiers, factor)
    return Declared(
        entry.told_version(),
        prices,
        tools=entry.tools,
        request=entry.request,
        factor=factor,
        listed_words=tuple(word for word in words if tiers[word].factor is None),
        says_region=placed is not None and placed.factor is not None,
    )


def facts_declared(facts: ModelFacts | None) -> Declared | None:
    """Return the prices that stand at `models`: of every token of prompt and answer; None: there are none."""
    if facts is None:
        return None
    given = {"input_mtok": facts.input_price, "output_mtok": facts.output_price}
    prices: dict[str, Bands] = {name: ((-1, price),) for name, price in given.items() if price is not None}
    if not prices:
        return None
    as_entry = PriceSettings(provider="*", model="*", input=facts.input_price, output=facts.output_price)
    return Declared(as_entry.told_version(), prices, covers_all=True)


def _lay(prices: dict[str, Bands], layer: TokenPrices, tiers: tuple[PriceTier, ...], factor: Decimal) -> None:
    """Add what a layer gives and the ones before it do not."""
    found: dict[str, list[tuple[int, Decimal]]] = {}
    for above, each in ((-1, layer), *((tier.above, tier) for tier in tiers)):
        for name, price in _given(each):
            found.setdefault(name, []).append((above, price * factor))
    for name, bands in found.items():
        prices.setdefault(name, tuple(bands))


def _given(layer: TokenPrices) -> Iterator[tuple[str, Decimal]]:
    for name, listed in NAMES.items():
        price = getattr(layer, name)
        if price is not None:
            yield listed, price
    for seconds, price in layer.lifetimes().items():
        yield f"cache_write_{seconds}s_mtok", price
