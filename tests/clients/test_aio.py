"""The asynchronous client against a real socket."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import grpc
import pytest
from tests.clients.platform_server import (
    SECONDS,
    Platform,
    abort,
    endless,
    failed,
    opened,
    spoken,
    started,
    texts,
    used,
)
from tests.ports import nobody

from execution_platform.client import (
    Answer,
    AsyncChatStream,
    AsyncExecutionPlatformClient,
    CallCancelledError,
    DeadlineExceededError,
    HealthStatus,
    ProtocolViolationError,
    StreamBrokenError,
    TransportError,
)
from execution_platform.v1 import chat_pb2, content_pb2, error_pb2


async def ended(platform: Platform) -> bool:
    """Wait until the server has seen the end of a chat."""
    return await asyncio.to_thread(platform.ended.wait, SECONDS)


async def waiting_for_more(stream: AsyncChatStream) -> asyncio.Task[Answer]:
    """Return a task that has read the stream's first text and waits for what comes next."""
    assert await anext(stream.text_deltas()) == "first"
    running = asyncio.create_task(stream.answer())
    await asyncio.sleep(0)
    return running


async def test_a_chat_brings_the_whole_answer(async_client: AsyncExecutionPlatformClient) -> None:
    """The answer has the text, the usage and the finish reason that the server told."""
    answer = await async_client.chat("Hello")
    assert (answer.text, answer.finish_reason, answer.usage) == ("Hello", "STOP", used())


async def test_a_stream_gives_batched_events_one_by_one(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """Events come singly and in order, however they travelled, and their fold is the answer."""
    events = spoken("a", "b", "c")
    platform.answering = lambda *_: [events[:1], events[1:4], events[4:]]
    async with async_client.stream("Hello") as stream:
        kinds = [event.WhichOneof("event") async for event in stream]
    assert kinds == ["started", "block_started", *["block_delta"] * 3, "finished"]
    assert (await stream.answer()).text == stream.fold.text == "abc"
    assert [event async for event in stream] == []


async def test_leaving_a_stream_early_cancels_the_chat(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """The server sees the cancel when iterating over the text is broken off, and reading on is an error."""
    platform.answering = lambda _, context: endless(context)
    async with async_client.stream("Hello") as stream:
        async for text in stream.text_deltas():
            assert text == "first"
            break
    assert await ended(platform)
    with pytest.raises(CallCancelledError) as caught:
        await stream.answer()
    assert caught.value.partial is not None
    assert caught.value.partial.text == "first"
    await stream.aclose()


async def test_cancelling_the_task_cancels_the_chat(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """A cancelled task ends with CancelledError, and the server sees the cancel."""
    platform.answering = lambda _, context: endless(context)
    stream = async_client.stream("Hello")
    running = await waiting_for_more(stream)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert running.cancelled()
    assert await ended(platform)


async def test_closing_elsewhere_is_no_cancelled_task(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """A stream that another task closes ends with an error of ours, never with CancelledError."""
    platform.answering = lambda _, context: endless(context)
    stream = async_client.stream("Hello")
    running = await waiting_for_more(stream)
    await stream.aclose()
    with pytest.raises(CallCancelledError):
        await running


async def test_closing_the_client_ends_a_running_call(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """A call that runs while its client is closed ends with an error of ours."""
    platform.answering = lambda _, context: endless(context)
    running = asyncio.create_task(async_client.chat("Hello"))
    assert await asyncio.to_thread(platform.arrived.wait, SECONDS)
    await async_client.aclose()
    with pytest.raises(CallCancelledError):
        await running
    await async_client.aclose()
    with pytest.raises(RuntimeError, match="closed"):
        await async_client.chat("Hello")


async def test_a_timeout_of_asyncio_stays_a_timeout(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """A surrounding asyncio.timeout ends with TimeoutError, and the server sees the cancel."""
    platform.answering = lambda _, context: endless(context)

    async def too_late() -> None:
        async with asyncio.timeout(None) as limit, async_client.stream("Hello") as stream:
            assert await anext(stream.text_deltas()) == "first"
            limit.reschedule(asyncio.get_running_loop().time())
            await stream.answer()

    with pytest.raises(TimeoutError):
        await too_late()
    assert await ended(platform)


async def test_a_passed_deadline_is_an_error(platform: Platform, async_client: AsyncExecutionPlatformClient) -> None:
    """The timeout of a call that passes raises DeadlineExceededError."""
    platform.answering = lambda _, context: endless(context)
    with pytest.raises(DeadlineExceededError):
        await async_client.chat("Hello", timeout=0.05)


async def test_a_broken_stream_keeps_what_came(platform: Platform, async_client: AsyncExecutionPlatformClient) -> None:
    """The error of a stream has the text and usage up to the break, and comes again when asked again."""

    def breaking(_: chat_pb2.ChatRequest, context: Any) -> Iterator[list[chat_pb2.ChatEvent]]:
        yield [started(), opened(content_pb2.ContentBlock(text=content_pb2.TextBlock())), *texts("half")]
        yield [failed(error_pb2.ErrorDetail(reason=error_pb2.ERROR_REASON_STREAM_BROKEN, message="cut"))]
        abort(context, grpc.StatusCode.UNAVAILABLE, "STREAM_BROKEN", "cut")

    platform.answering = breaking
    async with async_client.stream("Hello") as stream:
        with pytest.raises(StreamBrokenError) as caught:
            await stream.answer()
        with pytest.raises(StreamBrokenError):
            await stream.answer()
    assert caught.value.partial is not None
    assert (caught.value.partial.text, caught.value.usage) == ("half", used(2))
    assert caught.value.request_id == "request-1"


async def test_status_ok_without_finished_is_a_violation(
    platform: Platform, async_client: AsyncExecutionPlatformClient
) -> None:
    """A stream that ends well without saying how is an error."""
    platform.answering = lambda *_: [[started()]]
    async with async_client.stream("Hello") as stream:
        with pytest.raises(ProtocolViolationError, match="without `finished`"):
            await stream.answer()


async def test_nobody_there_is_a_transport_error() -> None:
    """A target where nothing listens gives a TransportError."""
    with nobody() as closed:
        async with AsyncExecutionPlatformClient(closed) as client:
            with pytest.raises(TransportError):
                await client.chat("Hello")
            with pytest.raises(TransportError, match="could not be reached"):
                await client.wait_until_ready(0.05)


async def test_the_catalog_is_read_whole(platform: Platform, async_client: AsyncExecutionPlatformClient) -> None:
    """Models come from all pages, and the rest as the server says it."""
    await async_client.wait_until_ready(SECONDS)
    assert [model.name for model in await async_client.models()] == platform.models
    assert (await async_client.model("scripted/model-0000")).name == "scripted/model-0000"
    assert [provider.name for provider in await async_client.providers()] == ["scripted", "other"]
    assert (await async_client.provider_status("scripted")).finished_chats == 7
    assert [persona.name for persona in await async_client.list_personas()] == ["reviewer", "writer"]
    assert (await async_client.get_persona("tester")).name == "tester"
    assert (await async_client.explain_route("Hello", persona="dev")).decided_by == "persona dev"
    assert (await async_client.server_info()).version == "9.8.7"
    assert (await async_client.count_tokens("12345")).input_tokens == 5
    assert await async_client.health() is HealthStatus.SERVING


async def test_many_streams_share_a_client(async_client: AsyncExecutionPlatformClient) -> None:
    """Chats that run at the same time over one client each get their own answer."""

    async def ask(number: int) -> str:
        async with async_client.stream(f"say {number}") as stream:
            return (await stream.answer()).text

    assert await asyncio.gather(*(ask(number) for number in range(20))) == [f"say {number}" for number in range(20)]


async def test_a_channel_of_the_caller_stays_open(target: str) -> None:
    """A client over a channel that was handed in leaves it open when it closes."""
    async with grpc.aio.insecure_channel(target) as channel:
        for _ in range(2):
            async with AsyncExecutionPlatformClient(channel=channel) as client:
                assert (await client.chat("Hello")).text == "Hello"


def test_a_client_belongs_to_one_event_loop(target: str) -> None:
    """A client may be made before any loop runs, and says so when a second loop uses it."""
    client = AsyncExecutionPlatformClient(target)

    async def ask() -> str:
        return (await client.chat("Hello")).text

    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert first.run(ask()) == "Hello"
        with pytest.raises(RuntimeError, match="another event loop"):
            second.run(ask())
        with suppress(asyncio.CancelledError):
            first.run(client.aclose())
