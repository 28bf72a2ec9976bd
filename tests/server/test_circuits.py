"""Circuit breakers: who may ask, and what opens, closes and probes."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from execution_platform.adapters.errors import (
    AdapterError,
    ContextLengthError,
    CredentialsError,
    InvalidRequestError,
    ModelNotFoundError,
    NotConfiguredError,
    OverloadedError,
    ProtocolError,
    ProviderTimeoutError,
    RateLimitedError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import Breaker, PlatformConfiguration
from execution_platform.server.errors import CircuitOpenError, InternalError, LimitReachedError
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.circuit import Circuit
from execution_platform.server.resilience.circuits import Breaking, Circuits, breaker_of
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import catalog_pb2, chat_pb2

CLOSED = catalog_pb2.CIRCUIT_STATE_CLOSED
OPEN = catalog_pb2.CIRCUIT_STATE_OPEN
HALF_OPEN = catalog_pb2.CIRCUIT_STATE_HALF_OPEN


class World:
    """Circuits with a clock that a test moves and settings that it changes."""

    def __init__(self, failures: int = 3, open_seconds: float = 30.0, most: int = 1000) -> None:
        self.now = 1000.0
        self.breaker = Breaker(failures=failures, open_seconds=open_seconds)
        self.log = io.StringIO()
        self.circuits = Circuits(
            lambda _: self.breaker,
            Metrics(),
            make_logger("info", "json", self.log),
            clock=lambda: self.now,
            most=most,
        )

    def circuit(self, model: str = "m") -> Circuit:
        return self.circuits.of("p", model)

    async def call(self, error: BaseException | None = None, model: str = "m", *, output: bool = False) -> None:
        """Make a call that ends so. Raises CircuitOpenError where it is refused."""
        try:
            async with self.circuit(model).calling() as asking:
                if output:
                    asking.answered()
                if error is not None:
                    raise error
        except BaseException as ended:
            if ended is not error:
                raise

    async def fail(self, times: int = 1, model: str = "m") -> None:
        for _ in range(times):
            await self.call(UnavailableError("down"), model)

    def state(self, model: str = "m") -> tuple[int, float]:
        return self.circuits.state("p", model)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.getvalue().splitlines()]


@pytest.fixture
def world() -> World:
    """Circuits that open after three failures, for thirty seconds."""
    return World()


async def test_failures_in_a_row_open_it_and_nobody_is_asked(world: World) -> None:
    """The third failure in a row opens it; a call is then refused with the model, the reason and the exact time."""
    await world.fail(2)
    assert world.state() == (CLOSED, 0.0)
    await world.call(OverloadedError("busy", provider_status=503))
    assert world.state() == (OPEN, 30.0)
    world.now += 12.5
    with pytest.raises(CircuitOpenError) as refused:
        await world.call()
    assert refused.value.retry_after == 17.5
    assert not refused.value.asked
    assert refused.value.message == (
        "p/m is not asked after 3 failures in a row, the last PROVIDER_OVERLOADED (HTTP 503); "
        "the next probe is due in 17.5 s"
    )


@pytest.mark.parametrize(
    "error",
    [UnavailableError("x"), OverloadedError("x"), ProviderTimeoutError("x"), CredentialsError("x"),
     StreamBrokenError("x"), ProtocolError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
async def test_what_says_down_counts(world: World, error: AdapterError) -> None:
    """Each failure that says that the provider is down opens it."""
    for _ in range(3):
        await world.call(error)
    assert world.state()[0] == OPEN


async def test_what_was_refused_before_the_provider_was_asked_does_not_count(world: World) -> None:
    """A full line of the adapter's own, or a program that did not start, says nothing of the provider."""
    for error in (OverloadedError("the line is full"), UnavailableError("the program did not start")):
        error.asked = False
        for _ in range(3):
            await world.call(error)
    assert world.state() == (CLOSED, 0.0)


NEUTRAL = [
    InvalidRequestError("x"), ContextLengthError("x"), ModelNotFoundError("x"), RateLimitedError("x"),
    NotConfiguredError("x"), LimitReachedError("x", retry_after=1, scope="key", limit="concurrent"), InternalError("x"),
    asyncio.CancelledError(), GeneratorExit(), RuntimeError("a fault of ours"),
]  # fmt: skip


def passed_over() -> AdapterError:
    """Return a failure of a provider that was not asked."""
    error = UnavailableError("x")
    error.asked = False
    return error


@pytest.mark.parametrize("error", [*NEUTRAL, passed_over()], ids=lambda error: type(error).__name__)
async def test_what_says_nothing_neither_counts_nor_excuses(world: World, error: BaseException) -> None:
    """The caller's own errors, cancels, limits and faults of ours leave failures in a row as they are."""
    await world.fail(2)
    for _ in range(5):
        await world.call(error)
    assert world.state() == (CLOSED, 0.0)
    await world.fail()
    assert world.state()[0] == OPEN


async def test_an_answer_ends_the_row(world: World) -> None:
    """Failures that an answer parts are not in a row."""
    for _ in range(4):
        await world.fail(2)
        await world.call()
    assert world.state()[0] == CLOSED
    assert len(world.circuits) == 0


async def test_output_that_somebody_else_ends_is_an_answer(world: World) -> None:
    """A chat that is cancelled after output has shown that the model answers."""
    await world.fail(2)
    await world.call(asyncio.CancelledError(), output=True)
    await world.fail(2)
    assert world.state()[0] == CLOSED


async def test_output_that_breaks_off_is_a_failure(world: World) -> None:
    """A stream that its provider breaks counts, however much came before."""
    for _ in range(3):
        await world.call(StreamBrokenError("cut"), output=True)
    assert world.state()[0] == OPEN


async def test_one_call_probes_and_its_answer_closes(world: World) -> None:
    """When the time is over one call passes, all others are refused while it runs, and its answer lets all in."""
    await world.fail(3)
    world.now += 30
    assert world.state() == (OPEN, 0.0)
    async with world.circuit().calling():
        assert world.state() == (HALF_OPEN, 0.0)
        for _ in range(20):
            with pytest.raises(CircuitOpenError, match="a chat is probing it") as refused:
                await world.call()
            assert refused.value.retry_after
    assert world.state() == (CLOSED, 0.0)
    assert len(world.circuits) == 0


async def test_a_probe_that_fails_opens_it_for_the_whole_time(world: World) -> None:
    """After a failed probe the time begins anew."""
    await world.fail(3)
    world.now += 31
    await world.fail()
    assert world.state() == (OPEN, 30.0)
    [circuit] = world.circuits.failed("p")
    assert circuit.storage.failures == 4


@pytest.mark.parametrize("error", NEUTRAL, ids=lambda error: type(error).__name__)
async def test_a_probe_that_tells_nothing_leaves_the_next_to_probe(world: World, error: BaseException) -> None:
    """A probe that is cancelled, or refused for the caller's own error, neither closes nor opens for longer."""
    await world.fail(3)
    world.now += 30
    for _ in range(3):
        await world.call(error)
        assert world.state() == (OPEN, 0.0)
    await world.call()
    assert world.state()[0] == CLOSED


async def test_a_long_probe_closes_with_its_first_output(world: World) -> None:
    """Others need not wait until the probe's answer is complete; but one failure opens it again until then."""
    await world.fail(3)
    world.now += 30
    async with world.circuit().calling() as probe:
        probe.answered()
        assert world.state() == (CLOSED, 0.0)
        await world.call(asyncio.CancelledError())
        assert world.state() == (CLOSED, 0.0)
        await world.fail()
        assert world.state() == (OPEN, 30.0)
    assert world.state() == (OPEN, 30.0)


async def test_a_probe_that_breaks_off_after_output_opens_it_again(world: World) -> None:
    """A provider that begins answers and never ends them does not get through."""
    await world.fail(3)
    world.now += 30
    await world.call(StreamBrokenError("cut"), output=True)
    assert world.state() == (OPEN, 30.0)


async def test_a_complete_answer_ends_the_trial(world: World) -> None:
    """Once an answer after the outage is complete it takes all failures again to open."""
    await world.fail(3)
    world.now += 30
    await world.call(output=True)
    await world.fail(2)
    assert world.state()[0] == CLOSED


@pytest.mark.parametrize("error", [None, UnavailableError("late")], ids=["answers", "fails"])
async def test_late_news_change_nothing(world: World, error: AdapterError | None) -> None:
    """A call that began before the circuit opened neither closes it nor opens it for longer when it ends."""
    stack = contextlib.AsyncExitStack()
    await stack.enter_async_context(world.circuit().calling())
    await world.fail(3)
    world.now += 20
    await _end(stack, error)
    assert world.state() == (OPEN, 10.0)


@pytest.mark.parametrize("error", [None, UnavailableError("late")], ids=["answers", "fails"])
async def test_late_news_do_not_disturb_a_probe(world: World, error: AdapterError | None) -> None:
    """What began before the opening and ends during the probe leaves the probe to decide."""
    late, probe = contextlib.AsyncExitStack(), contextlib.AsyncExitStack()
    await late.enter_async_context(world.circuit().calling())
    await world.fail(3)
    world.now += 30
    await probe.enter_async_context(world.circuit().calling())
    await _end(late, error)
    assert world.state()[0] == HALF_OPEN
    await probe.aclose()
    assert world.state()[0] == CLOSED


async def test_late_news_do_not_open_what_has_recovered(world: World) -> None:
    """Calls from before the outage that fail after it say nothing of now."""
    late = [contextlib.AsyncExitStack() for _ in range(3)]
    for stack in late:
        await stack.enter_async_context(world.circuit().calling())
    await world.fail(3)
    world.now += 30
    await world.call()
    for stack in late:
        await _end(stack, UnavailableError("late"))
    assert world.state() == (CLOSED, 0.0)


async def _end(stack: contextlib.AsyncExitStack, error: BaseException | None) -> None:
    """End what a stack holds as if that error had come."""
    await stack.__aexit__(None if error is None else type(error), error, None)


async def test_a_provider_that_says_when_to_come_is_left_until_then(world: World) -> None:
    """An opening lasts at least as long as the provider asked, but no longer than five minutes."""
    for asked, kept in ((5.0, 30.0), (90.0, 90.0), (86_400.0, 300.0)):
        model = f"m{asked}"
        await world.fail(2, model)
        await world.call(OverloadedError("busy", retry_after=asked), model)
        assert world.state(model) == (OPEN, kept)


async def test_new_settings_hold_at_once_and_lose_nothing(world: World) -> None:
    """A reload changes how many failures open, and how long an open circuit stays so, without forgetting."""
    await world.fail(2)
    world.breaker = Breaker(failures=5, open_seconds=30)
    await world.fail(2)
    assert world.state()[0] == CLOSED
    world.breaker = Breaker(failures=2, open_seconds=30)
    await world.fail()
    assert world.state() == (OPEN, 30.0)
    world.breaker = Breaker(failures=2, open_seconds=100)
    assert world.state() == (OPEN, 100.0)
    world.now += 10
    world.breaker = Breaker(failures=2, open_seconds=4)
    assert world.state() == (OPEN, 0.0)
    await world.call()
    assert world.state()[0] == CLOSED


def test_a_provider_may_have_settings_of_its_own() -> None:
    """The file's settings hold for a provider that has none."""
    platform = PlatformConfiguration.model_validate(
        {"breaker": {"failures": 7}, "providers": {"a": {"breaker": {"failures": 2}}, "b": {"region": "eu"}}}
    )
    assert [breaker_of(platform, name).failures for name in ("a", "b", "c")] == [2, 7, 7]


async def test_models_that_answer_leave_nothing_behind(world: World) -> None:
    """Any number of names that callers make up is forgotten with their chats."""
    for number in range(2000):
        await world.call(RateLimitedError("x") if number % 2 else None, f"m{number}")
    assert len(world.circuits) == 0


async def test_failures_of_any_number_of_models_are_bounded() -> None:
    """Beyond the bound what was asked longest ago is forgotten, what is closed first, and what runs never."""
    world = World(failures=2, most=10)
    await world.fail(2, "outage")
    async with world.circuit("running").calling():
        for number in range(500):
            await world.fail(1, f"m{number}")
            assert len(world.circuits) <= 10
        assert world.circuits.known("p", "running") is not None
    assert world.state("outage")[0] == OPEN
    for number in range(30):
        await world.fail(2, f"m{number}")
    assert len(world.circuits) == 10
    assert world.state("m29")[0] == OPEN


def test_asking_for_a_state_makes_no_circuit(world: World) -> None:
    """A planner may ask for the state of any model."""
    assert world.circuits.state("p", "never heard of") == (CLOSED, 0.0)
    assert len(world.circuits) == 0


async def test_each_change_is_one_line_of_the_log(world: World) -> None:
    """Operators read who, how often and why, without a provider's own words."""
    for _ in range(3):
        await world.call(OverloadedError("words of theirs", provider_status=529))
    world.now += 30
    await world.call()
    told = [(line["event"], line["provider"], line["model"], line["failures"]) for line in world.lines()]
    assert told == [
        ("circuit_opened", "p", "m", 3),
        ("circuit_half_open", "p", "m", 3),
        ("circuit_closed", "p", "m", 3),
    ]
    assert {line["reason"] for line in world.lines()} == {"PROVIDER_OVERLOADED (HTTP 529)"}
    assert "words of theirs" not in world.log.getvalue()


class Flaky:
    """A provider that writes down what its circuit says while it is asked."""

    def __init__(self, world: World, draws: random.Random) -> None:
        self._world = world
        self._draws = draws
        self.asked_while: list[int] = []
        self.probes = 0
        self.most_probes = 0

    async def stream(self, _: Call) -> AsyncGenerator[Events, None]:
        """Answer, fail or hang, as it is drawn."""
        state = self._world.state()[0]
        self.asked_while.append(state)
        probing = state == HALF_OPEN
        self.probes += probing
        self.most_probes = max(self.most_probes, self.probes)
        try:
            await self._pause()
            self._sometimes_fail(0.4)
            # With the first output the circuit closes: from here on it is a chat as others.
            self.probes -= probing
            probing = False
            yield [chat_pb2.ChatEvent()]
            await self._pause()
            self._sometimes_fail(0.2)
            yield [chat_pb2.ChatEvent(finished=chat_pb2.Finished())]
        finally:
            self.probes -= probing

    async def aclose(self) -> None:
        """Do nothing."""

    async def _pause(self) -> None:
        for _ in range(self._draws.randrange(6)):
            self._world.now += self._draws.choice([0, 0, 0.5, 3])
            await asyncio.sleep(0)

    def _sometimes_fail(self, share: float) -> None:
        if self._draws.random() < share:
            raise self._draws.choice(
                [UnavailableError("x"), OverloadedError("x", retry_after=2), InvalidRequestError("x"), RuntimeError()]
            )


async def _chat(breaking: Breaking, draws: random.Random, call: Call) -> None:
    for _ in range(draws.randrange(4)):
        await asyncio.sleep(0)
    most = draws.choice([0, 1, 2, 2, 2])
    with contextlib.suppress(AdapterError, RuntimeError):
        async with contextlib.aclosing(breaking.stream(call)) as stream:
            if most:
                async for _ in stream:
                    most -= 1
                    if not most:
                        break


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32))
def test_nobody_is_asked_while_open_but_one_probe(seed: int) -> None:
    """However calls, cancels, failures and time fall together: never two probes, nobody while open, nothing left."""
    draws = random.Random(seed)  # noqa: S311 - a test's choices
    world = World(failures=2, open_seconds=5)
    flaky = Flaky(world, draws)
    call = Call(chat_pb2.ChatRequest(), model="m", request_id="r")
    breaking = Breaking(flaky, world.circuit)

    async def run() -> None:
        tasks = [asyncio.create_task(_chat(breaking, draws, call)) for _ in range(60)]
        while not all(task.done() for task in tasks):
            if draws.random() < 0.3:
                draws.choice(tasks).cancel()
            world.now += draws.choice([0, 0, 1, 6])
            await asyncio.sleep(0)
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(run())
    assert OPEN not in flaky.asked_while
    assert flaky.most_probes <= 1
    circuit = world.circuits.known("p", "m")
    assert circuit is None or (circuit.running, circuit.probe) == (0, None)
    world.now += 1000
    asyncio.run(world.call())
    assert world.state() == (CLOSED, 0.0)
    assert len(world.circuits) == 0


async def test_a_stream_that_is_closed_before_output_releases_the_probe(world: World) -> None:
    """Whoever leaves a probe's stream early leaves the next call to probe."""
    await world.fail(3)
    world.now += 30
    began = asyncio.Event()

    class Hanging:
        async def stream(self, _: Call) -> AsyncGenerator[Events, None]:
            began.set()
            await asyncio.Event().wait()
            yield []

    call = Call(chat_pb2.ChatRequest(), model="m", request_id="r")
    task = asyncio.create_task(anext(Breaking(Hanging(), world.circuit).stream(call)))  # type: ignore[arg-type]  # as above
    await began.wait()
    assert world.state()[0] == HALF_OPEN
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.state() == (OPEN, 0.0)
    await world.call()
    assert world.state()[0] == CLOSED
