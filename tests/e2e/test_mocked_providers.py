"""Every hosted provider over real HTTP, at aimock: a mock of their servers that others wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import grpc
import pytest
from google.rpc import error_details_pb2
from tests.e2e.caller import WEATHER, Caller, Heard, calling, chat, heard, results, tool_calls, until, user
from tests.e2e.conftest import MADE_UP_KEY, mocked_settings, quiet
from tests.e2e.processes import Server, serving
from tests.e2e.upstream import Answer, Upstream

from execution_platform.v1 import catalog_pb2, chat_pb2, usage_pb2

HELLO = "Hello from the mock, in several pieces."


@dataclass(frozen=True, slots=True)
class Provider:
    """One API of a provider.

    Attributes:
        model: what a request names.
        path: where it is asked for a stream.
        key: header that carries the key.
        thinking: it can be made to think.
        early_usage: it tells the prompt's tokens at the start of an answer.
    """

    model: str
    path: str
    key: str = "authorization"
    thinking: bool = True
    early_usage: bool = False

    def __str__(self) -> str:
        return f"{self.model.partition('/')[0]}-{self.path.rpartition('/')[2].partition(':')[0]}"


PROVIDERS = (
    Provider("openai/gpt-5", "/v1/responses"),
    Provider("openai/gpt-4-turbo", "/v1/chat/completions", thinking=False),
    Provider("anthropic/claude-sonnet-4-5", "/v1/messages", early_usage=True),
    Provider("gemini/gemini-2.5-flash", "/v1beta/models/gemini-2.5-flash:streamGenerateContent", key="x-goog-api-key"),
    Provider("vllm/deepseek-r1", "/v1/chat/completions"),
)
every_provider = pytest.mark.parametrize("provider", PROVIDERS, ids=str)


def usage(finished: chat_pb2.Finished | chat_pb2.Failed) -> dict[str, int]:
    """Return the tokens of a usage by kind."""
    return {
        usage_pb2.UsageKind.Name(item.kind).removeprefix("USAGE_KIND_").lower(): item.quantity
        for item in finished.usage.items
        if item.quantity
    }


def thoughts(answer: chat_pb2.CompleteChatResponse) -> str:
    """Return the thinking of an answer."""
    return "".join(block.thinking.text for block in answer.message.content)


def key_of(headers: dict[str, str], provider: Provider) -> str:
    return headers.get(provider.key, "").removeprefix("Bearer ")


@every_provider
def test_an_answer_streams(caller: Caller, mocked: Upstream, provider: Provider) -> None:
    """A streamed answer comes in pieces, `started` first, with text, usage and finish as the mock was told."""
    answer = caller.stream(chat(provider.model, "Please say hello"))
    assert (answer.code, answer.text) == (grpc.StatusCode.OK, HELLO)
    assert answer.kinds[0] == "started"
    assert answer.kinds.count("block_delta") > 1
    assert [event.sequence for event in answer.events] == list(range(1, len(answer.events) + 1))
    finished = answer.fold.finished
    assert finished.reason == chat_pb2.FINISH_REASON_STOP
    assert usage(finished) == {"input": 11, "output": 7}
    assert f"{finished.route.provider}/{finished.route.model}" == provider.model
    assert mocked.last.path.partition("?")[0] == provider.path
    assert key_of(mocked.last.headers, provider) == MADE_UP_KEY


@every_provider
def test_an_answer_comes_whole(caller: Caller, mocked: Upstream, provider: Provider) -> None:
    """CompleteChat asks the provider for one whole body and gives what the stream gives."""
    answer = caller.complete(chat(provider.model, "Please say hello"))
    assert "".join(block.text.text for block in answer.message.content) == HELLO
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    assert usage(answer.finished) == {"input": 11, "output": 7}
    assert mocked.last.json().get("stream", False) is False
    assert "streamGenerateContent" not in mocked.last.path


@every_provider
@pytest.mark.parametrize("unary", [False, True], ids=["streamed", "whole"])
def test_tools_go_round(caller: Caller, mocked: Upstream, provider: Provider, *, unary: bool) -> None:
    """A tool call comes with its arguments, and the provider gets call and result back and answers."""

    def ask(request: chat_pb2.ChatRequest) -> chat_pb2.CompleteChatResponse:
        return caller.complete(request) if unary else caller.stream(request).fold

    request = chat(provider.model, "How is the weather?", tools=[WEATHER])
    first = ask(request)
    (call,) = tool_calls(first.message)
    # The mock gives Gemini's answers a finish reason that Gemini does not have.
    if first.finished.provider_finish_reason != "FUNCTION_CALL":
        assert first.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert call.name == "get_weather"
    assert json.loads(call.arguments_json) == {"city": "Paris", "days": 3}
    request.messages.extend([first.message, results([call], "18 degrees")])
    second = ask(request)
    assert "".join(block.text.text for block in second.message.content) == "It is 18 degrees in Paris."
    assert b"get_weather" in mocked.last.body


@every_provider
def test_two_tools_are_called_at_once(caller: Caller, provider: Provider) -> None:
    """Two calls of one answer are two blocks, and their results go back together."""
    request = chat(provider.model, "Compare two cities", tools=[WEATHER])
    first = caller.stream(request)
    calls = tool_calls(first.fold.message)
    assert [call.arguments_json.replace(" ", "") for call in calls] == ['{"city":"Paris"}', '{"city":"Lima"}']
    assert len({call.call_id for call in calls}) == 2
    request.messages.extend([first.fold.message, results(calls, "18 degrees", "22 degrees")])
    assert caller.stream(request).text == "Paris 18, Lima 22."


@pytest.mark.parametrize("provider", [provider for provider in PROVIDERS if provider.thinking], ids=str)
def test_thinking_is_apart_from_the_answer(caller: Caller, provider: Provider) -> None:
    """What a model thinks comes in thinking blocks before the text, streamed and whole."""
    request = chat(provider.model, "Now think")
    request.reasoning.enabled = True
    request.reasoning.budget_tokens = 1024
    request.reasoning.display = chat_pb2.REASONING_DISPLAY_SUMMARY
    for answer in (caller.stream(request).fold, caller.complete(request)):
        assert thoughts(answer) == "Six times seven, as everybody knows."
        assert "".join(block.text.text for block in answer.message.content) == "42"


@every_provider
def test_a_rate_limit_tells_when_to_come_back(caller: Caller, provider: Provider) -> None:
    """429 with Retry-After: 3 is RESOURCE_EXHAUSTED with RetryInfo of three seconds, streamed and whole."""
    # Both at once: a chat that comes behind the first refusal is kept back for the three seconds.
    streamed = caller.begin(chat(provider.model, "You ask too often"))
    with pytest.raises(grpc.RpcError) as error:
        caller.complete(chat(provider.model, "You ask too often"))
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    answer = heard(streamed)
    assert (answer.code, answer.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "PROVIDER_RATE_LIMITED")
    assert answer.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() == 3000
    assert answer.detail(error_details_pb2.QuotaFailure).violations
    assert answer.kinds == ["failed"]
    assert answer.failed.error.provider_status == 429
    assert answer.failed.error.retryable


@every_provider
def test_overload_is_unavailable(caller: Caller, provider: Provider) -> None:
    """529 is UNAVAILABLE with RetryInfo, so that callers come back."""
    answer = caller.stream(chat(provider.model, "You are too busy"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "PROVIDER_OVERLOADED")
    assert answer.detail(error_details_pb2.RetryInfo).retry_delay.ToMilliseconds() > 0
    assert answer.failed.error.provider_status == 529


def assert_broken(answer: Heard, provider: Provider) -> None:
    assert (answer.code, answer.reason) == (grpc.StatusCode.UNAVAILABLE, "STREAM_BROKEN")
    assert answer.trailing["grpc-retry-pushback-ms"] == "-1"
    assert answer.kinds[0] == "started"
    assert answer.text
    assert answer.text in "one two three four five six seven eight nine ten eleven twelve"
    assert answer.failed.error.retryable
    assert f"{answer.failed.route.provider}/{answer.failed.route.model}" == provider.model


@every_provider
def test_a_cut_stream_is_broken(caller: Caller, provider: Provider) -> None:
    """A stream without its end is UNAVAILABLE STREAM_BROKEN, not to be retried by the channel, with usage so far."""
    answer = caller.stream(chat(provider.model, "Please break off"))
    assert_broken(answer, provider)
    assert usage(answer.failed).get("input", 0) == (13 if provider.early_usage else 0)


@every_provider
def test_a_dropped_connection_is_broken(caller: Caller, provider: Provider) -> None:
    """A connection that is lost in the middle of an answer is the same to the caller."""
    assert_broken(caller.stream(chat(provider.model, "Please hang up")), provider)


@every_provider
@pytest.mark.parametrize("unary", [False, True], ids=["streamed", "whole"])
def test_a_provider_that_says_nothing_is_unavailable(
    caller: Caller, mocked: Upstream, provider: Provider, *, unary: bool
) -> None:
    """A connection that breaks before the answer is UNAVAILABLE, and callers may come back: nothing had been said."""
    mocked.answers.append(Answer([], cut=True))
    request = chat(provider.model, "Please say hello")
    if unary:
        with pytest.raises(grpc.RpcError) as error:
            caller.complete(request)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
        return
    answer = caller.stream(request)
    assert (answer.code, answer.kinds) == (grpc.StatusCode.UNAVAILABLE, ["failed"])
    assert answer.failed.error.retryable
    assert "grpc-retry-pushback-ms" not in answer.trailing


@every_provider
def test_a_cancelled_chat_hangs_up_on_the_provider(caller: Caller, mocked: Upstream, provider: Provider) -> None:
    """When the caller cancels in mid-stream, the connection to the provider is closed and no chat is left running."""
    call = caller.begin(chat(provider.model, "Please take your time"))
    until(call, "block_delta")
    exchange = mocked.last
    assert not exchange.over.is_set()
    call.cancel()
    assert exchange.over.wait(60)
    assert exchange.hung_up
    quiet(caller)


@pytest.fixture(scope="module")
def impatient(mocked: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller without deadlines of a server whose default deadline is short."""
    settings = {**mocked_settings(mocked), "EP_DEFAULT_DEADLINE_SECONDS": "2"}
    with serving(tmp_path_factory.mktemp("impatient"), settings) as server, calling(server.address()) as caller:
        yield caller


@every_provider
def test_a_slow_provider_meets_the_deadline(impatient: Caller, mocked: Upstream, provider: Provider) -> None:
    """The deadline ends a slow stream with DEADLINE_EXCEEDED and `failed`, and hangs up on the provider."""
    answer = impatient.stream(chat(provider.model, "Please take your time"), timeout=None)
    assert (answer.code, answer.reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")
    assert answer.text
    assert answer.failed.error.reason
    exchange = mocked.last
    assert exchange.over.wait(60)
    assert exchange.hung_up


def test_the_callers_deadline_ends_the_call(caller: Caller, mocked: Upstream) -> None:
    """A deadline of the caller's is DEADLINE_EXCEEDED too, and hangs up on the provider."""
    answer = caller.stream(chat("anthropic/claude-sonnet-4-5", "Please take your time"), timeout=2)
    assert answer.code is grpc.StatusCode.DEADLINE_EXCEEDED
    assert mocked.last.over.wait(60)
    assert mocked.last.hung_up
    quiet(caller)


@every_provider
def test_nothing_is_retried_behind_the_callers_back(caller: Caller, mocked: Upstream, provider: Provider) -> None:
    """A provider that is down is asked once, and the caller is told of the one attempt."""
    before = len(mocked.exchanges)
    answer = caller.stream(chat(provider.model, "Who is down?"))
    assert answer.code is grpc.StatusCode.UNAVAILABLE
    assert len(mocked.exchanges) - before == 1
    assert [attempt.outcome for attempt in answer.failed.attempts] == [chat_pb2.ATTEMPT_OUTCOME_FAILED]
    assert answer.failed.error.provider_status == 503


def test_a_provider_that_is_up_again_is_told_healthy(caller: Caller) -> None:
    """A provider's status follows its last answer: failing after a 503, healthy after the next answer."""

    def state() -> catalog_pb2.ProviderState.ValueType:
        return caller.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="anthropic")).state

    request = chat("anthropic/claude-sonnet-4-5", "Fails at first")
    assert caller.stream(request).code is grpc.StatusCode.UNAVAILABLE
    assert state() == catalog_pb2.PROVIDER_STATE_FAILING
    assert caller.stream(request).text == "Up again."
    assert state() == catalog_pb2.PROVIDER_STATE_HEALTHY


@pytest.fixture(scope="module")
def misled(mocked: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A caller of a server whose keys the providers do not know."""
    folder = tmp_path_factory.mktemp("misled")
    settings = mocked_settings(mocked, "e2e-key-that-nobody-knows")
    with serving(folder, settings) as server, calling(server.address()) as caller:
        yield caller


@every_provider
def test_a_wrong_key_is_the_operators_mistake(misled: Caller, provider: Provider) -> None:
    """A key that the provider refuses is FAILED_PRECONDITION, never UNAUTHENTICATED, and not to be retried."""
    answer = misled.stream(chat(provider.model, "Please say hello"))
    assert (answer.code, answer.reason) == (grpc.StatusCode.FAILED_PRECONDITION, "PROVIDER_AUTHENTICATION")
    assert answer.detail(error_details_pb2.PreconditionFailure).violations
    assert not answer.failed.error.retryable
    assert "e2e-key-that-nobody-knows" not in answer.message


@every_provider
def test_a_key_that_a_provider_repeats_is_not_passed_on(caller: Caller, server: Server, provider: Provider) -> None:
    """An error that holds our key reaches neither the caller nor the log with it."""
    answer = caller.stream(chat(provider.model, "Please repeat my key"))
    assert answer.code is grpc.StatusCode.FAILED_PRECONDITION
    told = [answer.message, repr(answer.trailing), *(str(event) for event in answer.events)]
    assert [text for text in told if MADE_UP_KEY in text] == []
    status = caller.catalog.GetProviderStatus(
        catalog_pb2.GetProviderStatusRequest(provider=provider.model.partition("/")[0])
    )
    assert status.last_error.message
    assert MADE_UP_KEY not in str(status)
    assert MADE_UP_KEY not in server.err + server.out


def other_rows() -> list[str]:
    """Return the providers that are rows of data and not tested above, by name."""
    from execution_platform.adapters.compatible import PROVIDERS as ROWS  # noqa: PLC0415

    named = {provider.model.partition("/")[0] for provider in PROVIDERS}
    return sorted({spec.name for spec in ROWS} - named)


@pytest.mark.parametrize("name", other_rows())
def test_every_row_answers(caller: Caller, mocked: Upstream, name: str) -> None:
    """Each server that is only a row of data streams, calls tools and sends its key."""
    answer = caller.stream(chat(f"{name}/some-model", "Please say hello"))
    assert (answer.code, answer.text, answer.message) == (grpc.StatusCode.OK, HELLO, "")
    assert MADE_UP_KEY in mocked.last.headers.get("authorization", "") + mocked.last.headers.get("api-key", "")
    first = caller.stream(chat(f"{name}/some-model", "How is the weather?", tools=[WEATHER]))
    assert [call.name for call in tool_calls(first.fold.message)] == ["get_weather"]


def test_a_conversation_is_remembered_by_the_caller(caller: Caller, mocked: Upstream) -> None:
    """What was said before goes to the provider again, in order."""
    request = chat("openai/gpt-4-turbo", "My name is Ada")
    request.messages.append(caller.complete(chat("openai/gpt-4-turbo", "Please say hello")).message)
    request.messages.append(user("Please say hello"))
    caller.stream(request)
    said = [(message["role"], message["content"]) for message in mocked.last.json()["messages"]]
    assert [role for role, _ in said] == ["user", "assistant", "user"]
    assert HELLO in str(said[1])
