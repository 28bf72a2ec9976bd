"""The published prices: those inside the installed package `genai-prices`. Nothing is fetched."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, PriceVariant, Provider

__all__ = ["Found", "PriceList"]

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


@dataclass(frozen=True, slots=True)
class Found:
    """A model of the list.

    Attributes:
        model: its entry.
        is_its_own: it is the seller's own entry, rather than that of the model's maker.
        daily: its prices differ by the time of day.
    """

    model: ModelInfo
    is_its_own: bool
    daily: bool

    def phase(self, at: datetime) -> object:
        """Return what is equal for times that have the same prices, for all tiers."""
        day = at.astimezone(UTC).toordinal()
        # All other prices begin with a day.
        return (day, id(self.model.get_prices(at))) if self.daily else day

    def prices(self, at: datetime, words: Sequence[str] = ()) -> ModelPrice | None:
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
        return self.model.get_prices(at, context)

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

    Attributes:
        version: what costs say of where their prices are from.
    """

    def __init__(self) -> None:
        from genai_prices.data import providers  # noqa: PLC0415 - an eighth of a second, which only servers shall pay

        self._providers: dict[str, Provider] = {provider.id: provider for provider in providers}
        self.version = f"genai-prices {metadata.version('genai-prices')}"

    def find(self, provider: str, names: Sequence[str]) -> Found | None:
        """Return the first of some names of a model that the provider itself sells, else that its maker does."""
        theirs = self._providers.get(_THEIR_NAMES.get(provider, ""))
        if theirs is None:
            return None
        everybody = list(self._providers.values())
        found = [theirs.find_model(name, all_providers=everybody) for name in names]
        all_found = [
            Found(each, any(each is own for own in theirs.models), _is_daily(each))
            for each in found
            if each is not None
        ]
        return next((each for each in all_found if each.is_its_own), all_found[0] if all_found else None)

    def models(self, provider: str) -> Sequence[ModelInfo]:
        """Return the models that a provider itself sells, as the list has them; none: it is not on the list."""
        theirs = self._providers.get(_THEIR_NAMES.get(provider, ""))
        return () if theirs is None else theirs.models


def _is_daily(model: ModelInfo) -> bool:
    prices = model.prices if isinstance(model.prices, list) else []
    constraints = [each.constraint for each in (*prices, *(model.price_variants or ()))]
    return any(each is not None and not hasattr(each, "start_date") for each in constraints)
