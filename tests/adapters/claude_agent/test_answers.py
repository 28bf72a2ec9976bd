"""Runs of the real CLI, as it printed them at the pinned version with a mock of its model's API."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from tests.adapters.claude_agent.reading import NAMES, messages, read, sample
from tests.adapters.claude_agent.telling import translation

from execution_platform.adapters.claude_agent.stream import FAMILY
from execution_platform.adapters.errors import (
    AdapterError,
    ContextLengthError,
    CredentialsError,
    ModelNotFoundError,
    NotFoundError,
    RateLimitedError,
    UnavailableError,
)
from execution_platform.adapters.testing import Answer, check_translation
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

FAILED: dict[str, type[AdapterError]] = {
    "connection_lost": UnavailableError,
    "error_401": CredentialsError,
    "error_429": RateLimitedError,
    "no_model": ModelNotFoundError,
    "no_session": NotFoundError,
    "search_then_odd_end": UnavailableError,
    "too_long": ContextLengthError,
}

ENDS = {
    "background_agent": (chat_pb2.FINISH_REASON_STOP, "end_turn"),
    "budget": (chat_pb2.FINISH_REASON_BUDGET_EXCEEDED, "error_max_budget_usd"),
    "max_tokens": (chat_pb2.FINISH_REASON_MAX_TOKENS, "max_output_tokens"),
    "context_full": (chat_pb2.FINISH_REASON_CONTEXT_LENGTH, "model_context_window_exceeded"),
    "most_turns": (chat_pb2.FINISH_REASON_PAUSED, "error_max_turns"),
    "nothing_said": (chat_pb2.FINISH_REASON_STOP, "end_turn"),
    "refusal": (chat_pb2.FINISH_REASON_REFUSAL, "refusal"),
    "structured": (chat_pb2.FINISH_REASON_STOP, "tool_use"),
    "thinking": (chat_pb2.FINISH_REASON_STOP, "end_turn"),
}

FINISHED = [name for name in NAMES if name not in FAILED]


def up_to_its_result(data: bytes) -> bytes:
    """Return a run's output without what comes after its last result."""
    lines = data.splitlines(keepends=True)
    last = max(at for at, line in enumerate(lines) if b'"type":"result"' in line)
    return b"".join(lines[: last + 1])


def answer(name: str, *, provider_events: bool = False) -> Answer:
    """Return what a sample says, checked in every way in which it can be cut."""
    data = sample(name)
    return check_translation(
        lambda: translation(
            resumed=name == "resumed", structured=name.startswith("structured"), provider_events=provider_events
        ),
        stream=data,
        whole=None if name in FAILED else up_to_its_result(data),
        error=FAILED.get(name),
        family=FAMILY,
        seeds=range(3),
    )


@pytest.fixture(scope="module")
def answers() -> dict[str, Answer]:
    return {name: answer(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_says_what_its_messages_say(answers: dict[str, Answer], name: str) -> None:
    """Each text, thought, call and result is there once, in order, whether it streamed or came whole."""
    told, run = answers[name].blocks, read(name)
    texts = [block.text.text for block in told if block.HasField("text")]
    if name == "structured":
        assert texts.pop() == '{"answer":42}'
    assert texts == run.texts
    thoughts = [block for block in told if block.HasField("thinking")]
    assert [(block.thinking.text, _state(block, "signature")) for block in thoughts] == run.thoughts
    calls = [block.tool_call for block in told if block.HasField("tool_call")]
    assert [(call.name, call.call_id, json.loads(call.arguments_json)) for call in calls] == run.calls
    results = [
        block.tool_result for block in told if block.HasField("tool_result") and not block.tool_result.provider_type
    ]
    said = ["".join(part.text.text for part in each.content) for each in results]
    assert [(each.call_id, each.is_error) for each in results] == [each[:2] for each in run.results]
    assert said == [each[2] for each in run.results]
    executors = [*(call.executed_by for call in calls), *(each.executed_by for each in results)]
    assert set(executors) <= {content_pb2.TOOL_EXECUTOR_PROVIDER}


@pytest.mark.parametrize("name", FINISHED)
def test_usage_and_cost_are_those_of_the_results(answers: dict[str, Answer], name: str) -> None:
    """The end tells, model by model, what the results say since the one before, and their dollars to the last digit."""
    finished, run = answers[name].finished, read(name)
    assert finished is not None
    totals = [sum(column) for column in zip(*run.tokens.values(), strict=True)]
    kinds = (
        (usage_pb2.USAGE_KIND_INPUT,),
        (usage_pb2.USAGE_KIND_OUTPUT, usage_pb2.USAGE_KIND_REASONING),
        (usage_pb2.USAGE_KIND_CACHE_READ,),
        (usage_pb2.USAGE_KIND_CACHE_WRITE,),
    )
    counted = [sum(item.quantity for item in finished.usage.items if item.kind in kind) for kind in kinds]
    assert counted == totals
    nanos = sum(line.amount.nanos for line in finished.cost.lines)
    assert nanos == round(run.dollars * 1_000_000_000)
    assert {line.source for line in finished.cost.lines} == {usage_pb2.COST_SOURCE_PROVIDER}


def test_a_resumed_run_costs_what_it_used_itself(answers: dict[str, Answer]) -> None:
    """The totals of a session that is gone on with hold its earlier turns, which are charged already."""
    finished = answers["resumed"].finished
    [told] = [message for message in messages("resumed") if message["type"] == "result"]
    assert finished is not None
    assert finished.cost.lines[0].amount.nanos == 100_000
    assert Decimal(str(told["total_cost_usd"])) == Decimal("0.000474")


def test_sub_agents_count_and_float_noise_does_not(answers: dict[str, Answer]) -> None:
    """A sub-agent's tokens are in the usage, and 0.0005480000000000001 dollars are 548 millionths."""
    finished = answers["sub_agent"].finished
    assert finished is not None
    assert [item.quantity for item in finished.usage.items] == [94, 36]
    assert [line.amount.nanos for line in finished.cost.lines] == [548_000]


def test_cache_writes_tell_how_long_they_live(answers: dict[str, Answer]) -> None:
    """What was written to the cache for five minutes is told as that."""
    finished = answers["thinking"].finished
    assert finished is not None
    [write] = [item for item in finished.usage.items if item.kind == usage_pb2.USAGE_KIND_CACHE_WRITE]
    assert (write.quantity, write.cache_ttl.seconds) == (100, 300)


@pytest.mark.parametrize("name", ENDS)
def test_a_run_ends_for_its_reason(answers: dict[str, Answer], name: str) -> None:
    """Limits and refusals are ends and no errors, also where the CLI calls them errors; the word is its own."""
    finished = answers[name].finished
    assert finished is not None
    assert (finished.reason, finished.provider_finish_reason) == ENDS[name]


def test_a_refusal_says_why(answers: dict[str, Answer]) -> None:
    """The category and the words of a refusal are told."""
    finished = answers["refusal"].finished
    assert finished is not None
    assert (finished.refusal.category, finished.refusal.explanation) == ("cyber", "no")
    assert not finished.refusal.prompt_blocked


@pytest.mark.parametrize("name", NAMES)
def test_each_block_knows_its_place_in_the_session(answers: dict[str, Answer], name: str) -> None:
    """A block of the run's own carries the session and the entry that it ends at; a sub-agent's carries neither."""
    run = read(name)
    for block in answers[name].blocks:
        if "parent_tool_use_id" in block.provider_metadata_json:
            assert not any(state.kind == "session" for state in block.states)
        else:
            assert _state(block, "session") in run.places


def test_denied_tools_are_named_without_their_input(answers: dict[str, Answer]) -> None:
    """A tool that was not permitted is told once, by name, and not with what it was to do."""
    denied = [notice for notice in answers["tools"].notices if notice.code == chat_pb2.NOTICE_CODE_TOOL_DENIED]
    assert [notice.message for notice in denied] == ["the tool Write was not permitted to run"]
    finished = answers["tools"].finished
    assert finished is not None
    assert "x.txt" not in finished.provider_metadata_json


def test_an_image_in_a_result_is_told_once(answers: dict[str, Answer]) -> None:
    """A result that is an image holds its bytes, and not the CLI's second account of them."""
    [block] = [block for block in answers["image_result"].blocks if block.HasField("tool_result")]
    [part] = block.tool_result.content
    assert part.media.mime_type == "image/png"
    assert part.media.data.startswith(b"\x89PNG")
    assert not block.tool_result.structured_content_json


def test_the_clis_account_of_a_result_stands_as_it_is(answers: dict[str, Answer]) -> None:
    """What the CLI tells of a result beside its text is there, verbatim; a mere repetition in words is not."""
    first, denied, failed = [block.tool_result for block in answers["tools"].blocks if block.HasField("tool_result")]
    assert first.structured_content_json.startswith('{"stdout":"hello-world","stderr":""')
    assert (denied.structured_content_json, failed.structured_content_json) == ("", "")
    assert (first.is_error, denied.is_error, failed.is_error) == (False, True, True)


def test_own_retries_are_told(answers: dict[str, Answer]) -> None:
    """Where the CLI asks its model again a notice says so, though the answer begins only later."""
    [notice] = answers["error_529_once"].notices
    assert notice.message == "the CLI asks its model again (1 of 1) after overloaded (529)"


def test_a_subscriptions_limit_is_told(answers: dict[str, Answer]) -> None:
    """A rate_limit_event becomes the state of its window."""
    finished = answers["subscription"].finished
    assert finished is not None
    [limit] = finished.rate_limits
    assert (limit.name, limit.status, limit.reset_time.seconds) == ("five_hour", "allowed", 1_800_000_000)


def test_an_answer_in_no_form_is_warned_of(answers: dict[str, Answer]) -> None:
    """A run that ends without the structure that was asked for says so."""
    [notice] = answers["structured_missing"].notices
    assert notice.code == chat_pb2.NOTICE_CODE_PROVIDER_WARNING
    assert "form" in notice.message


@pytest.mark.parametrize("name", FAILED)
def test_failures_tell_status_and_code(answers: dict[str, Answer], name: str) -> None:
    """A failed run tells the status and the word that the CLI gives, and nothing of a key."""
    error = answers[name].error
    [told] = [message for message in messages(name) if message["type"] == "result"]
    assert error is not None
    assert error.provider_status == (told.get("api_error_status") or 0)
    assert error.provider_code


@pytest.mark.parametrize("name", ["tools", "background_agent", "error_429"])
def test_messages_come_verbatim_if_asked_for(name: str) -> None:
    """With provider_events each line of the CLI's is there as it stood."""
    told = answer(name, provider_events=True).provider_events
    lines = sample(name).decode().splitlines()
    assert [event.raw_json for event in told] == (lines if name not in FAILED else [])
    assert [event.type for event in told] == [json.loads(line)["type"] for line in lines][: len(told)]


#: Members that reach no text of the events, and why.
EXPLAINED = {
    "type": "decides how the message is read",
    "subtype": "decides how the message is read, or is the finish reason's word",
    "uuid": "of messages with blocks: in their state; else an envelope",
    "session_id": "in the states of the blocks",
    "parent_tool_use_id": "null for the run's own messages",
    "user_message_uuid": "repeats the prompt's own, which the SDK makes",
    "user_message_uuids": "repeats the prompt's own, which the SDK makes",
    "event": "read",
    "message": "read",
    "index": "blocks are numbered over the whole run",
    "role": "decides how the message is read",
    "content": "the blocks",
    "delta": "the blocks",
    "content_block": "the blocks",
    "text": "the blocks",
    "thinking": "the blocks",
    "signature": "a state",
    "input": "the blocks",
    "name": "the blocks",
    "partial_json": "the blocks",
    "is_error": "the blocks, or whether there is an error",
    "tool_use_id": "the blocks, or the notice of a denial",
    "stop_sequence": "null, or matched_stop_sequence",
    "stop_reason": "the finish reason's word, and of each call in the metadata",
    "result": "the run's last text again, or the failure's words",
    "structured_output": "a block of text",
    "tool_use_result": "the result's structure; left out where it repeats the text or holds the image again",
    "permission_denials": "notices",
    "tool_name": "notices",
    "decision_reason_type": "the call's result says it to the model",
    "modelUsage": "of a session that is gone on with it holds earlier turns; what is new is in the usage",
    "model_usage_since_last_result": "the usage's own JSON",
    "total_cost_usd": "the cost",
    "rate_limit_info": "rate_limits, and verbatim in the metadata",
    "usage": "the usage, and of each call in the metadata",
    "id": "of a call in the metadata, of a block in the block",
    "timestamp": "when the CLI wrote a message",
    "request_id": "of a failure in the error; of other messages an address at the API",
    "api_message_id": "the call's identifier again",
    "ttft_ms": "times of single events; the result's own are in the metadata",
    "thinking_display": "how the CLI asked for thinking",
    "thinking_duration_ms": "times of single events",
    "owed_rows": "always empty in what was seen",
    "context_management": "null in what was seen",
    "command_uuid": "the prompt's place in the CLI's queue",
    "state": "the prompt's place in the CLI's queue",
    "status": "of a running request: passing",
    "estimated_tokens": "an estimate of thinking that goes on",
    "estimated_tokens_delta": "an estimate of thinking that goes on",
    "tasks": "which tasks run: passing",
    "description": "of a task that goes on: passing",
    "last_tool_name": "of a task that goes on: passing",
    "queued_turn_count": "0 is told as it stands; null says nothing",
    "is_api_error_message": "decides how the message is read",
}


@pytest.mark.parametrize("name", FINISHED)
def test_every_member_reaches_a_field_or_the_metadata(answers: dict[str, Answer], name: str) -> None:
    """What the CLI says is in the events by its name, or is listed here with why it is not."""
    finished = answers[name].finished
    assert finished is not None
    blocks = "".join(block.provider_metadata_json for block in answers[name].blocks)
    told = finished.provider_metadata_json + blocks
    lost: set[str] = set()
    for message in messages(name):
        if message.get("subtype") == "task_progress" or message["type"] == "command_lifecycle":
            continue
        event = message.get("event") or {}
        inner = [message, message.get("message"), event, *map(event.get, ("message", "delta", "content_block"))]
        for part in filter(lambda part: isinstance(part, dict), inner):
            lost |= {key for key, value in part.items() if value not in (None, []) and f'"{key}"' not in told}
    assert lost - EXPLAINED.keys() == set()


def _state(block: content_pb2.ContentBlock, kind: str) -> str:
    return next((state.data.decode() for state in block.states if state.kind == kind), "")
