"""Anthropic: Claude through the Messages API, and other servers of that format."""

from execution_platform.adapters.anthropic.models import (
    CAPABILITIES,
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    KNOWN_MODELS,
)
from execution_platform.adapters.price_listings import ANTHROPIC
from execution_platform.adapters.spi import Adapter, ProviderConfig, ProviderOption, ProviderSpec

__all__ = ["PROVIDERS"]


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.anthropic.adapter import AnthropicAdapter  # noqa: PLC0415 - see ProviderSpec

    return AnthropicAdapter(config)


def _missing(config: ProviderConfig) -> str:
    """Anthropic itself needs a key; another server at an address of the operator's may not."""
    elsewhere = config.base_url.rstrip("/") not in {"", DEFAULT_BASE_URL}
    return "" if config.api_key or elsewhere else "set EP_ANTHROPIC_API_KEY"


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="anthropic",
        display_name="Anthropic",
        family="anthropic",
        create=_create,
        default_model=DEFAULT_MODEL,
        needs_key=False,
        default_base_url=DEFAULT_BASE_URL,
        options=(
            ProviderOption(
                name="betas",
                description="names of beta features, separated by commas, that every request asks for",
            ),
        ),
        models=KNOWN_MODELS,
        capabilities=CAPABILITIES,
        missing=_missing,
        automatic_rank=10,
        price_listing=ANTHROPIC,
    ),
)
