"""What is known of OpenAI's models without asking, as data.

Names: openai 3.52, types/shared/chat_model.py and responses_model.py. Sizes: developers.openai.com/api/docs/models,
read in November 2026, and for the newest the pages of other sellers; None where neither says. What models refuse: the
same pages, and the migration guide of GPT-6.
"""

from __future__ import annotations

from execution_platform.adapters.capabilities import context_windows, named
from execution_platform.adapters.openai_api.dialect import OPENAI_PLACES, Dialect, ModelRule
from execution_platform.adapters.spi import CapabilityRow, KnownModel

__all__ = ["CAPABILITIES", "DEFAULT_MODEL", "DIALECT", "KNOWN_MODELS"]

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

#: Models that hear, and those that write and see but do not hear. Of a name that is in neither nothing is assumed.
_HEARING = ("gpt-4o-audio-preview*", "gpt-4o-mini-audio-preview*", "gpt-audio*")
_BLIND = ("gpt-3.5-*", "ft:gpt-3.5-*", "gpt-4", "gpt-4-0*", "gpt-4-32k*", "o3-mini*")
_NEWEST = ("gpt-5", "gpt-5-*", "gpt-5.[1-6]*", "gpt-6-*", "gpt-6.[12]-*")
_SEEING = (
    "computer-use-*",
    "gpt-4-turbo*",
    "gpt-4.1*",
    "gpt-4o",
    "gpt-4o-2*",
    "gpt-4o-mini",
    "gpt-4o-mini-2*",
    *_NEWEST,
    "o1",
    "o1-2*",
    "o1-pro*",
    "o3",
    "o3-2*",
    "o3-pro*",
    "o4-mini",
    "o4-mini-2*",
)

#: Models that are older than schemas of answers; the oldest know no JSON mode either.
_NO_SCHEMAS = ("gpt-3.5-*", "ft:gpt-3.5-*", "gpt-4", "gpt-4-*", "gpt-4o-2024-05-13")
_NO_JSON = ("gpt-4", "gpt-4-0613", "gpt-4-0314", "gpt-4-32k*")

#: Models that cache no prompts.
_NO_CACHE = ("gpt-3.5-*", "ft:gpt-3.5-*", "gpt-4", "gpt-4-*")

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
        ModelRule(models=_NO_CACHE, unsupported=frozenset({"cache.key", "cache.ttl"})),
        ModelRule(models=_NO_SCHEMAS, unsupported=frozenset({"output_format.json_schema"})),
        ModelRule(models=_NO_JSON, unsupported=frozenset({"output_format.json"})),
        ModelRule(models=_HEARING, without_media=frozenset({"image", "document"})),
        ModelRule(models=_BLIND, without_media=frozenset({"image", "document", "audio"})),
        ModelRule(models=_SEEING, without_media=frozenset({"audio"})),
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

_AS_OF = "2026-11-21"
_MODELS = "https://developers.openai.com/api/docs/models"

#: What a model of today's kind can do; a row says what differs.
_GENERAL = named("tools", "parallel_tools", "structured_output", "image_input", "pdf_input", "prompt_caching")
_OLD = named("tools", "parallel_tools", "seed", "logprobs")

#: What OpenAI's models can do as they are spoken to here: mostly through Responses, which takes no seed.
CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming"),
        unsupported=named("seed"),
        source="openai 3.52: types/responses/response_create_params.py",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_NEWEST,
        supported=_GENERAL | named("thinking"),
        unsupported=named("audio_input", "embeddings"),
        source=_MODELS,
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_REASONING,
        unsupported=named("logprobs", "embeddings"),
        source=f"{_MODELS.removesuffix('/models')}/guides/latest-model",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=(
            *("gpt-5", "gpt-5-2025-*", "gpt-5-mini*", "gpt-5-nano*", "gpt-5-pro*", "gpt-5.1", "gpt-5.2", "gpt-5.2-pro"),
            *("gpt-5.4*", "gpt-5.5*", "gpt-5.6*", "gpt-6-*", "gpt-6.1-*", "o1", "o1-pro", "o3", "o3-*", "o4-mini"),
            *("gpt-3.5-turbo*", "gpt-4", "gpt-4-turbo*", "gpt-4.1*", "gpt-4o", "gpt-4o-2*", "gpt-4o-mini*"),
        ),
        supported=named("batch"),
        source="https://developers.openai.com/api/docs/pricing, as genai-prices 0.2.3 read it on 2026-10-14",
        as_of="2026-10-14",
    ),
    CapabilityRow(
        models=("o1", "o1-2*", "o1-pro*", "o3", "o3-2*", "o3-pro*", "o4-mini", "o4-mini-2*"),
        supported=named("tools", "thinking", "structured_output", "image_input", "pdf_input", "prompt_caching"),
        unsupported=named("audio_input"),
        source=_MODELS,
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("o3-mini", "o3-mini-*"),
        supported=named("tools", "thinking", "structured_output", "prompt_caching"),
        unsupported=named("image_input", "pdf_input", "audio_input"),
        source=f"{_MODELS}/o3-mini",
        as_of=_AS_OF,
    ),
    CapabilityRow(models=("o1-pro*",), unsupported=named("streaming"), source=f"{_MODELS}/o1-pro", as_of=_AS_OF),
    CapabilityRow(
        models=("*deep-research*",),
        unknown=named("tools", "parallel_tools", "structured_output", "batch"),
        source=_MODELS,
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("computer-use-*",),
        supported=named("image_input"),
        unsupported=named("audio_input"),
        source=f"{_MODELS}/computer-use-preview",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("codex-mini-*",),
        supported=named("tools", "thinking"),
        source=f"{_MODELS}/codex-mini-latest",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-5-chat-latest",),
        unsupported=named("thinking"),
        source=f"{_MODELS}/gpt-5-chat-latest",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-4.1*", "gpt-4o", "gpt-4o-2*", "gpt-4o-mini", "gpt-4o-mini-2*"),
        supported=_GENERAL | named("logprobs"),
        unsupported=named("thinking", "audio_input", "embeddings"),
        source=_MODELS,
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-4o-2024-05-13",),
        unsupported=named("structured_output"),
        source=f"{_MODELS}/gpt-4o",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-4o-search-preview*", "gpt-4o-mini-search-preview*"),
        unsupported=named("thinking", "embeddings"),
        unknown=named("seed", "batch"),
        source=f"{_MODELS}/gpt-4o-search-preview",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=_HEARING,
        supported=named("tools", "audio_input"),
        unsupported=named("image_input", "pdf_input", "thinking", "embeddings"),
        unknown=named("seed", "batch"),
        source=f"{_MODELS}/gpt-4o-audio-preview",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-4-turbo*",),
        supported=_OLD | named("image_input"),
        unsupported=named("structured_output", "thinking", "audio_input", "prompt_caching", "embeddings"),
        source=f"{_MODELS}/gpt-4-turbo",
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("gpt-3.5-turbo*", "gpt-4", "gpt-4-0*"),
        supported=_OLD,
        unsupported=named("structured_output", "thinking", "image_input", "pdf_input", "audio_input", "prompt_caching")
        | named("embeddings"),
        source=_MODELS,
        as_of=_AS_OF,
    ),
    CapabilityRow(
        models=("text-embedding-*",),
        supported=named("embeddings", "batch"),
        unknown=named("streaming"),
        source=f"{_MODELS}/text-embedding-3-large",
        as_of=_AS_OF,
    ),
    *context_windows("genai-prices 0.2.3", _AS_OF, (1_050_000, ("gpt-6.1-terra",))),
)
