"""Google's Gemini models through the Gemini API."""

from execution_platform.adapters.gemini.models import (
    CAPABILITIES,
    DEFAULT_API_VERSION,
    DEFAULT_BASE_URL,
    DEFAULT_MODEL,
    MODELS,
)
from execution_platform.adapters.spi import Adapter, PriceListing, ProviderConfig, ProviderOption, ProviderSpec

__all__ = ["PROVIDERS"]


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.gemini.adapter import GeminiAdapter  # noqa: PLC0415 - see ProviderSpec

    return GeminiAdapter(config)


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="gemini",
        display_name="Google Gemini",
        family="gemini",
        create=_create,
        default_model=DEFAULT_MODEL,
        default_base_url=DEFAULT_BASE_URL,
        options=(
            ProviderOption(
                name="api_version",
                description="Version of the Gemini API. Previews and the *-latest models exist only in v1beta.",
                default=DEFAULT_API_VERSION,
            ),
        ),
        models=MODELS,
        capabilities=CAPABILITIES,
        automatic_rank=30,
        price_listing=PriceListing("google"),
    ),
)
