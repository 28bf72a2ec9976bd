"""The promises of the stream, each with a test (protos/execution_platform/v1/chat.proto, ChatEvent)."""

from __future__ import annotations

import json

import grpc
import pytest
from tests.server.conftest import (
    Serve,
    Served,
    chat_request,
    error_info,
    events_of,
    failed_stream,
    kinds,
    open_streams,
    trailers_of,
    until,
)

from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, error_pb2

EVERYTHING = [
    {"notice": "something to know"},
    {"usage": {"input": 3}},
    {"thinking": "Let me see", "signature": "c2ln"},
    {"text": "Hel"},
    {"text": "lo"},
    {"tool_calls": [{"name": "a", "arguments_json": '{"x":1}'}, {"name": "b", "arguments_json": '{"y":2}'}]},
    {"usage": {"input": 3, "output": 5}},
]


async def test_sequence_rises_by_one_from_one(served: Served) -> None:
    """Promise 1: sequence starts at 1 and rises by 1."""
    events = await events_of(served.chat.Chat(chat_request(EVERYTHING)))
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_started_comes_first_though_notice_and_usage_came_before(served: Served) -> None:
    """Promise 2: started is first, and tells who answers and the running attempt."""
    events = await events_of(served.chat.Chat(chat_request(EVERYTHING)))
    assert kinds(events)[:3] == ["started", "notice", "usage_updated"]
    started = events[0].started
    assert started.route.provider == "scripted"
    assert started.request_id
    assert [attempt.outcome for attempt in started.attempts] == [chat_pb2.ATTEMPT_OUTCOME_RUNNING]


async def test_started_is_held_back_until_the_first_output(served: Served) -> None:
    """Promise 2: nothing but heartbeats is sent before the provider's first output."""
    script = [{"started": True}, {"notice": "early"}, {"pause_ms": 30}, {"error": {"reason": "PROVIDER_OVERLOADED"}}]
    events, error = await failed_stream(served.chat.Chat(chat_request(script)))
    assert kinds(events) == ["failed"]
    assert error.code() is grpc.StatusCode.UNAVAILABLE


async def test_blocks_are_started_and_stopped_once_and_interleave(served: Served) -> None:
    """Promise 3: indexes rise, deltas name open blocks, each block is started once and stopped once."""
    events = await events_of(served.chat.Chat(chat_request(EVERYTHING)))
    opened: list[int] = []
    open_now: set[int] = set()
    most_open = 0
    for event in events:
        match event.WhichOneof("event"):
            case "block_started":
                opened.append(event.block_started.block.index)
                open_now.add(opened[-1])
            case "block_delta":
                assert event.block_delta.index in open_now
            case "block_stopped":
                open_now.remove(event.block_stopped.index)
            case _:
                pass
        most_open = max(most_open, len(open_now))
    assert opened == list(range(len(opened)))
    assert not open_now
    assert most_open == 2


async def test_deltas_joined_are_the_block(served: Served) -> None:
    """Promise 3: joining a block's deltas gives the block."""
    fold = Fold()
    fold.add_all(await events_of(served.chat.Chat(chat_request(EVERYTHING))))
    thinking, text, first, second = fold.response.message.content
    assert thinking.thinking.text == "Let me see"
    assert len(thinking.states) == 1
    assert text.text.text == "Hello"
    assert [first.tool_call.arguments_json, second.tool_call.arguments_json] == ['{"x":1}', '{"y":2}']


async def test_usage_is_cumulative_and_replaces(served: Served) -> None:
    """Promise 4: each usage_updated tells all that was used so far, and finished tells the last."""
    events = await events_of(served.chat.Chat(chat_request(EVERYTHING)))
    told = [sum(item.quantity for item in e.usage_updated.usage.items) for e in events if e.HasField("usage_updated")]
    assert told == sorted(told)
    assert sum(item.quantity for item in events[-1].finished.usage.items) == told[-1] == 8


async def test_ok_has_exactly_one_finished_at_the_end(served: Served) -> None:
    """Promise 5: a stream with status OK ends with the only terminal event, finished."""
    call = served.chat.Chat(chat_request(EVERYTHING))
    events = await events_of(call)
    assert [kind for kind in kinds(events) if kind in {"finished", "failed"}] == ["finished"]
    assert events[-1].HasField("finished")
    assert await call.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("reason", sorted(error_pb2.ErrorReason.keys()))
async def test_failed_and_status_tell_the_same_reason(served: Served, reason: str) -> None:
    """Promise 5: failed is the only terminal event, and the status that follows has its reason."""
    name = reason.removeprefix("ERROR_REASON_")
    script = [{"text": "partly"}, {"usage": {"input": 2, "output": 1}}, {"error": {"reason": name}}]
    events, error = await failed_stream(served.chat.Chat(chat_request(script)))
    assert [kind for kind in kinds(events) if kind in {"finished", "failed"}] == ["failed"]
    told = error_pb2.ErrorReason.Name(events[-1].failed.error.reason).removeprefix("ERROR_REASON_")
    details = (error.details() or "").partition(":")[0]
    assert details == told == error_info(error).reason
    assert error.code() is not grpc.StatusCode.OK


@pytest.mark.parametrize("reason", ["REFUSAL", "CONTENT_FILTER", "MAX_TOKENS", "CONTEXT_LENGTH", "PAUSED"])
async def test_refusals_and_limits_are_finished(served: Served, reason: str) -> None:
    """Promise 6: refusals, safety stops and limits end with finished and status OK."""
    events = await events_of(served.chat.Chat(chat_request([{"refusal": "No."}, {"finish": reason}])))
    assert chat_pb2.FinishReason.Name(events[-1].finished.reason) == f"FINISH_REASON_{reason}"


async def test_failed_carries_partial_usage(served: Served) -> None:
    """Promise 6: failed tells what was used before, and that its price is not known rather than nothing."""
    script = [{"text": "partly"}, {"usage": {"input": 7, "output": 2}}, {"break": True}]
    events, error = await failed_stream(served.chat.Chat(chat_request(script)))
    failed = events[-1].failed
    assert sum(item.quantity for item in failed.usage.items) == 9
    assert failed.cost.status != 0
    assert failed.attempts[0].outcome == chat_pb2.ATTEMPT_OUTCOME_FAILED
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert trailers_of(error)["grpc-retry-pushback-ms"] == "-1"


async def test_no_event_is_larger_than_one_mebibyte(served: Served) -> None:
    """Promise 7: a block of several MiB comes in events below 1 MiB, in messages that any client takes."""
    text = "x" * 3_000_000
    sizes: list[int] = []
    message_sizes: list[int] = []
    fold = Fold()
    async for response in served.chat.Chat(chat_request(text=text), timeout=60):
        message_sizes.append(response.ByteSize())
        sizes.extend(event.ByteSize() for event in response.events)
        fold.add_all(response.events)
    assert fold.text.endswith(text)
    assert max(sizes) <= 1_048_576
    assert max(message_sizes) <= 2_097_152


async def test_heartbeat_tells_that_a_silent_stream_lives(serve: Serve) -> None:
    """Promise 7: heartbeats come while the provider is silent, within the numbered sequence."""
    script = [{"text": "a"}, {"pause_ms": 300}, {"text": "b"}]
    async with serve({"EP_HEARTBEAT_SECONDS": "0.05"}) as served:
        events = await events_of(served.chat.Chat(chat_request(script)))
    assert "heartbeat" in kinds(events)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))


async def test_unknown_events_are_passed_over() -> None:
    """Promise 7: a client that meets an event of a newer contract ignores it."""
    newer = chat_pb2.ChatEvent.FromString(chat_pb2.ChatEvent(sequence=4).SerializeToString() + b"\xfa\x07\x02hi")
    fold = Fold()
    fold.add(newer)
    assert not fold.done


async def test_provider_never_changes_after_output(served: Served) -> None:
    """Promise 8: a failure after output is told, and no other attempt is made."""
    events, _ = await failed_stream(served.chat.Chat(chat_request([{"text": "a"}, {"break": True}])))
    assert "route_changed" not in kinds(events)
    assert kinds(events).count("started") == 1
    assert len(events[-1].failed.attempts) == 1


async def test_cancel_closes_the_upstream_at_once(served: Served) -> None:
    """Promise 9: when the caller cancels, the provider's stream is closed, and the chat is still told in the log."""
    call = served.chat.Chat(chat_request([{"text": "a"}, {"usage": {"input": 4}}, {"hang": True}]))
    async for _ in call:
        break
    call.cancel()
    await until(lambda: open_streams(served) == 0)
    await until(lambda: bool(served.log_lines("chat")))
    line = served.log_lines("chat")[0]
    assert (line["ending"], line["input_tokens"]) == ("cancelled", 4)


async def test_passed_deadline_closes_the_upstream(served: Served) -> None:
    """Promise 9: when the caller's deadline passes, the provider's stream is closed."""
    script = [{"text": "a"}, {"hang": True}]
    events: list[chat_pb2.ChatEvent] = []
    timeout = 0.3
    while not events:  # until the answer has begun before its deadline
        events, error = await failed_stream(served.chat.Chat(chat_request(script), timeout=timeout))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        timeout *= 2
    assert kinds(events)[0] == "started"
    await until(lambda: open_streams(served) == 0)


async def test_default_deadline_is_told(serve: Serve) -> None:
    """A call without a deadline gets the server's, whose passing is failed and DEADLINE_EXCEEDED."""
    async with serve({"EP_DEFAULT_DEADLINE_SECONDS": "0.2"}) as served:
        events, error = await failed_stream(served.chat.Chat(chat_request([{"text": "a"}, {"hang": True}])))
        assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert events[-1].failed.error.reason == error_pb2.ERROR_REASON_DEADLINE_EXCEEDED
        assert open_streams(served) == 0


async def test_events_of_one_read_travel_in_one_message(served: Served) -> None:
    """Events that are ready at the same moment come in one message, and what comes later in another."""
    script = [{"repeat": {"times": 50, "steps": [{"text": "word "}]}}, {"pause_ms": 50}, {"text": "end"}]
    sizes = [len(response.events) async for response in served.chat.Chat(chat_request(script))]
    assert len(sizes) == 2
    assert sizes[0] >= 52


async def test_complete_chat_is_the_fold_of_chat(served: Served) -> None:
    """CompleteChat answers with the message, finish and usage that Chat streams."""
    request = chat_request(EVERYTHING)
    fold = Fold()
    fold.add_all(await events_of(served.chat.Chat(request)))
    whole = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request))
    assert whole.message == fold.response.message
    assert whole.finished.usage == fold.response.finished.usage
    assert whole.finished.reason == fold.response.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    assert whole.notices == fold.response.notices


async def test_provider_events_come_only_if_asked_for(served: Served) -> None:
    """A provider's own event is sent verbatim if the request asks for it, and not otherwise."""
    script = [{"provider_event": {"provider": "scripted", "type": "t", "rawJson": '{"b":1,"a":2}'}}, {"text": "x"}]
    silent = await events_of(served.chat.Chat(chat_request(script)))
    asked = chat_request(script, stream_options=chat_pb2.StreamOptions(provider_events=True))
    told = await events_of(served.chat.Chat(asked))
    assert "provider_event" not in kinds(silent)
    assert [e.provider_event.raw_json for e in told if e.HasField("provider_event")] == ['{"b":1,"a":2}']


async def test_initial_metadata_tells_id_and_contract(served: Served) -> None:
    """The initial metadata carries the caller's request id and the version of the contract."""
    request_id = "0b5f1d6e-6a0b-4c59-9f0c-0a3b6d1a2c4e"
    call = served.chat.Chat(chat_request(request_id=request_id))
    metadata = dict(await call.initial_metadata())
    assert (metadata["x-request-id"], bool(metadata["x-contract-version"])) == (request_id, True)
    events = await events_of(call)
    assert events[0].started.request_id == request_id


async def test_json_text_is_kept_as_the_model_wrote_it(served: Served) -> None:
    """Tool arguments keep key order, number form and integers above 2^53."""
    arguments = '{"z": 1.0, "a": 9007199254740993, "m": 1e2}'
    script = [{"tool_call": {"name": "f", "arguments_json": arguments}}]
    whole = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=chat_request(script)))
    assert whole.message.content[0].tool_call.arguments_json == arguments
    assert json.loads(arguments)["a"] == 9007199254740993
