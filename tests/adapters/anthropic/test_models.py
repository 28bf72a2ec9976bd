"""What is known of Claude's models, under all the names that they have."""

from __future__ import annotations

import typing

import pytest
from anthropic.types import model as sdk_model

from execution_platform.adapters.anthropic import PROVIDERS
from execution_platform.adapters.anthropic.models import DEFAULT_MODEL, KNOWN_MODELS, UNLISTED, facts_of
from execution_platform.adapters.spi import ProviderConfig


def sdk_models() -> list[str]:
    literal = next(part for part in typing.get_args(sdk_model.Model) if typing.get_args(part))
    return list(typing.get_args(literal))


@pytest.mark.parametrize("name", sdk_models())
def test_every_model_that_the_sdk_lists_is_known(name: str) -> None:
    """No model of the SDK's list is treated as a stranger."""
    assert facts_of(name).listed


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("claude-opus-4-1@20250805", "claude-opus-4-1"),
        ("anthropic/claude-haiku-4.5", "claude-haiku-4-5"),
        ("anthropic/claude-sonnet-4.5:thinking", "claude-sonnet-4-5"),
        ("us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("anthropic.claude-opus-5", "claude-opus-5"),
        ("claude-sonnet-4-0", "claude-sonnet-4"),
        ("claude-3-5-haiku-latest", "claude-3-5-haiku"),
        ("claude-3-7-sonnet@20250219", "claude-3-7-sonnet"),
        ("Claude-Opus-5-5", "claude-opus-5-5"),
    ],
)
def test_names_of_clouds_and_gateways_mean_the_same_model(name: str, known: str) -> None:
    """Prefixes of places and suffixes of versions do not hide a model."""
    assert facts_of(name).known.name == known


@pytest.mark.parametrize("name", ["", "gpt-6", "claude-sonnet-6", "claude-opus-5-5-turbo", "qwen/qwen3:8b"])
def test_a_stranger_stays_one(name: str) -> None:
    """A name that is not known is not guessed at, not even by its beginning."""
    assert facts_of(name) is UNLISTED


def test_the_default_model_is_advertised_and_retired_ones_are_not() -> None:
    """What is offered without asking is what can be asked for."""
    names = [model.name for model in KNOWN_MODELS]
    assert DEFAULT_MODEL in names
    assert not [name for name in names if name.startswith("claude-3")]
    assert PROVIDERS[0].default_model == DEFAULT_MODEL


@pytest.mark.parametrize(
    ("base_url", "missing"),
    [("", True), ("https://api.anthropic.com/", True), ("http://127.0.0.1:8080", False)],
)
def test_only_anthropic_itself_needs_a_key(base_url: str, missing: bool) -> None:
    """Without a key Anthropic cannot be used; a server at an own address may need none."""
    told = PROVIDERS[0].missing(ProviderConfig("anthropic", base_url=base_url))
    assert ("EP_ANTHROPIC_API_KEY" in told) == missing
