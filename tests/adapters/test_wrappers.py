"""Adapters that wrap adapters change only what they mean to."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from execution_platform.adapters.errors import NotSupportedError, OverloadedError
from execution_platform.adapters.scripted import ScriptedAdapter
from execution_platform.adapters.spi import Adapter, Call, CountsTokens, Events, ListsModels, TokenCount
from execution_platform.adapters.testing import check_adapter
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.v1 import chat_pb2, content_pb2


class Plain:
    """An adapter without further abilities."""

    def __init__(self) -> None:
        self.closed = 0

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        yield [chat_pb2.ChatEvent(started=chat_pb2.Started(provider_response_id=call.model))]

    async def aclose(self) -> None:
        self.closed += 1


class Halves(WrappingAdapter):
    """Counts half the tokens."""

    async def count_tokens(self, call: Call) -> TokenCount:
        if not isinstance(self.inner, CountsTokens):
            raise NotSupportedError("no counter")
        counted = await self.inner.count_tokens(call)
        return TokenCount(counted.input_tokens // 2, counted.raw_json)


def a_call(text: str = "one two three four") -> Call:
    request = chat_pb2.ChatRequest()
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = text
    return Call(request, "echo")


async def test_a_wrapper_keeps_the_seams_promises() -> None:
    """A wrapped adapter passes the conformance kit as the adapter itself does."""
    inner: list[ScriptedAdapter] = []

    def make() -> Adapter:
        inner.append(ScriptedAdapter([{"text": "a"}, {"pause_ms": 1}, {"text": "b"}]))
        return WrappingAdapter(WrappingAdapter(inner[-1]))

    answer = await check_adapter(make, a_call(), is_free=lambda: inner[-1].open_streams == 0)
    assert answer.text() == "ab"


async def test_errors_pass_through_a_wrapper() -> None:
    """An error of the wrapped adapter comes out unchanged, and its stream is closed."""
    inner = ScriptedAdapter([{"text": "a"}, {"error": {"reason": "PROVIDER_OVERLOADED", "retry_after": 3}}])
    with pytest.raises(OverloadedError) as caught:
        async for _ in WrappingAdapter(inner).stream(a_call()):
            pass
    assert (caught.value.retry_after, inner.open_streams) == (3, 0)


async def test_closing_a_wrapper_closes_the_wrapped_stream() -> None:
    """Closing a wrapper's stream in the middle closes the wrapped stream before it returns."""
    inner = ScriptedAdapter([{"text": "a"}, {"hang": True}])
    stream = WrappingAdapter(inner).stream(a_call())
    await anext(stream)
    assert inner.open_streams == 1
    await stream.aclose()
    assert inner.open_streams == 0


async def test_cancelling_a_wrapper_cancels_the_wrapped_stream() -> None:
    """Cancelling whoever reads a wrapper ends the wrapped stream."""
    inner = ScriptedAdapter([{"hang": True}])
    stream = WrappingAdapter(inner).stream(a_call())

    async def read() -> None:
        await anext(stream)

    task = asyncio.create_task(read())
    await asyncio.sleep(0)  # it runs until it waits
    assert inner.open_streams == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert inner.open_streams == 0


async def test_a_wrapper_has_the_abilities_of_what_it_wraps() -> None:
    """A wrapper counts tokens and lists models exactly if the wrapped adapter does, however deep it lies."""
    able = WrappingAdapter(WrappingAdapter(ScriptedAdapter()))
    unable = WrappingAdapter(WrappingAdapter(Plain()))
    assert isinstance(able, CountsTokens)
    assert isinstance(able, ListsModels)
    assert (await able.count_tokens(a_call("one two three"))).input_tokens == 3
    assert "echo" in [model.model for model in await able.list_models()]
    assert not isinstance(unable, CountsTokens)
    assert not isinstance(unable, ListsModels)


async def test_a_subclass_may_change_an_ability() -> None:
    """An ability that a subclass defines is the subclass's, also through a further wrapper."""
    halves = WrappingAdapter(Halves(ScriptedAdapter()))
    assert isinstance(halves, CountsTokens)
    assert (await halves.count_tokens(a_call("one two three four"))).input_tokens == 2
    with pytest.raises(NotSupportedError):
        await Halves(Plain()).count_tokens(a_call())


async def test_closing_a_wrapper_closes_what_it_wraps() -> None:
    """Closing a wrapper closes the wrapped adapter."""
    plain = Plain()
    wrapper = WrappingAdapter(WrappingAdapter(plain))
    lists = [events async for events in wrapper.stream(a_call())]
    assert lists[0][0].started.provider_response_id == "echo"
    await wrapper.aclose()
    assert plain.closed == 1
