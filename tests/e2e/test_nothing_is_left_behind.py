"""Two hundred streams at once, some of them cancelled: afterwards the server holds what it held before."""

from __future__ import annotations

import asyncio
import gc
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import grpc
import grpc.aio
import pytest
from tests.e2e.caller import calling, chat, scripted
from tests.e2e.conftest import HERE, mocked_settings, quiet
from tests.e2e.processes import Server, eventually, serving, settles
from tests.e2e.upstream import Upstream

from execution_platform.v1 import catalog_pb2, chat_pb2, chat_pb2_grpc

STREAMS = 200
CANCELLED = STREAMS // 5
SEED = 20


@pytest.fixture
def watched(mocked: Upstream, tmp_path: Path) -> Iterator[Server]:
    """A server that tells how many tasks it has."""
    with serving(tmp_path, mocked_settings(mocked), launcher=[str(HERE / "counted_server.py")]) as server:
        yield server


def tasks(server: Server) -> int:
    """Return how many tasks the server's loop has now."""
    told = server.out.count("tasks ")
    server.signal(signal.SIGUSR1)
    server.wait_for(lambda: server.out.count("tasks ") > told and server.out.endswith("\n"), "it counts its tasks")
    return int(server.out.split()[-1])


async def one(stub: chat_pb2_grpc.ChatServiceAsyncStub, request: chat_pb2.ChatRequest, cancel_after: int) -> str:
    """Run a stream; cancel it after some messages, -1: never, 0: at once. Returns how it ended."""
    call = stub.Chat(request, timeout=300)
    seen, last = 0, None
    try:
        while seen != cancel_after:
            response = await call.read()
            if response is grpc.aio.EOF:
                return f"{last} {(await call.code()).name}"
            assert isinstance(response, chat_pb2.ChatResponse)
            seen, last = seen + 1, response.events[-1].WhichOneof("event")
        call.cancel()
    except grpc.aio.AioRpcError as error:
        return f"{last} {error.code().name}"
    except asyncio.CancelledError:
        if not call.cancelled():
            raise
    return "cancelled"


async def storm(address: str, requests: Callable[[int], chat_pb2.ChatRequest]) -> Counter[str]:
    """Run all streams at once over a few connections; count how they ended."""
    chance = random.Random(SEED)  # noqa: S311 - chance for a test
    unlucky = set(chance.sample(range(STREAMS), CANCELLED))
    channels = [grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) for _ in range(4)]
    try:
        running: list[Awaitable[str]] = []
        for number in range(STREAMS):
            stub: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(channels[number % len(channels)])
            cancel_after = chance.randint(0, 4) if number in unlucky else -1
            running.append(one(stub, requests(number), cancel_after))
        return Counter(await asyncio.gather(*running))
    finally:
        await asyncio.gather(*(channel.close(None) for channel in channels))


def words(number: int) -> chat_pb2.ChatRequest:
    """Return a scripted chat that takes a while; each is a little different."""
    return scripted({"repeat": {"times": 20, "steps": [{"text": f"{number} "}, {"pause_ms": 5 + number % 10}]}})


PROVIDERS = ("openai/gpt-4o", "openai/gpt-5", "anthropic/claude-sonnet-4-5", "gemini/gemini-2.5-flash")


def mocked_words(number: int) -> chat_pb2.ChatRequest:
    """Return a chat with one of the mocked providers in turn, which answers slowly."""
    return chat(PROVIDERS[number % len(PROVIDERS)], "a little slowly")


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("requests", [words, mocked_words])
async def test_streams_leave_nothing_behind(
    watched: Server, mocked: Upstream, requests: Callable[[int], chat_pb2.ChatRequest]
) -> None:
    """After 200 streams of which up to 40 were cancelled no chat runs, and sockets and tasks are as many as before."""
    with calling(watched.address()) as caller:
        # The first chats open what stays: clients, caches, threads.
        for number in range(len(PROVIDERS)):
            assert caller.stream(requests(number)).code is grpc.StatusCode.OK
        quiet(caller)
        open_before, tasks_before = watched.file_descriptors(), tasks(watched)
        ended = await storm(watched.address(), requests)
        # A cancelled call of this process keeps its connection to the server until it is collected.
        gc.collect()
        # Where the machine is busy a few messages may be the whole answer, before the one to be cancelled after.
        assert set(ended) == {"finished OK", "cancelled"}
        assert ended["finished OK"] >= STREAMS - CANCELLED
        quiet(caller)
        settles(watched.file_descriptors, open_before, "open files are as before")
        eventually(lambda: tasks(watched) <= tasks_before, f"tasks to be {tasks_before} again")
        for provider in caller.catalog.ListProviders(catalog_pb2.ListProvidersRequest(), timeout=60).providers:
            status = caller.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider=provider.name))
            assert status.running_chats == 0, provider.name
            assert status.failed_chats == 0, status.last_error
    assert all(exchange.over.wait(60) for exchange in mocked.exchanges)
