"""What is known of the models at Bedrock: which there are, and what each one can do."""

from __future__ import annotations

from execution_platform.adapters.bedrock.families import FAMILIES, UNLISTED, ModelFacts, Thinks
from execution_platform.adapters.bedrock.regions import model_name
from execution_platform.adapters.capabilities import Set, context_windows, named
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.spi import CapabilityRow, KnownModel

__all__ = ["CAPABILITIES", "FAMILY", "KNOWN_MODELS", "facts_of"]

FAMILY = "bedrock"
"""Whom the opaque state of Bedrock's answers belongs to."""

_AS_OF = "2026-11-21"
_SIZES = "genai-prices 0.2.3"

_BY_LENGTH = sorted(FAMILIES, key=lambda facts: -len(facts.stem))


def facts_of(model: str) -> ModelFacts:
    """Return what is known of a model, under any of its names; UNLISTED: nothing."""
    try:
        name = model_name(model).model.lower()
    except InvalidRequestError:
        return UNLISTED
    return next((facts for facts in _BY_LENGTH if name.startswith(facts.stem)), UNLISTED)


def _thinks(facts: ModelFacts) -> bool | None:
    return None if facts.thinks is Thinks.UNKNOWN else facts.thinks is not Thinks.NEVER


def _said(facts: ModelFacts, what: bool | None) -> Set:
    """Return the capabilities of which the facts say this."""
    told = {
        "tools": facts.tools,
        "parallel_tools": facts.parallel,
        "thinking": _thinks(facts),
        "structured_output": facts.schemas,
        "image_input": facts.images,
        "pdf_input": facts.documents,
        "audio_input": facts.audio,
        "prompt_caching": facts.caches,
    }
    return named(*(name for name, value in told.items() if value is what))


def _row(facts: ModelFacts) -> CapabilityRow:
    return CapabilityRow(
        # The stem is found behind a region, a geography or an ARN, too.
        models=(f"*{facts.stem}*",),
        supported=_said(facts, what=True),
        unsupported=_said(facts, what=False),
        unknown=_said(facts, what=None),
        context_window=facts.window,
        max_output_tokens=facts.most_output,
        source=facts.source,
        as_of=_AS_OF,
    )


#: Most tokens that models read, by parts of their names.
_SIZED: tuple[tuple[int, tuple[str, ...]], ...] = (
    (
        8_192,
        (
            "meta.llama3-70b-instruct",
            "meta.llama3-8b-instruct",
        ),
    ),
    (
        32_000,
        (
            "mistral.mistral-7b-instruct-v0",
            "mistral.mistral-large-2402",
            "mistral.mistral-small-2402",
            "mistral.mixtral-8x7b-instruct-v0",
            "mistral.voxtral-mini-3b-2507",
            "mistral.voxtral-small-24b-2507",
            "qwen.qwen3-32b",
        ),
    ),
    (
        128_000,
        (
            "amazon.nova-micro",
            "deepseek.r1",
            "google.gemma-3-12b-it",
            "google.gemma-3-27b-it",
            "google.gemma-3-4b-it",
            "meta.llama3-1-70b-instruct",
            "meta.llama3-1-8b-instruct",
            "meta.llama3-2-11b-instruct",
            "meta.llama3-2-1b-instruct",
            "meta.llama3-2-3b-instruct",
            "meta.llama3-2-90b-instruct",
            "meta.llama3-3-70b-instruct",
            "mistral.magistral-small-2509",
            "mistral.ministral-3-14b-instruct",
            "mistral.ministral-3-3b-instruct",
            "mistral.ministral-3-8b-instruct",
            "mistral.pixtral-large-2502",
            "nvidia.nemotron-nano-9b-v2",
            "openai.gpt-oss-120b-1",
            "openai.gpt-oss-20b-1",
            "qwen.qwen3-coder-480b-a35b",
            "writer.palmyra-x4",
        ),
    ),
    (
        200_000,
        (
            "anthropic.claude-3-5-haiku-20241022",
            "anthropic.claude-3-5-sonnet-20240620",
            "anthropic.claude-3-5-sonnet-20241022",
            "anthropic.claude-3-7-sonnet-20250219",
            "anthropic.claude-3-haiku-20240307",
            "anthropic.claude-3-opus-20240229",
            "anthropic.claude-3-sonnet-20240229",
            "anthropic.claude-haiku-4-5-20251001",
            "anthropic.claude-opus-4-1-20250805",
            "anthropic.claude-opus-4-20250514",
            "anthropic.claude-opus-4-5",
            "anthropic.claude-sonnet-4-20250514",
            "anthropic.claude-sonnet-4-5-20250929",
        ),
    ),
    (
        256_000,
        (
            "mistral.devstral-2-123b",
            "mistral.mistral-large-3-675b-instruct",
            "nvidia.nemotron-nano-3-30b",
            "nvidia.nemotron-super-3-120b",
            "qwen.qwen3-coder-30b-a3b",
            "qwen.qwen3-vl-235b-a22b",
        ),
    ),
    (
        300_000,
        (
            "amazon.nova-lite",
            "amazon.nova-pro",
        ),
    ),
    (
        1_000_000,
        (
            "amazon.nova-premier",
            "anthropic.claude-fable-5",
            "anthropic.claude-fable-5-1",
            "anthropic.claude-fable-5-2",
            "anthropic.claude-haiku-5-5",
            "anthropic.claude-mythos-5-2",
            "anthropic.claude-opus-4-6",
            "anthropic.claude-opus-4-7",
            "anthropic.claude-opus-4-8",
            "anthropic.claude-opus-5",
            "anthropic.claude-opus-5-5",
            "anthropic.claude-sonnet-4-6",
            "anthropic.claude-sonnet-5",
            "anthropic.claude-sonnet-5-5",
            "global.zai.glm-5.3",
            "meta.llama4-maverick-17b-instruct",
            "moonshotai.kimi-k3",
            "us.zai.glm-5.3",
        ),
    ),
    (10_000_000, ("meta.llama4-scout-17b-instruct",)),
)

CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming"),
        unsupported=named("seed", "logprobs"),
        source="botocore 1.44.5: data/bedrock-runtime/2023-09-30/service-2.json",
        as_of=_AS_OF,
    ),
    *(_row(facts) for facts in FAMILIES),
    *context_windows(_SIZES, _AS_OF, *((size, tuple(f"*{stem}*" for stem in stems)) for size, stems in _SIZED)),
)
"""What the models can do. Embeddings and batches have other functions at Bedrock, and nothing is said of them."""


def _known(name: str, display: str) -> KnownModel:
    return KnownModel(name, display)


KNOWN_MODELS: tuple[KnownModel, ...] = (
    _known("global.anthropic.claude-opus-5-5", "Claude Opus 5.5"),
    _known("global.anthropic.claude-sonnet-5-5", "Claude Sonnet 5.5"),
    _known("global.anthropic.claude-haiku-5-5", "Claude Haiku 5.5"),
    _known("global.anthropic.claude-fable-5-2", "Claude Fable 5.2"),
    _known("global.anthropic.claude-opus-5", "Claude Opus 5"),
    _known("global.anthropic.claude-sonnet-5", "Claude Sonnet 5"),
    _known("global.anthropic.claude-opus-4-8", "Claude Opus 4.8"),
    _known("global.anthropic.claude-sonnet-4-6", "Claude Sonnet 4.6"),
    _known("global.anthropic.claude-sonnet-4-5-20250929-v1:0", "Claude Sonnet 4.5"),
    _known("global.anthropic.claude-haiku-4-5-20251001-v1:0", "Claude Haiku 4.5"),
    _known("global.amazon.nova-2-lite-v1:0", "Nova 2 Lite"),
    _known("amazon.nova-pro-v1:0", "Nova Pro"),
    _known("amazon.nova-lite-v1:0", "Nova Lite"),
    _known("amazon.nova-micro-v1:0", "Nova Micro"),
    _known("us.amazon.nova-premier-v1:0", "Nova Premier"),
    _known("us.meta.llama4-maverick-17b-instruct-v1:0", "Llama 4 Maverick 17B"),
    _known("us.meta.llama4-scout-17b-instruct-v1:0", "Llama 4 Scout 17B"),
    _known("us.meta.llama3-3-70b-instruct-v1:0", "Llama 3.3 70B"),
    _known("mistral.mistral-large-3-675b-instruct", "Mistral Large 3"),
    _known("mistral.ministral-3-14b-instruct", "Ministral 3 14B"),
    _known("us.mistral.pixtral-large-2502-v1:0", "Pixtral Large"),
    _known("us.deepseek.r1-v1:0", "DeepSeek-R1"),
    _known("qwen.qwen3-32b-v1:0", "Qwen3 32B"),
    _known("qwen.qwen3-coder-480b-a35b-v1:0", "Qwen3 Coder 480B"),
    _known("openai.gpt-oss-120b-1:0", "gpt-oss-120b"),
    _known("openai.gpt-oss-20b-1:0", "gpt-oss-20b"),
    _known("google.gemma-3-27b-it", "Gemma 3 27B"),
    _known("minimax.minimax-m2", "MiniMax M2"),
    _known("global.moonshotai.kimi-k3", "Kimi K3"),
    _known("zai.glm-4.7-flash", "GLM 4.7 Flash"),
    _known("nvidia.nemotron-super-3-120b:0", "Nemotron 3 Super"),
    _known("writer.palmyra-x5-v1:0", "Palmyra X5"),
    _known("cohere.command-r-plus-v1:0", "Command R+"),
    _known("ai21.jamba-1-5-large-v1:0", "Jamba 1.5 Large"),
)
"""Models that are told without asking Bedrock. Where one is only reached through a profile, one that reaches most."""
