"""Providers of the rows against a real HTTP server: addresses, keys, bodies, and how answers end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.adapters.openai_chat.answers import chunk, fold, said, sse, text_of, whole
from tests.adapters.upstream import Handler, Received, Reply, Upstream, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.compatible import PROVIDERS
from execution_platform.adapters.spi import Adapter, Call, Events, ProviderConfig, Timeouts
from execution_platform.adapters.testing import check_adapter
from execution_platform.v1 import chat_pb2

KEY = "made-up-key"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWER = sse(
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Hello"}),
    chunk({"content": " there"}),
    chunk({}, "stop"),
    {"id": "c1", "model": "m", "choices": [], "usage": USAGE},
)


def call(*, model: str = "m", unary: bool = False, **fields: Any) -> Call:
    request = chat_pb2.ChatRequest(**fields)
    request.messages.add(role="ROLE_USER").content.add().text.text = "hi"
    return Call(request, model, request_id="chat-1", unary=unary)


@contextlib.asynccontextmanager
async def against(
    handler: Handler, name: str = "compatible", path: str = "/v1", **options: str
) -> AsyncIterator[tuple[Adapter, Upstream]]:
    """A provider's adapter and the server that it asks."""
    spec = next(one for one in PROVIDERS if one.name == name)
    async with upstream(handler) as served:
        given = {option.name: option.default for option in spec.options} | options
        timeouts = Timeouts(connect=5, read=float(given.pop("read", "30")))
        config = ProviderConfig(name, SecretStr(KEY), f"{served.url}{path}", given, timeouts)
        adapter = spec.create(config)
        try:
            yield adapter, served
        finally:
            await adapter.aclose()


async def collected(adapter: Adapter, asked: Call) -> Events:
    events: Events = []
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for some in lists:
            events += some
    return events


async def failed(adapter: Adapter) -> tuple[Events, errors.AdapterError]:
    """What a stream told before it failed, and how."""
    events: Events = []
    try:
        async with contextlib.aclosing(adapter.stream(call())) as lists:
            async for some in lists:
                events += some
    except errors.AdapterError as error:
        return events, error
    raise AssertionError("it did not fail")


async def streaming(_: Received, reply: Reply) -> None:
    await reply.stream(ANSWER, x_request_id="req_1")


@pytest.mark.parametrize("name", ["groq", "llamacpp", "mistral", "openrouter", "vllm"])
async def test_a_provider_keeps_the_promises_of_the_seam(name: str) -> None:
    """Each passes the conformance kit over HTTP: to the end, unary, cancelled, several at once."""
    busy: list[Received] = []

    async def slowly(received: Received, reply: Reply) -> None:
        busy.append(received)
        try:
            if not received.json().get("stream"):
                await reply.head(200, "application/json")
                await reply.piece(whole({"content": "Hello there"}, usage=USAGE))
            else:
                await reply.head()
                for event in ANSWER.split(b"\n\n"):
                    await reply.piece(event + b"\n\n")
                    await asyncio.sleep(0)
            await reply.end()
        finally:
            busy.remove(received)

    spec = next(one for one in PROVIDERS if one.name == name)
    async with upstream(slowly) as served:
        options = {option.name: option.default for option in spec.options}
        config = ProviderConfig(name, SecretStr(KEY), f"{served.url}/v1", options)
        answer = await check_adapter(lambda: spec.create(config), call(), is_free=lambda: not busy, family=spec.family)
    assert answer.text() == "Hello there"


@pytest.mark.parametrize(
    ("path", "version", "line"),
    [
        ("", "v1", "POST /openai/v1/chat/completions HTTP/1.1"),
        ("/openai/v1", "v1", None),
        ("", "2024-10-21", "POST /openai/deployments/my%20gpt/chat/completions?api-version=2024-10-21 HTTP/1.1"),
        ("/models", "2024-05-01-preview", "POST /models/chat/completions?api-version=2024-05-01-preview HTTP/1.1"),
    ],
)
async def test_azure_has_three_shapes_of_addresses(path: str, version: str, line: str | None) -> None:
    """Resource with v1, deployments with a dated version, and the models address; the key is in api-key."""
    async with against(streaming, "azure", path, api_version=version) as (adapter, served):
        answer = fold(await collected(adapter, call(model="my gpt")))
    (received,) = served.received
    if line is not None:
        assert received.line == line
    assert received.headers["api-key"] == KEY
    assert "authorization" not in received.headers
    assert text_of(answer) == "Hello there"


async def test_an_answer_over_http() -> None:
    """Identifiers of the headers, text and usage arrive; the request asks for a stream with usage."""
    async with against(streaming) as (adapter, served):
        answer = fold(await collected(adapter, call()))
    assert answer.started.provider_request_id == "req_1"
    assert (text_of(answer), answer.finished.reason) == ("Hello there", chat_pb2.FINISH_REASON_STOP)
    assert [item.quantity for item in answer.finished.usage.items] == [3, 2]
    (received,) = served.received
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.json()["stream_options"] == {"include_usage": True}


async def test_a_server_that_does_not_stream_is_understood() -> None:
    """A whole body in answer to a stream's request, with whatever content type, is the answer."""
    for content_type in ("application/json", "text/plain"):

        async def one_body(_: Received, reply: Reply, content_type: str = content_type) -> None:
            await reply.head(200, content_type)
            await reply.piece(whole({"content": "Hello"}))
            await reply.end()

        async with against(one_body) as (adapter, _):
            assert text_of(fold(await collected(adapter, call()))) == "Hello"


async def test_a_rate_limit_says_how_long_to_wait() -> None:
    """429 with Retry-After is RateLimited with that wait, and nothing is told before it."""

    async def limited(_: Received, reply: Reply) -> None:
        await reply.json({"error": {"message": "slow down", "code": "rate_limit_exceeded"}}, 429, retry_after="7")

    async with against(limited) as (adapter, served):
        events, error = await failed(adapter)
    assert (type(error), error.retry_after, error.retryable) == (errors.RateLimitedError, 7.0, True)
    assert (events, len(served.received)) == ([], 1)


async def test_a_prompt_that_azure_filters_is_an_answer() -> None:
    """The 400 of the content filter is started and finished, with the notices of the request."""

    async def filtered(_: Received, reply: Reply) -> None:
        inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": {"hate": {"filtered": True}}}
        await reply.json({"error": {"message": "filtered", "code": "content_filter", "innererror": inner}}, 400)

    async with against(filtered, "azure", "") as (adapter, _):
        answer = fold(await collected(adapter, call(sampling=chat_pb2.Sampling(top_k=3))))
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert (answer.finished.refusal.category, answer.finished.refusal.prompt_blocked) == ("hate", True)
    assert [notice.field for notice in answer.notices] == ["sampling.top_k"]


async def test_an_error_in_the_stream_comes_after_what_was_said() -> None:
    """Text before the error is told, then the error is raised."""
    error = {"error": {"message": "boom", "type": "server_error", "code": 500}}

    async def broken(_: Received, reply: Reply) -> None:
        await reply.stream(sse(chunk({"content": "Hel"}), error))

    async with against(broken) as (adapter, _):
        events, raised = await failed(adapter)
    assert isinstance(raised, errors.UnavailableError)
    assert text_of(fold(events)) == "Hel"


async def test_a_stream_that_is_cut_is_broken() -> None:
    """A connection that goes away in the middle, and one that ends too early in order, are both broken streams."""
    half = sse(chunk({"content": "Hel"}), done=False)

    async def cut(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(half)
        await reply.cut()

    async def short(_: Received, reply: Reply) -> None:
        await reply.stream(half)

    for handler in (cut, short):
        async with against(handler) as (adapter, _):
            events, raised = await failed(adapter)
        assert isinstance(raised, errors.StreamBrokenError)
        assert text_of(fold(events)) == "Hel"


async def test_a_silent_server_times_out() -> None:
    """A server that says nothing for longer than allowed is a timeout of the provider's."""

    async def silent(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.hold()

    async with against(silent, read="0.05") as (adapter, _):
        _, raised = await failed(adapter)
    assert isinstance(raised, errors.ProviderTimeoutError)


async def test_closing_a_stream_hangs_up() -> None:
    """Whoever stops reading in the middle ends the request at the server."""
    gone = asyncio.Event()

    async def slow(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(sse(chunk({"content": "Hel"}), done=False))
        try:
            await reply.hold()
        finally:
            gone.set()

    async with against(slow) as (adapter, _):
        stream = adapter.stream(call())
        async with contextlib.aclosing(stream):
            assert (await anext(stream))[0].HasField("started")
        await asyncio.wait_for(gone.wait(), 30)


async def test_calls_and_reasoning_survive_a_second_turn() -> None:
    """DeepSeek's reasoning and call of the first answer are in the second request, word for word."""
    tool_call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    first = sse(chunk({"reasoning_content": "Let me see."}), chunk({"tool_calls": [tool_call]}, "tool_calls"))

    async def answering(received: Received, reply: Reply) -> None:
        await reply.stream(ANSWER if len(received.json()["messages"]) > 1 else first)

    async with against(answering, "deepseek") as (adapter, served):
        asked = call()
        answer = fold(await collected(adapter, asked))
        assert [one.name for one in said(answer, "tool_call")] == ["f"]
        second = call()
        second.request.messages.append(answer.message)
        result = second.request.messages.add(role="ROLE_USER").content.add().tool_result
        result.call_id = "call_1"
        result.content.add().text.text = "ok"
        await collected(adapter, second)
    sent = served.received[1].json()["messages"]
    assert sent[1]["reasoning_content"] == "Let me see."
    assert sent[1]["tool_calls"][0]["function"] == tool_call["function"]
    assert sent[2] == {"role": "tool", "tool_call_id": "call_1", "content": "ok"}


async def test_the_format_can_be_chosen() -> None:
    """A server with both formats is asked through Responses where the operator says so."""

    async def refuse(_: Received, reply: Reply) -> None:
        await reply.json({"error": {"message": "no"}}, 503)

    async with against(refuse, "xai", api="responses") as (adapter, served):
        await failed(adapter)
    assert served.received[0].line == "POST /v1/responses HTTP/1.1"
