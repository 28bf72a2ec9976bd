"""A second attempt beside a late one: whoever has the first output answers, and nothing of the other is left."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, error_info, events_of, failed_stream, until
from tests.server.test_metrics import METERED, scrape, value

from execution_platform.adapters import compatible, scripted
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events, ProviderSpec
from execution_platform.server.config.personas import Hedging, RetryBudgetSettings
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.fallback import Steps
from execution_platform.server.resilience.hedging import Hedged
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.resilience.retry_budget import RetryBudget
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2, error_pb2, usage_pb2

Script: TypeAlias = Sequence[Mapping[str, Any]]

HANG: Script = [{"hang": True}]
HELLO: Script = [{"text": "Hello"}, {"text": " there"}]
OVERLOADED: Script = [{"error": {"reason": "PROVIDER_OVERLOADED"}}]
INVALID: Script = [{"error": {"reason": "INVALID_REQUEST"}}]

FIRST, RETRY, FALLBACK, HEDGE, _ = list(chat_pb2.AttemptCause.values())[1:]
FINISHED, FAILED, CANCELLED, SKIPPED = (
    chat_pb2.ATTEMPT_OUTCOME_FINISHED,
    chat_pb2.ATTEMPT_OUTCOME_FAILED,
    chat_pb2.ATTEMPT_OUTCOME_CANCELLED,
    chat_pb2.ATTEMPT_OUTCOME_SKIPPED,
)


class Gated(ScriptedAdapter):
    """A scripted provider that begins to answer when its gate is opened."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.gate = asyncio.Event()
        self.waiting = 0

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Wait for the gate, then play the script."""
        self.waiting += 1
        try:
            await self.gate.wait()
        finally:
            self.waiting -= 1
        async with contextlib.aclosing(super().stream(call)) as stream:
            async for events in stream:
                yield events


def spec(name: str, adapter: ScriptedAdapter) -> ProviderSpec:
    """A provider of that name whose adapter a test holds."""
    return dataclasses.replace(scripted.PROVIDERS[0], name=name, create=lambda _: adapter, automatic_rank=None)


def hedged(*names: str, after: float | None = 0.001, **more: Any) -> dict[str, Any]:
    """A configuration whose persona `p` asks these providers in turn, the second beside the first."""
    hedging = {"least_samples": 3} if after is None else {"after": after}
    routes = [{"provider": name, "model": "echo"} for name in names]
    persona = {**routes[0], "fallback": routes[1:], "hedging": hedging, "retries": {"most": 0}}
    return {"personas": {"p": persona}, **more}


@contextlib.asynccontextmanager
async def serving(
    serve: Serve,
    first: ScriptedAdapter,
    second: ScriptedAdapter,
    *others: ScriptedAdapter,
    after: float | None = 0.001,
    metered: bool = False,
    **more: Any,
) -> AsyncIterator[Served]:
    """A server whose persona `p` hedges between these."""
    names = ["first", "second", *(f"other{number}" for number in range(len(others)))]
    specs = [spec(name, adapter) for name, adapter in zip(names, (first, second, *others), strict=True)]
    async with serve(METERED if metered else {}, specs, hedged(*names, after=after, **more)) as served:
        yield served


def request() -> chat_pb2.ChatRequest:
    """A chat of the persona."""
    return chat_request(model="", persona="p")


def tried(attempts: Sequence[chat_pb2.Attempt]) -> list[tuple[str, int, int]]:
    """Who was tried, why, and what came of it."""
    return [(attempt.provider, attempt.cause, attempt.outcome) for attempt in attempts]


async def finished(served: Served) -> chat_pb2.Finished:
    """The end of a chat that goes well."""
    return (await events_of(served.chat.Chat(request())))[-1].finished


async def test_a_second_attempt_answers_for_a_late_first(serve: Serve) -> None:
    """The second one's answer comes whole, both attempts are told, and the first one's stream is closed by then."""
    first, second = ScriptedAdapter(HANG), ScriptedAdapter(HELLO)
    async with serving(serve, first, second, metered=True) as served:
        events = await events_of(served.chat.Chat(request()))
        assert first.open_streams == second.open_streams == 0
        samples = await scrape(served.app.metrics_endpoint)
    told = next(event.started for event in events if event.HasField("started"))
    assert told.route.provider == events[-1].finished.route.provider == "second"
    assert tried(told.attempts)[0] == ("first", FIRST, CANCELLED)
    assert tried(events[-1].finished.attempts) == [("first", FIRST, CANCELLED), ("second", HEDGE, FINISHED)]
    assert "".join(event.block_delta.text for event in events if event.HasField("block_delta")) == "Hello there"
    assert (first.calls, second.calls) == (1, 1)
    hedges = {"from": "first", "to": "second"}
    assert value(samples, "ep_hedges_total", **hedges) == value(samples, "ep_hedges_won_total", **hedges) == 1


async def test_a_first_in_time_stays_alone(serve: Serve) -> None:
    """Nobody else is asked while the first one answers in time."""
    first, second = ScriptedAdapter(HELLO), ScriptedAdapter(HELLO)
    async with serving(serve, first, second, after=3600) as served:
        assert tried((await finished(served)).attempts) == [("first", FIRST, FINISHED)]
    assert second.calls == 0


async def test_the_first_may_still_win(serve: Serve) -> None:
    """When the first one's output comes first after all, the second is closed and shows as cancelled."""
    first, second = Gated(HELLO), Gated(HELLO)
    async with serving(serve, first, second, metered=True) as served:
        chat = asyncio.create_task(finished(served))
        await until(lambda: second.waiting == 1)
        first.gate.set()
        end = await chat
        assert (second.waiting, second.open_streams, first.open_streams) == (0, 0, 0)
        samples = await scrape(served.app.metrics_endpoint)
    assert end.route.provider == "first"
    assert tried(end.attempts) == [("second", HEDGE, CANCELLED), ("first", FIRST, FINISHED)]
    assert value(samples, "ep_hedges_total") == 1
    assert value(samples, "ep_hedges_won_total") == 0


async def test_of_two_at_the_same_moment_the_first_wins(serve: Serve) -> None:
    """When both have output at once, the first answers, and `started` and `finished` both say so."""
    first, second = Gated([*HELLO, {"hang": True}]), Gated(HELLO)
    async with serving(serve, first, second) as served:
        call = served.chat.Chat(request())
        await until(lambda: first.waiting == second.waiting == 1)
        first.gate.set()
        second.gate.set()
        events: list[chat_pb2.ChatEvent] = []
        async for response in call:
            events += response.events
            if any(event.HasField("block_delta") for event in events):
                break
        assert second.open_streams == 0
        call.cancel()
    started = next(event.started for event in events if event.HasField("started"))
    assert started.route.provider == "first"
    assert [attempt.provider for attempt in started.attempts] == ["second", "first"]


async def test_a_first_that_fails_early_is_fallen_back_from(serve: Serve) -> None:
    """A failure before the second began is a fallback at once, not a hedge."""
    async with serving(serve, ScriptedAdapter(OVERLOADED), ScriptedAdapter(HELLO), after=3600, metered=True) as served:
        end = await finished(served)
        samples = await scrape(served.app.metrics_endpoint)
    assert tried(end.attempts) == [("first", FIRST, FAILED), ("second", FALLBACK, FINISHED)]
    assert value(samples, "ep_fallbacks_total", **{"from": "first", "to": "second", "reason": "overloaded"}) == 1
    assert value(samples, "ep_hedges_total") == 0


async def test_a_first_that_fails_late_leaves_the_second_alone(serve: Serve) -> None:
    """A failure of the first while the second runs does not end the second."""
    first, second = Gated(OVERLOADED), Gated(HELLO)
    async with serving(serve, first, second) as served:
        chat = asyncio.create_task(finished(served))
        await until(lambda: second.waiting == 1)
        first.gate.set()
        await until(lambda: first.calls == 1 and first.open_streams == 0)
        second.gate.set()
        end = await chat
    assert tried(end.attempts) == [("first", FIRST, FAILED), ("second", HEDGE, FINISHED)]


async def test_a_second_that_fails_leaves_the_first_alone(serve: Serve) -> None:
    """A failure of the second, whatever it is, does not end the first."""
    first, second = Gated(HELLO), ScriptedAdapter(INVALID)
    async with serving(serve, first, second) as served:
        chat = asyncio.create_task(finished(served))
        await until(lambda: second.calls == 1 and second.open_streams == 0)
        first.gate.set()
        end = await chat
    assert tried(end.attempts) == [("second", HEDGE, FAILED), ("first", FIRST, FINISHED)]


@pytest.mark.parametrize("after", [0.001, 3600.0])
async def test_when_both_fail_the_third_is_asked(serve: Serve, after: float) -> None:
    """Whether beside each other or in turn: once both have failed, the plan's next one answers."""
    first, second, third = Gated(OVERLOADED), ScriptedAdapter(OVERLOADED), ScriptedAdapter(HELLO)
    async with serving(serve, first, second, third, after=after, metered=True) as served:
        chat = asyncio.create_task(finished(served))
        if after < 1:
            await until(lambda: second.calls == 1 and second.open_streams == 0)
        first.gate.set()
        end = await chat
        samples = await scrape(served.app.metrics_endpoint)
    assert sorted(attempt[0] for attempt in tried(end.attempts)) == ["first", "other0", "second"]
    assert tried(end.attempts)[-1] == ("other0", FALLBACK, FINISHED)
    assert value(samples, "ep_fallbacks_total", **{"from": "second", "to": "other0"}) == 1


async def test_when_all_fail_the_last_failure_is_told(serve: Serve) -> None:
    """Without a third one the chat fails with what the second one failed with, and nothing stays open."""
    rate_limited = [{"error": {"reason": "PROVIDER_RATE_LIMITED"}}]
    first, second = Gated(OVERLOADED), ScriptedAdapter(rate_limited)
    async with serving(serve, first, second) as served:
        chat = asyncio.create_task(failed_stream(served.chat.Chat(request())))
        await until(lambda: second.calls == 1 and second.open_streams == 0)
        first.gate.set()
        events, error = await chat
    assert error_info(error).reason == "PROVIDER_RATE_LIMITED"
    assert sorted(tried(events[-1].failed.attempts)) == [("first", FIRST, FAILED), ("second", HEDGE, FAILED)]


async def test_the_failure_of_whoever_was_asked_is_told(serve: Serve) -> None:
    """A second one whose circuit is open is not begun beside the first, and does not hide what that failed with."""
    first, second = Gated(HELLO, OVERLOADED), ScriptedAdapter(OVERLOADED)
    async with serving(serve, first, second, breaker={"failures": 1, "open_seconds": 3600}) as served:
        chat = asyncio.create_task(finished(served))
        await until(lambda: second.calls == 1 and second.open_streams == 0)
        first.gate.set()
        await chat
        first.gate.clear()
        asked = asyncio.create_task(failed_stream(served.chat.Chat(request())))
        await until(lambda: first.waiting == 1)
        first.gate.set()
        events, error = await asked
    assert error_info(error).reason == "PROVIDER_OVERLOADED"
    assert tried(events[-1].failed.attempts) == [("first", FIRST, FAILED), ("second", FALLBACK, SKIPPED)]


async def test_a_request_that_is_wrong_ends_both(serve: Serve) -> None:
    """What the first one says of the request itself ends the chat, and the second one's stream."""
    first, second = Gated(INVALID), Gated(HELLO)
    async with serving(serve, first, second) as served:
        chat = asyncio.create_task(failed_stream(served.chat.Chat(request())))
        await until(lambda: second.waiting == 1)
        first.gate.set()
        _, error = await chat
        assert second.waiting == 0
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_routes_that_cannot_be_asked_are_all_named(serve: Serve) -> None:
    """Where neither may be asked, the failure names both, as without hedging."""
    first, second = ScriptedAdapter(OVERLOADED), ScriptedAdapter(OVERLOADED)
    breaker = {"failures": 1, "open_seconds": 3600}
    async with serving(serve, first, second, after=3600, breaker=breaker) as served:
        await failed_stream(served.chat.Chat(request()))
        events, error = await failed_stream(served.chat.Chat(request()))
    assert error_info(error).reason == "NO_HEALTHY_ROUTE"
    assert "first/echo" in (error.details() or "")
    assert "second/echo" in (error.details() or "")
    assert tried(events[-1].failed.attempts) == [("first", FIRST, SKIPPED), ("second", FALLBACK, SKIPPED)]


async def test_the_retry_budget_pays_for_hedges(serve: Serve) -> None:
    """Without a budget nobody runs beside the first: it is waited for, and the refusal is counted."""
    first, second = Gated(HELLO), ScriptedAdapter(HELLO)
    none = {"ratio": 0, "ratio_of_answers": 0, "least": 0}
    async with serving(serve, first, second, retry_budget=none, metered=True) as served:
        chat = asyncio.create_task(finished(served))
        async with asyncio.timeout(60):
            while value(await scrape(served.app.metrics_endpoint), "ep_retries_denied_total", provider="first") < 1:
                pass
        first.gate.set()
        end = await chat
    assert tried(end.attempts) == [("first", FIRST, FINISHED)]
    assert second.calls == 0


async def test_usual_times_decide_once_they_are_known(serve: Serve) -> None:
    """Without `after` nobody is late before enough answers were seen; then the percentile decides."""
    first, second = Gated(HELLO), ScriptedAdapter(HELLO)
    async with serving(serve, first, second, after=None) as served:
        served.app.latencies.note("first", "echo", 0.001)
        served.app.latencies.note("first", "echo", 0.001)
        chat = asyncio.create_task(finished(served))
        await until(lambda: first.waiting == 1)
        first.gate.set()
        assert tried((await chat).attempts) == [("first", FIRST, FINISHED)]
        first.gate.clear()
        assert served.app.latencies.samples("first", "echo") == 3
        end = await finished(served)
        assert tried(end.attempts) == [("first", FIRST, CANCELLED), ("second", HEDGE, FINISHED)]
        # The late one counts as late: else hedges would come sooner with each.
        assert served.app.latencies.samples("first", "echo") == 4


async def test_a_whole_answer_is_hedged_too(serve: Serve) -> None:
    """CompleteChat gets the second one's answer with both attempts."""
    first, second = ScriptedAdapter(HANG), ScriptedAdapter(HELLO)
    async with serving(serve, first, second) as served:
        answer = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request()))
        assert first.open_streams == 0
    assert answer.message.content[0].text.text == "Hello there"
    assert tried(answer.finished.attempts) == [("first", FIRST, CANCELLED), ("second", HEDGE, FINISHED)]


async def test_usual_times_of_streams_say_nothing_of_whole_answers(serve: Serve) -> None:
    """A whole answer is late by what whole answers usually take, however late streams begin."""
    first, second = Gated(HELLO), ScriptedAdapter(HELLO)
    async with serving(serve, first, second, after=None) as served, asyncio.timeout(60):
        for _ in range(3):
            served.app.latencies.note("first", "echo", 3600)
            served.app.latencies.note("first", "echo", 0.001, whole=True)
        answer = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request()))
        assert served.app.latencies.samples("first", "echo", whole=True) == 4
    assert tried(answer.finished.attempts) == [("first", FIRST, CANCELLED), ("second", HEDGE, FINISHED)]


async def test_what_breaks_after_output_fails_the_chat(serve: Serve) -> None:
    """The winner's failure in the middle comes after all of its output, and nobody else is asked."""
    first, second = ScriptedAdapter(HANG), ScriptedAdapter([{"text": "Half"}, {"break": True}])
    async with serving(serve, first, second) as served:
        events, error = await failed_stream(served.chat.Chat(request()))
    assert "".join(event.block_delta.text for event in events if event.HasField("block_delta")) == "Half"
    assert error_info(error).reason == "STREAM_BROKEN"
    assert tried(events[-1].failed.attempts) == [("first", FIRST, CANCELLED), ("second", HEDGE, FAILED)]
    assert second.calls == 1


async def test_a_cancel_ends_both(serve: Serve) -> None:
    """When the caller goes while two attempts run, both end."""
    first, second = Gated(HELLO), Gated(HELLO)
    async with serving(serve, first, second) as served:
        call = served.chat.Chat(request())
        await until(lambda: first.waiting == second.waiting == 1)
        call.cancel()
        await until(lambda: first.waiting == second.waiting == 0)
        await until(lambda: served.app.admission.running == 0)


async def test_a_deadline_ends_both(serve: Serve) -> None:
    """When the chat's time is over while two attempts run, both end and show as cancelled."""
    first, second = Gated(HELLO), Gated(HELLO)
    async with serving(serve, first, second) as served:
        asked = chat_pb2.CompleteChatRequest(chat=request())
        served.app.latencies.note("first", "echo", 1)
        attempts: list[dict[str, str]] = []
        timeout = 0.3
        while len(attempts) < 2:  # until both run before the deadline
            with pytest.raises(grpc.aio.AioRpcError):
                await served.chat.CompleteChat(asked, timeout=timeout)
            await until(lambda: first.waiting == second.waiting == served.app.admission.running == 0)
            attempts = [each for line in served.log_lines("chat")[-1:] for each in line.get("attempts", [])]
            timeout *= 2
    assert [attempt["outcome"] for attempt in attempts] == ["CANCELLED", "CANCELLED"]


async def test_the_loser_costs_what_its_prompt_costs(serve: Serve) -> None:
    """A loser whose provider told nothing shows an estimate where a price is known, and UNPRICED where none is."""
    used: Script = [{"usage": {"input": 10, "output": 3}}, *HELLO]
    first, second = ScriptedAdapter(HANG), ScriptedAdapter(used)
    prices = {"first/echo": {"input_price": 2, "output_price": 4}}
    async with serving(serve, first, second, models=prices) as served:
        asked = request()
        asked.messages[0].content[0].text.text = "word " * 400
        events = await events_of(served.chat.Chat(asked))
    lost, won = events[-1].finished.attempts
    assert not lost.usage.items
    assert lost.cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert [(line.description, line.source) for line in lost.cost.lines] == [
        ("input", usage_pb2.COST_SOURCE_CONFIGURATION)
    ]
    assert 500 * 2_000 <= lost.cost.lines[0].amount.nanos <= 510 * 2_000  # 2000 bytes and a little, 4 a token
    assert won.cost.status == events[-1].finished.cost.status == usage_pb2.COST_STATUS_UNPRICED


async def test_the_loser_costs_what_its_provider_told(serve: Serve) -> None:
    """Usage that the loser's provider told before it lost is its usage, and priced."""
    told: Script = [{"usage": {"input": 1_000}}, {"pause_ms": 600_000}]
    first, second = ScriptedAdapter(told), ScriptedAdapter(HELLO)
    prices = {"first/echo": {"input_price": 2, "output_price": 4}}
    async with serving(serve, first, second, models=prices) as served:
        lost = (await finished(served)).attempts[0]
    assert [item.quantity for item in lost.usage.items] == [1_000]
    assert [line.amount.nanos for line in lost.cost.lines] == [2_000_000]


def test_latencies_of_invented_models_are_forgotten() -> None:
    """However many models callers name, those of the newest answers are remembered and no others."""
    latencies = Latencies()
    for number in range(3_000):
        latencies.note("compatible", f"invented-{number}", 0.1)
        latencies.note("compatible", "used", 0.2)
    assert latencies.samples("compatible", "used") == 200
    assert sum(latencies.samples("compatible", f"invented-{number}") for number in range(3_000)) < 1_024


class Faulty(ScriptedAdapter):
    """An adapter with a bug."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Fail as no adapter may."""
        if call.model:
            raise RuntimeError("a bug")
        yield []


async def test_a_fault_beside_the_first_is_logged_and_leaves_it_alone(serve: Serve) -> None:
    """A bug of the second one's adapter is a failed attempt: the log tells it, and the first one answers."""
    first = Gated(HELLO)
    async with serving(serve, first, Faulty()) as served:
        chat = asyncio.create_task(finished(served))
        await until(lambda: bool(served.log_lines("attempt_fault")))
        first.gate.set()
        end = await chat
    assert tried(end.attempts) == [("second", HEDGE, FAILED), ("first", FIRST, FINISHED)]
    assert end.attempts[0].error.reason == error_pb2.ERROR_REASON_INTERNAL


class Counted:
    """A route with any number of events, which counts how many were read and notices its end."""

    def __init__(self, leg: Leg, journal: Journal, number: int) -> None:
        self.leg = leg
        self.read = 0
        self.closed = False
        self._journal = journal
        self._number = number

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Yield lists of one delta."""
        self._journal.begin(self.leg, FIRST)
        try:
            for number in range(self._number):
                self.read += 1
                delta = chat_pb2.BlockDelta(index=number, text=call.model)
                yield [chat_pb2.ChatEvent(block_delta=delta)]
                await asyncio.sleep(0)
        finally:
            self.closed = True


def one_route(number: int) -> tuple[Hedged, Counted]:
    """A hedged route whose first leg answers with so many lists of events, and that route."""
    journal, leg, other = Journal(), Leg("a", "m"), Leg("b", "m")
    route = Counted(leg, journal, number)
    hedge = Hedged(
        (leg, route),
        (other, lambda _: Counted(other, journal, 1)),
        Hedging(after=3600),
        RetryBudget(RetryBudgetSettings()),
        journal,
        Latencies(),
        Metrics(),
        Steps(lambda *_: None),
    )
    return hedge, route


async def test_a_slow_reader_holds_the_provider_back() -> None:
    """What is read from a provider is at most a few lists ahead of whoever takes them, and comes in order."""
    hedge, route = one_route(500)
    taken = []
    async with contextlib.aclosing(hedge.stream(Call(chat_pb2.ChatRequest(), "m"))) as stream:
        async for events in stream:
            taken.append(events[0].block_delta.index)
            for _ in range(5):
                await asyncio.sleep(0)
            assert route.read <= len(taken) + 3
    assert taken == list(range(500))


async def test_whoever_stops_reading_ends_the_attempt() -> None:
    """Closing the generator in the middle closes the provider's, and leaves no task."""
    hedge, route = one_route(500)
    stream = hedge.stream(Call(chat_pb2.ChatRequest(), "m"))
    await anext(stream)
    await stream.aclose()
    assert route.closed
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("hedged")]


@pytest.mark.parametrize("seed", range(4))
async def test_random_cancels_leave_nothing(serve: Serve, seed: int) -> None:
    """However chats with hedges end - answered, failed, cancelled at any moment - no stream, task or place is left."""
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    pool: list[Script] = [
        HANG,
        HELLO,
        OVERLOADED,
        [{"pause_ms": 3}, *HELLO],
        [{"text": "a"}, {"hang": True}],
        [{"break": True}],
    ]
    adapters = [ScriptedAdapter(*draw.choices(pool, k=40)) for _ in range(3)]
    budget = {"ratio": 1, "least": 1000}
    async with serving(serve, *adapters, retry_budget=budget, breaker={"failures": 1000}) as served:

        async def chat() -> None:
            call = served.chat.Chat(request())
            after = draw.choice([0.0, 0.001, 0.004, 0.01, 0.3])
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.CancelledError, TimeoutError):
                async with asyncio.timeout(after):
                    await events_of(call)
            call.cancel()

        rounds = 0
        while rounds < 4 or not all(adapter.calls for adapter in adapters[:2]):
            await asyncio.gather(*(chat() for _ in range(12)))
            rounds += 1
        await until(lambda: served.app.admission.running == 0)
        await until(lambda: not any(adapter.open_streams for adapter in adapters))
        await until(lambda: not [task for task in asyncio.all_tasks() if task.get_name().startswith("hedged")])
        assert not served.log_lines("chat_fault")


class Silent:
    """A server that takes requests, answers nothing, and notices who hangs up."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.hung_up = asyncio.Event()
        self.port = 0

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Silent]:
        """Serve while the context is entered."""
        server = await asyncio.start_server(self._handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.asked.set()
        while await reader.read(65_536):
            pass
        self.hung_up.set()
        writer.close()


async def test_the_losers_connection_is_closed(serve: Serve) -> None:
    """The loser's provider sees its connection closed as soon as the other one answers, while that still runs."""
    second = Gated([{"text": "Hello"}, {"hang": True}])
    async with Silent().serving() as silent:
        environ = {"EP_COMPATIBLE_BASE_URL": f"http://127.0.0.1:{silent.port}/v1"}
        specs = [each for each in compatible.PROVIDERS if each.name == "compatible"]
        platform = hedged("compatible", "second")
        async with serve(environ, [*specs, spec("second", second)], platform) as served:
            call = served.chat.Chat(request())
            async with asyncio.timeout(60):
                await silent.asked.wait()
                assert not silent.hung_up.is_set()
                second.gate.set()
                async for _ in call:
                    break
                await silent.hung_up.wait()
            assert second.open_streams == 1
            call.cancel()
            await until(lambda: second.open_streams == 0)
