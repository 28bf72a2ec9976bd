"""What is known of OpenAI's models is consistent with the SDK and with itself."""

from __future__ import annotations

from typing import get_args

import pytest
from openai.types.shared import chat_model, responses_model

from execution_platform.adapters.openai import PROVIDERS
from execution_platform.adapters.openai.models import DEFAULT_MODEL, DIALECT, KNOWN_MODELS

SDK_MODELS = {
    name
    for union in (chat_model.ChatModel, *get_args(responses_model.ResponsesModel))
    for name in get_args(union)
    if isinstance(name, str)
}


def test_known_models_are_the_sdks() -> None:
    """Every known model is one that the SDK names, and named once."""
    names = [model.name for model in KNOWN_MODELS]
    assert set(names) <= SDK_MODELS
    assert len(names) == len(set(names))


def test_the_default_model_is_known() -> None:
    """The model that is used when only the provider is named has a row of its own."""
    [spec] = PROVIDERS
    assert spec.default_model == DEFAULT_MODEL
    assert DEFAULT_MODEL in {model.name for model in spec.models}


def test_sizes_fit() -> None:
    """No model answers with more than its context holds."""
    for model in KNOWN_MODELS:
        if model.context_window is not None:
            assert model.max_output_tokens is not None
            assert model.max_output_tokens <= model.context_window


@pytest.mark.parametrize(
    ("model", "api", "refused"),
    [
        (
            "gpt-6.1-sol",
            "responses",
            {"sampling.temperature", "sampling.top_p", "sampling.logprobs", "reasoning.enabled"},
        ),
        ("gpt-5.6-terra", "responses", {"sampling.temperature", "sampling.top_p", "sampling.logprobs"}),
        ("gpt-5.4-mini", "responses", {"cache_hint"}),
        ("gpt-4.1-2025-04-14", "responses", {"cache_hint", "reasoning", "reasoning.effort"}),
        ("gpt-audio-mini", "chat", {"cache_hint", "reasoning", "reasoning.effort"}),
        ("a-model-of-tomorrow", "responses", set()),
    ],
)
def test_models_take_what_their_family_takes(model: str, api: str, refused: set[str]) -> None:
    """API and options follow from the name; of an unknown model nothing is assumed."""
    spoken = DIALECT.for_model(model)
    assert spoken.api == api
    assert spoken.unsupported == refused
