"""OpenAI: Responses, and Chat Completions for the models that have only that.

Which API a model gets is decided by its row in ``models.py``; ``EP_OPENAI_API`` (``chat`` or ``responses``) decides it
for all models instead, for example for a server in front of OpenAI that speaks only one of them. There is no choice
by request: both give the same events, so that a caller need not know.
"""

from __future__ import annotations

from execution_platform.adapters.openai.models import CAPABILITIES, DEFAULT_MODEL, DIALECT, KNOWN_MODELS
from execution_platform.adapters.spi import Adapter, PriceListing, ProviderConfig, ProviderOption, ProviderSpec

__all__ = ["PROVIDERS"]

_APIS = ("", "auto", "chat", "responses")


def _create(config: ProviderConfig) -> Adapter:
    from execution_platform.adapters.openai_api.adapter import CountingOpenAIAdapter  # noqa: PLC0415 - see ProviderSpec

    return CountingOpenAIAdapter(DIALECT, config)


def _missing(config: ProviderConfig) -> str:
    api = config.options.get("api", "")
    return "" if api in _APIS else f"EP_OPENAI_API must be auto, chat or responses, not {api!r}"


PROVIDERS: tuple[ProviderSpec, ...] = (
    ProviderSpec(
        name="openai",
        display_name="OpenAI",
        family="openai",
        create=_create,
        default_model=DEFAULT_MODEL,
        default_base_url="https://api.openai.com/v1",
        options=(
            ProviderOption(
                "api", "API to use for all models: chat, responses, or auto: what suits the model best.", "auto"
            ),
            ProviderOption("organization", "Organization that pays, where the key belongs to several."),
            ProviderOption("project", "Project that pays, where the key belongs to several."),
        ),
        models=KNOWN_MODELS,
        capabilities=CAPABILITIES,
        missing=_missing,
        automatic_rank=20,
        price_listing=PriceListing("openai", audio_apart=True),
    ),
)
