"""Callers that stop reading, or leave no time: each stream ends, and never with OK in place of an end."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from tests.server.conftest import (
    Serve,
    Served,
    chat_request,
    error_info,
    events_of,
    failed_stream,
    kinds,
    open_streams,
    until,
)

from execution_platform.server.chat.pipeline import CallerGoneError
from execution_platform.server.services.stream import ResponseStream
from execution_platform.v1 import chat_pb2

#: More than fits between a server and a caller that does not read.
FLOOD = [{"repeat": {"times": 5_000, "steps": [{"text": "x" * 1_000}, {"pause_ms": 0}]}}]


async def test_a_caller_that_does_not_read_holds_a_place_no_longer_than_its_time(serve: Serve) -> None:
    """A stream that nobody reads ends after the default deadline; who reads it later learns how, and misses nothing."""
    async with serve({"EP_DEFAULT_DEADLINE_SECONDS": "0.5"}) as served:
        calls = [served.chat.Chat(chat_request(FLOOD)) for _ in range(20)]
        await until(lambda: len(served.log_lines("chat")) == len(calls))
        await until(lambda: served.app.admission.running == 0 and open_streams(served) == 0)
        for call in calls:
            events, error = await failed_stream(call)
            assert (error.code(), error_info(error).reason) == (
                grpc.StatusCode.DEADLINE_EXCEEDED,
                "DEADLINE_EXCEEDED",
            )
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


async def test_draining_ends_chats_that_nobody_reads(serve: Serve) -> None:
    """A chat whose caller does not read is ended by the drain, and its status says so."""
    async with serve({"EP_DRAIN_SECONDS": "0.1"}) as served:
        call = served.chat.Chat(chat_request(FLOOD))
        await until(lambda: served.app.admission.running == 1)
        shutdown = asyncio.create_task(served.app.shut_down())
        await until(lambda: served.app.admission.running == 0)
        _, error = await failed_stream(call)
        await shutdown
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")


@pytest.mark.parametrize("timeout", [0.0, 0.0005, 0.001, 0.003])
async def test_a_deadline_that_passes_during_a_write_never_ends_with_ok(served: Served, timeout: float) -> None:
    """Whenever the deadline passes, the end is DEADLINE_EXCEEDED: OK would say that the answer is complete."""
    for _ in range(100):
        call = served.chat.Chat(chat_request([{"text": "a"}, {"hang": True}]), timeout=timeout)
        _, error = await failed_stream(call)
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


class OneAtATime:
    """Takes messages as grpc does: a write that was interrupted goes on, and meanwhile another is refused."""

    def __init__(self) -> None:
        self.taken: list[int] = []
        self.reading = asyncio.Event()
        self._busy: asyncio.Task[None] | None = None

    async def write(self, message: chat_pb2.ChatResponse) -> None:
        """Take a message once somebody reads. Raises RuntimeError while the one before is not taken."""
        if self._busy is not None and not self._busy.done():
            raise RuntimeError("too many operations")
        self._busy = asyncio.create_task(self._take(message))
        await asyncio.shield(self._busy)

    async def _take(self, message: chat_pb2.ChatResponse) -> None:
        await self.reading.wait()
        self.taken += [event.sequence for event in message.events]


def texts(*sizes: int) -> list[chat_pb2.ChatEvent]:
    """Deltas of these sizes."""
    return [chat_pb2.ChatEvent(block_delta=chat_pb2.BlockDelta(text="x" * size)) for size in sizes]


async def test_what_follows_an_interrupted_write_is_neither_lost_nor_misnumbered() -> None:
    """Behind a write that was interrupted the next message waits for its turn, and continues the numbers sent."""
    wire = OneAtATime()
    stream = ResponseStream(wire.write, heartbeat=3600)
    # Two messages: the second is never written, so that its number is free again.
    sending = asyncio.create_task(stream.send(texts(700_000, 700_000)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    asyncio.get_running_loop().call_later(0.05, wire.reading.set)
    await stream.send(texts(1))
    await stream.aclose()
    assert wire.taken == [1, 2]


async def test_a_caller_that_never_reads_again_is_given_up() -> None:
    """Behind a write that never ends the next one is given up rather than waited for without bound."""
    wire = OneAtATime()
    stream = ResponseStream(wire.write, heartbeat=3600)
    sending = asyncio.create_task(stream.send(texts(1)))
    await asyncio.sleep(0)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    with pytest.raises(CallerGoneError):
        await stream.send(texts(1))
    await stream.aclose()
    wire.reading.set()
