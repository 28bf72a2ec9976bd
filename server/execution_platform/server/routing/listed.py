"""The published prices: those inside the installed package `genai-prices`. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from importlib import metadata
from typing import TYPE_CHECKING, Final

from execution_platform.adapters.spi import PriceListing

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, Provider

__all__ = ["Found", "Listed", "PriceList"]

#: Prices of long prompts that ended with the beta which they were of, though the list goes on with them: what is longer
#: since then is the sum of several requests within one answer. Source: the list's own comment; platform.claude.com,
#: the page of Claude Sonnet 4.5 (200,000 tokens, one price), read 2026-11-21.
_TIERS_END: Final = {("anthropic", "claude-sonnet-4-5"): datetime(2026, 4, 30, tzinfo=UTC)}

#: What the list lacks: the first version of OpenAI's search, which costs more with models that do not reason, in US
#: dollars for a thousand calls. Source: developers.openai.com/api/docs/pricing, as quoted at community.openai.com, read
#: 2026-11-21.
_PREVIEW: Final = "web_search_preview"
_PREVIEW_PRICES: Final = (("gpt-4o", Decimal(25)), ("gpt-4.1", Decimal(25)), ("", Decimal(10)))
_TOOLS: Final = {"web_search": "web_searches_kcount", "file_search": "storage_searches_kcount"}
#: Searches that the list leaves out. Source: docs.x.ai/developers/pricing, prices of tools, as recorded answers state
#: them.
_TOOLS_OF_ALL: Final = {("x-ai", "web_search"): Decimal(5)}


_NOWHERE: Final = PriceListing("")


@dataclass(frozen=True, slots=True)
class Listed:
    """The list's prices of a model, for a time and a tier.

    Attributes:
        prices: as the list has them.
        provider: the list's name of the provider.
        model: the list's name of the model.
        is_its_own: as in :class:`Found`.
        one_price: prompts of any length cost the same.
    """

    prices: ModelPrice
    provider: str = ""
    model: str = ""
    is_its_own: bool = True
    one_price: bool = False

    def bands(self, name: str) -> Iterator[tuple[int, Decimal]]:
        """Yield a price, each with the tokens of a prompt above which it holds: -1, then those of the tiers."""
        price = getattr(self.prices, name, None)
        if isinstance(price, Decimal):
            yield -1, price
        elif price is not None:
            yield -1, price.base
            for tier in () if self.one_price else price.tiers:
                yield tier.start, tier.price

    def names(self) -> list[str]:
        """Return the names of the prices that there are."""
        return list(vars(self.prices))

    def tool(self, tool: str) -> Decimal | None:
        """Return what a thousand calls of a tool cost; None: nobody knows. Other sellers' tools are no maker's."""
        if not self.is_its_own:
            return None
        if tool == _PREVIEW and self.provider == "openai":
            return next(price for start, price in _PREVIEW_PRICES if self.model.startswith(start))
        listed = next((price for _, price in self.bands(_TOOLS.get(tool, ""))), None)
        return _TOOLS_OF_ALL.get((self.provider, tool)) if listed is None else listed

    def tools(self) -> Iterator[tuple[str, Decimal]]:
        """Yield the tools that have a price, with it."""
        for tool in (*_TOOLS, _PREVIEW):
            price = self.tool(tool)
            if price is not None:
                yield tool, price


@dataclass(frozen=True, slots=True)
class Found:
    """A model of the list.

    Attributes:
        model: its entry.
        is_its_own: it is the seller's own entry, rather than that of the model's maker.
        daily: its prices differ by the time of day.
        provider: the list's name of the seller.
    """

    model: ModelInfo
    is_its_own: bool
    daily: bool
    provider: str = ""

    def span(self, at: datetime, words: Sequence[str] = ()) -> tuple[datetime | None, datetime | None]:
        """Return since when and until when the prices of a time hold, as far as that is by the day; None: no such end.

        Args:
            at: the time.
            words: as for :meth:`prices`.
        """
        conditions = [each.constraint for each in self.model.prices] if isinstance(self.model.prices, list) else []
        conditions += [
            each.constraint for each in self.model.price_variants or () if set(words) & set(each.when.values())
        ]
        starts = {getattr(each, "start_date", None) for each in conditions} - {None}
        days = sorted(datetime(start.year, start.month, start.day, tzinfo=UTC) for start in starts if start)
        before, later = [day for day in days if day <= at], [day for day in days if day > at]
        return before[-1] if before else None, later[0] if later else None

    def phase(self, at: datetime) -> object:
        """Return what is equal for times that have the same prices, for all tiers."""
        day = at.astimezone(UTC).toordinal()
        # All other prices begin with a day.
        return (day, id(self.model.get_prices(at))) if self.daily else day

    def prices(self, at: datetime, words: Sequence[str] = ()) -> Listed | None:
        """Return the prices at a time; None: none are known for a tier or speed.

        Args:
            at: when.
            words: the tier and the speed, where they are not the ordinary ones.
        """
        context: dict[str, str] = {}
        for word in words:
            variant = next((each for each in self.variants(at) if word in each.when.values()), None)
            if variant is None:
                return None
            context.update(variant.when)
        end = _TIERS_END.get((self.provider, self.model.id))
        return Listed(
            self.model.get_prices(at, context),
            self.provider,
            self.model.id,
            self.is_its_own,
            one_price=end is not None and at >= end,
        )

    def variants(self, at: datetime) -> list[PriceVariant]:
        """Return the prices of tiers and speeds at a time."""
        # What another seller asks for a tier of the same model says nothing.
        return [
            each
            for each in (self.model.price_variants or () if self.is_its_own else ())
            if len(each.when) == 1
            and set(each.when) <= {"service_tier", "speed", "processing"}
            and (each.constraint is None or each.constraint.active(at))
        ]


class PriceList:
    """The list of the installed package.

    Args:
        listings: where each provider's prices are, by its name. Who is not among them runs on a machine of the
            operator's, or publishes no prices.

    Attributes:
        version: what costs say of where their prices are from.
    """

    def __init__(self, listings: Mapping[str, PriceListing]) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - an eighth of a second, which only servers shall pay

        self._listings = listings
        self._sellers: dict[str, Provider] = {seller.id: seller for seller in providers}
        self.version = f"genai-prices {metadata.version('genai-prices')}"

    def listing(self, provider: str) -> PriceListing:
        """Return where a provider's prices are, and what the list leaves out of them; one of nobody: nowhere."""
        return self._listings.get(provider, _NOWHERE)

    def find(self, provider: str, models: Sequence[str]) -> Found | None:
        """Return the first of some names of a model that the provider itself sells, else that its maker does."""
        listing = self.listing(provider)
        theirs = self._sellers.get(listing.provider)
        if theirs is None:
            return None
        everybody = list(self._sellers.values())
        names = dict.fromkeys(name for model in models for name in listing.names(model))
        found = [theirs.find_model(name, all_providers=everybody) for name in names]
        all_found = [
            Found(each, any(each is own for own in theirs.models), _is_daily(each), theirs.id)
            for each in found
            if each is not None
        ]
        return next((each for each in all_found if each.is_its_own), all_found[0] if all_found else None)

    def found(self, provider: str, model: ModelInfo) -> Found:
        """Return one of :meth:`models`."""
        return Found(model, is_its_own=True, daily=_is_daily(model), provider=self.listing(provider).provider)

    def models(self, provider: str) -> Sequence[ModelInfo]:
        """Return the models that a provider itself sells, as the list has them; none: it is not on the list."""
        theirs = self._sellers.get(self.listing(provider).provider)
        return () if theirs is None else theirs.models


def _is_daily(model: ModelInfo) -> bool:
    prices = model.prices if isinstance(model.prices, list) else []
    constraints = [each.constraint for each in (*prices, *(model.price_variants or ()))]
    return any(each is not None and not hasattr(each, "start_date") for each in constraints)
