"""The synchronous client against a real socket."""

import gc
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.clients.platform_server import (
    SECONDS,
    Platform,
    abort,
    endless,
    failed,
    finished,
    opened,
    serving,
    spoken,
    started,
    texts,
    used,
)
from tests.ports import nobody

from execution_platform.client import (
    CallCancelledError,
    DeadlineExceededError,
    ExecutionPlatformClient,
    HealthStatus,
    NotFoundError,
    ProtocolViolationError,
    RateLimitedError,
    StreamBrokenError,
    TransportError,
    UnavailableError,
    assistant,
    user,
)
from execution_platform.v1 import chat_pb2, content_pb2, error_pb2


def test_a_chat_brings_the_whole_answer(client: ExecutionPlatformClient) -> None:
    """The answer has the text, the usage, the finish reason and the identifiers that the server told."""
    answer = client.chat("Hello")
    assert answer.text == str(answer) == "Hello"
    assert answer.finish_reason == "STOP"
    assert answer.usage == used()
    assert answer.request_id == "request-1"
    assert repr(answer) == "Answer('Hello', finish_reason='STOP')"


def test_a_stream_gives_batched_events_one_by_one(platform: Platform, client: ExecutionPlatformClient) -> None:
    """Events come singly and in order, however they travelled, and their fold is the answer."""
    events = spoken("a", "b", "c")
    platform.answering = lambda *_: [events[:1], events[1:4], events[4:]]
    with client.stream("Hello") as stream:
        kinds = [event.WhichOneof("event") for event in stream]
    assert kinds == ["started", "block_started", *["block_delta"] * 3, "finished"]
    assert stream.answer().text == stream.fold.text == "abc"


def test_text_deltas_are_the_text_alone(platform: Platform, client: ExecutionPlatformClient) -> None:
    """Text comes from deltas and from blocks that were given whole, and thinking is not among it."""
    thought = opened(content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(text="hm")))
    whole = opened(content_pb2.ContentBlock(text=content_pb2.TextBlock(text="whole ")))
    platform.answering = lambda *_: [[started(), thought, whole, *texts("and", " more", index=1), finished()]]
    with client.stream("Hello") as stream:
        assert list(stream.text_deltas()) == ["whole ", "and", " more"]
        assert stream.answer().thinking == "hm"


def test_the_answer_of_an_untouched_stream_reads_it_to_the_end(client: ExecutionPlatformClient) -> None:
    """Asking for the answer at once reads the whole stream, and may be asked again."""
    with client.stream("Hello") as stream:
        assert stream.answer().text == "Hello"
        assert stream.answer().text == "Hello"
        assert list(stream) == []


def test_leaving_a_stream_early_cancels_the_chat(platform: Platform, client: ExecutionPlatformClient) -> None:
    """The server sees the cancel when the with block is left, and reading on is an error."""
    platform.answering = lambda _, context: endless(context)
    with client.stream("Hello") as stream:
        assert next(stream.text_deltas()) == "first"
    assert platform.ended.wait(SECONDS)
    with pytest.raises(CallCancelledError) as caught:
        stream.answer()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "first"
    stream.close()


def test_a_forgotten_stream_cancels_the_chat(platform: Platform, client: ExecutionPlatformClient) -> None:
    """A stream that nobody holds any more is cancelled without a with block."""
    platform.answering = lambda _, context: endless(context)
    for event in client.stream("Hello"):
        assert event.HasField("started")
        break
    gc.collect()
    assert platform.ended.wait(SECONDS)


def test_another_thread_can_stop_a_stream(platform: Platform, client: ExecutionPlatformClient) -> None:
    """Closing a stream from elsewhere ends the waiting for its next event with an error."""
    platform.answering = lambda _, context: endless(context)
    stream = client.stream("Hello")
    assert next(stream.text_deltas()) == "first"
    closing = threading.Timer(0.05, stream.close)
    closing.start()
    with pytest.raises(CallCancelledError):
        stream.answer()
    closing.join()


def test_an_answer_can_be_sent_back_as_it_came(platform: Platform, client: ExecutionPlatformClient) -> None:
    """The second request has the first answer's message byte for byte, signature and all."""
    state = content_pb2.OpaqueState(kind="signature", data=b"\x00signed")
    signed = content_pb2.ContentBlock(family="f", text=content_pb2.TextBlock(text="one"), states=[state])
    platform.answering = lambda *_: [[started(), opened(signed), finished()]]
    history = [user("first")]
    history += [client.chat(history).message, user("second")]
    client.chat(history)
    sent = platform.requests[-1]
    assert isinstance(sent, chat_pb2.CompleteChatRequest)
    assert list(sent.chat.messages) == [
        user("first"),
        content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=[signed]),
        user("second"),
    ]


def test_a_refused_call_tells_everything(platform: Platform, client: ExecutionPlatformClient) -> None:
    """An error carries reason, message, retry-after, provider, its codes and the request's identifier."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.FromMilliseconds(2500)
    platform.failing = lambda context: abort(
        context,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "PROVIDER_RATE_LIMITED",
        "too many",
        retry,
        error_details_pb2.RequestInfo(request_id="r-7"),
        provider="openai",
        model="gpt",
        provider_status="429",
        provider_code="rate_limit_exceeded",
        provider_request_id="req_1",
        retryable="true",
    )
    with pytest.raises(RateLimitedError, match=r"^PROVIDER_RATE_LIMITED: too many$") as caught:
        client.chat("Hello")
    error = caught.value
    assert (error.reason, error.message, error.retry_after) == ("PROVIDER_RATE_LIMITED", "too many", 2.5)
    assert (error.provider, error.model, error.provider_status) == ("openai", "gpt", 429)
    assert (error.provider_code, error.provider_request_id) == ("rate_limit_exceeded", "req_1")
    assert (error.request_id, error.retryable, error.code) == ("r-7", True, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert isinstance(error.__cause__, grpc.RpcError)


def test_a_broken_stream_keeps_what_came(platform: Platform, client: ExecutionPlatformClient) -> None:
    """The error of a stream has the text and the usage up to the break, and comes again when asked again."""

    def breaking(_: chat_pb2.ChatRequest, context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
        detail = error_pb2.ErrorDetail(reason=error_pb2.ERROR_REASON_STREAM_BROKEN, message="cut", provider="p")
        yield [started(), opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())), *texts("half")]
        yield [failed(detail)]
        abort(context, grpc.StatusCode.UNAVAILABLE, "STREAM_BROKEN", "cut")

    platform.answering = breaking
    with client.stream("Hello") as stream:
        with pytest.raises(StreamBrokenError) as caught:
            stream.answer()
        with pytest.raises(StreamBrokenError):
            stream.answer()
    assert isinstance(caught.value, UnavailableError)
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.usage) == ("half", used(2))
    assert (caught.value.provider, caught.value.request_id) == ("p", "request-1")


def test_status_ok_without_finished_is_a_violation(platform: Platform, client: ExecutionPlatformClient) -> None:
    """A stream, and an answer, that end well without saying how are errors."""
    platform.answering = lambda *_: [[started()]]
    with client.stream("Hello") as stream, pytest.raises(ProtocolViolationError, match="without `finished`"):
        stream.answer()
    with pytest.raises(ProtocolViolationError, match="without `finished`"):
        client.chat("Hello")


def test_a_gap_in_the_numbers_ends_the_chat(platform: Platform, client: ExecutionPlatformClient) -> None:
    """A missing event is an error, and the chat is cancelled."""
    gap = started()
    gap.sequence = 2
    platform.answering = lambda _, context: chain([[gap]], endless(context))
    with pytest.raises(ProtocolViolationError, match="event 2 follows event 0"):
        list(client.stream("Hello"))
    assert platform.ended.wait(SECONDS)


def test_nobody_there_is_a_transport_error() -> None:
    """A target where nothing listens gives a TransportError that says another attempt may do."""
    with nobody() as closed, ExecutionPlatformClient(closed) as client:
        with pytest.raises(TransportError) as caught:
            client.chat("Hello")
        assert caught.value.retryable
        with pytest.raises(TransportError), client.stream("Hello") as stream:
            stream.answer()
        with pytest.raises(TransportError, match="could not be reached"):
            client.wait_until_ready(0.05)


def test_a_message_too_large_is_a_transport_error(target: str) -> None:
    """RESOURCE_EXHAUSTED that the platform did not state is the transport's, and not worth another attempt."""
    with ExecutionPlatformClient(target, max_send_bytes=1000) as client:
        with pytest.raises(TransportError, match="larger than max") as caught:
            client.chat("x" * 2000)
        assert caught.value.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not caught.value.retryable
        assert client.chat("small").text == "small"


def test_a_timeout_is_the_deadline_of_the_call(platform: Platform, target: str) -> None:
    """The client's timeout reaches the server, a call's own stands for it, and passing it is an error."""
    with ExecutionPlatformClient(target, timeout=500) as client:
        client.chat("Hello")
        client.chat("Hello", timeout=50)
        client_time, call_time = platform.time_remaining
        assert client_time is not None
        assert call_time is not None
        assert call_time < 400 < client_time < 600
        platform.answering = lambda _, context: endless(context)
        with pytest.raises(DeadlineExceededError), client.stream("Hello", timeout=0.05) as stream:
            stream.answer()


def test_no_timeout_leaves_the_time_to_the_server(platform: Platform, client: ExecutionPlatformClient) -> None:
    """Without a timeout the server sees no deadline."""
    client.chat("Hello")
    remaining = platform.time_remaining[0]
    assert remaining is None or remaining > 1e9  # grpc writes "no deadline" as one in the far future


def test_token_and_metadata_travel_with_every_call(platform: Platform, target: str) -> None:
    """The token is asked for at each call, and the metadata of client and call come along."""
    tokens = iter(["one", "two"])
    with ExecutionPlatformClient(target, token=lambda: next(tokens), metadata={"x-team": "blue"}) as client:
        client.chat("Hello")
        client.providers(metadata=[("x-call", "second")])
    assert [sent["authorization"] for sent in platform.metadata] == ["Bearer one", "Bearer two"]
    assert [sent["x-team"] for sent in platform.metadata] == ["blue", "blue"]
    assert platform.metadata[1]["x-call"] == "second"
    assert str(platform.metadata[0]["user-agent"]).startswith("execution-platform-client/")


def test_the_catalog_is_read_whole(platform: Platform, client: ExecutionPlatformClient) -> None:
    """Models come from all pages with what went wrong, and the rest as the server says it."""
    platform.models += ["other/model"]
    found = client.models()
    assert [model.name for model in found] == platform.models
    assert len(found) == 4
    assert [error.provider for error in found.errors] == ["broken"]
    assert [model.name for model in client.models("other")] == ["other/model"]
    assert client.model("other/model").name == "other/model"
    with pytest.raises(NotFoundError, match="MODEL_NOT_FOUND"):
        client.model("other/none")
    assert [provider.name for provider in client.providers()] == ["scripted", "other"]
    assert client.provider_status("scripted").finished_chats == 7
    assert [persona.name for persona in client.list_personas()] == ["reviewer", "writer"]
    assert client.get_persona("tester").name == "tester"
    assert client.explain_route(persona="dev").decided_by == "persona dev"
    assert client.server_info().version == "9.8.7"
    assert client.count_tokens("12345").input_tokens == 5


def test_health_is_that_of_the_standard_service(platform: Platform, client: ExecutionPlatformClient) -> None:
    """What the standard health service says is told, for the server and for one service."""
    platform.health.set("some.Service", 2)
    assert client.health() is HealthStatus.SERVING
    assert client.health("some.Service") is HealthStatus.NOT_SERVING
    with pytest.raises(NotFoundError):
        client.health("unknown.Service")


def test_a_unix_socket_is_a_target(platform: Platform, tmp_path: Path) -> None:
    """Both spellings of a unix socket reach the server, and a token may travel there."""
    with serving(platform, f"unix:{tmp_path}/s") as target:
        for spelling in (target, f"unix://{tmp_path}/s"):
            with ExecutionPlatformClient(spelling, token="made-up") as client:
                client.wait_until_ready(SECONDS)
                assert client.chat("Hello").text == "Hello"


def test_defaults_fill_what_a_call_leaves_out(platform: Platform, target: str) -> None:
    """A client's persona and model are sent, and another client over the same connection may have others."""
    with ExecutionPlatformClient(target, model="m", provider="p", persona="dev") as client:
        client.chat("Hello")
        client.with_defaults(model="n").chat("Hello")
        client.with_defaults(persona="ops").chat("Hello", model="other/x")
    sent = [(each.chat.model, each.chat.persona) for each in platform.requests]  # type: ignore[attr-defined]  # all are CompleteChatRequest
    assert sent == [("p/m", "dev"), ("n", "dev"), ("other/x", "ops")]


def test_closing_twice_is_closing_once(target: str) -> None:
    """A client may be closed again, and a closed one refuses calls."""
    client = ExecutionPlatformClient(target)
    client.close()
    client.close()
    with pytest.raises(ValueError, match="closed"):
        client.chat("Hello")


def test_a_channel_of_the_caller_stays_open(target: str) -> None:
    """A client over a channel that was handed in leaves it open when it closes."""
    with grpc.insecure_channel(target) as channel:
        for _ in range(2):
            with ExecutionPlatformClient(channel=channel) as client:
                assert client.chat(assistant("Hello")).text == "Hello"
