"""A server that speaks OpenAI's formats, as one row of data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.spi import (
    Adapter,
    CapabilityRow,
    PriceListing,
    ProviderConfig,
    ProviderOption,
    ProviderSpec,
)

__all__ = ["API_OPTION", "Row"]

#: For servers that have both formats.
API_OPTION = ProviderOption(
    "api", "Which of OpenAI's formats is spoken: `chat` (Chat Completions), `responses`, or `auto`.", "auto"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One server.

    Attributes:
        dialect: how it speaks; the provider's name is the dialect's.
        display_name: for people.
        base_url: its published address; empty: the operator must name one.
        needs_key: it refuses requests without a key.
        default_model: a name that its operators keep valid; empty: there is none.
        rank: place in the automatic choice; None: never chosen so.
        options: its further settings.
        prices: where its published prices are; None: it publishes none.
    """

    dialect: Dialect
    display_name: str
    base_url: str = ""
    needs_key: bool = True
    default_model: str = ""
    rank: int | None = None
    options: tuple[ProviderOption, ...] = ()
    prices: PriceListing | None = None

    def spec(self, capabilities: tuple[CapabilityRow, ...] = ()) -> ProviderSpec:
        """Return the row as a provider, with what its models can do."""
        return ProviderSpec(
            name=self.dialect.provider,
            display_name=self.display_name,
            family=self.dialect.family,
            create=self.create,
            default_model=self.default_model,
            needs_key=self.needs_key,
            default_base_url=self.base_url,
            needs_base_url=not self.base_url,
            options=self.options,
            capabilities=capabilities,
            automatic_rank=self.rank,
            price_listing=self.prices,
        )

    def create(self, config: ProviderConfig) -> Adapter:
        """Make the adapter."""
        from execution_platform.adapters.openai_api.adapter import OpenAIAdapter  # noqa: PLC0415 - see ProviderSpec

        return OpenAIAdapter(self.dialect, dataclasses.replace(config, base_url=config.base_url or self.base_url))
