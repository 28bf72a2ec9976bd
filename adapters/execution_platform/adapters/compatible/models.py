"""What the servers' models can do, as far as the servers say and their rows let a caller use it. Data only.

A server that runs any model says nothing of models: whether one calls tools or sees pictures is for the operator to
declare. What stands here of such a server is what it does with every model.
"""

from __future__ import annotations

from collections.abc import Mapping

from execution_platform.adapters.capabilities import Set, context_windows, named
from execution_platform.adapters.spi import CapabilityRow

__all__ = ["CAPABILITIES"]

_AS_OF = "2026-11-21"

_STREAMING = named("streaming")
#: What rows without these parts, or without such options, cannot carry.
_ONLY_TEXT = named("image_input", "pdf_input", "audio_input")
_ONLY_IMAGES = named("pdf_input", "audio_input")
_SAMPLING = named("seed", "logprobs")


def _every(supported: Set, unsupported: Set, source: str) -> CapabilityRow:
    return CapabilityRow(supported=_STREAMING | supported, unsupported=unsupported, source=source, as_of=_AS_OF)


def _some(
    models: tuple[str, ...],
    source: str,
    *,
    supported: Set = frozenset(),
    unsupported: Set = frozenset(),
    unknown: Set = frozenset(),
) -> CapabilityRow:
    return CapabilityRow(
        models=models, supported=supported, unsupported=unsupported, unknown=unknown, source=source, as_of=_AS_OF
    )


def _sizes(*sizes: tuple[int, tuple[str, ...]]) -> tuple[CapabilityRow, ...]:
    return context_windows("genai-prices 0.2.3", _AS_OF, *sizes)


#: Rows by provider. Azure's names of models are its customers' names of deployments, which say nothing.
CAPABILITIES: Mapping[str, tuple[CapabilityRow, ...]] = {
    "azure": (_every(frozenset(), frozenset(), "https://learn.microsoft.com/azure/ai-foundry/openai/reference"),),
    "bedrock_mantle": (
        _every(
            frozenset(), named("pdf_input"), "https://docs.aws.amazon.com/bedrock/latest/userguide/bedrock-mantle.html"
        ),
    ),
    "cerebras": (
        _every(
            named("tools", "seed"),
            _ONLY_TEXT | named("embeddings"),
            "https://inference-docs.cerebras.ai/api-reference/chat-completions",
        ),
        _some(
            ("gpt-oss-*",),
            "https://inference-docs.cerebras.ai/capabilities/reasoning",
            supported=named("thinking", "structured_output"),
        ),
        *_sizes(
            (131_072, ("gpt-oss-120b", "zai-glm-4.7", "gemma-4-31b")),
            (128_000, ("llama-3.3-70b",)),
            (32_768, ("llama3.1-8b",)),
        ),
    ),
    "compatible": (
        _every(
            frozenset(),
            _ONLY_IMAGES,
            "https://developers.openai.com/api/reference/resources/chat, as far as nearly every server copies it",
        ),
    ),
    "databricks": (
        _every(
            frozenset(),
            _ONLY_IMAGES | named("seed"),
            "https://docs.databricks.com/aws/en/machine-learning/foundation-model-apis/api-reference",
        ),
    ),
    "deepseek": (
        _every(
            named("tools", "thinking", "prompt_caching"),
            _ONLY_TEXT | named("structured_output", "seed", "embeddings"),
            "https://api-docs.deepseek.com/api/create-chat-completion",
        ),
        *_sizes(
            (1_000_000, ("deepseek-v4-flash", "deepseek-v4-pro", "deepseek-flash")),
            (128_000, ("deepseek-v3.2", "deepseek-v3.2-exp")),
            (64_000, ("deepseek-chat", "deepseek-reasoner")),
        ),
    ),
    "doubleword": (_every(frozenset(), _ONLY_IMAGES, "https://docs.doubleword.ai"),),
    "fireworks": (
        _every(
            named("prompt_caching"),
            _ONLY_IMAGES,
            "https://docs.fireworks.ai/guides/prompt-caching",
        ),
    ),
    "groq": (
        _every(named("tools", "seed"), _ONLY_IMAGES | named("logprobs"), "https://console.groq.com/docs/openai"),
        _some(
            ("openai/gpt-oss-*",),
            "https://console.groq.com/docs/reasoning",
            supported=named("thinking", "structured_output", "prompt_caching", "batch"),
            unsupported=named("embeddings"),
        ),
        *_sizes(
            (131_072, ("openai/gpt-oss-120b", "openai/gpt-oss-20b", "qwen/qwen3-32b", "moonshotai/kimi-k2-instruct"))
        ),
    ),
    "huggingface": (
        _every(frozenset(), _ONLY_IMAGES, "https://huggingface.co/docs/inference-providers/tasks/chat-completion"),
    ),
    "llamacpp": (
        _every(
            named("structured_output", "seed", "logprobs", "prompt_caching"),
            named("pdf_input", "batch"),
            "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        ),
    ),
    "lmstudio": (
        _every(
            named("structured_output", "seed"),
            _ONLY_IMAGES | named("logprobs", "batch"),
            "https://lmstudio.ai/docs/developer/openai-compat/chat-completions",
        ),
    ),
    "mistral": (
        _every(
            named("tools", "parallel_tools", "structured_output", "seed"),
            named("logprobs"),
            "https://docs.mistral.ai/api",
        ),
        _some(
            ("mistral-small*", "mistral-medium*", "mistral-large*"),
            "https://docs.mistral.ai/capabilities/document_ai/document_qna",
            supported=named("image_input", "pdf_input", "batch"),
            unsupported=named("embeddings"),
        ),
        _some(("magistral-*",), "https://docs.mistral.ai/capabilities/reasoning", supported=named("thinking")),
        _some(("voxtral-*",), "https://docs.mistral.ai/capabilities/audio", supported=named("audio_input")),
        _some(
            ("mistral-embed*", "codestral-embed*"),
            "https://docs.mistral.ai/capabilities/embeddings",
            supported=named("embeddings", "batch"),
            unknown=named("streaming", "tools", "parallel_tools", "structured_output", "seed"),
        ),
        *_sizes(
            (1_048_576, ("mistral-large-4",)),
            (262_144, ("mistral-large-2512", "mistral-medium-3-5", "mistral-small-2603", "devstral-2512")),
            (262_144, ("ministral-8b-2512", "ministral-14b-2512")),
            (256_000, ("codestral-2508",)),
            (131_072, ("ministral-3b-2512",)),
            (8_192, ("mistral-embed",)),
        ),
    ),
    "moonshot": (
        _every(
            named("tools", "prompt_caching"),
            _ONLY_IMAGES | _SAMPLING | named("embeddings"),
            "https://platform.moonshot.ai/docs/api/chat",
        ),
        _some(
            ("kimi-k2.5*", "kimi-k2.6*"),
            "https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model",
            supported=named("thinking", "image_input"),
        ),
        _some(
            ("kimi-k2-thinking*",),
            "https://platform.moonshot.ai/docs/guide/use-kimi-k2-thinking-model",
            supported=named("thinking"),
        ),
        *_sizes(
            (1_048_576, ("kimi-k3", "kimi-k3.1-pro")),
            (262_144, ("kimi-k2-0905-preview", "kimi-k2-thinking", "kimi-k2-turbo-preview", "kimi-k2.5", "kimi-k2.6")),
        ),
    ),
    "ollama": (
        _every(
            named("structured_output", "seed", "logprobs"),
            _ONLY_IMAGES | named("batch"),
            "https://docs.ollama.com/api/openai-compatibility",
        ),
    ),
    "openrouter": (
        _every(named("pdf_input"), frozenset(), "https://openrouter.ai/docs/guides/overview/multimodal/pdfs"),
    ),
    "perplexity": (
        _every(
            named("structured_output", "image_input"),
            named("tools", "parallel_tools", "seed", "logprobs", "pdf_input", "audio_input", "embeddings"),
            "https://docs.perplexity.ai/api-reference/chat-completions-post",
        ),
        _some(
            ("sonar-reasoning*", "sonar-deep-research*"),
            "https://docs.perplexity.ai/getting-started/models",
            supported=named("thinking"),
        ),
        *_sizes(
            (200_000, ("sonar-pro",)),
            (128_000, ("sonar", "sonar-deep-research", "sonar-reasoning-pro")),
        ),
    ),
    "snowflake": (
        _every(
            frozenset(),
            _ONLY_IMAGES | _SAMPLING,
            "https://docs.snowflake.com/en/user-guide/snowflake-cortex/cortex-rest-api",
        ),
    ),
    "together": (_every(frozenset(), _ONLY_IMAGES, "https://docs.together.ai/reference/chat-completions-1"),),
    "venice": (_every(frozenset(), named("pdf_input"), "https://docs.venice.ai/api-reference"),),
    "vllm": (
        _every(
            named("structured_output", "seed", "logprobs"),
            named("pdf_input", "batch"),
            "https://docs.vllm.ai/en/stable/serving/openai_compatible_server.html",
        ),
    ),
    "xai": (
        _every(named("seed"), _ONLY_IMAGES, "https://docs.x.ai/docs/api-reference"),
        _some(
            ("grok-4*",),
            "https://docs.x.ai/docs/models",
            supported=named("tools", "parallel_tools", "structured_output", "image_input", "prompt_caching"),
            unsupported=named("embeddings"),
        ),
        _some(
            ("grok-4", "grok-4-0*", "grok-4-latest", "grok-code*", "grok-*-fast-reasoning*"),
            "https://docs.x.ai/docs/guides/reasoning",
            # They always reason, and take no word on how much.
            unsupported=named("thinking"),
        ),
        _some(("grok-4.20*", "grok-4.3*"), "https://docs.x.ai/docs/models", supported=named("thinking", "batch")),
        *_sizes(
            (2_000_000, ("grok-4-1-fast-*reasoning", "grok-4-fast-*reasoning")),
            (1_000_000, ("grok-4.20", "grok-4.3")),
            (500_000, ("grok-4.5", "grok-4.6", "grok-4.7")),
            (256_000, ("grok-4-0709", "grok-code-fast-1")),
            (131_072, ("grok-3", "grok-3-fast", "grok-3-mini", "grok-3-mini-fast")),
        ),
    ),
    "zai": (
        _every(
            named("tools"),
            _ONLY_IMAGES | _SAMPLING | named("structured_output"),
            "https://docs.z.ai/api-reference/llm/chat-completion",
        ),
        _some(
            ("glm-4.5*", "glm-4.6*", "glm-4.7*", "glm-5*"),
            "https://docs.z.ai/guides/capabilities/thinking",
            supported=named("thinking"),
        ),
        *_sizes((1_000_000, ("glm-5.2", "glm-5.3", "glm-5.3-flash"))),
    ),
}
