"""Anthropic: Claude through the Messages API."""

from execution_platform.adapters.anthropic.adapter import DEFAULT_BASE_URL, AnthropicAdapter
from execution_platform.adapters.anthropic.models import DEFAULT_MODEL, KNOWN_MODELS
from execution_platform.adapters.anthropic.stream import FAMILY
from execution_platform.adapters.spi import ProviderSpec

__all__ = ["PROVIDERS", "AnthropicAdapter"]

PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="anthropic",
        display_name="Anthropic",
        family=FAMILY,
        create=AnthropicAdapter,
        default_model=DEFAULT_MODEL,
        default_base_url=DEFAULT_BASE_URL,
        models=KNOWN_MODELS,
        automatic_rank=10,
    ),
)
