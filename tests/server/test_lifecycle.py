"""Room, ids, draining, health and what is left behind: nothing."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import random
import socket
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2
from tests.server.conftest import (
    Serve,
    Served,
    chat_request,
    details_of,
    error_info,
    events_of,
    failed_stream,
    kinds,
    open_streams,
    until,
)
from tests.server.test_routing import BARE

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.chat.register import RequestRegister
from execution_platform.server.errors import RequestIdReusedError
from execution_platform.server.listening import ListenError
from execution_platform.v1 import catalog_pb2, chat_pb2, error_pb2

ID = "0b5f1d6e-6a0b-4c59-9f0c-0a3b6d1a2c4e"
HANG = [{"text": "a"}, {"hang": True}]


async def first_message(call: grpc.aio.UnaryStreamCall[chat_pb2.ChatRequest, chat_pb2.ChatResponse]) -> None:
    """Wait until a stream has begun."""
    async for _ in call:
        break


async def test_chats_beyond_the_limit_are_refused_at_once(serve: Serve) -> None:
    """When all places are taken a chat is UNAVAILABLE with RetryInfo, and a freed place is given again."""
    async with serve({"EP_MAX_CONCURRENT_CHATS": "1"}) as served:
        first = served.chat.Chat(chat_request(HANG))
        await first_message(first)
        _, error = await failed_stream(served.chat.Chat(chat_request()))
        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_OVERLOADED")
        assert any(part.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for part in details_of(error).details)
        first.cancel()
        await until(lambda: served.app.admission.running == 0)
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


async def test_id_that_is_running_is_aborted(served: Served) -> None:
    """A second request with an id that is running is ABORTED with RetryInfo, and may come again afterwards."""
    first = served.chat.Chat(chat_request(HANG, request_id=ID))
    await first_message(first)
    _, error = await failed_stream(served.chat.Chat(chat_request(HANG, request_id=ID.upper())))
    assert error.code() in {grpc.StatusCode.ABORTED, grpc.StatusCode.INVALID_ARGUMENT}
    _, error = await failed_stream(served.chat.Chat(chat_request(HANG, request_id=ID)))
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.ABORTED, "REQUEST_IN_PROGRESS")
    first.cancel()


async def test_id_with_another_body_is_refused(served: Served) -> None:
    """An id that came with another body is INVALID_ARGUMENT; with the same body it runs again."""
    await events_of(served.chat.Chat(chat_request(text="one", request_id=ID)))
    _, error = await failed_stream(served.chat.Chat(chat_request(text="two", request_id=ID)))
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_ID_REUSED")
    assert kinds(await events_of(served.chat.Chat(chat_request(text="one", request_id=ID))))[-1] == "finished"


def test_register_forgets_the_oldest() -> None:
    """Only the last ids are remembered, so memory stays bounded."""
    register = RequestRegister(remember=2)
    ids = [f"{number:08d}-6a0b-4c59-9f0c-0a3b6d1a2c4e" for number in range(3)]
    for each in ids:
        with register.running(chat_request(text="one", request_id=each)):
            pass
    with register.running(chat_request(text="two", request_id=ids[0])):
        pass
    with pytest.raises(RequestIdReusedError), register.running(chat_request(text="two", request_id=ids[2])):
        pass


class GatedAdapter(ScriptedAdapter):
    """An adapter that finishes its answer when its gate is opened."""

    def __init__(self) -> None:
        super().__init__([{"text": "a"}, {"pause_ms": 1}, {"text": "b"}])
        self.gate = asyncio.Event()

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Say something, wait for the gate, and say the rest."""
        async with contextlib.aclosing(super().stream(dataclasses.replace(call, model="echo"))) as stream:
            async for events in stream:
                yield events
                if any(event.HasField("block_delta") for event in events):
                    await self.gate.wait()


async def test_draining_lets_chats_finish_and_takes_no_more(serve: Serve) -> None:
    """While draining a running chat finishes, a new one is refused, and health says NOT_SERVING."""
    gated = GatedAdapter()
    waiting = dataclasses.replace(BARE, name="gated", create=lambda _: gated)
    async with serve({}, [waiting]) as served:
        names = ["", "execution_platform.v1.ChatService", "execution_platform.v1.CatalogService"]
        before = [await served.health(name) for name in names]
        assert before == [health_pb2.HealthCheckResponse.SERVING] * 3
        running = served.chat.Chat(chat_request(model="gated/x"))
        await first_message(running)
        shutdown = asyncio.create_task(served.app.shut_down())
        await until(lambda: served.app.admission.draining)
        after = [await served.health(name) for name in names]
        assert after == [health_pb2.HealthCheckResponse.NOT_SERVING] * 3
        _, error = await failed_stream(served.chat.Chat(chat_request()))
        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")
        gated.gate.set()
        assert kinds(await events_of(running))[-1] == "finished"
        await shutdown
        assert not served.app.admission.ended


async def test_chat_that_outlasts_the_grace_time_is_told(serve: Serve) -> None:
    """A chat that still runs after the grace time ends with failed and UNAVAILABLE, not with silence."""
    async with serve({"EP_DRAIN_SECONDS": "0.1"}) as served:
        running = served.chat.Chat(chat_request(HANG))
        await first_message(running)
        shutdown = asyncio.create_task(served.app.shut_down())
        events, error = await failed_stream(running)
        await shutdown
    assert events[-1].failed.error.reason == error_pb2.ERROR_REASON_DRAINING
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_provider_failures_never_flip_health(served: Served) -> None:
    """A failing provider leaves the server SERVING."""
    await failed_stream(served.chat.Chat(chat_request([{"error": {"reason": "PROVIDER_UNAVAILABLE"}}])))
    assert await served.health() == health_pb2.HealthCheckResponse.SERVING


async def test_port_in_use_is_told(serve: Serve, served: Served) -> None:
    """A second server on the port is refused with the address and the remedy."""
    with pytest.raises(ListenError, match=f"{served.app.address}.*EP_LISTEN"):
        async with serve({"EP_LISTEN": served.app.address}):
            pass


async def test_unix_socket_serves(serve: Serve, tmp_path: Path) -> None:
    """The server listens on a unix socket as well."""
    async with serve({"EP_LISTEN": f"unix:{tmp_path}/ep.sock"}) as served:
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


async def test_a_socket_that_is_served_on_is_not_taken(serve: Serve, tmp_path: Path) -> None:
    """A second server on a unix socket is refused, and the first goes on serving there."""
    address = f"unix:{tmp_path}/ep.sock"
    async with serve({"EP_LISTEN": address}) as served:
        with pytest.raises(ListenError, match="already in use"):
            async with serve({"EP_LISTEN": f"unix://{tmp_path}/ep.sock"}):
                pass
        async with grpc.aio.insecure_channel(address) as channel:
            again = Served(served.app, channel, served.log)
            assert kinds(await events_of(again.chat.Chat(chat_request())))[-1] == "finished"


async def test_a_socket_that_a_crash_left_is_taken(serve: Serve, tmp_path: Path) -> None:
    """A socket that nobody serves on any more is in nobody's way."""
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(f"{tmp_path}/ep.sock")
    async with serve({"EP_LISTEN": f"unix:{tmp_path}/ep.sock"}) as served:
        assert kinds(await events_of(served.chat.Chat(chat_request())))[-1] == "finished"


@pytest.mark.parametrize(
    ("name", "why"), [("file", "not a socket"), ("none/ep.sock", "there is no folder"), ("x" * 200, "too long")]
)
async def test_a_place_where_no_socket_can_be_is_told(serve: Serve, tmp_path: Path, name: str, why: str) -> None:
    """A path that cannot be served on is refused with the reason, and what lies there stays."""
    (tmp_path / "file").write_text("precious")
    with pytest.raises(ListenError, match=f"{why}.*EP_LISTEN"):
        async with serve({"EP_LISTEN": f"unix:{tmp_path}/{name}"}):
            pass
    assert (tmp_path / "file").read_text() == "precious"


async def test_two_hundred_streams_with_cancels_leave_nothing(served: Served) -> None:
    """200 streams at once, 20 % cancelled at random moments, leave no chat, stream, task or socket behind."""
    rng = random.Random(7)  # noqa: S311 - which streams are cancelled, not a secret
    await events_of(served.chat.Chat(chat_request()))
    tasks_before, sockets_before = len(asyncio.all_tasks()), len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    script = [{"repeat": {"times": 20, "steps": [{"text": "word "}, {"pause_ms": 5}]}}]

    async def one(number: int) -> str:
        call = served.chat.Chat(chat_request(script), timeout=120)
        if number % 5 == 0:
            asyncio.get_running_loop().call_later(rng.random() * 0.4, call.cancel)
        try:
            return str(kinds(await events_of(call))[-1])
        except asyncio.CancelledError:
            return "cancelled"

    endings = await asyncio.gather(*(one(number) for number in range(200)))
    await until(lambda: served.app.admission.running == 0 and open_streams(served) == 0)
    await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
    assert endings.count("finished") >= 160
    assert set(endings) <= {"finished", "cancelled"}
    await until(lambda: len(os.listdir("/proc/self/fd")) <= sockets_before + 1)  # noqa: PTH208
    # A call that is cancelled before it reaches the server is none of its chats.
    await until(lambda: len(served.log_lines("chat")) >= 1 + endings.count("finished"))
    status = await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="scripted"))
    assert status.running_chats == 0


async def test_cancel_of_a_blocked_write_frees_the_stream(served: Served) -> None:
    """A caller that stops reading blocks the provider's stream, and its cancel frees it, in the task that wrote."""
    flood = [{"repeat": {"times": 5_000, "steps": [{"text": "x" * 1_000}, {"pause_ms": 0}]}}]
    call = served.chat.Chat(chat_request(flood))
    async for _ in call:
        break
    await asyncio.sleep(0.2)
    assert (served.app.admission.running, open_streams(served)) == (1, 1)
    call.cancel()
    await until(lambda: served.app.admission.running == 0 and open_streams(served) == 0)
    await until(lambda: bool(served.log_lines("chat")))
    assert [line["ending"] for line in served.log_lines("chat")] == ["cancelled"]
    assert not served.log_lines("chat_fault")


class FaultyAdapter(ScriptedAdapter):
    """An adapter with a bug of its own."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Raise what no adapter may raise."""
        if call.model:
            raise KeyError(f"the inside of {call.model}")
        yield []


class EndlessAdapter(ScriptedAdapter):
    """An adapter that forgets to finish."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """End without a terminal event."""
        yield [chat_pb2.ChatEvent(started=chat_pb2.Started(provider_response_id=call.model))]


class LingeringAdapter(ScriptedAdapter):
    """An adapter whose provider does not hang up after its answer."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Answer, then wait for an end that never comes."""
        async with contextlib.aclosing(super().stream(dataclasses.replace(call, model="echo"))) as stream:
            async for events in stream:
                yield events
        await asyncio.Event().wait()


async def test_provider_that_does_not_hang_up_holds_nobody(serve: Serve) -> None:
    """A chat whose provider keeps the connection after its answer ends well all the same."""
    lingering = dataclasses.replace(BARE, name="lingering", create=lambda _: LingeringAdapter())
    async with serve({}, [lingering]) as served:
        events = await events_of(served.chat.Chat(chat_request(model="lingering/x")))
    assert kinds(events)[-1] == "finished"


async def test_fault_of_an_adapter_is_internal_and_tells_nothing_of_the_inside(serve: Serve) -> None:
    """A bug is INTERNAL without its text for the caller, and with its trace in the log."""
    faulty = dataclasses.replace(BARE, name="faulty", create=lambda _: FaultyAdapter())
    async with serve({}, [faulty]) as served:
        events, error = await failed_stream(served.chat.Chat(chat_request(model="faulty/x")))
        log = served.log.getvalue()
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert "inside" not in f"{events}{error.details()}"
    assert "the inside of x" in log


async def test_adapter_that_does_not_finish_is_a_broken_protocol(serve: Serve) -> None:
    """An adapter that ends without a terminal event gives failed, never OK without finished."""
    endless = dataclasses.replace(BARE, name="endless", create=lambda _: EndlessAdapter())
    async with serve({}, [endless]) as served:
        events, error = await failed_stream(served.chat.Chat(chat_request(model="endless/x")))
    assert kinds(events) == ["failed"]
    assert error_info(error).reason == "PROVIDER_PROTOCOL"
