"""The adapter against a real HTTP server: what goes out, what comes back, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from pydantic import SecretStr
from tests.adapters.openai_responses.answers import stream_of
from tests.adapters.recordings import Record, body_of, params, records
from tests.adapters.upstream import Handler, Received, Reply, Upstream, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.openai import PROVIDERS
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.adapter import CountingOpenAIAdapter, OpenAIAdapter
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.spi import Call, CountsTokens, Events, ListsModels, ProviderConfig, Timeouts
from execution_platform.adapters.testing import check_adapter
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2

KEY = "made-up-key"
MODEL = "gpt-6.1-sol"
USAGE = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
ITEM = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Hello there!", "annotations": []}],
}
BODY = {"id": "resp_1", "model": MODEL, "status": "completed", "output": [ITEM], "usage": USAGE}
PLACE = {"type": "response.output_text.delta", "item_id": "msg_1", "output_index": 0, "content_index": 0}
STREAM = stream_of(
    {"type": "response.created", "response": {"id": "resp_1", "model": MODEL}},
    *({**PLACE, "delta": piece} for piece in ("Hello", " there", "!")),
    {"type": "response.output_item.done", "output_index": 0, "item": ITEM},
    {"type": "response.completed", "response": BODY},
)
CHAT_BODY = {
    "id": "chatcmpl_1",
    "model": "gpt-3.5-turbo",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there!"}, "finish_reason": "stop"}],
}


def call(model: str = MODEL, **more: Any) -> Call:
    asked = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="hi"))
    message = content_pb2.Message(role=content_pb2.ROLE_USER, content=[asked])
    request = chat_pb2.ChatRequest(messages=[message], **more.pop("request", {}))
    return Call(request, model, request_id="chat-1", **more)


@contextlib.asynccontextmanager
async def against(
    handler: Handler, dialect: Dialect = DIALECT, path: str = "/v1", **config: Any
) -> AsyncIterator[tuple[CountingOpenAIAdapter, Upstream]]:
    """An adapter and the server that it asks."""
    async with upstream(handler) as served:
        given = {"api_key": SecretStr(KEY), "base_url": served.url + path, **config}
        adapter = CountingOpenAIAdapter(dialect, ProviderConfig(dialect.provider, **given))
        try:
            yield adapter, served
        finally:
            await adapter.aclose()


async def collected(adapter: OpenAIAdapter, asked: Call) -> Events:
    events: Events = []
    async with contextlib.aclosing(adapter.stream(asked)) as lists:
        async for some in lists:
            events += some
    return events


async def folded(adapter: OpenAIAdapter, asked: Call) -> chat_pb2.CompleteChatResponse:
    fold = Fold()
    fold.add_all(await collected(adapter, asked))
    assert fold.done
    return fold.response


async def failed(adapter: OpenAIAdapter, asked: Call | None = None) -> tuple[Events, errors.AdapterError]:
    """What a stream told before it failed, and how."""
    events: Events = []
    try:
        async for some in adapter.stream(asked or call()):
            events += some
    except errors.AdapterError as error:
        return events, error
    raise AssertionError("it did not fail")


async def streaming(_: Received, reply: Reply) -> None:
    await reply.stream(STREAM, x_request_id="req_1", x_ratelimit_remaining_requests="7")


async def either(received: Received, reply: Reply) -> None:
    if "chat/completions" in received.line:
        await reply.json(CHAT_BODY)
    elif received.json().get("stream"):
        await reply.stream(STREAM)
    else:
        await reply.json(BODY)


async def test_the_request_carries_key_and_body_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The key is the only credential; nothing of the process environment goes out."""
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "X-From-Environment: yes")
    for name in ("OPENAI_API_KEY", "OPENAI_ADMIN_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_BASE_URL"):
        monkeypatch.setenv(name, "from-the-environment")
    async with against(streaming) as (adapter, served):
        answer = await folded(adapter, call())
    [received] = served.received
    assert received.line == "POST /v1/responses HTTP/1.1"
    assert received.headers["authorization"] == f"Bearer {KEY}"
    assert received.headers["content-type"] == "application/json"
    assert "from-the-environment" not in str(received.headers)
    assert "x-from-environment" not in received.headers
    assert "openai-organization" not in received.headers
    assert received.json()["stream"] is True
    assert answer.message.content[0].text.text == "Hello there!"
    assert answer.started.provider_request_id == "req_1"
    assert answer.started.request_id == "chat-1"
    assert answer.finished.rate_limits[0].remaining == 7


@pytest.mark.parametrize("model", [MODEL, "gpt-3.5-turbo"], ids=["responses", "chat"])
async def test_a_model_that_cannot_stream_is_asked_for_a_whole_answer(model: str) -> None:
    """Where the server refuses `stream` for a model, its whole answer comes as the events of a stream."""

    async def whole_only(received: Received, reply: Reply) -> None:
        if received.json().get("stream"):
            words = "Unsupported value: 'stream' does not support true with this model."
            error = {"message": words, "type": "invalid_request_error", "param": "stream", "code": "unsupported_value"}
            await reply.json({"error": error}, status=400)
        else:
            await either(received, reply)

    async with against(whole_only) as (adapter, served):
        answer = await folded(adapter, call(model))
    assert answer.message.content[0].text.text == "Hello there!"
    assert [bool(received.json().get("stream")) for received in served.received] == [True, False]


async def test_organization_and_project_are_headers() -> None:
    """What the operator sets reaches the server, and is not empty where it is not set."""
    options = {"organization": "org_1", "project": "", "api": "auto"}
    async with against(streaming, options=options) as (adapter, served):
        await collected(adapter, call())
    assert served.received[0].headers["openai-organization"] == "org_1"
    assert "openai-project" not in served.received[0].headers


@pytest.mark.parametrize(
    ("model", "api", "path"),
    [
        (MODEL, "auto", "/v1/responses"),
        ("gpt-4o", "auto", "/v1/responses"),
        ("a-model-of-tomorrow", "auto", "/v1/responses"),
        ("gpt-3.5-turbo", "auto", "/v1/chat/completions"),
        ("gpt-4o-audio-preview", "auto", "/v1/chat/completions"),
        ("gpt-audio-mini", "auto", "/v1/chat/completions"),
        (MODEL, "chat", "/v1/chat/completions"),
        ("gpt-3.5-turbo", "responses", "/v1/responses"),
    ],
)
async def test_the_api_is_chosen_by_model_or_setting(model: str, api: str, path: str) -> None:
    """Models that only Chat Completions has get that; the setting decides for all."""
    async with against(either, options={"api": api}) as (adapter, served):
        answer = await folded(adapter, call(model, unary=True))
    assert served.received[0].line == f"POST {path} HTTP/1.1"
    assert answer.message.content[0].text.text == "Hello there!"


async def test_a_whole_answer_says_the_same() -> None:
    """Without streaming the body asks for none, and the answer has the same blocks and usage."""
    async with against(either) as (adapter, served):
        streamed = await folded(adapter, call())
        whole = await folded(adapter, call(unary=True))
    assert "stream" not in served.received[1].json()
    assert whole.message == streamed.message
    assert whole.finished.usage == streamed.finished.usage


async def test_a_server_that_does_as_it_likes_is_read() -> None:
    """A whole body is read where a stream was asked for, and a stream where a body was."""

    async def contrary(received: Received, reply: Reply) -> None:
        if received.json().get("stream"):
            await reply.json(BODY)
        else:
            await reply.stream(STREAM)

    async with against(contrary) as (adapter, _):
        for unary in (False, True):
            answer = await folded(adapter, call(unary=unary))
            assert answer.message.content[0].text.text == "Hello there!"


async def test_the_life_of_its_streams() -> None:
    """Streams end, are closed and cancelled in the middle, and leave no connection busy; the kit says how."""
    busy = 0

    async def slow(received: Received, reply: Reply) -> None:
        nonlocal busy
        busy += 1
        try:
            if not received.json().get("stream"):
                await reply.json(BODY)
                return
            await reply.head()
            for at in range(0, len(STREAM), 64):
                await reply.piece(STREAM[at : at + 64])
            await reply.end()
        finally:
            busy -= 1

    async with upstream(slow) as served:
        config = ProviderConfig("openai", SecretStr(KEY), served.url + "/v1")
        answer = await check_adapter(
            lambda: CountingOpenAIAdapter(DIALECT, config), call(), is_free=lambda: busy == 0, family="openai"
        )
    assert answer.text() == "Hello there!"


async def test_closing_in_the_middle_hangs_up() -> None:
    """A stream that is closed ends the request at once: the server sees the connection go."""
    gone = asyncio.Event()

    async def endless(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(STREAM[:400])
        try:
            await reply.hold()
        finally:
            gone.set()

    async with against(endless) as (adapter, served):
        stream = adapter.stream(call())
        assert (await anext(stream))[0].HasField("started")
        assert served.connections == 1
        await stream.aclose()
        await gone.wait()


async def test_a_cut_stream_is_broken() -> None:
    """What came before the server hung up is told, then the failure."""

    async def cutting(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(STREAM[: len(STREAM) // 3])
        await reply.cut()

    async with against(cutting) as (adapter, _):
        events, error = await failed(adapter)
    assert isinstance(error, errors.StreamBrokenError)
    assert events[0].HasField("started")


async def test_a_stream_without_its_end_is_broken() -> None:
    """A stream that ends well for HTTP but without the last event is not complete."""

    async def short(_: Received, reply: Reply) -> None:
        await reply.stream(STREAM[: STREAM.index(b"event: response.completed")], x_request_id="req_2")

    async with against(short) as (adapter, _):
        events, error = await failed(adapter)
    assert isinstance(error, errors.StreamBrokenError)
    assert error.provider_request_id == "req_2"
    assert [event.WhichOneof("event") for event in events].count("block_delta") == 3


async def test_a_silent_server_times_out() -> None:
    """Silence longer than the limit is a timeout of the provider's."""

    async def silent(_: Received, reply: Reply) -> None:
        await reply.hold()

    async with against(silent, timeouts=Timeouts(connect=5, read=0.05)) as (adapter, _):
        _, error = await failed(adapter)
    assert isinstance(error, errors.ProviderTimeoutError)


async def test_a_server_that_is_not_there_is_unavailable() -> None:
    """A refused connection is the provider's unavailability, without a status."""
    async with upstream(streaming) as served:
        gone = served.url
    adapter = OpenAIAdapter(DIALECT, ProviderConfig("openai", SecretStr(KEY), gone))
    _, error = await failed(adapter)
    await adapter.aclose()
    assert isinstance(error, errors.UnavailableError)
    assert error.provider_status == 0


async def test_a_rate_limit_says_when_to_come_back() -> None:
    """429 with retry-after is one request, a retryable error, and the wait in seconds."""

    async def limited(_: Received, reply: Reply) -> None:
        body = {"error": {"message": "Slow down.", "type": "requests", "code": "rate_limit_exceeded"}}
        await reply.json(body, 429, retry_after="7", x_request_id="req_3")

    async with against(limited) as (adapter, served):
        events, error = await failed(adapter)
    assert len(served.received) == 1
    assert events == []
    assert isinstance(error, errors.RateLimitedError)
    assert (error.retry_after, error.retryable, error.provider_status) == (7.0, True, 429)
    assert (error.provider_code, error.provider_request_id) == ("rate_limit_exceeded", "req_3")


EXPECTED = {
    "invalid_api_key": errors.CredentialsError,
    "insufficient_quota": errors.BillingError,
    "model_not_found": errors.ModelNotFoundError,
}
FAILED = [
    record
    for split in ("open", "documented")
    for record in records(split, "openai", api="responses")
    if record["response"]["status"] >= 400
]


@pytest.mark.parametrize("record", params(iter(FAILED)))
async def test_recorded_errors_are_mapped(record: Record) -> None:
    """A recorded error becomes the class that its code or status means, with status, code and words."""
    status, told = record["response"]["status"], json.loads(body_of(record))["error"]

    async def refusing(_: Received, reply: Reply) -> None:
        await reply.json({"error": told}, status)

    async with against(refusing) as (adapter, _):
        _, error = await failed(adapter)
    by_status = {400: errors.InvalidRequestError, 404: errors.ModelNotFoundError, 500: errors.UnavailableError}
    expected = EXPECTED.get(told.get("code") or "", by_status.get(status, errors.AdapterError))
    assert isinstance(error, expected), told
    assert error.provider_status == status
    assert error.provider_code == (told.get("code") or told.get("type"))
    assert told["message"][:20] in error.message or "api key" in told["message"].lower()


async def test_no_key_leaks_into_an_error() -> None:
    """A server that repeats the key in its words does not carry it into ours."""

    async def repeating(_: Received, reply: Reply) -> None:
        await reply.json({"error": {"message": "Incorrect API key provided: sk-abcdefghijklmnop."}}, 401)

    async with against(repeating, api_key=SecretStr("sk-abcdefghijklmnop")) as (adapter, _):
        _, error = await failed(adapter)
        assert "sk-abcdefghijklmnop" not in repr(adapter)
    assert isinstance(error, errors.CredentialsError)
    assert "abcdefghijklmnop" not in error.message


async def test_a_prompt_that_a_filter_stops_is_an_ending() -> None:
    """A 400 of the content filter is an answer that finished, with notices, and no error."""

    async def filtering(_: Received, reply: Reply) -> None:
        error = {"code": "content_filter", "message": "Stopped by the content management policy."}
        await reply.json({"error": error}, 400, x_request_id="req_4")

    sampling = chat_pb2.Sampling(seed=1)
    async with against(filtering) as (adapter, _):
        events = await collected(adapter, call(request={"sampling": sampling}))
    assert [event.WhichOneof("event") for event in events] == ["started", "notice", "finished"]
    assert events[0].started.provider_request_id == "req_4"
    assert events[-1].finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert events[-1].finished.refusal.prompt_blocked


async def test_models_are_listed() -> None:
    """The list names provider and model, with the row as it stands and sizes where the server tells them."""
    rows = [
        {"id": MODEL, "object": "model", "created": 1, "owned_by": "openai"},
        {"id": "other/model", "context_length": 4096, "name": "Other"},
        {"object": "nameless"},
    ]

    async def listing(_: Received, reply: Reply) -> None:
        await reply.json({"object": "list", "data": rows})

    async with against(listing) as (adapter, served):
        assert isinstance(adapter, ListsModels)
        models = await adapter.list_models()
    assert served.received[0].line == "GET /v1/models HTTP/1.1"
    assert [model.name for model in models] == [f"openai/{MODEL}", "openai/other/model"]
    assert json.loads(models[0].provider_metadata_json) == rows[0]
    assert not models[0].HasField("context_window")
    assert (models[1].context_window, models[1].display_name) == (4096, "Other")


async def test_a_bare_list_of_models_is_read() -> None:
    """Together's way: the list alone."""

    async def listing(_: Received, reply: Reply) -> None:
        await reply.json([{"id": "m"}])

    async with against(listing) as (adapter, _):
        assert [model.model for model in await adapter.list_models()] == ["m"]


async def test_a_list_that_is_none_breaks_the_protocol() -> None:
    """Something else than a list of models is refused as such."""

    async def listing(_: Received, reply: Reply) -> None:
        await reply.json({"data": "x"})

    async with against(listing) as (adapter, _):
        with pytest.raises(errors.ProtocolError):
            await adapter.list_models()


async def test_tokens_are_counted() -> None:
    """The counter gets the prompt, and its number and JSON come back."""

    async def counting(_: Received, reply: Reply) -> None:
        await reply.json({"object": "response.input_tokens", "input_tokens": 11})

    async with against(counting) as (adapter, served):
        assert isinstance(adapter, CountsTokens)
        count = await adapter.count_tokens(call())
    assert served.received[0].line == "POST /v1/responses/input_tokens HTTP/1.1"
    assert set(served.received[0].json()) == {"model", "input"}
    assert count.input_tokens == 11
    assert json.loads(count.raw_json)["object"] == "response.input_tokens"


@pytest.mark.parametrize("what", ["list_models", "count_tokens"])
async def test_other_calls_fail_by_the_same_mapping(what: str) -> None:
    """Listing and counting raise the errors that a chat raises."""

    async def refusing(_: Received, reply: Reply) -> None:
        await reply.json({"error": {"message": "no", "code": "invalid_api_key"}}, 401)

    async with against(refusing) as (adapter, _):
        asked = adapter.list_models() if what == "list_models" else adapter.count_tokens(call())
        with pytest.raises(errors.CredentialsError):
            await asked


AZURE = Dialect(provider="azure", family="openai", api="chat", auth="api-key", address="azure")


@pytest.mark.parametrize(
    ("path", "version", "api", "line"),
    [
        ("", "", "chat", "/openai/v1/chat/completions"),
        ("", "", "responses", "/openai/v1/responses"),
        ("", "v1", "responses", "/openai/v1/responses"),
        ("/openai/v1/", "v1", "responses", "/openai/v1/responses"),
        ("/openai/v1", "preview", "responses", "/openai/v1/responses?api-version=preview"),
        ("", "2024-10-21", "chat", "/openai/deployments/my%2Fgpt/chat/completions?api-version=2024-10-21"),
        ("/openai", "2025-04-01", "responses", "/openai/responses?api-version=2025-04-01"),
        ("/models", "2024-05-01", "chat", "/models/chat/completions?api-version=2024-05-01"),
    ],
)
async def test_azure_has_three_addresses(path: str, version: str, api: str, line: str) -> None:
    """The address and the version decide the shape; the key goes into a header of its own."""
    options = {"api_version": version, "api": api}
    async with against(either, AZURE, path, options=options) as (adapter, served):
        await collected(adapter, call("my/gpt", unary=True))
    assert served.received[0].line == f"POST {line} HTTP/1.1"
    assert served.received[0].headers["api-key"] == KEY
    assert "authorization" not in served.received[0].headers


async def test_a_server_without_a_key_gets_none() -> None:
    """A local server is asked without credentials."""
    async with against(streaming, api_key=None) as (adapter, served):
        await collected(adapter, call())
    assert "authorization" not in served.received[0].headers


def test_a_wrong_setting_is_told() -> None:
    """EP_OPENAI_API takes three words; another one is told with the remedy."""
    [spec] = PROVIDERS
    assert spec.missing(ProviderConfig("openai", options={"api": "auto"})) == ""
    assert "EP_OPENAI_API" in spec.missing(ProviderConfig("openai", options={"api": "both"}))
