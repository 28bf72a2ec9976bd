"""What an attempt may come to, before it is made."""

from __future__ import annotations

from typing import Any

import pytest

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.routing.capabilities import Facts
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.prompt_size import most_prompt_tokens, prompt_tokens
from execution_platform.server.routing.worst_case import LONGEST_ANSWER, WorstCases
from execution_platform.v1 import chat_pb2, content_pb2


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
        prices = Prices(lambda: self.configuration)
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
