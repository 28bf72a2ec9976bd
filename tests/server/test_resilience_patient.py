"""Patient: silence has a limit, before the first output and between two, and nothing else has."""

from __future__ import annotations

import asyncio
import dataclasses
import selectors
from collections.abc import Sequence
from contextlib import aclosing, suppress

import pytest
from tests.server.attempts import (
    CALL,
    Fake,
    Step,
    begin,
    cancelled,
    entry,
    finish,
    hang,
    text,
    told_by,
    told_until_failure,
)

from execution_platform.adapters.errors import AdapterError, OverloadedError, ProviderTimeoutError
from execution_platform.server.resilience.held import Held
from execution_platform.server.resilience.patient import Patient

#: Seconds that no test ever waits out, and some that are over at once.
LONG, SHORT = 3600.0, 0.01


def patient(inner: Fake, first_token: float | None = LONG, idle: float | None = LONG) -> Patient:
    """One above what it stands above in a route."""
    return Patient(Held(inner, entry()), first_token, idle)


async def swallowed() -> None:
    """Wait without end, and take no notice of being cancelled."""
    try:
        await hang()
    except asyncio.CancelledError:
        return


class Still(selectors.DefaultSelector):
    """Waits for nothing: the time that it should wait has passed at once."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Let the time pass."""
        self.now += timeout or 0.0
        return super().select(0)


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose time passes only while everybody waits, and then in no time."""

    def __init__(self) -> None:
        self._still = Still()
        super().__init__(self._still)

    def time(self) -> float:
        """Return the time that has passed by waiting."""
        return self._still.now


async def test_no_output_in_time_ends_the_attempt() -> None:
    """Without output an attempt ends after `first_token`, as a timeout of the provider's, and is closed."""
    inner = Fake([hang])
    told, error = await told_until_failure(patient(inner, first_token=SHORT))
    assert (told, inner.closed) == ([], 1)
    assert isinstance(error, ProviderTimeoutError)
    assert error.message == "no output for 0.01 s"


async def test_silence_after_output_ends_the_attempt() -> None:
    """After output `idle` counts, and no longer `first_token`."""
    inner = Fake([[begin()], hang])
    told, error = await told_until_failure(patient(inner, idle=SHORT))
    assert (len(told), inner.closed) == (1, 1)
    assert isinstance(error, ProviderTimeoutError)
    assert error.message == "the answer stood still for 0.01 s"


def test_each_piece_begins_the_wait_anew() -> None:
    """An answer may take many times as long as its longest silence."""
    pause: list[Step] = [lambda: asyncio.sleep(9), [text("a")]]
    inner = Fake([[begin()], *pause * 12, [finish()]])
    with asyncio.Runner(loop_factory=StillLoop) as runner:
        told = runner.run(told_by(patient(inner, first_token=10, idle=10)))
        assert runner.get_loop().time() >= 12 * 9
    assert len(told) == 14


async def test_the_readers_time_is_not_the_providers_silence() -> None:
    """A reader who takes longer than the limits between two reads loses nothing."""
    inner = Fake([[begin()], [text("a")], [finish()]])
    async with aclosing(patient(inner, first_token=SHORT, idle=SHORT).stream(CALL)) as stream:
        told = 0
        async for _ in stream:
            told += 1
            await asyncio.sleep(SHORT * 3)
    assert told == 3


async def test_the_end_of_a_connection_may_take_its_time() -> None:
    """Silence behind `finished` is none of the answer's."""
    inner = Fake([[begin(), finish()], lambda: asyncio.sleep(SHORT * 5)])
    assert len(await told_by(patient(inner, idle=SHORT))) == 1


@pytest.mark.parametrize("first_token", [10, None])
def test_a_line_of_the_adapters_own_is_no_silence(first_token: float | None) -> None:
    """While an adapter lets a call wait for a place of its own no time passes, and nobody has been asked."""
    attempt = entry()
    inner = Fake()
    waits: list[bool] = []

    async def in_line() -> None:
        inner.calls[-1].on_waiting(True)
        await asyncio.sleep(1000)
        assert attempt.reached is False
        inner.calls[-1].on_waiting(False)
        assert attempt.reached is True

    inner.does([in_line, hang] if first_token else [in_line, [begin()], [finish()]])
    adapter = Patient(Held(inner, attempt), first_token, None)
    call = dataclasses.replace(CALL, on_waiting=waits.append)
    with asyncio.Runner(loop_factory=StillLoop) as runner:
        if first_token is None:
            assert len(runner.run(told_by(adapter, call))) == 2
        else:
            _, error = runner.run(told_until_failure(adapter, call))
            assert isinstance(error, ProviderTimeoutError)
            assert 1010 <= runner.get_loop().time() < 1020
    assert waits == [True, False]


async def test_without_limits_nothing_ends() -> None:
    """A limit that is not set does not strike."""
    inner = Fake([lambda: asyncio.sleep(SHORT), [begin()], lambda: asyncio.sleep(SHORT), [finish()]])
    assert len(await told_by(patient(inner, None, None))) == 2
    assert len(await told_by(patient(inner, None, LONG))) == 2


@pytest.mark.parametrize("steps", [[hang], [[begin()], hang]], ids=["before", "after"])
async def test_a_cancel_stays_a_cancel(steps: Sequence[Step]) -> None:
    """Whoever is cancelled while it waits is cancelled, and is told of no timeout."""
    inner = Fake(steps)
    assert await cancelled(patient(inner), lambda: bool(inner.calls))
    assert inner.closed == 1


async def test_a_deadline_around_it_stays_a_deadline() -> None:
    """A scope around an attempt that ends first, or at the same moment, is what ended."""
    for first_token in (LONG, SHORT):
        with pytest.raises((TimeoutError, AdapterError)) as raised:
            async with asyncio.timeout(SHORT):
                await told_by(patient(Fake([hang]), first_token=first_token))
        assert first_token == SHORT or raised.type is TimeoutError


async def test_a_timeout_leaves_no_cancel_behind() -> None:
    """After a timeout the task can be cancelled, and scopes around it expire, as if nothing had been."""
    task = asyncio.current_task()
    assert task is not None
    attempts: list[Sequence[Step]] = [[hang], [swallowed, OverloadedError("m")], [swallowed, [begin(), finish()]]]
    for steps in attempts:
        with suppress(ProviderTimeoutError, OverloadedError):
            await told_by(patient(Fake(steps), first_token=SHORT))
        assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(SHORT):
            await hang()


async def test_no_timer_is_left() -> None:
    """However an attempt ends, its timer does not keep it alive."""
    inner = Fake([[begin()], hang])
    stream = patient(inner).stream(CALL)
    await anext(stream)
    await stream.aclose()
    loop = asyncio.get_running_loop()
    scheduled = [handle for handle in getattr(loop, "_scheduled", []) if not handle.cancelled()]
    assert not scheduled


async def test_a_whole_answer_is_asked_for_as_a_stream() -> None:
    """Who wants a whole answer gets it in one list, and its pieces count against silence."""
    inner = Fake([[begin()], [text("a")], lambda: asyncio.sleep(SHORT), [finish()]])
    told = await told_by(patient(inner), dataclasses.replace(CALL, unary=True))
    assert [[event.WhichOneof("event") for event in events] for events in told] == [
        ["block_started", "block_delta", "finished"]
    ]
    assert not inner.calls[0].unary


async def test_half_of_a_whole_answer_is_none() -> None:
    """What stands still or breaks before it is whole had no output for whoever wants it whole."""
    for end in (hang, OverloadedError("m")):
        steps: list[Step] = [[begin()], [text("a")], end]
        told, _ = await told_until_failure(patient(Fake(steps), idle=SHORT), dataclasses.replace(CALL, unary=True))
        assert told == []
