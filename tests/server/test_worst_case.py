"""What an attempt may come to, before it is made."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.listings import LISTINGS

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.capabilities import Facts
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.prompt_size import most_prompt_tokens, prompt_tokens
from execution_platform.server.routing.worst_case import LONGEST_ANSWER, WorstCases
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2


def said(text: str = "", **fields: Any) -> chat_pb2.ChatRequest:
    """A chat in which something is said."""
    request = chat_pb2.ChatRequest(**fields)
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = text
    return request


class Trial:
    """Worst cases by a configuration that may change."""

    def __init__(self, models: Any = None, most: int | None = None) -> None:
        self.configuration = PlatformConfiguration.model_validate({"models": models or {}})
        self.now = 0.0
        self.prices = prices = Prices(lambda: self.configuration, LISTINGS)
        facts = Facts("p/m", max_output_tokens=most)
        self.worst = WorstCases(prices, lambda *_: facts, lambda: self.configuration, lambda: self.now)


def test_the_answer_is_as_long_as_it_may_be() -> None:
    """The longest answer is the request's, the model's, the shorter of both, or a figure for those without either."""
    limited = said(sampling=chat_pb2.Sampling(max_output_tokens=50))
    assert Trial(most=100).worst.of("p", "m", said()).output_tokens == 100
    assert Trial(most=100).worst.of("p", "m", limited).output_tokens == 50
    assert Trial(most=20).worst.of("p", "m", limited).output_tokens == 20
    assert Trial().worst.of("p", "m", said()).output_tokens == LONGEST_ANSWER


def test_unknown_price_is_none() -> None:
    """Of a model without a price no amount is known, only tokens."""
    worst = Trial(most=10).worst.of("p", "m", said())
    assert worst.nanos is None
    assert worst.tokens == worst.prompt_tokens + 10


def test_amounts_are_rounded_up() -> None:
    """A part of a nano counts as one."""
    worst = Trial({"scripted/echo": {"input_price": "0.0001", "output_price": "0.0001"}}, most=1).worst
    assert worst.of("scripted", "echo", said()).cost(0, 1) == 1
    assert worst.of("scripted", "echo", said()).cost(0, 0) == 0


def test_long_prompts_have_the_price_of_their_tier() -> None:
    """A prompt above a tier's threshold is charged at that tier's prices, and its answer too."""
    worst = Trial(most=1000).worst
    short = worst.of("gemini", "gemini-2.5-pro", said())
    long = worst.of("gemini", "gemini-2.5-pro", said("x" * 600_000))
    assert short.prompt_price is not None
    assert long.prompt_price is not None
    assert long.prompt_price > short.prompt_price
    assert (long.output_price or 0) > (short.output_price or 0)


def test_prompts_that_may_be_cached_cost_the_dearest_write() -> None:
    """Where a request asks for caching its prompt is charged at the dearer of the cache's prices; else at its own."""
    worst = Trial(most=1000).worst
    plain = worst.of("anthropic", "claude-sonnet-4-5", said())
    cached = said()
    cached.messages[0].content[0].cache_hint.SetInParent()
    for request in (cached, said(cache=chat_pb2.CachePolicy())):
        dear = worst.of("anthropic", "claude-sonnet-4-5", request)
        assert plain.prompt_price is not None
        assert dear.prompt_price == 2 * plain.prompt_price


def test_new_prices_count_from_the_next_attempt() -> None:
    """A configuration that is read anew changes worst cases at once."""
    trial = Trial({"scripted/echo": {"input_price": "1", "output_price": "1"}}, most=0)
    assert trial.worst.of("scripted", "echo", said()).prompt_price == 10**9
    trial.configuration = PlatformConfiguration.model_validate(
        {"models": {"scripted/echo": {"input_price": "2", "output_price": "1"}}}
    )
    assert trial.worst.of("scripted", "echo", said()).prompt_price == 2 * 10**9


@pytest.mark.parametrize("text", ["", "Hi", "x" * 10_000, "\u65e5\u672c\u8a9e" * 1000])
def test_the_most_is_never_less_than_the_guess(text: str) -> None:
    """The most that a prompt may have is above what it is taken for elsewhere."""
    assert most_prompt_tokens(said(text)) > prompt_tokens(said(text))


def test_media_count_by_what_they_are() -> None:
    """An image counts as one, whatever its bytes; a document by its length; what only has an address as one."""

    def with_media(**fields: Any) -> int:
        request = said()
        request.messages[0].content.add().media.CopyFrom(content_pb2.MediaBlock(**fields))
        return most_prompt_tokens(request) - most_prompt_tokens(said())

    image = with_media(data=b"x" * 1_000_000, mime_type="image/png")
    assert 3_000 <= image < 3_100
    assert 60_000 < with_media(data=b"x" * 1_000_000, mime_type="application/pdf") < 70_000
    assert 3_000 <= with_media(uri="https://example.test/a.pdf", mime_type="application/pdf") < 3_100


IMAGES = ("gemini", "gemini-2.5-flash-image")
AUDIO, IMAGE, TEXT = content_pb2.MODALITY_AUDIO, content_pb2.MODALITY_IMAGE, content_pb2.MODALITY_TEXT


def used(kind: usage_pb2.UsageKind.ValueType, modality: content_pb2.Modality.ValueType, tokens: int) -> usage_pb2.Usage:
    """Tokens of a medium."""
    item = usage_pb2.UsageItem(kind=kind, modality=modality, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=tokens)
    return usage_pb2.Usage(items=[item])


def showing(mime_type: str) -> chat_pb2.ChatRequest:
    """A chat that shows something."""
    request = said()
    request.messages[0].content.add().media.CopyFrom(content_pb2.MediaBlock(data=b"x", mime_type=mime_type))
    return request


@pytest.mark.parametrize("asked", [{}, {"output_modalities": [IMAGE]}, {"output_modalities": [TEXT, IMAGE]}])
def test_answers_that_may_be_images_cost_what_images_do(asked: dict[str, Any]) -> None:
    """Asked for or not, an image of as many tokens as the answer may have costs no more than the worst case."""
    trial = Trial(most=1_000)
    worst = trial.worst.of(*IMAGES, said(**asked))
    cost = trial.prices.cost(*IMAGES, used(usage_pb2.USAGE_KIND_OUTPUT, IMAGE, 1_000))
    image = sum(line.amount.nanos for line in cost.lines)
    assert image == 30_000_000
    assert worst.cost(0, 1_000) == image
    assert (worst.output_price or 0) > (worst.text_price or 0) > 0


def test_answers_that_shall_be_text_cost_what_text_does() -> None:
    """Who asks for text alone is not charged for images."""
    worst = Trial(most=1_000).worst.of(*IMAGES, said(output_modalities=[TEXT]))
    assert worst.output_price == worst.text_price


@pytest.mark.parametrize(
    "asked",
    [
        {"output_modalities": [TEXT, AUDIO]},
        {"audio_output": chat_pb2.AudioOutput(voice="alloy")},
        {"provider_options": [chat_pb2.ProviderOptions(provider="openai", options_json='{"modalities": ["audio"]}')]},
    ],
)
def test_medium_without_a_price_leaves_the_whole_without_one(asked: dict[str, Any]) -> None:
    """Where audio is asked for that has no price nothing is known, however that is said; with a price it is."""
    model = ("openai", "gpt-4o-audio-preview")
    trial = Trial(most=1_000)
    assert trial.worst.of(*model, said(**asked)).nanos is None
    assert trial.worst.of(*model, said()).nanos is not None
    assert Trial(most=1_000).worst.of("openai", "gpt-audio", said(**asked)).output_price == 64 * 10**9


def test_media_in_the_prompt_are_charged_as_such() -> None:
    """A prompt with audio is charged at the price of audio; where that has none, nothing is known."""
    worst = Trial(most=10).worst
    plain, audio = worst.of("openai", "gpt-audio", said()), worst.of("openai", "gpt-audio", showing("audio/wav"))
    assert (audio.prompt_price or 0) > (plain.prompt_price or 0)
    assert worst.of("openai", "gpt-4o", showing("audio/wav")).nanos is None
    assert worst.of("openai", "gpt-4o", showing("image/png")).nanos is not None
    # Nobody knows what it is, so it is as dear as anything that has a price.
    assert worst.of("openai", "gpt-audio", showing("")).prompt_price == audio.prompt_price


@pytest.mark.parametrize("by", ["config_json", "provider_options_json"])
def test_tools_that_a_provider_runs_count_as_often_as_they_may(by: str) -> None:
    """Searches are in the worst case where `max_uses` bounds them: ten dollars a thousand."""
    model = ("anthropic", "claude-sonnet-4-5")

    def searching(options: str) -> int:
        request = said()
        tool = request.tools.add()
        tool.provider.type, tool.provider.name = "web_search_20250305", "web_search"
        setattr(tool.provider if by == "config_json" else tool, by, options)
        return Trial(most=10).worst.of(*model, request).fee

    assert searching('{"max_uses": 5}') == 5 * 10_000_000
    assert searching("{}") == searching('{"max_uses": "many"}') == searching("[") == 0
