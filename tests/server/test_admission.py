"""Who finds no place waits a moment, in order, or is told at once; nothing is lost whoever goes away."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.server.conftest import Serve, chat_request, details_of, error_info, events_of, failed_stream, kinds, until
from tests.server.test_lifecycle import HANG, first_message

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.chat.admission import Admission
from execution_platform.server.errors import DrainingError, ServerOverloadedError

FOREVER = 3_600.0


async def hold(admission: Admission, name: str, order: list[str], leave: asyncio.Event) -> None:
    """Enter, say so, and stay until told to leave."""
    async with admission.entered(FOREVER):
        order.append(name)
        await leave.wait()


async def settled(condition: Callable[[], bool]) -> None:
    """Let the loop run until something holds."""
    for _ in range(1_000):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it never holds")


async def test_first_come_first_served() -> None:
    """Those that wait get places in the order in which they came, and nobody overtakes them."""
    admission = Admission(1, queue=10, wait=FOREVER)
    order: list[str] = []
    leave = asyncio.Event()
    leave.set()
    first = asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, "0", order, first))]
    await settled(lambda: admission.running == 1)
    for number in range(1, 6):
        tasks.append(asyncio.create_task(hold(admission, str(number), order, leave)))
        await settled(lambda: admission.waiting == len(tasks) - 1)
    first.set()
    await asyncio.gather(*tasks)
    assert order == ["0", "1", "2", "3", "4", "5"]
    assert (admission.running, admission.waiting) == (0, 0)


async def test_full_queue_refuses_at_once() -> None:
    """Beyond the queue a chat is refused with a time to come again, without waiting."""
    admission = Admission(1, queue=1, wait=FOREVER)
    leave = asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, str(number), [], leave)) for number in range(2)]
    await settled(lambda: admission.waiting == 1)
    with pytest.raises(ServerOverloadedError, match="1 chats wait") as caught:
        async with admission.entered(FOREVER):
            pytest.fail("there is no place")
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 1
    leave.set()
    await asyncio.gather(*tasks)


async def test_chat_without_time_is_refused_at_once() -> None:
    """A chat that would probably not begin before its deadline is refused rather than queued."""
    now = 0.0
    admission = Admission(1, queue=10, wait=FOREVER, clock=lambda: now)
    async with admission.entered(FOREVER):
        now = 20.0
    leave = asyncio.Event()
    running = asyncio.create_task(hold(admission, "", [], leave))
    await settled(lambda: admission.running == 1)
    with pytest.raises(ServerOverloadedError) as caught:
        async with admission.entered(19.0):
            pytest.fail("there is no place")
    assert caught.value.retry_after == 20
    leave.set()
    await running


async def test_wait_ends() -> None:
    """A chat that got no place within the longest wait is refused, and leaves the queue."""
    admission = Admission(1, queue=10, wait=0.01)
    leave = asyncio.Event()
    running = asyncio.create_task(hold(admission, "", [], leave))
    await settled(lambda: admission.running == 1)
    with pytest.raises(ServerOverloadedError):
        async with admission.entered(FOREVER):
            pytest.fail("there is no place")
    assert admission.waiting == 0
    leave.set()
    await running
    assert admission.running == 0


async def test_draining_empties_the_queue() -> None:
    """When the server drains, those that wait are told so at once, and those that run may finish."""
    admission = Admission(1, queue=10, wait=FOREVER)
    leave = asyncio.Event()
    tasks = [asyncio.create_task(hold(admission, str(number), [], leave)) for number in range(4)]
    await settled(lambda: admission.waiting == 3)
    draining = asyncio.create_task(admission.drain(FOREVER))
    results = await asyncio.gather(*tasks[1:], return_exceptions=True)
    assert [type(result) for result in results] == [DrainingError] * 3
    assert admission.running == 1
    leave.set()
    await tasks[0]
    assert await draining


@pytest.mark.parametrize("seed", range(20))
async def test_places_are_never_lost(seed: int) -> None:
    """However many chats come, wait, leave and are cancelled, also at the moment of their turn, all places are free."""
    chance = random.Random(seed)  # noqa: S311 - chance for a test
    admission = Admission(3, queue=5, wait=0.02)
    most = 0

    async def one() -> None:
        nonlocal most
        with contextlib.suppress(AdapterError):
            async with admission.entered(chance.choice([0.001, FOREVER])):
                most = max(most, admission.running)
                for _ in range(chance.randint(0, 4)):
                    await asyncio.sleep(0)

    tasks = []
    for _ in range(300):
        tasks.append(asyncio.create_task(one()))
        for _ in range(chance.randint(0, 2)):
            await asyncio.sleep(0)
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (admission.running, admission.waiting) == (0, 0)
    assert most == 3


async def test_queued_chat_is_answered(serve: Serve) -> None:
    """A chat that waited for a place is answered, and its time in the queue is told."""
    async with serve({"EP_MAX_CONCURRENT_CHATS": "1", "EP_ADMISSION_WAIT_SECONDS": "60"}) as served:
        first = served.chat.Chat(chat_request(HANG))
        await first_message(first)
        second = asyncio.create_task(events_of(served.chat.Chat(chat_request())))
        await until(lambda: served.app.admission.waiting == 1)
        await asyncio.sleep(0.05)
        first.cancel()
        events = await second
    assert kinds(events)[-1] == "finished"
    assert events[-1].finished.timing.queue.ToMilliseconds() >= 50
    assert events[-1].finished.timing.total.ToMilliseconds() >= 50


async def test_chat_that_is_not_admitted_gets_a_status_alone(serve: Serve) -> None:
    """Beyond places and queue a chat is UNAVAILABLE with RetryInfo, without metadata and events, also when draining."""
    async with serve(
        {"EP_MAX_CONCURRENT_CHATS": "1", "EP_ADMISSION_WAIT_SECONDS": "60", "EP_ADMISSION_QUEUE": "1"}
    ) as (served):
        first = served.chat.Chat(chat_request(HANG))
        await first_message(first)
        # Begun only now: a call begins when it is made, and whichever comes first takes the place.
        waiting = asyncio.create_task(failed_stream(served.chat.Chat(chat_request(HANG))))
        await until(lambda: served.app.admission.waiting == 1)
        third = served.chat.Chat(chat_request())
        refused, error = await failed_stream(third)
        assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "SERVER_OVERLOADED")
        assert any(part.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for part in details_of(error).details)
        assert refused == []
        assert "x-request-id" not in dict(await third.initial_metadata())
        shutdown = asyncio.create_task(served.app.shut_down())
        refused, error = await waiting
        assert (error_info(error).reason, refused) == ("DRAINING", [])
        first.cancel()
        await shutdown
