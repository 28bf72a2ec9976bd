"""What a provider says about its limits slows the server down before the provider refuses."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, Sequence
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.conftest import (
    ONE_ATTEMPT,
    Serve,
    chat_request,
    error_info,
    events_of,
    failed_stream,
    kinds,
    until,
)
from tests.server.test_limits_of_chats import OTHER, quota_of

from execution_platform.adapters import scripted
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.limits.throttles import Throttles
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.journal import Entry
from execution_platform.server.resilience.throttled import Throttled
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import catalog_pb2, chat_pb2, usage_pb2

WHO = ("openai", "gpt")


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 500.0

    def __call__(self) -> float:
        return self.now


def snapshot(name: str, limit: int, remaining: int, seconds: float | None) -> usage_pb2.RateLimitSnapshot:
    """What an answer's headers say of one limit."""
    told = usage_pb2.RateLimitSnapshot(name=name, limit=limit, remaining=remaining)
    if seconds is not None:
        told.reset_after.FromMilliseconds(int(seconds * 1000))
    return told


def throttles(clock: Clock, *snapshots: usage_pb2.RateLimitSnapshot, running: int = 1, tokens: int = 10) -> Throttles:
    """Throttles that have heard something, with some attempts that run."""
    heard = Throttles(clock, lambda: clock.now + 1_000_000)
    for _ in range(running):
        heard.began(*WHO)
    heard.told(*WHO, snapshots, tokens=tokens, answered_at=clock.now)
    return heard


def test_used_up_limit_closes_until_it_is_full() -> None:
    """While nothing is left attempts wait for the reset, and only those of the model that it was told of."""
    clock = Clock()
    heard = throttles(clock, snapshot("requests", 100, 0, 7), snapshot("tokens", 9_000, 8_000, 60))
    assert heard.wait(*WHO) == 7
    assert heard.until("openai") == clock.now + 1_000_000 + 7
    assert heard.until("openai", "gpt") == heard.until("openai")
    assert (heard.wait("openai", "other"), heard.until("openai", "other"), heard.until("anthropic")) == (0, None, None)
    clock.now += 7
    assert (heard.wait(*WHO), heard.until("openai")) == (0, None)


@pytest.mark.parametrize(
    ("told", "running", "distance"),
    [
        (snapshot("requests", 1_000, 40, 10), 1, 0.25),
        (snapshot("requests", 1_000, 60, 10), 1, 0),
        (snapshot("requests", 100, 20, 10), 25, 0.5),
        (snapshot("tokens", 10_000, 400, 10), 1, 0.25),
        (snapshot("input-tokens", 100, 50, 10), 6, 2),
        (snapshot("unified-5h", 100, 1, 10), 9, 0),
        (snapshot("requests", 1_000, 1, None), 9, 0),
    ],
)
def test_nearly_used_up_limit_is_spread(told: usage_pb2.RateLimitSnapshot, running: int, distance: float) -> None:
    """Below a twentieth, or below what runs, attempts begin evenly until the reset; else at once."""
    heard = throttles(Clock(), told, running=running)
    turns = [heard.take_turn(*WHO) for _ in range(3)]
    assert turns == pytest.approx([0, distance, 2 * distance])


def test_older_answer_is_not_believed() -> None:
    """What a long answer's headers said is older than what a later and shorter one's said."""
    clock = Clock()
    heard = throttles(clock, snapshot("requests", 100, 90, 7))
    heard.told(*WHO, [snapshot("requests", 100, 0, 60)], tokens=1, answered_at=clock.now - 5)
    assert heard.wait(*WHO) == 0


def test_reset_counts_from_when_the_answer_began() -> None:
    """Headers are as old as the beginning of their answer; a reset that is over by its end closes nothing."""
    clock = Clock()
    heard = throttles(clock, snapshot("requests", 100, 90, 7))
    clock.now += 30
    heard.told(*WHO, [snapshot("requests", 100, 0, 20)], tokens=1, answered_at=clock.now - 25)
    assert heard.wait(*WHO) == 0


def test_refusal_with_a_time_closes_until_then() -> None:
    """After a refusal nobody asks before the time that it told."""
    clock = Clock()
    heard = throttles(clock)
    heard.refused(*WHO, 3)
    heard.refused(*WHO, 1)
    assert heard.wait(*WHO) == 3
    clock.now += 3
    assert heard.wait(*WHO) == 0


@given(
    st.lists(
        st.tuples(
            st.integers(-5, 10**12),
            st.integers(-5, 10**12),
            st.floats(0, 10**9),
            st.sampled_from(["requests", "tokens", "x"]),
        )
    ),
    st.floats(0, 10**9),
    st.integers(0, 10**9),
)
def test_nothing_that_is_told_closes_for_long(
    told: Sequence[tuple[int, int, float, str]], retry_after: float, tokens: int
) -> None:
    """Whatever a provider says, attempts go through again after five minutes."""
    clock = Clock()
    heard = throttles(clock, *(snapshot(name, most, left, reset) for most, left, reset, name in told), tokens=tokens)
    heard.refused(*WHO, retry_after)
    for _ in range(3):
        heard.take_turn(*WHO)
    clock.now += 300
    assert (heard.wait(*WHO), heard.until("openai")) == (0, None)


def test_models_are_not_remembered_without_end() -> None:
    """However many models are named, those that were not asked lately are forgotten; none that runs is."""
    heard = Throttles()
    heard.began("a", "runs")
    for number in range(3_000):
        heard.began("a", str(number))
        heard.ended("a", str(number))
    assert len(heard._models) <= 1_100
    heard.ended("a", "runs")


#: Finishes with nothing left of its requests for a while.
def used_up(seconds: str) -> list[dict[str, Any]]:
    limit = {"name": "requests", "limit": 10, "remaining": 0, "resetAfter": seconds}
    return [{"text": "a"}, {"finish": {"reason": "STOP", "rateLimits": [limit]}}]


def refusing(retry_after: float) -> list[dict[str, Any]]:
    """Refuses for a while."""
    return [{"error": {"reason": "PROVIDER_RATE_LIMITED", "retry_after": retry_after}}]


async def test_used_up_provider_is_passed_over(serve: Serve) -> None:
    """While a provider has nothing left the next one is asked, without another call of the first."""
    adapter = ScriptedAdapter()
    counted = dataclasses.replace(scripted.PROVIDERS[0], name="counted", create=lambda _: adapter)
    async with serve({}, [OTHER, counted], ONE_ATTEMPT) as served:
        await events_of(served.chat.Chat(chat_request(used_up("200s"), model="counted/echo")))
        routing = chat_pb2.Routing(fallback_models=["other/echo"])
        events = await events_of(served.chat.Chat(chat_request(model="counted/echo", routing=routing)))
        status = await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="counted"))
        _, error = await failed_stream(served.chat.Chat(chat_request(model="counted/echo")))
    skipped, answered = events[-1].finished.attempts
    assert (skipped.outcome, answered.provider) == (chat_pb2.ATTEMPT_OUTCOME_SKIPPED, "other")
    assert 190 < skipped.error.retry_after.seconds <= 200
    assert adapter.calls == 1
    assert status.HasField("throttled_until")
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED")
    subject, seconds = quota_of(error)
    assert subject == "provider:counted"
    assert seconds is not None
    assert 190 < seconds <= 200


class Timed(ScriptedAdapter):
    """A scripted provider that notes when it is asked."""

    def __init__(self, *scripts: Sequence[dict[str, Any]]) -> None:
        super().__init__(*scripts)
        self.asked: list[float] = []

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Note the time, and play the script."""
        self.asked.append(asyncio.get_running_loop().time())
        async with contextlib.aclosing(super().stream(call)) as stream:
            async for events in stream:
                yield events


async def test_short_wait_is_waited_where_nobody_else_is_left(serve: Serve) -> None:
    """The only model left is waited for while that is short, rather than asked in vain or refused."""
    adapter = Timed(refusing(0.2), [{"text": "b"}])
    counted = dataclasses.replace(scripted.PROVIDERS[0], name="counted", create=lambda _: adapter)
    async with serve({}, [counted], ONE_ATTEMPT) as served:
        await failed_stream(served.chat.Chat(chat_request(model="counted/echo")))
        events = await events_of(served.chat.Chat(chat_request(model="counted/echo")))
    first, second = adapter.asked
    assert kinds(events)[-1] == "finished"
    assert second - first >= 0.19


async def test_wait_is_not_the_models() -> None:
    """What an attempt waited for its provider's limits is not taken for the time in which the model answers."""
    entry = Entry(Leg("scripted", "echo"), chat_pb2.ATTEMPT_CAUSE_FIRST)
    heard = Throttles()
    heard.began("scripted", "echo")
    heard.refused("scripted", "echo", 0.1)
    wait, began = heard.wait("scripted", "echo"), entry.began
    throttled = Throttled(ScriptedAdapter(), entry, heard, Metrics(), alone=True)
    async with contextlib.aclosing(throttled.stream(Call(chat_request(), "echo"))) as stream:
        async for _ in stream:
            pass
    assert entry.began >= began + wait - 0.01


async def test_wait_beyond_the_deadline_is_not_begun(serve: Serve) -> None:
    """A chat whose time would be over before the provider may be asked is told at once."""
    adapter = ScriptedAdapter(refusing(15), [{"text": "b"}])
    counted = dataclasses.replace(scripted.PROVIDERS[0], name="counted", create=lambda _: adapter)
    async with serve({}, [counted], ONE_ATTEMPT) as served:
        await failed_stream(served.chat.Chat(chat_request(model="counted/echo")))
        _, error = await failed_stream(served.chat.Chat(chat_request(model="counted/echo"), timeout=10))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert adapter.calls == 1


async def test_cancel_of_a_wait_leaves_nothing(serve: Serve) -> None:
    """A chat that is cancelled while it waits for a provider is gone, and has not asked."""
    adapter = ScriptedAdapter(refusing(15), [{"text": "b"}])
    counted = dataclasses.replace(scripted.PROVIDERS[0], name="counted", create=lambda _: adapter)
    async with serve({}, [counted], ONE_ATTEMPT) as served:
        await failed_stream(served.chat.Chat(chat_request(model="counted/echo")))
        call = served.chat.Chat(chat_request(model="counted/echo"))
        await until(lambda: served.app.providers.record("counted").running == 1)
        call.cancel()
        await until(lambda: served.app.admission.running == 0)
        assert (adapter.calls, served.app.providers.record("counted").running) == (1, 0)
