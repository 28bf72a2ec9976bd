"""Limits that replicas share through a real Redis, which may die."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from tests.real_redis import RealRedis, real_redis
from tests.server.conftest import Serve, chat_request, events_of, failed_stream, until
from tests.server.test_lifecycle import HANG, first_message
from tests.server.test_limiter import scope
from tests.server.test_limits_of_chats import quota_of

from execution_platform.server.errors import LimitReachedError
from execution_platform.server.limits.leases import SharedLeases
from execution_platform.server.limits.limiter import Limiter, Reservation
from execution_platform.server.limits.windows import SharedWindows, Windows
from execution_platform.server.metrics import Metrics
from execution_platform.server.shared_state import SharedState
from execution_platform.server.telemetry import make_logger

LIMIT = 100


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RealRedis]:
    """A Redis of the test's own."""
    with real_redis(tmp_path) as running:
        yield running


@contextlib.asynccontextmanager
async def sharing(redis: RealRedis, bound: float = 60.0) -> AsyncIterator[SharedState]:
    """What one process has of Redis."""
    shared = SharedState(
        SecretStr(redis.url), "test", Metrics(), make_logger("info", "json", io.StringIO()), bound=bound, pause=0.01
    )
    await shared.start()
    try:
        yield shared
    finally:
        await shared.aclose()


@contextlib.asynccontextmanager
async def replicas(redis: RealRedis, number: int = 2, bound: float = 60.0) -> AsyncIterator[list[Limiter]]:
    """Limiters of several processes."""
    async with contextlib.AsyncExitStack() as stack:
        limiters = []
        for _ in range(number):
            shared = await stack.enter_async_context(sharing(redis, bound))
            limits = Limiter(Metrics(), shared)
            stack.push_async_callback(limits.aclose)
            limiters.append(limits)
        yield limiters


async def taken(limits: Limiter, amount: int, **heights: Any) -> LimitReachedError | None:
    """Hold a limit for a moment, using all that is reserved. Returns why it is refused."""
    try:
        async with limits.held([scope(**heights)], Reservation(amount)):
            return None
    except LimitReachedError as error:
        return error


async def test_replicas_count_together(redis: RealRedis) -> None:
    """What one process has used is used for the other, to the token, and the wait is told."""
    async with replicas(redis) as (one, other):
        assert await taken(one, 60, tokens_per_min=LIMIT) is None
        assert await taken(other, 40, tokens_per_min=LIMIT) is None
        for limits in (one, other):
            error = await taken(limits, 1, tokens_per_min=LIMIT)
            assert error is not None
            assert error.retry_after is not None
            assert 0 < error.retry_after <= 61


async def test_no_more_than_the_limit_is_admitted_at_once(redis: RealRedis) -> None:
    """However many processes ask at once, the limit holds, and what a refused chat took elsewhere comes back."""
    scopes = [scope(requests_per_min=10_000, concurrent=10_000), scope("tenant", "acme", requests_per_min=30)]
    async with replicas(redis, 4) as limiters:

        async def one(limits: Limiter) -> bool:
            try:
                async with limits.held(scopes, Reservation(0)):
                    return True
            except LimitReachedError:
                return False

        admitted = await asyncio.gather(*(one(limiters[number % 4]) for number in range(200)))
        assert sum(admitted) == 30
        async with sharing(redis) as shared:
            window = await SharedWindows(shared).get_sliding_window("persona/reviewer/requests_per_min", 60)
            assert window[2] == 30
            assert await shared.client.zcard(shared.key("leases", "persona/reviewer/concurrent")) == 0


async def test_correction_finds_the_window(redis: RealRedis) -> None:
    """Less counts only where it was counted and never below nothing; more counts from now."""
    async with sharing(redis) as shared:
        storage = SharedWindows(shared)
        windows = Windows(storage)
        assert await windows.take("w", LIMIT, 50) is None
        await windows.correct("w", -20, 0.0)
        assert (await storage.get_sliding_window("w", 60))[2] == 30
        await windows.correct("w", -20, 61.0)
        await windows.correct("w", -20, 500.0)
        assert (await storage.get_sliding_window("w", 60))[2] == 30
        await windows.correct("w", 500, 500.0)
        assert (await storage.get_sliding_window("w", 60))[2] == 530
        await windows.correct("w", -9_000, 0.0)
        assert (await storage.get_sliding_window("w", 60))[2] == 0
        await windows.correct("fresh", -5, 0.0)
        assert (await storage.get_sliding_window("fresh", 60))[:3:2] == (0, 0)
        await windows.correct("fresh", 5, 0.0)
        counted = await storage.get_sliding_window("fresh", 60)
        assert counted[2] == 5
        assert 118 < counted[3] <= 120


async def test_window_moves_on(redis: RealRedis) -> None:
    """After a window's end its amount fades as the previous one's, and a correction still finds it there."""
    async with sharing(redis) as shared:
        storage = SharedWindows(shared)
        windows = Windows(storage)
        assert await windows.take("w", LIMIT, 80) is None
        # Two thirds of the running window are over, and then it is; Redis tells the time by what is left.
        key = storage.bridge.prefixed_key("{w}")
        await shared.client.pexpire(key, 59_000)
        wait = await windows.take("w", LIMIT, 80)
        assert wait is not None
        assert 34 < wait < 45
        await windows.correct("w", -80, 30.0)
        assert await windows.take("w", LIMIT, 80) is None


async def test_wait_is_exact(redis: RealRedis) -> None:
    """After the told wait the refused amount is admitted."""
    async with sharing(redis) as shared:
        windows = Windows(SharedWindows(shared))
        assert await windows.take("w", LIMIT, 100) is None
        key = SharedWindows(shared).bridge.prefixed_key("{w}")
        await shared.client.pexpire(key, 61_000)
        wait = await windows.take("w", 1_000, 901)
        assert wait is not None
        await asyncio.sleep(wait)
        assert await windows.take("w", 1_000, 901) is None


async def test_places_are_shared_and_come_back(redis: RealRedis) -> None:
    """A place that one process holds is taken for the other, until it is let go, however the chat ends."""
    async with replicas(redis) as (one, other):
        for end in (None, ValueError(), asyncio.CancelledError()):
            with contextlib.suppress(ValueError, asyncio.CancelledError):
                async with one.held([scope(concurrent=1)], Reservation(0)):
                    assert await taken(other, 0, concurrent=1) is not None
                    if end is not None:
                        raise end
            assert await taken(other, 0, concurrent=1) is None


async def test_lease_of_a_dead_process_ends(redis: RealRedis) -> None:
    """A lease that nobody renews ends by itself, and its place is given again."""
    async with sharing(redis) as dead, sharing(redis) as alive:
        leases, others = SharedLeases(dead, 0.3), SharedLeases(alive, 60)
        assert await leases.take("l", 1) is not None
        await leases.aclose()
        async with asyncio.timeout(60):
            while await others.take("l", 1) is None:  # noqa: ASYNC110 - what is waited for happens in Redis
                await asyncio.sleep(0.05)
        assert await others.take("l", 1) is None
        await others.aclose()


async def test_lease_is_renewed_while_its_chat_runs(redis: RealRedis) -> None:
    """A lease whose process lives ends later and later."""
    async with sharing(redis) as shared:
        leases = SharedLeases(shared, 30)
        await leases.take("l", 1)
        key = shared.key("leases", "l")
        before = float(str((await shared.client.zrange(key, 0, -1, withscores=True))[0][1]))
        await asyncio.sleep(0.01)
        leases._begin_renewal()
        assert leases._renewal is not None
        await leases._renewal
        after = float(str((await shared.client.zrange(key, 0, -1, withscores=True))[0][1]))
        assert after > before
        await leases.aclose()


async def test_renewal_does_not_bring_back_what_was_let_go(redis: RealRedis) -> None:
    """A place that is let go while it is renewed stays free."""
    async with sharing(redis) as shared:
        leases = SharedLeases(shared, 0.003)
        for _ in range(200):
            number = await leases.take("l", 1_000)
            assert number is not None
            await asyncio.sleep(0.001)
            await leases.give_back("l", number)
        await leases.aclose()
        renewal = leases._renewal
        assert renewal is None or renewal.done()
        assert leases.local.held == {}
        lasting = SharedLeases(shared, 60)
        assert await lasting.take("l", 1) is not None
        await lasting.aclose()


async def test_cancelled_while_it_asks_holds_nothing(redis: RealRedis) -> None:
    """A chat that is cancelled at any moment around the asking leaves no place and no count."""
    async with replicas(redis, 1) as (limits,):

        async def one() -> None:
            async with limits.held([scope(requests_per_min=9_999, concurrent=9_999)], Reservation(0, requests=0)):
                await asyncio.sleep(0.001)

        for number in range(300):
            task = asyncio.create_task(one())
            for _ in range(number % 30):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await until(lambda: not limits._pending)
        assert limits.places.held == {}
        async with sharing(redis) as shared:
            window = await SharedWindows(shared).get_sliding_window("persona/reviewer/requests_per_min", 60)
            assert window[2] == 0
            assert await shared.client.zcard(shared.key("leases", "persona/reviewer/concurrent")) == 0


async def test_without_redis_the_process_counts_alone(redis: RealRedis) -> None:
    """When Redis dies chats go on with limits of this process; what runs then has its places there again."""
    async with replicas(redis) as (one, other):
        assert await taken(one, 60, tokens_per_min=LIMIT) is None
        async with one.held([scope("tenant", "acme", concurrent=1)], Reservation(0)):
            redis.kill()
            assert await taken(one, 60, tokens_per_min=LIMIT) is None
            assert await taken(one, 60, tokens_per_min=LIMIT) is not None
            with pytest.raises(LimitReachedError):
                async with one.held([scope("tenant", "acme", concurrent=1)], Reservation(0)):
                    pytest.fail("it is taken in this process")
            redis.start()
            shared = other._shared
            assert shared is not None
            await until(lambda: shared.state.available)
            await until(lambda: one._shared is not None and one._shared.state.available)
            assert one._shared is not None
            await one._shared.leases._renew_all()
            with pytest.raises(LimitReachedError):
                async with other.held([scope("tenant", "acme", concurrent=1)], Reservation(0)):
                    pytest.fail("it is taken in the other process")
        async with other.held([scope("tenant", "acme", concurrent=1)], Reservation(0)):
            pass


async def test_redis_that_hangs_holds_nobody(redis: RealRedis) -> None:
    """A Redis that does not answer costs a chat one bounded wait, and the next ones none."""
    async with replicas(redis, 1, bound=0.2) as (limits,):
        redis.pause()
        try:
            async with asyncio.timeout(30):
                for _ in range(50):
                    assert await taken(limits, 1, tokens_per_min=LIMIT, concurrent=1) is None
        finally:
            redis.resume()


async def test_two_servers_share_a_persona(redis: RealRedis, serve: Serve) -> None:
    """Two servers with one Redis give a persona's places once."""
    persona = {"provider": "scripted", "retries": {"most": 0}, "limits": {"concurrent": 1}}
    platform = {"personas": {"reviewer": persona}}
    environ = {"EP_REDIS_URL": redis.url, "EP_REDIS_WAIT_SECONDS": "60"}
    async with serve(environ, platform=platform) as one, serve(environ, platform=platform) as other:
        call = one.chat.Chat(chat_request(HANG, model="", persona="reviewer"))
        await first_message(call)
        _, error = await failed_stream(other.chat.Chat(chat_request(model="", persona="reviewer")))
        assert quota_of(error)[0] == "persona:reviewer"
        call.cancel()
        await until(lambda: one.app.limits.limiter.places.held == {} and not one.app.limits.limiter._pending)
        await events_of(other.chat.Chat(chat_request(model="", persona="reviewer")))
