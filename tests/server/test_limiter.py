"""Limits hold whatever comes in whatever order, and what is not used comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.server.config.personas import LimitSettings
from execution_platform.server.errors import LimitReachedError
from execution_platform.server.limits.limiter import Limiter, Reservation, Scope
from execution_platform.server.limits.windows import WINDOW_SECONDS, MemoryWindows, Windows
from execution_platform.server.metrics import Metrics

LIMIT = 100


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def scope(kind: str = "persona", name: str = "reviewer", **limits: Any) -> Scope:
    """A scope with some limits."""
    return Scope(kind, name, LimitSettings(**limits))


def limiter(clock: Clock) -> Limiter:
    """A limiter in memory."""
    return Limiter(Metrics(), clock=clock)


@dataclass
class Taken:
    """What one step takes, after some time."""

    after: float
    amount: int


#: In sixty-fourths of a second, with which floats reckon exactly.
STEPS = st.lists(
    st.builds(Taken, st.integers(0, 90 * 64).map(lambda ticks: ticks / 64), st.integers(1, LIMIT)), max_size=40
)


async def play(windows: Windows, clock: Clock, steps: Sequence[Taken]) -> list[tuple[float, int]]:
    """Take what the steps say. Returns when how much was admitted."""
    admitted = []
    for step in steps:
        clock.now += step.after
        if await windows.take("w", LIMIT, step.amount) is None:
            admitted.append((clock.now, step.amount))
    return admitted


@given(STEPS)
def test_no_minute_takes_more_than_its_limit(steps: Sequence[Taken]) -> None:
    """In no minute since the start more than the limit is admitted, and in no 60 seconds twice as much."""
    clock = Clock()
    began = clock.now
    admitted = asyncio.run(play(Windows(MemoryWindows(clock)), clock, steps))
    for start, _ in admitted:
        minute = (start - began) // WINDOW_SECONDS
        assert sum(amount for at, amount in admitted if (at - began) // WINDOW_SECONDS == minute) <= LIMIT
        assert sum(amount for at, amount in admitted if start <= at < start + WINDOW_SECONDS) < 2 * LIMIT


@given(STEPS, st.integers(1, LIMIT))
def test_told_wait_is_exact(steps: Sequence[Taken], amount: int) -> None:
    """What is refused is admitted after the told seconds, and not sooner by more than some milliseconds."""

    async def tried(wait: float) -> float | None:
        clock = Clock()
        windows = Windows(MemoryWindows(clock))
        await play(windows, clock, steps)
        clock.now += wait
        return await windows.take("w", LIMIT, amount)

    wait = asyncio.run(tried(0))
    if wait is not None:
        assert asyncio.run(tried(wait)) is None
        assert wait <= 0.01 or asyncio.run(tried(wait - 0.01)) is not None


@given(STEPS, st.randoms(use_true_random=False))
def test_what_is_given_back_does_not_count(steps: Sequence[Taken], random: Any) -> None:
    """Whatever was taken and in whatever order it is given back, nothing counts in the end."""

    async def run() -> int:
        clock = Clock()
        storage = MemoryWindows(clock)
        windows = Windows(storage)
        admitted = await play(windows, clock, steps)
        random.shuffle(admitted)
        for at, amount in admitted:
            await windows.correct("w", -amount, clock.now - at)
        return storage.counted("w")

    assert asyncio.run(run()) == 0


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 200), st.booleans()), max_size=30))
def test_what_was_really_used_counts(chats: Sequence[tuple[int, int, bool]]) -> None:
    """After chats with any estimates, usages and ends, exactly their usage counts and no place is held."""

    async def run() -> None:
        limits = limiter(Clock())
        one = scope(tokens_per_min=1_000, concurrent=3)
        used = 0
        for expected, real, cancelled in chats:
            reservation = Reservation(expected)
            with contextlib.suppress(LimitReachedError, asyncio.CancelledError):
                async with limits.held([one], reservation):
                    assert sum(map(len, limits.places.held.values())) == 1
                    reservation.tokens = real
                    used += real
                    if cancelled:
                        raise asyncio.CancelledError
        assert limits.windows.counted("persona/reviewer/tokens_per_min") == used
        assert limits.places.held == {}

    asyncio.run(run())


async def test_refusal_by_the_last_gives_back_the_others() -> None:
    """A chat that one of several scopes refuses is counted by none of them."""
    limits = limiter(Clock())
    full = scope("key", "abcdef0123456789", requests_per_min=1)
    scopes = [scope(requests_per_min=5, concurrent=5), scope("tenant", "acme", tokens_per_min=50), full]
    async with limits.held([full], Reservation(1)):
        pass
    with pytest.raises(LimitReachedError) as caught:
        async with limits.held(scopes, Reservation(10)):
            pytest.fail("it is refused")
    assert (caught.value.scope, caught.value.limit) == ("key:abcdef01", "requests_per_min")
    for name in ("persona/reviewer/requests_per_min", "tenant/acme/tokens_per_min"):
        assert limits.windows.counted(name) == 0
    assert limits.places.held == {}


async def test_place_is_free_again_however_the_chat_ends() -> None:
    """A place comes back after success, failure and cancel, and until then the next chat is refused."""
    limits = limiter(Clock())
    one = scope(concurrent=1)
    for end in (None, ValueError(), asyncio.CancelledError()):
        with contextlib.suppress(ValueError, asyncio.CancelledError):
            async with limits.held([one], Reservation(0)):
                with pytest.raises(LimitReachedError, match="1 chats run, the most at once") as caught:
                    async with limits.held([one], Reservation(0)):
                        pytest.fail("it is refused")
                assert (caught.value.retry_after, caught.value.retryable) == (None, True)
                if end is not None:
                    raise end
    assert limits.places.held == {}


async def test_chat_larger_than_the_limit_is_told_so() -> None:
    """A chat that can never pass is refused as such, without a time to come again, and takes nothing."""
    limits = limiter(Clock())
    scopes = [scope(requests_per_min=5), scope("tenant", "acme", tokens_per_min=50)]
    with pytest.raises(LimitReachedError, match=r"it can never pass.*max_output_tokens") as caught:
        async with limits.held(scopes, Reservation(51)):
            pytest.fail("it is refused")
    assert (caught.value.retry_after, caught.value.retryable, caught.value.scope) == (None, False, "tenant:acme")
    assert limits.windows.counted("persona/reviewer/requests_per_min") == 0


async def test_cost_is_counted_in_nanos() -> None:
    """A limit of cost holds to the nano, and is told in dollars."""
    limits = limiter(Clock())
    one = scope(cost_per_min=Decimal("0.000000010"))
    async with limits.held([one], Reservation(0, 9)):
        pass
    async with limits.held([one], Reservation(0, 1)):
        pass
    with pytest.raises(LimitReachedError, match=r"cost_per_min is reached \(0\.00000001"):
        async with limits.held([one], Reservation(0, 1)):
            pytest.fail("it is refused")


async def test_more_than_reserved_is_owed() -> None:
    """A chat that used more than reserved makes the next ones wait until what is owed has faded."""
    clock = Clock()
    limits = limiter(clock)
    one = scope(tokens_per_min=100)
    reservation = Reservation(10)
    async with limits.held([one], reservation):
        reservation.tokens = 300
    with pytest.raises(LimitReachedError) as caught:
        async with limits.held([one], Reservation(10)):
            pytest.fail("it is refused")
    assert caught.value.retry_after is not None
    clock.now += caught.value.retry_after
    async with limits.held([one], Reservation(10)):
        pass


async def test_chat_that_asked_nobody_is_no_request() -> None:
    """A chat whose reservation ends without a request is not counted among the requests."""
    limits = limiter(Clock())
    one = scope(requests_per_min=1)
    for _ in range(3):
        reservation = Reservation(5)
        async with limits.held([one], reservation):
            reservation.requests = reservation.tokens = 0
    assert limits.windows.counted("persona/reviewer/requests_per_min") == 0


async def test_height_of_a_limit_can_change_while_it_counts() -> None:
    """After a reload with another limit what was counted still counts."""
    limits = limiter(Clock())
    async with limits.held([scope(requests_per_min=5)], Reservation(0)):
        pass
    with pytest.raises(LimitReachedError):
        async with limits.held([scope(requests_per_min=1)], Reservation(0)):
            pytest.fail("it is refused")


async def test_counters_that_are_over_are_forgotten() -> None:
    """However many callers come, only those of the last minutes are remembered."""
    clock = Clock()
    limits = limiter(clock)
    for number in range(5_000):
        clock.now += 1
        async with limits.held([scope("key", str(number), requests_per_min=5)], Reservation(0)):
            pass
    assert len(limits.windows._counters) < 2_500
