"""What is known of OpenAI's models without asking, as data.

Names: openai 3.52, types/shared/chat_model.py and responses_model.py. Sizes: developers.openai.com/api/docs/models,
read in November 2026, and for the newest the pages of other sellers; None where neither says. What models refuse: the
same pages, and the migration guide of GPT-6.
"""

from __future__ import annotations

from execution_platform.adapters.openai_api.dialect import OPENAI_PLACES, Dialect, ModelRule
from execution_platform.adapters.spi import KnownModel

__all__ = ["DEFAULT_MODEL", "DIALECT", "KNOWN_MODELS"]

#: The general one of the newest family: Astra is five times its price, Terra and Luna are its small ones.
DEFAULT_MODEL = "gpt-6.1-sol"

#: Models that only Chat Completions has, or has complete: audio, the search previews, and what is older than Responses.
_CHAT_ONLY = (
    "chatgpt-4o-latest",
    "ft:gpt-3.5-*",
    "gpt-3.5-*",
    "gpt-4",
    "gpt-4-*",
    "gpt-4o-audio-preview*",
    "gpt-4o-mini-audio-preview*",
    "gpt-4o-mini-search-preview*",
    "gpt-4o-search-preview*",
    "gpt-audio*",
    "o1-mini*",
    "o1-preview*",
)

#: Models that do not reason.
_PLAIN = ("chatgpt-*", "ft:gpt-3.5-*", "ft:gpt-4*", "gpt-3.5-*", "gpt-4*", "gpt-5-chat-latest", "gpt-audio*")

#: Models that reason and take no sampling options, unless they are told not to reason.
_REASONING = (
    "codex-*",
    "gpt-5",
    "gpt-5-2025-*",
    "gpt-5-codex*",
    "gpt-5-mini*",
    "gpt-5-nano*",
    "gpt-5-pro*",
    "gpt-5.5*",
    "gpt-5.6*",
    "gpt-6*",
    "o1*",
    "o3*",
    "o4-*",
)

#: Models of those that cannot be told not to reason.
_ALWAYS_REASONING = (
    "codex-*",
    "gpt-5",
    "gpt-5-2025-*",
    "gpt-5-codex*",
    "gpt-5-mini*",
    "gpt-5-nano*",
    "gpt-5*-pro*",
    "gpt-6-astra*",
    "gpt-6.1-sol*",
    "o1*",
    "o3*",
    "o4-*",
)

#: Models that are older than cache breakpoints and ``prompt_cache_options``, which came with gpt-5.6.
_IMPLICIT_CACHE = (*_PLAIN, "codex-*", "computer-use-*", "gpt-5", "gpt-5-*", "gpt-5.[1-5]*", "o1*", "o3*", "o4-*")

DIALECT = Dialect(
    provider="openai",
    family="openai",
    api="responses",
    rules=(
        ModelRule(models=_CHAT_ONLY, api="chat", system_role="system"),
        ModelRule(models=_PLAIN, unsupported=frozenset({"reasoning", "reasoning.effort"})),
        ModelRule(
            models=_REASONING,
            unsupported=frozenset({"sampling.temperature", "sampling.top_p", "sampling.logprobs"}),
        ),
        ModelRule(models=_ALWAYS_REASONING, unsupported=frozenset({"reasoning.enabled"})),
        ModelRule(models=_IMPLICIT_CACHE, unsupported=frozenset({"cache_hint"})),
    ),
    places=OPENAI_PLACES,
    system_role="developer",
    media=frozenset({"image", "audio", "file", "file_id"}),
    allowed_tools=True,
    custom_tools=True,
    cache_breakpoints="openai",
    breakpoint_ttls={30 * 60: "30m", 12 * 3600: "12h"},
    cache_ttls={30 * 60: "30m", 12 * 3600: "12h"},
    cache_off={"prompt_cache_options": {"mode": "explicit"}},
    reasoning_off={"reasoning_effort": "none"},
    stream_audio_format="pcm16",
    replay_annotations=True,
)


def _known(names: str, context_window: int | None, max_output_tokens: int | None) -> list[KnownModel]:
    return [KnownModel(name, _display_name(name), context_window, max_output_tokens) for name in names.split()]


def _display_name(name: str) -> str:
    head, _, rest = name.partition("-")
    if head != "gpt":
        return name
    number, *words = rest.split("-")
    return " ".join([f"GPT-{number}", *(word.capitalize() for word in words)])


KNOWN_MODELS: tuple[KnownModel, ...] = (
    *_known("gpt-6.1-sol gpt-6-astra gpt-6-sol gpt-6-luna", 1_050_000, 128_000),
    *_known("gpt-6.1-terra", None, None),
    *_known("gpt-5.6-sol gpt-5.6-terra gpt-5.6-luna gpt-5.5 gpt-5.5-pro gpt-5.4", 1_050_000, 128_000),
    *_known("gpt-5.4-mini gpt-5.4-nano gpt-5.2 gpt-5.2-pro gpt-5.1 gpt-5.1-codex gpt-5.1-codex-max", 400_000, 128_000),
    *_known("gpt-5 gpt-5-mini gpt-5-nano gpt-5-codex", 400_000, 128_000),
    *_known("gpt-5-pro", 400_000, 272_000),
    *_known("gpt-5.3-chat-latest gpt-5.2-chat-latest gpt-5.1-chat-latest gpt-5-chat-latest", 128_000, 16_384),
    *_known("gpt-4.1 gpt-4.1-mini gpt-4.1-nano", 1_047_576, 32_768),
    *_known("gpt-4o gpt-4o-mini gpt-4o-search-preview gpt-4o-mini-search-preview", 128_000, 16_384),
    *_known("gpt-4o-audio-preview gpt-4o-mini-audio-preview gpt-audio-mini", 128_000, 16_384),
    *_known("o4-mini o3 o3-pro o3-mini o1 o1-pro o3-deep-research o4-mini-deep-research", 200_000, 100_000),
    *_known("codex-mini-latest", 200_000, 100_000),
    *_known("computer-use-preview", 8_192, 1_024),
    *_known("gpt-4-turbo", 128_000, 4_096),
    *_known("gpt-4", 8_192, 8_192),
    *_known("gpt-3.5-turbo", 16_385, 4_096),
)
