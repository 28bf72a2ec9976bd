"""The adapter against a real HTTP server: what goes out, what comes back, and how streams end."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr
from tests.adapters.upstream import Handler, Received, Reply, Upstream, upstream

from execution_platform.adapters import errors
from execution_platform.adapters.gemini import PROVIDERS
from execution_platform.adapters.gemini.adapter import GeminiAdapter
from execution_platform.adapters.gemini.preparation import Preparation
from execution_platform.adapters.spi import (
    Adapter,
    Call,
    CountsTokens,
    Events,
    ListsModels,
    ProviderConfig,
    Timeouts,
)
from execution_platform.adapters.testing import check_adapter, check_stream
from execution_platform.v1 import chat_pb2, content_pb2

MODEL = "gemini-3.8-flash"
KEY = "made-up-key"
FIRST = b'data: {"candidates": [{"content": {"parts": [{"text": "Hel"}],"role": "model"}}],"responseId":"R"}\r\n\r\n'
LAST = b'data: {"candidates": [{"content": {"parts": [{"text": "lo"}]},"finishReason": "STOP"}]}\r\n\r\n'
WHOLE = b'{"candidates":[{"content":{"parts":[{"text":"Hello"}]},"finishReason":"STOP"}],"responseId":"R"}'


def adapter_for(server: Upstream, **timeouts: float) -> GeminiAdapter:
    config = ProviderConfig(
        "gemini", SecretStr(KEY), server.url + "/base", {"api_version": "v1beta"}, Timeouts(**timeouts)
    )
    made = PROVIDERS[0].create(config)
    assert isinstance(made, GeminiAdapter)
    return made


def a_call(*, unary: bool = False, model: str = MODEL) -> Call:
    request = chat_pb2.ChatRequest()
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = "hello"
    return Call(request, model, request_id="chat-1", unary=unary)


async def all_of(adapter: Adapter, call: Call) -> list[Events]:
    async with contextlib.aclosing(adapter.stream(call)) as lists:
        return [events async for events in lists]


async def until_it_fails(adapter: Adapter, call: Call) -> tuple[list[str | None], errors.AdapterError | None]:
    """Return the kinds of the events that came, and the error that ended them."""
    said: list[str | None] = []
    try:
        async with contextlib.aclosing(adapter.stream(call)) as lists:
            async for events in lists:
                said += [event.WhichOneof("event") for event in events]
    except errors.AdapterError as error:
        return said, error
    return said, None


@contextlib.asynccontextmanager
async def running(handler: Handler, **timeouts: float) -> AsyncIterator[tuple[GeminiAdapter, Upstream]]:
    async with upstream(handler) as server:
        adapter = adapter_for(server, **timeouts)
        try:
            yield adapter, server
        finally:
            await adapter.aclose()


async def hello(received: Received, reply: Reply) -> None:
    """Answer as the method wants it."""
    if ":generateContent" in received.target:
        await reply.json(WHOLE)
        return
    await reply.head()
    await reply.piece(FIRST)
    await reply.piece(LAST)
    await reply.end()


async def test_a_request_goes_out_as_the_sdk_would_send_it() -> None:
    """Address, key and the SDK's headers are there; the body is the adapter's own."""
    async with running(hello) as (adapter, server):
        answer = check_stream(await all_of(adapter, a_call()), family="gemini")
    (seen,) = server.received
    assert answer.text() == "Hello"
    assert (seen.method, seen.target) == ("POST", f"/base/v1beta/models/{MODEL}:streamGenerateContent?alt=sse")
    assert seen.headers["x-goog-api-key"] == KEY
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["user-agent"].startswith("google-genai-sdk/")
    assert seen.headers["host"] == server.url.removeprefix("http://")
    assert seen.json() == {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}


async def test_a_whole_answer_says_what_a_stream_says() -> None:
    """Asked without streaming, the adapter calls generateContent and gives the same text."""
    async with running(hello) as (adapter, server):
        answer = check_stream(await all_of(adapter, a_call(unary=True)), family="gemini")
    assert answer.text() == "Hello"
    assert server.received[0].target == f"/base/v1beta/models/{MODEL}:generateContent"


async def test_nothing_of_the_process_environment_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that the SDK reads by itself change neither address, version, key nor transport."""
    for name, value in {
        "GOOGLE_API_KEY": "made-up-other",
        "GEMINI_API_KEY": "made-up-other",
        "GOOGLE_GEMINI_BASE_URL": "http://127.0.0.1:9/other",
        "GOOGLE_GENAI_API_VERSION": "v9",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "GOOGLE_GENAI_USE_ENTERPRISE": "true",
        "GOOGLE_CLOUD_PROJECT": "other",
        "GOOGLE_CLOUD_LOCATION": "other",
        "GOOGLE_GENAI_CLIENT_MODE": "replay",
        "GOOGLE_GENAI_REPLAYS_DIRECTORY": "/nowhere",
    }.items():
        monkeypatch.setenv(name, value)
    async with running(hello) as (adapter, server):
        await all_of(adapter, a_call())
    assert server.received[0].headers["x-goog-api-key"] == KEY
    assert server.received[0].target.startswith(f"/base/v1beta/models/{MODEL}:")
    assert "other" not in str(server.received[0].headers)


async def test_preparing_a_request_sends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK's own request never leaves the process, not even to a proxy that the environment names."""
    async with upstream(hello) as server:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, server.url)
        preparation = Preparation(KEY, "http://gemini.example", "v1beta")
        url, headers = await preparation.method(MODEL, "generateContent")
        await preparation.aclose()
        await preparation.aclose()
    assert url == f"http://gemini.example/v1beta/models/{MODEL}:generateContent"
    assert dict(headers)["x-goog-api-key"] == KEY
    assert server.received == []


async def test_each_model_has_its_own_address() -> None:
    """Requests of different models that run at the same time do not mix."""
    async with running(hello) as (adapter, server):
        models = [f"gemini-{number}" for number in range(8)]
        await asyncio.gather(*(all_of(adapter, a_call(model=model)) for model in models * 2))
    targets = [seen.target for seen in server.received]
    assert sorted(targets) == sorted(
        f"/base/v1beta/models/{model}:streamGenerateContent?alt=sse" for model in models * 2
    )


@pytest.mark.parametrize("model", ["a?b", "a#b", "a b", "../x", "a%2Fb", "a\nb"])
async def test_a_name_that_cannot_be_a_models_is_refused(model: str) -> None:
    """What would change the address is an error that names the field, before anything is sent."""
    async with running(hello) as (adapter, server):
        with pytest.raises(errors.InvalidRequestError) as caught:
            await all_of(adapter, a_call(model=model))
    assert caught.value.field == "model"
    assert server.received == []


async def test_the_adapter_keeps_the_promises_of_the_seam() -> None:
    """Streams to the end, unary, closed and cancelled in the middle, several at once, leave nothing behind."""

    async def slowly(received: Received, reply: Reply) -> None:
        if ":generateContent" in received.target:
            await reply.json(WHOLE)
            return
        await reply.head()
        for _ in range(5):
            await reply.piece(FIRST)
            await asyncio.sleep(0.01)
        await reply.piece(LAST)
        await reply.end()

    async with upstream(slowly) as server:
        answer = await check_adapter(lambda: adapter_for(server), a_call(), family="gemini")
        await server.quiet.wait()
    assert answer.text() == "Hel" * 5 + "lo"


async def test_closing_a_stream_closes_its_connection() -> None:
    """A stream that is given up in the middle ends the upstream request at once."""

    async def endless(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(FIRST)
        await reply.hold()

    async with running(endless) as (adapter, server):
        async with contextlib.aclosing(adapter.stream(a_call())) as lists:
            async for _ in lists:
                break
        await server.quiet.wait()
        assert server.connections == 0


async def test_a_cut_stream_is_broken() -> None:
    """A connection that goes away in the middle is StreamBroken, after the text that came."""

    async def cut(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(FIRST)
        await reply.cut()

    async with running(cut) as (adapter, _):
        said, error = await until_it_fails(adapter, a_call())
    assert isinstance(error, errors.StreamBrokenError)
    assert "block_delta" in said


async def test_a_stream_that_ends_without_a_reason_is_broken() -> None:
    """A stream that ends properly but early is StreamBroken too."""

    async def early(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(FIRST)
        await reply.end()

    async with running(early) as (adapter, _):
        with pytest.raises(errors.StreamBrokenError):
            await all_of(adapter, a_call())


async def test_silence_is_a_timeout() -> None:
    """An upstream that says nothing for longer than the read timeout is ProviderTimeout."""

    async def silent(_: Received, reply: Reply) -> None:
        await reply.hold()

    async with running(silent, read=0.05) as (adapter, _):
        with pytest.raises(errors.ProviderTimeoutError):
            await all_of(adapter, a_call())


async def test_nobody_there_is_unavailable() -> None:
    """An address at which nobody listens is Unavailable."""
    async with upstream(hello) as server:
        pass
    adapter = adapter_for(server)
    try:
        with pytest.raises(errors.UnavailableError):
            await all_of(adapter, a_call())
    finally:
        await adapter.aclose()


@pytest.mark.parametrize("unary", [False, True])
async def test_a_rate_limit_says_when_to_come_back(*, unary: bool) -> None:
    """Status 429 is RateLimited with the body's delay, streamed or not; the key is in no message."""
    body = {
        "error": {
            "code": 429,
            "message": f"Quota exceeded for {KEY}?",
            "status": "RESOURCE_EXHAUSTED",
            "details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.4s"}],
        }
    }

    async def limited(_: Received, reply: Reply) -> None:
        await reply.json(body, 429)

    async with running(limited) as (adapter, _):
        with pytest.raises(errors.RateLimitedError) as caught:
            await all_of(adapter, a_call(unary=unary))
    assert KEY not in str(caught.value)
    assert (caught.value.retry_after, caught.value.retryable, caught.value.provider_status) == (34.4, True, 429)


async def test_a_filters_error_is_an_answer() -> None:
    """A prompt that a filter stops by an error status is finished, not failed."""

    async def blocked(_: Received, reply: Reply) -> None:
        said = {
            "error": {"code": 400, "message": "The prompt was blocked: Responsible AI.", "status": "INVALID_ARGUMENT"}
        }
        await reply.json(said, 400)

    async with running(blocked) as (adapter, _):
        answer = check_stream(await all_of(adapter, a_call()))
    assert answer.finished is not None
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert answer.finished.refusal.prompt_blocked


async def test_tokens_are_counted() -> None:
    """CountTokens gets the whole request, and its number and JSON come back."""

    async def count(_: Received, reply: Reply) -> None:
        await reply.json(b'{"totalTokens": 31, "promptTokensDetails": []}')

    async with running(count) as (adapter, server):
        assert isinstance(adapter, CountsTokens)
        counted = await adapter.count_tokens(a_call())
    assert (counted.input_tokens, counted.raw_json) == (31, '{"totalTokens": 31, "promptTokensDetails": []}')
    assert server.received[0].target == f"/base/v1beta/models/{MODEL}:countTokens"
    assert "generateContentRequest" in server.received[0].json()


async def test_models_are_listed_page_by_page() -> None:
    """All pages are read; models that generate nothing are left out; what Google says of one stays verbatim."""
    pages = {
        "": b'{"models":[{"name":"models/a","displayName":"A","inputTokenLimit":10,"outputTokenLimit":5,'
        b'"supportedGenerationMethods":["generateContent"]},{"name":"models/e",'
        b'"supportedGenerationMethods":["embedContent"]}],"nextPageToken":"two"}',
        "two": b'{"models":[{"name":"models/b"}]}',
    }

    async def listing(received: Received, reply: Reply) -> None:
        token = "two" if "pageToken=two" in received.target else ""
        await reply.json(pages[token])

    async with running(listing) as (adapter, server):
        assert isinstance(adapter, ListsModels)
        models = await adapter.list_models()
    assert [(model.provider, model.model, model.display_name) for model in models] == [
        ("gemini", "a", "A"),
        ("gemini", "b", ""),
    ]
    assert (models[0].context_window, models[0].max_output_tokens) == (10, 5)
    assert json.loads(models[0].provider_metadata_json)["name"] == "models/a"
    assert not models[1].HasField("context_window")
    assert [seen.method for seen in server.received] == ["GET", "GET"]
    assert server.received[0].target.startswith("/base/v1beta/models?pageSize=1000")
    assert server.received[0].headers["x-goog-api-key"] == KEY


async def test_a_refused_key_fails_every_function() -> None:
    """Counting and listing map failures as chats do."""

    async def refused(_: Received, reply: Reply) -> None:
        said = {"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}
        await reply.json(said, 400)

    async with running(refused) as (adapter, _):
        with pytest.raises(errors.CredentialsError):
            await adapter.count_tokens(a_call())
        with pytest.raises(errors.CredentialsError):
            await adapter.list_models()


async def test_without_a_key_nothing_is_sent() -> None:
    """An adapter without a key, or with an ephemeral token, says so when it is used."""
    for key, words in ((None, "EP_GEMINI_API_KEY"), (SecretStr("auth_tokens/x"), "ephemeral")):
        adapter = PROVIDERS[0].create(ProviderConfig("gemini", key, "http://127.0.0.1:9"))
        with pytest.raises(errors.NotConfiguredError, match=words):
            await all_of(adapter, a_call())
        await adapter.aclose()


async def test_an_error_that_the_server_tells_without_ending_comes_at_once() -> None:
    """An error inside a stream does not wait for the server to close the connection."""

    async def stuck(_: Received, reply: Reply) -> None:
        await reply.head()
        await reply.piece(FIRST + b'data: {"error":{"code":503,"status":"UNAVAILABLE","message":"m"}}\r\n\r\n')
        await reply.hold()

    async with running(stuck) as (adapter, server):
        said, error = await until_it_fails(adapter, a_call())
        await server.quiet.wait()
    assert isinstance(error, errors.OverloadedError)
    assert "block_delta" in said


def test_the_provider_is_declared() -> None:
    """One provider, whose default model is one that is known, and whose key is needed."""
    (spec,) = PROVIDERS
    assert (spec.name, spec.family, spec.needs_key) == ("gemini", "gemini", True)
    assert spec.default_model in {model.name for model in spec.models}
    assert [(option.name, option.default) for option in spec.options] == [("api_version", "v1beta")]
