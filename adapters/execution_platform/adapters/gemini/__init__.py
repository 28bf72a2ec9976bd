"""Google's Gemini models through the Gemini API."""

from execution_platform.adapters.gemini.adapter import DEFAULT_API_VERSION, DEFAULT_BASE_URL, GeminiAdapter
from execution_platform.adapters.gemini.models import DEFAULT_MODEL, MODELS
from execution_platform.adapters.gemini.parts import FAMILY
from execution_platform.adapters.spi import ProviderOption, ProviderSpec

__all__ = ["PROVIDERS", "GeminiAdapter"]

PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="gemini",
        display_name="Google Gemini",
        family=FAMILY,
        create=GeminiAdapter,
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
        automatic_rank=30,
    ),
)
