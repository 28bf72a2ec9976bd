"""What callers get of a server while its providers fail: attempts, verdicts, timeouts, restarts."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from tests.server.conftest import (
    Serve,
    chat_request,
    details_of,
    error_info,
    events_of,
    failed_stream,
    kinds,
    trailers_of,
    until,
)
from tests.server.test_metrics import METERED, scrape, value

from execution_platform.adapters import scripted
from execution_platform.adapters.errors import OverloadedError, ProviderTimeoutError
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events, ProviderSpec
from execution_platform.client.fold import Fold
from execution_platform.v1 import catalog_pb2, chat_pb2, error_pb2

Script: TypeAlias = Sequence[Mapping[str, Any]]

HANG: Script = [{"hang": True}]
HELLO: Script = [{"text": "Hello"}, {"text": " there"}]
BROKEN: Script = [{"text": "Hel"}, {"break": True}]

FIRST, RETRY, FALLBACK, _, MID_STREAM = list(chat_pb2.AttemptCause.values())[1:]
FINISHED, FAILED, CANCELLED, SKIPPED = list(chat_pb2.AttemptOutcome.values())[2:]

#: Retries that wait for next to nothing.
QUICK: Mapping[str, Any] = {"first_wait": "1ms", "longest_wait": "1ms"}


def failing(reason: str, **more: Any) -> Script:
    """A script that fails at once."""
    return [{"error": {"reason": reason, **more}}]


def spec(name: str, adapter: ScriptedAdapter) -> ProviderSpec:
    """A provider of that name whose adapter a test holds."""
    return dataclasses.replace(scripted.PROVIDERS[0], name=name, create=lambda _: adapter, automatic_rank=None)


class Playing(ScriptedAdapter):
    """A scripted provider that remembers its calls."""

    def __init__(self, *scripts: Script) -> None:
        super().__init__(*scripts)
        self.asked: list[Call] = []

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Remember the call and play."""
        self.asked.append(call)
        stream = super().stream(call)
        try:
            async for events in stream:
                yield events
        finally:
            await stream.aclose()


@dataclasses.dataclass
class Providers:
    """Scripted providers `a`, `b`, `c` and how chats ask them in turn."""

    adapters: Sequence[ScriptedAdapter]

    def specs(self) -> list[ProviderSpec]:
        """As a registry takes them."""
        return [spec("abc"[at], adapter) for at, adapter in enumerate(self.adapters)]

    def request(self, **routing: Any) -> chat_pb2.ChatRequest:
        """A chat that may ask all of them."""
        names = [f"{'abc'[at]}/echo" for at in range(len(self.adapters))]
        request = chat_request(model=names[0])
        request.routing.CopyFrom(chat_pb2.Routing(fallback_models=names[1:], **routing))
        return request

    @property
    def calls(self) -> list[int]:
        """How often each was asked."""
        return [adapter.calls for adapter in self.adapters]


def platform(*, breaker: int = 1000, **defaults: Any) -> dict[str, Any]:
    """A configuration in which circuits stay closed and waits are short."""
    retries = {**QUICK, **defaults.pop("retries", {})}
    return {"defaults": {"retries": retries, **defaults}, "breaker": {"failures": breaker}}


def tried(attempts: Sequence[chat_pb2.Attempt]) -> list[tuple[str, int, int]]:
    """Who was tried, why, and what came of it."""
    return [(attempt.provider, attempt.cause, attempt.outcome) for attempt in attempts]


def seconds(number: float) -> duration_pb2.Duration:
    """A span of time."""
    return duration_pb2.Duration(seconds=int(number), nanos=int(number % 1 * 1e9))


def folded(events: Sequence[chat_pb2.ChatEvent]) -> str:
    """The text that a client keeps."""
    fold = Fold()
    fold.add_all(events)
    return fold.text


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_failure_that_passes_is_retried(serve: Serve) -> None:
    """The caller gets one whole answer, and both attempts with what they used and why they were made."""
    overloaded: Script = [
        {"started": True},
        {"usage": {"input": 5}},
        *failing("PROVIDER_OVERLOADED", provider_status=529),
    ]
    them = Providers([ScriptedAdapter(overloaded, HELLO)])
    async with serve({}, them.specs(), platform()) as served:
        events = await events_of(served.chat.Chat(them.request()))
    end = events[-1].finished
    assert tried(end.attempts) == [("a", FIRST, FAILED), ("a", RETRY, FINISHED)]
    assert end.attempts[0].error.provider_status == 529
    assert [item.quantity for item in end.attempts[0].usage.items] == [5]
    assert kinds(events).count("started") == kinds(events).count("finished") == 1
    begun = events[0].started
    assert tried(begun.attempts)[0] == ("a", FIRST, FAILED)
    assert begun.attempts[1].outcome == chat_pb2.ATTEMPT_OUTCOME_RUNNING
    assert folded(events) == "Hello there"
    assert not any(event.HasField("notice") for event in events)


async def test_a_whole_answer_is_retried_as_well(serve: Serve) -> None:
    """CompleteChat gets what Chat gets."""
    them = Providers([Playing(failing("PROVIDER_UNAVAILABLE"), HELLO)])
    async with serve({}, them.specs(), platform()) as served:
        answer = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=them.request()))
    assert tried(answer.finished.attempts) == [("a", FIRST, FAILED), ("a", RETRY, FINISHED)]
    assert answer.message.content[0].text.text == "Hello there"


@pytest.mark.parametrize("reason", ["INVALID_REQUEST", "PROVIDER_AUTHENTICATION", "PROVIDER_BILLING"])
async def test_what_does_not_pass_is_not_retried(serve: Serve, reason: str) -> None:
    """A wrong request and a refused key are told at once."""
    them = Providers([ScriptedAdapter(failing(reason))])
    async with serve({}, them.specs(), platform()) as served:
        _, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == reason
    assert them.calls == [1]


async def test_nothing_is_retried_after_output(serve: Serve) -> None:
    """An answer that broke off after output fails with STREAM_BROKEN, and nobody is asked again by default."""
    them = Providers([ScriptedAdapter(BROKEN), ScriptedAdapter(HELLO)])
    async with serve({}, them.specs(), platform()) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "STREAM_BROKEN"
    assert trailers_of(error)["grpc-retry-pushback-ms"] == "-1"
    assert them.calls == [1, 0]
    assert folded(events) == "Hel"


async def test_five_retries_and_the_last_failure_is_told(serve: Serve) -> None:
    """The sixth attempt is the last; status and `failed` tell its number and all attempts."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_UNAVAILABLE"))])
    async with serve({}, them.specs(), {**platform(), "retry_budget": {"least": 100}}) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert them.calls == [6]
    assert error_info(error).metadata["attempt"] == "6"
    assert tried(events[-1].failed.attempts) == [("a", FIRST, FAILED), *[("a", RETRY, FAILED)] * 5]


async def test_a_request_may_want_no_second_attempt(serve: Serve) -> None:
    """With `routing.retries` false the first attempt decides, before output and after it."""
    for script in (failing("PROVIDER_UNAVAILABLE"), BROKEN):
        them = Providers([ScriptedAdapter(script, HELLO), ScriptedAdapter(HELLO)])
        async with serve({}, them.specs(), platform(mid_stream="restart")) as served:
            await failed_stream(served.chat.Chat(them.request(retries=False)))
        assert them.calls == [1, 0]


async def test_a_time_to_wait_beyond_the_deadline_is_told_at_once(serve: Serve) -> None:
    """The caller learns when to come back instead of waiting in vain."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_OVERLOADED", retry_after=3600))])
    async with serve({}, them.specs(), platform()) as served:
        _, error = await failed_stream(served.chat.Chat(them.request(), timeout=600))
    info = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in details_of(error).details)
    assert info.retry_delay.seconds == 3600
    assert them.calls == [1]


async def test_the_callers_deadline_holds_during_a_wait(serve: Serve) -> None:
    """A deadline that passes while a chat waits is DEADLINE_EXCEEDED, with what was tried so far."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_OVERLOADED"), HANG)])
    async with serve({"EP_DEFAULT_DEADLINE_SECONDS": "0.3"}, them.specs(), platform()) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert tried(events[-1].failed.attempts) == [("a", FIRST, FAILED), ("a", RETRY, CANCELLED)]
    assert events[-1].failed.route.provider == "a"


class Timing(ScriptedAdapter):
    """A provider whose own limit is the time that is left, and ends a moment after it."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Wait as long as there is time, deaf to whoever cancels it."""
        try:
            await asyncio.sleep(3600 if call.timeout else 0)
        except asyncio.CancelledError:
            raise ProviderTimeoutError("no answer in time") from None
        yield []


async def test_the_callers_deadline_is_never_a_providers_timeout(serve: Serve) -> None:
    """When the time is over it is the caller's deadline, whatever the adapter makes of that."""
    them = Providers([Timing()])
    async with serve({"EP_DEFAULT_DEADLINE_SECONDS": "0.2"}, them.specs(), platform()) as served:
        _, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "DEADLINE_EXCEEDED"


async def test_a_server_that_ends_ends_waiting_chats(serve: Serve) -> None:
    """A chat that waits for its retry when the drain is cut short fails with DRAINING at once."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_OVERLOADED", retry_after=300))])
    async with serve({"EP_DRAIN_SECONDS": "0.1"}, them.specs(), platform()) as served:
        call = served.chat.Chat(them.request())
        chat = asyncio.create_task(failed_stream(call))
        await until(lambda: them.calls == [1])
        await served.app.shut_down()
        _, error = await chat
    assert error_info(error).reason == "DRAINING"


# --- fallback ---------------------------------------------------------------------------------------------------------


async def test_models_are_asked_in_turn(serve: Serve) -> None:
    """The third answers; `started` and `finished` name it and all before it, and a notice says so."""
    them = Providers(
        [
            ScriptedAdapter(failing("PROVIDER_AUTHENTICATION")),
            ScriptedAdapter(failing("CONTEXT_LENGTH_EXCEEDED")),
            ScriptedAdapter(HELLO),
        ]
    )
    async with serve({}, them.specs(), platform()) as served:
        events = await events_of(served.chat.Chat(them.request()))
    expected = [("a", FIRST, FAILED), ("b", FALLBACK, FAILED), ("c", FALLBACK, FINISHED)]
    assert tried(events[-1].finished.attempts) == expected
    assert events[0].started.route.provider == events[-1].finished.route.provider == "c"
    [notice] = [event.notice for event in events if event.HasField("notice")]
    assert notice.code == chat_pb2.NOTICE_CODE_FALLBACK_USED
    assert notice.message == "c/echo answers in place of a/echo; attempts tell why"


async def test_silence_before_output_starts_a_fallback(serve: Serve) -> None:
    """A provider that is silent for `first_token_timeout` is left for the next, as one that began without output is."""
    begun: Script = [{"started": True}, {"usage": {"input": 1}}, {"hang": True}]
    for silent in (HANG, begun):
        them = Providers([ScriptedAdapter(silent), ScriptedAdapter(HELLO)])
        async with serve({}, them.specs(), platform(retries={"most": 0})) as served:
            request = them.request(first_token_timeout=seconds(0.05))
            end = (await events_of(served.chat.Chat(request)))[-1].finished
        assert tried(end.attempts) == [("a", FIRST, FAILED), ("b", FALLBACK, FINISHED)]
        assert end.attempts[0].error.reason == error_pb2.ERROR_REASON_PROVIDER_TIMEOUT


async def test_silence_after_output_ends_the_chat(serve: Serve) -> None:
    """An answer that stands still for `idle_timeout` fails as a timeout of its provider, and is not begun again."""
    them = Providers([ScriptedAdapter([{"text": "Hel"}, {"hang": True}]), ScriptedAdapter(HELLO)])
    async with serve({}, them.specs(), platform()) as served:
        request = them.request(idle_timeout=seconds(0.05))
        events, error = await failed_stream(served.chat.Chat(request))
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_TIMEOUT")
    assert events[-1].failed.error.message == "the answer stood still for 0.05 s"
    assert them.calls == [1, 0]


async def test_who_wants_a_whole_answer_is_streamed_to_where_silence_counts(serve: Serve) -> None:
    """With a limit on silence the provider is asked to stream, so that a long answer is not taken for silence."""
    for limit, unary in ((None, True), (seconds(5), False)):
        playing = Playing(HELLO)
        them = Providers([playing])
        async with serve({}, them.specs(), platform()) as served:
            request = them.request(first_token_timeout=limit)
            answer = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request))
        assert playing.asked[0].unary is unary
        assert answer.message.content[0].text.text == "Hello there"


async def test_a_whole_answer_that_breaks_off_is_made_anew(serve: Serve) -> None:
    """The caller of CompleteChat has seen nothing yet, so that its answer is retried or made by the next."""
    for limit in (None, seconds(5)):
        them = Providers([ScriptedAdapter(BROKEN), ScriptedAdapter(HELLO)])
        async with serve({}, them.specs(), platform(retries={"most": 0})) as served:
            request = them.request(idle_timeout=limit)
            answer = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request))
        assert tried(answer.finished.attempts) == [("a", FIRST, FAILED), ("b", FALLBACK, FINISHED)]
        assert [block.text.text for block in answer.message.content] == ["Hello there"]


async def test_of_all_failures_the_one_that_passes_is_told(serve: Serve) -> None:
    """Where nobody answers, the caller is told to come back if that may help."""
    them = Providers(
        [ScriptedAdapter(failing("PROVIDER_OVERLOADED")), ScriptedAdapter(failing("PROVIDER_AUTHENTICATION"))]
    )
    async with serve({}, them.specs(), platform(retries={"most": 0})) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "PROVIDER_OVERLOADED"
    assert error_info(error).metadata["provider"] == "a"
    assert [attempt.error.provider for attempt in events[-1].failed.attempts] == ["a", "b"]


async def test_where_nobody_was_asked_no_route_is_named(serve: Serve) -> None:
    """With every circuit open the chat fails at once; `failed` has the attempts, and no route."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_OVERLOADED")), ScriptedAdapter(failing("PROVIDER_TIMEOUT"))])
    async with serve({}, them.specs(), platform(breaker=1, retries={"most": 0})) as served:
        await failed_stream(served.chat.Chat(them.request()))
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "NO_HEALTHY_ROUTE"
    assert "attempt" not in error_info(error).metadata
    failed = events[-1].failed
    assert not failed.HasField("route")
    assert failed.error.provider == ""
    assert tried(failed.attempts) == [("a", FIRST, SKIPPED), ("b", FALLBACK, SKIPPED)]
    assert them.calls == [1, 1]


async def test_who_was_asked_is_named_though_others_were_passed_over(serve: Serve) -> None:
    """`failed.route` is who failed, also if the one behind it was not asked."""
    them = Providers(
        [ScriptedAdapter(HELLO, failing("PROVIDER_BILLING")), ScriptedAdapter(failing("PROVIDER_TIMEOUT"))]
    )
    async with serve({}, them.specs(), platform(breaker=1, retries={"most": 0})) as served:
        await failed_stream(served.chat.Chat(chat_request(model="b/echo")))
        await events_of(served.chat.Chat(them.request()))
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "PROVIDER_BILLING"
    assert events[-1].failed.route.provider == "a"
    assert tried(events[-1].failed.attempts) == [("a", FIRST, FAILED), ("b", FALLBACK, SKIPPED)]


async def test_a_route_behind_an_open_circuit_is_nobody_to_fall_back_to(serve: Serve) -> None:
    """While the only other model is left alone, the first is retried as often as if it were the only one."""
    down = failing("PROVIDER_UNAVAILABLE")
    them = Providers([ScriptedAdapter(down, down, HELLO), ScriptedAdapter(failing("PROVIDER_BILLING"))])
    async with serve({}, them.specs(), platform(breaker=3)) as served:
        for _ in range(3):
            await failed_stream(served.chat.Chat(chat_request(model="b/echo")))
        end = (await events_of(served.chat.Chat(them.request())))[-1].finished
    assert tried(end.attempts) == [("a", FIRST, FAILED), ("a", RETRY, FAILED), ("a", RETRY, FINISHED)]


class Faulty(ScriptedAdapter):
    """An adapter with a bug, before its output or after."""

    def __init__(self, *, after_output: bool) -> None:
        super().__init__(HELLO)
        self._after_output = after_output

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Fail as no adapter may."""
        if self._after_output:
            async for events in super().stream(call):
                yield events[:3]
                break
        raise KeyError(f"a bug that quotes {call.request.messages[0].content[0].text.text}")


async def test_a_bug_in_one_adapter_is_no_reason_to_fail(serve: Serve) -> None:
    """A fault is a failed attempt, whose inside only the log tells; the next model answers."""
    them = Providers([Faulty(after_output=False), ScriptedAdapter(HELLO)])
    async with serve({}, them.specs(), platform()) as served:
        end = (await events_of(served.chat.Chat(them.request())))[-1].finished
        [line] = served.log_lines("attempt_fault")
    assert tried(end.attempts) == [("a", FIRST, FAILED), ("b", FALLBACK, FINISHED)]
    assert end.attempts[0].error.reason == error_pb2.ERROR_REASON_INTERNAL
    assert end.attempts[0].error.message == "an unexpected fault of the platform; see its log"
    assert (line["provider"], line["model"]) == ("a", "echo")
    assert "KeyError" in line["exception"]


async def test_a_bug_after_output_fails_the_chat(serve: Serve) -> None:
    """Alone, or after output, a fault is INTERNAL, and its attempt has failed."""
    them = Providers([Faulty(after_output=True)])
    async with serve({}, them.specs(), platform()) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert tried(events[-1].failed.attempts) == [("a", FIRST, FAILED)]


# --- after output -----------------------------------------------------------------------------------------------------


async def test_an_answer_begins_anew_where_that_is_wanted(serve: Serve) -> None:
    """With RESTART the second's answer is the answer; route, usage and attempts are of whoever they say."""
    broken: Script = [{"text": "Hel"}, {"usage": {"input": 3, "output": 1}}, {"break": True}]
    told: Script = [*HELLO, {"usage": {"input": 3, "output": 2}}]
    them = Providers([ScriptedAdapter(broken), ScriptedAdapter(told)])
    async with serve({}, them.specs(), platform()) as served:
        request = them.request(mid_stream=chat_pb2.MID_STREAM_POLICY_RESTART)
        events = await events_of(served.chat.Chat(request))
    assert folded(events) == "Hello there"
    end = events[-1].finished
    assert tried(end.attempts) == [("a", FIRST, FAILED), ("b", MID_STREAM, FINISHED)]
    assert end.route.provider == "b"
    assert [sum(item.quantity for item in attempt.usage.items) for attempt in end.attempts] == [4, 5]
    assert end.usage == end.attempts[1].usage
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    [change] = [event.route_changed for event in events if event.HasField("route_changed")]
    assert (change.route.provider, list(change.void_blocks)) == ("b", [0])


async def test_an_answer_goes_on_where_that_is_wanted(serve: Serve) -> None:
    """With CONTINUE the second one is shown what was said, and its text follows."""
    second = Playing([{"text": "lo there"}])
    them = Providers([ScriptedAdapter(BROKEN), second])
    async with serve({}, them.specs(), platform(mid_stream="continue")) as served:
        events = await events_of(served.chat.Chat(them.request()))
    assert folded(events) == "Hello there"
    assert second.asked[0].request.messages[-2].content[0].text.text == "Hel"


async def test_json_is_not_gone_on_with(serve: Serve) -> None:
    """The second half of a JSON object is none, so CONTINUE is as NEVER there; RESTART is not."""
    for policy, ends in (("continue", False), ("restart", True)):
        them = Providers([ScriptedAdapter([{"text": '{"a"'}, {"break": True}]), ScriptedAdapter([{"text": '{"a":1}'}])])
        async with serve({}, them.specs(), platform(mid_stream=policy)) as served:
            request = them.request()
            request.output_format.json.SetInParent()
            call = served.chat.Chat(request)
            if ends:
                assert folded(await events_of(call)) == '{"a":1}'
            else:
                await failed_stream(call)
        assert them.calls == [1, int(ends)]


async def test_a_chat_with_a_call_begun_is_not_begun_anew(serve: Serve) -> None:
    """After the beginning of a tool call RESTART does nothing: no tool is called twice."""
    calling: Script = [{"tool_call": {"name": "pay", "arguments_json": "{}"}}, {"break": True}]
    them = Providers([ScriptedAdapter(calling), ScriptedAdapter(calling)])
    async with serve({}, them.specs(), platform(mid_stream="restart")) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
    assert error_info(error).reason == "STREAM_BROKEN"
    assert them.calls == [1, 0]
    assert sum(event.block_started.block.HasField("tool_call") for event in events) == 1


async def test_one_model_alone_begins_anew_as_a_retry(serve: Serve) -> None:
    """With nobody else to ask the same is asked again, if it is ever asked again."""
    for most, calls in ((0, 1), (1, 2)):
        them = Providers([ScriptedAdapter(BROKEN, HELLO)])
        async with serve({}, them.specs(), platform(mid_stream="restart", retries={"most": most})) as served:
            call = served.chat.Chat(them.request())
            if most:
                events = await events_of(call)
                assert tried(events[-1].finished.attempts) == [("a", FIRST, FAILED), ("a", MID_STREAM, FINISHED)]
                assert folded(events) == "Hello there"
            else:
                await failed_stream(call)
        assert them.calls == [calls]


class Lasting(ScriptedAdapter):
    """A provider whose connection, or whose adapter, breaks once its answer is complete."""

    def __init__(self, end: Exception) -> None:
        super().__init__([{"text": "Hello there"}])
        self._end = end

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Answer, say one thing too many, and break."""
        async for events in super().stream(call):
            yield [*events, chat_pb2.ChatEvent(notice=chat_pb2.Notice(message="late"))]
        raise self._end


@pytest.mark.parametrize("end", [OverloadedError("reset"), RuntimeError("a bug")], ids=["failure", "fault"])
async def test_what_comes_behind_the_end_is_nobodys_business(serve: Serve, end: Exception) -> None:
    """After `finished` nothing goes out, nothing has failed, and nobody is asked again."""
    them = Providers([Lasting(end), ScriptedAdapter(HELLO)])
    async with serve({}, them.specs(), platform(mid_stream="restart", breaker=1)) as served:
        for _ in range(2):
            events = await events_of(served.chat.Chat(them.request()))
            assert events[-1].HasField("finished")
            assert tried(events[-1].finished.attempts) == [("a", FIRST, FINISHED)]
        status = await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="a"))
    assert (status.finished_chats, status.failed_chats) == (2, 0)
    assert them.calls == [2, 0]


# --- what else is told ------------------------------------------------------------------------------------------------


async def test_no_attempt_tells_a_secret(serve: Serve) -> None:
    """A key that a provider quotes is in no attempt's error, change of route, status or line of the log."""
    secret = "made-up-key-0123456789"
    quoting = failing("PROVIDER_UNAVAILABLE", message=f"no {secret}", provider_code=secret, provider_request_id=secret)
    broken: Script = [{"text": "Hel"}, *quoting]
    them = Providers([ScriptedAdapter(quoting, broken), ScriptedAdapter(quoting)])
    environ = {"EP_A_API_KEY": secret, "EP_B_API_KEY": secret}
    async with serve(environ, them.specs(), platform(mid_stream="restart")) as served:
        events, error = await failed_stream(served.chat.Chat(them.request()))
        log = served.log.getvalue()
    assert len(events[-1].failed.attempts) >= 3
    assert secret not in str(events) + str(trailers_of(error)) + str(error.details()) + log


async def test_providers_are_counted_by_attempts(serve: Serve) -> None:
    """GetProviderStatus counts what each provider was asked, not what callers got; who is not asked counts nothing."""
    them = Providers([ScriptedAdapter(failing("PROVIDER_OVERLOADED")), ScriptedAdapter(HELLO)])
    async with serve({}, them.specs(), platform(breaker=2)) as served:
        for _ in range(3):
            await events_of(served.chat.Chat(them.request()))
        first, second = [
            await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider=name)) for name in "ab"
        ]
    assert them.calls == [2, 3]
    counts = [(status.finished_chats, status.failed_chats, status.running_chats) for status in (first, second)]
    assert counts == [(0, 2, 0), (3, 0, 0)]


async def test_tokens_are_counted_by_one_model_only(serve: Serve) -> None:
    """CountTokens asks the plan's first, once: another model counts otherwise."""

    class Uncounting(ScriptedAdapter):
        counted = 0

        async def count_tokens(self, call: Call) -> Any:  # noqa: ARG002 - never returns
            """Fail."""
            self.counted += 1
            raise OverloadedError("full")

    first = Uncounting()
    them = Providers([first, ScriptedAdapter()])
    async with serve({}, them.specs(), platform()) as served:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await served.chat.CountTokens(chat_pb2.CountTokensRequest(chat=them.request()))
    assert error_info(raised.value).reason == "PROVIDER_OVERLOADED"
    assert first.counted == 1


async def test_blocked_answers_are_counted_as_such(serve: Serve) -> None:
    """An answer that a filter ended is no failure, is taken nowhere else, and has a kind in the metrics."""
    them = Providers([ScriptedAdapter([{"refusal": "No."}, {"finish": "CONTENT_FILTER"}]), ScriptedAdapter(HELLO)])
    async with serve(METERED, them.specs(), platform()) as served:
        await events_of(served.chat.Chat(them.request()))
        samples = await scrape(served.app.metrics_endpoint)
    assert them.calls == [1, 0]
    assert value(samples, "ep_attempts_total", kind="content_blocked", outcome="finished") == 1
