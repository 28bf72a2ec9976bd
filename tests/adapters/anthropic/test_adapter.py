"""The adapter against a real HTTP server: what goes out, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.adapters.anthropic.wire import START, STOP, delta, folded, sse, text
from tests.adapters.upstream import Handler, Received, Reply, Upstream, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.anthropic.adapter import AnthropicAdapter
from execution_platform.adapters.spi import Call, CountsTokens, Events, ListsModels, ProviderConfig, Timeouts
from execution_platform.adapters.testing import check_adapter
from execution_platform.v1 import chat_pb2, content_pb2

ANSWER = sse(START, *text(0, "Hello", " there", "!"), delta(usage={"output_tokens": 5}), STOP)
BODY = {**START["message"], "content": [{"type": "text", "text": "Hello there!"}], "stop_reason": "end_turn"}
KEY = "made-up-key"


def call(**more: Any) -> Call:
    asked = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="hi"))
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[asked])
    sampling = chat_pb2.Sampling(max_output_tokens=50)
    request = chat_pb2.ChatRequest(messages=[message], sampling=sampling, **more.pop("request", {}))
    return Call(request, "claude-sonnet-5-5", request_id="chat-1", **more)


@contextlib.asynccontextmanager
async def against(handler: Handler, **config: Any) -> AsyncIterator[tuple[AnthropicAdapter, Upstream]]:
    """An adapter and the server that it asks."""
    async with upstream(handler) as served:
        given = {"api_key": SecretStr(KEY), "base_url": served.url, **config}
        adapter = AnthropicAdapter(ProviderConfig("anthropic", **given))
        try:
            yield adapter, served
        finally:
            await adapter.aclose()


async def collected(adapter: AnthropicAdapter, asked: Call) -> Events:
    events: Events = []
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for some in lists:
            events += some
    return events


async def failed(adapter: AnthropicAdapter) -> tuple[Events, errors.AdapterError]:
    """What a stream told before it failed, and how."""
    events: Events = []
    try:
        async for some in adapter.stream(call()):
            events += some
    except errors.AdapterError as error:
        return events, error
    raise AssertionError("it did not fail")


async def streaming(_: Received, reply: Reply) -> None:
    await reply.stream(ANSWER, request_id="req_1", anthropic_ratelimit_requests_remaining="7")


async def either(received: Received, reply: Reply) -> None:
    if received.json().get("stream"):
        await reply.stream(ANSWER)
    else:
        await reply.json(BODY)


async def test_the_request_carries_version_key_and_body(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pinned version, the key as the only credential, the body; nothing from the process environment."""
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "X-From-Environment: yes")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    async with against(streaming, options={"betas": "own-1, own-2"}) as (adapter, served):
        options = [chat_pb2.ProviderOptions(provider="anthropic", options_json='{"betas":["own-2","own-3"]}')]
        await collected(adapter, call(request={"provider_options": options}))
    (received,) = served.received
    assert received.line == "POST /v1/messages HTTP/1.1"
    assert received.headers["anthropic-version"] == "2023-06-01"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert received.headers["anthropic-beta"] == "own-1,own-2,own-3"
    assert not {"x-api-key", "x-from-environment"} & set(received.headers)
    assert received.json() == {
        "model": "claude-sonnet-5-5",
        "max_tokens": 50,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}],
        "stream": True,
    }


async def test_without_a_key_no_credential_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that needs no key gets none, not even one that lies in the environment."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-the-environment")
    async with against(streaming, api_key=None) as (adapter, served):
        await collected(adapter, call())
    assert "authorization" not in served.received[0].headers
    assert "anthropic-beta" not in served.received[0].headers


async def test_an_address_may_end_with_the_version() -> None:
    """The version at the end of a configured address is not doubled."""
    async with upstream(streaming) as served:
        adapter = AnthropicAdapter(ProviderConfig("anthropic", base_url=f"{served.url}/api/v1/"))
        await collected(adapter, call())
        await adapter.aclose()
    assert served.received[0].line == "POST /api/v1/messages HTTP/1.1"


async def test_a_stream_tells_who_answered_and_what_is_left() -> None:
    """The answer's text, the ids of request and answer, and the rate limits of the headers."""
    async with against(streaming) as (adapter, _):
        answer = folded(await collected(adapter, call()))
    assert answer.message.content[0].text.text == "Hello there!"
    assert (answer.started.request_id, answer.started.provider_request_id) == ("chat-1", "req_1")
    assert (answer.started.provider_response_id, answer.started.route.provider) == ("msg_1", "anthropic")
    assert answer.started.route.model == "claude-sonnet-5-5"
    assert [(limit.name, limit.remaining) for limit in answer.finished.rate_limits] == [("requests", 7)]


async def test_a_whole_answer_says_the_same() -> None:
    """A unary call asks without streaming and brings the same blocks."""
    async with against(either) as (adapter, served):
        whole = folded(await collected(adapter, call(unary=True)))
        streamed = folded(await collected(adapter, call()))
    assert "stream" not in served.received[0].json()
    assert whole.message == streamed.message


async def test_a_server_may_answer_whole_where_a_stream_was_asked_for() -> None:
    """What came decides how it is read."""

    async def whole(_: Received, reply: Reply) -> None:
        await reply.json(BODY)

    async with against(whole) as (adapter, _):
        assert folded(await collected(adapter, call())).message.content[0].text.text == "Hello there!"


async def test_the_adapter_passes_the_conformance_kit() -> None:
    """Streams to the end, unary, closed and cancelled in the middle, several at once; nothing stays connected."""

    async def slowly(received: Received, reply: Reply) -> None:
        if not received.json().get("stream"):
            await reply.json(BODY)
            return
        await reply.head()
        for at in range(0, len(ANSWER), 100):
            await reply.piece(ANSWER[at : at + 100])
            await asyncio.sleep(0)
        await reply.end()

    async with upstream(slowly) as served:
        await check_adapter(
            lambda: AnthropicAdapter(ProviderConfig("anthropic", base_url=served.url)), call(), family="anthropic"
        )


async def test_events_come_while_the_answer_is_made() -> None:
    """What one read brought is told at once, before the provider goes on."""
    go_on = asyncio.Event()

    async def paused(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(sse(START, *text(0, "Hello")))
        await go_on.wait()
        await reply.piece(sse(delta(), STOP))
        await reply.end()

    async with against(paused) as (adapter, _), contextlib.aclosing(adapter.stream(call())) as lists:
        first = await anext(lists)
        assert folded(first).message.content[0].text.text == "Hello"
        go_on.set()
        rest = [event async for some in lists for event in some]
        assert rest[-1].HasField("finished")


@pytest.mark.parametrize("how", ["close", "cancel"])
async def test_leaving_in_the_middle_ends_the_providers_request(how: str) -> None:
    """Closing the generator or cancelling its task breaks the connection while the provider still answers."""
    left = asyncio.Event()

    async def endless(_: Received, reply: Reply) -> None:
        try:
            await reply.head()
            await reply.piece(sse(START, *text(0, "Hello")))
            await reply.hold()
        finally:
            left.set()

    async with against(endless) as (adapter, served):
        lists = adapter.stream(call())
        await anext(lists)
        assert served.connections == 1
        if how == "close":
            await lists.aclose()
        else:
            waiting = asyncio.ensure_future(anext(lists))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            await lists.aclose()
        await asyncio.wait_for(left.wait(), 30)


async def test_connections_are_used_again() -> None:
    """Two answers after each other come over one connection."""
    seen = set()

    async def counting(_: Received, reply: Reply) -> None:
        seen.add(id(reply._writer))
        await reply.stream(ANSWER)

    async with against(counting) as (adapter, _):
        await collected(adapter, call())
        await collected(adapter, call())
    assert len(seen) == 1


@pytest.mark.parametrize("ending", ["hang up", "end"])
async def test_a_cut_stream_is_broken_after_what_it_said(ending: str) -> None:
    """Text that came is told; then the break is raised."""

    async def cut(_: Received, reply: Reply) -> None:
        await reply.head(request_id="req_2")
        await reply.piece(sse(START, *text(0, "Hel")))
        if ending == "end":
            await reply.end()
        else:
            await reply.cut()

    async with against(cut) as (adapter, _):
        events, error = await failed(adapter)
    assert type(error) is errors.StreamBrokenError
    assert (error.provider_status, error.provider_request_id) == (200, "req_2")
    assert folded(events).message.content[0].text.text == "Hel"


async def test_an_error_in_the_stream_comes_after_the_usage() -> None:
    """An error event that arrives together with text does not swallow it."""
    overloaded = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}

    async def failing(_: Received, reply: Reply) -> None:
        await reply.head(request_id="req_3")
        await reply.piece(sse(START, *text(0, "Hel"), overloaded))
        await reply.hold()

    async with against(failing) as (adapter, _):
        events, error = await failed(adapter)
    assert type(error) is errors.OverloadedError
    assert folded(events).message.content[0].text.text == "Hel"
    assert any(event.HasField("usage_updated") for event in events)
    assert error.provider_request_id == "req_3"


@pytest.mark.parametrize(
    ("status", "kind", "headers", "cls"),
    [
        (429, "rate_limit_error", {"retry_after": "37"}, errors.RateLimitedError),
        (529, "overloaded_error", {}, errors.OverloadedError),
        (401, "authentication_error", {"x_should_retry": "false"}, errors.CredentialsError),
        (400, "invalid_request_error", {}, errors.InvalidRequestError),
    ],
)
@pytest.mark.parametrize("unary", [False, True])
async def test_an_error_status_is_asked_for_once(
    status: int, kind: str, headers: dict[str, str], cls: type[errors.AdapterError], unary: bool
) -> None:
    """An error is mapped with status, request id and time to wait, is not retried here, and shows no key."""

    async def refusing(_: Received, reply: Reply) -> None:
        body = {"type": "error", "error": {"type": kind, "message": "no"}, "request_id": "req_4"}
        await reply.json(body, status, **headers)

    async with against(refusing) as (adapter, served):
        with pytest.raises(cls) as raised:
            await collected(adapter, call(unary=unary))
    error = raised.value
    assert (type(error), error.provider_status, error.provider_request_id) == (cls, status, "req_4")
    assert error.retry_after == (37.0 if status == 429 else None)
    assert len(served.received) == 1
    assert KEY not in f"{error!r} {error.message} {adapter!r}"


async def test_a_prompt_that_a_filter_stops_is_a_finish() -> None:
    """An error status for blocked content is an answer that ends with the filter."""

    async def blocking(_: Received, reply: Reply) -> None:
        message = "Output blocked by content filtering policy"
        await reply.json({"type": "error", "error": {"type": "invalid_request_error", "message": message}}, 400)

    async with against(blocking) as (adapter, _):
        events = await collected(adapter, call())
    assert [event.WhichOneof("event") for event in events] == ["started", "finished"]
    assert events[-1].finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


async def test_a_silent_provider_times_out() -> None:
    """A provider that says nothing, before or within its answer, is a timeout and not a broken stream."""

    async def silent(_: Received, reply: Reply) -> None:
        await reply.hold()

    async def silent_later(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(sse(START))
        await reply.hold()

    for handler in (silent, silent_later):
        async with against(handler, timeouts=Timeouts(connect=5, read=0.1)) as (adapter, _):
            with pytest.raises(errors.ProviderTimeoutError):
                await collected(adapter, call())


async def test_nobody_there_is_unavailable() -> None:
    """A refused connection is the provider's unavailability, which a retry may mend."""
    async with upstream(streaming) as served:
        address = served.url
    adapter = AnthropicAdapter(ProviderConfig("anthropic", base_url=address))
    with pytest.raises(errors.UnavailableError) as raised:
        await collected(adapter, call())
    assert raised.value.retryable
    await adapter.aclose()
    await adapter.aclose()


async def test_tokens_are_counted_by_the_provider() -> None:
    """The count goes to its own address with the prompt only, and keeps the provider's JSON."""

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json({"input_tokens": 13})

    async with against(counting) as (adapter, served):
        assert isinstance(adapter, CountsTokens)
        count = await adapter.count_tokens(call())
    assert served.received[0].line == "POST /v1/messages/count_tokens HTTP/1.1"
    assert set(served.received[0].json()) == {"model", "messages"}
    assert (count.input_tokens, json.loads(count.raw_json)) == (13, {"input_tokens": 13})


@pytest.mark.parametrize("answer", [{"tokens": 1}, {"input_tokens": "x"}])
async def test_a_count_without_a_number_is_a_breach(answer: dict[str, Any]) -> None:
    """A counter that counts nothing is not believed."""

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json(answer)

    async with against(counting) as (adapter, _):
        with pytest.raises(errors.ProtocolError):
            await adapter.count_tokens(call())


async def test_models_are_listed_page_by_page() -> None:
    """Every page is read; sizes are told where the provider tells them, and its JSON is kept."""
    models: list[dict[str, Any]] = [
        {"id": "claude-a", "display_name": "A", "max_input_tokens": 10, "max_tokens": 5, "type": "model"},
        {"id": "claude-b", "display_name": "B", "max_input_tokens": None, "type": "model"},
    ]

    async def paging(received: Received, reply: Reply) -> None:
        second = "after_id=claude-a" in received.line
        page = models[1:] if second else models[:1]
        await reply.json({"data": page, "has_more": not second, "last_id": page[-1]["id"]})

    async with against(paging) as (adapter, served):
        assert isinstance(adapter, ListsModels)
        first, second = await adapter.list_models()
    assert served.received[0].line == "GET /v1/models?limit=1000 HTTP/1.1"
    assert (first.name, first.display_name, first.context_window, first.max_output_tokens) == (
        "anthropic/claude-a",
        "A",
        10,
        5,
    )
    assert (second.model, second.HasField("context_window")) == ("claude-b", False)
    assert json.loads(second.provider_metadata_json) == models[1]


async def test_listing_fails_like_a_chat() -> None:
    """An error status of the list is mapped the same way."""

    async def refusing(_: Received, reply: Reply) -> None:
        await reply.json({"type": "error", "error": {"type": "authentication_error", "message": "no"}}, 401)

    async with against(refusing) as (adapter, _):
        with pytest.raises(errors.CredentialsError):
            await adapter.list_models()
