"""What is known of the models at Bedrock, under all the names that they have."""

from __future__ import annotations

import re

import pytest
from genai_prices import data as prices

from execution_platform.adapters.bedrock import PROVIDERS
from execution_platform.adapters.bedrock.families import FAMILIES, UNLISTED, Maker, Thinks
from execution_platform.adapters.bedrock.models import KNOWN_MODELS, facts_of
from execution_platform.adapters.capabilities import capabilities_of
from execution_platform.v1 import capability_pb2

[SPEC] = PROVIDERS
ARN = "arn:aws:bedrock:eu-west-1:123456789012"
#: What the price list has besides models that chat by Converse: embeddings, speech, and GPT, which has another API.
_ELSEWHERE = re.compile(r"embed|sonic|openai\.gpt-[5-9]|rerank|canvas|image|marengo|pegasus")


def listed_prices() -> list[str]:
    """Ids of the models that the price list has at Bedrock."""
    [aws] = [provider for provider in prices.providers if provider.id == "aws"]
    return [model.id.removeprefix("regional.") for model in aws.models]


@pytest.mark.parametrize("name", [name for name in listed_prices() if not _ELSEWHERE.search(name)])
def test_every_model_that_has_a_price_is_known(name: str) -> None:
    """No model of the price list that chats by Converse is treated as a stranger."""
    assert facts_of(name).listed


@pytest.mark.parametrize("name", [model.name for model in KNOWN_MODELS])
def test_every_model_that_is_told_is_known(name: str) -> None:
    """What is offered without asking Bedrock has facts, and a context window that fits its rows."""
    assert facts_of(name).listed
    assert facts_of(name).source.startswith("https://docs.aws.amazon.com/")


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5"),
        ("eu.anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4"),
        ("us.anthropic.claude-sonnet-5", "anthropic.claude-sonnet-5"),
        ("us.anthropic.claude-sonnet-5-5", "anthropic.claude-sonnet-5-5"),
        ("eu-central-1/anthropic.claude-opus-4-6-v1", "anthropic.claude-opus-4-6"),
        (f"{ARN}:inference-profile/eu.amazon.nova-pro-v1:0", "amazon.nova-pro"),
        ("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-8b-instruct-v1:0", "meta.llama3"),
        ("us.meta.llama3-2-11b-instruct-v1:0", "meta.llama3-2-11b"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", "anthropic.claude-3-5-sonnet"),
        ("anthropic.claude-sonnet-9", "anthropic.claude"),
        ("Anthropic.Claude-Opus-5-5", "anthropic.claude-opus-5-5"),
        ("mistral.mistral-large-3-675b-instruct", "mistral.mistral-large-3"),
    ],
)
def test_a_name_means_its_family_wherever_it_is_asked(name: str, stem: str) -> None:
    """Regions, geographies and ARNs do not hide a model; the longest beginning decides."""
    assert facts_of(name).stem == stem


@pytest.mark.parametrize(
    "name", ["", "m", f"{ARN}:application-inference-profile/a1b2", f"{ARN}:imported-model/a1b2", "x/anthropic.claude"]
)
def test_a_stranger_stays_one(name: str) -> None:
    """Of a model whose name does not tell it nothing is guessed."""
    assert facts_of(name) is UNLISTED


def test_each_family_is_told_once() -> None:
    """No two entries begin alike, and each says where it is from."""
    stems = [facts.stem for facts in FAMILIES]
    assert len(set(stems)) == len(stems)
    assert all(facts.source.startswith("https://") for facts in FAMILIES)


def test_options_and_capabilities_are_one_data() -> None:
    """What the rows say of a model's names with regions is what its requests are built by."""
    for facts in FAMILIES:
        for name in (facts.stem, f"eu.{facts.stem}", f"eu-west-1/{facts.stem}"):
            known = capabilities_of(SPEC, name)
            expected = facts_of(name)
            thinks = capability_pb2.CAPABILITY_THINKING
            assert (thinks in known.supported) == (expected.thinks not in {Thinks.NEVER, Thinks.UNKNOWN})
            assert (capability_pb2.CAPABILITY_TOOLS in known.supported) == (expected.tools is True)
            assert (capability_pb2.CAPABILITY_IMAGE_INPUT in known.unsupported) == (expected.images is False)


@pytest.mark.parametrize(
    ("name", "window", "output"),
    [
        ("eu.anthropic.claude-sonnet-4-5-20250929-v1:0", 200_000, 64_000),
        ("global.anthropic.claude-opus-5-5", 1_000_000, 128_000),
        ("us.anthropic.claude-opus-4-6-v1", 1_000_000, 128_000),
        ("us-east-1/amazon.nova-lite-v1:0", 300_000, None),
        ("us.meta.llama4-scout-17b-instruct-v1:0", 10_000_000, None),
        (f"{ARN}:application-inference-profile/a1b2", None, None),
    ],
)
def test_sizes_are_known_under_every_name(name: str, window: int | None, output: int | None) -> None:
    """A window is not lost behind a geography, and not invented for a stranger."""
    known = capabilities_of(SPEC, name)
    assert (known.context_window, known.max_output_tokens) == (window, output)


def test_only_claude_is_spoken_to_in_claudes_words() -> None:
    """Budgets and free thinking are Anthropic's, efforts of three steps Nova's and gpt-oss's."""
    for facts in FAMILIES:
        if facts.thinks in {Thinks.BUDGET, Thinks.BUDGET_OR_FREELY, Thinks.FREELY, Thinks.ALWAYS_FREELY}:
            assert facts.maker is Maker.CLAUDE
        if facts.thinks in {Thinks.EFFORT, Thinks.ALWAYS_EFFORT}:
            assert facts.maker in {Maker.NOVA, Maker.GPT_OSS}
