"""How long a process of a provider's own took to start is told: to the caller, in the log, and in the metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncGenerator
from contextlib import aclosing

import grpc.aio
from tests.server.conftest import Serve, chat_request, events_of, until
from tests.server.test_metrics import METERED, scrape, value

from execution_platform.adapters import scripted
from execution_platform.adapters.errors import UnavailableError
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events
from execution_platform.v1 import chat_pb2


class Starting(ScriptedAdapter):
    """Has a process of its own, which takes a second and a half to start; fails behind that if the model says so."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Start, then answer."""
        call.on_startup(1.5)
        if call.model == "crash":
            raise UnavailableError("the process is gone")
        async with aclosing(super().stream(call)) as stream:
            async for events in stream:
                yield events


STARTING = dataclasses.replace(scripted.PROVIDERS[0], name="starting", create=lambda _: Starting(), automatic_rank=None)


async def test_a_start_is_told(serve: Serve) -> None:
    """Beside the server's own times `finished` has the start, streamed and whole; the log and the metrics have it."""
    async with serve(METERED, [STARTING]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="starting")))
        request = chat_pb2.CompleteChatRequest(chat=chat_request(model="starting"))
        whole = await served.chat.CompleteChat(request)
        await until(lambda: len(served.log_lines("chat")) == 2)
        samples = await scrape(served.app.metrics_endpoint)
        lines = served.log_lines("chat")
    for finished in (events[-1].finished, whole.finished):
        assert finished.timing.startup.ToMilliseconds() == 1_500
        assert finished.timing.HasField("total")
        assert finished.timing.HasField("first_token")
    assert [line["startup_ms"] for line in lines] == [1500.0, 1500.0]
    assert value(samples, "ep_attempt_startup_seconds_sum", provider="starting") == 3.0


async def test_a_start_is_told_of_what_fails_behind_it(serve: Serve) -> None:
    """A chat that fails once its process runs tells the start all the same."""
    async with serve(specs=[STARTING]) as served:
        told: list[chat_pb2.ChatEvent] = []
        try:
            async for response in served.chat.Chat(chat_request(model="starting/crash")):
                told += response.events
        except grpc.aio.AioRpcError:
            pass
    assert told[-1].failed.timing.startup.ToMilliseconds() == 1_500


async def test_who_has_no_process_tells_no_start(serve: Serve) -> None:
    """Where nothing had to be started, nothing is told of it."""
    async with serve() as served:
        events = await events_of(served.chat.Chat(chat_request()))
    assert not events[-1].finished.timing.HasField("startup")
