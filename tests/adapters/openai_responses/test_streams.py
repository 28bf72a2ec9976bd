"""Corners of the stream's format that few recordings or none show."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.openai_responses.answers import BROKEN, answer_to, events_of, stream_of, translation
from tests.adapters.recordings import Record, body_of, params

from execution_platform.adapters.errors import (
    BillingError,
    InvalidRequestError,
    ProtocolError,
    RateLimitedError,
    RequestTooLargeError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.responses.stream import ResponsesTranslation
from execution_platform.adapters.spi import Call
from execution_platform.adapters.testing import check_translation
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

Event = dict[str, Any]

CREATED: Event = {"type": "response.created", "response": {"id": "resp_1", "model": "gpt-x", "status": "in_progress"}}
MESSAGE: Event = {"id": "msg_1", "type": "message", "role": "assistant", "content": []}


def delta(text: str, **place: Any) -> Event:
    return {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": text, **place}


def completed(*output: Event, **rest: Any) -> Event:
    response = {"id": "resp_1", "model": "gpt-x", "status": "completed", "output": output, **rest}
    return {"type": f"response.{response['status']}", "response": response}


def message(text: str, **rest: Any) -> Event:
    return {**MESSAGE, "status": "completed", "content": [{"type": "output_text", "text": text, **rest}]}


def test_words_that_come_only_at_the_end_are_told() -> None:
    """A server that sends done events without deltas loses no word, citation or log probability."""
    annotation = {"type": "url_citation", "url": "https://a.example", "title": "A", "start_index": 0, "end_index": 2}
    logprobs = [{"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}]
    done = {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Hi"}
    item = message("Hi", annotations=[annotation], logprobs=logprobs)
    body = stream_of(CREATED, done, {"type": "response.output_item.done", "output_index": 0, "item": item}, completed())
    answer = answer_to(body)
    block = answer.message.content[0]
    assert block.text.text == "Hi"
    assert [citation.uri for citation in block.citations] == ["https://a.example"]
    assert [token.token for token in answer.logprobs[0].tokens] == ["Hi"]


def test_an_answer_that_only_the_last_event_tells_is_told() -> None:
    """Items that were never announced come from the finished answer."""
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": 1}'}
    answer = answer_to(stream_of(CREATED, completed(message("Hi"), call)))
    assert [block.WhichOneof("content") for block in answer.message.content] == ["text", "tool_call"]
    assert answer.message.content[1].tool_call.arguments_json == '{"a": 1}'
    assert answer.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS


def test_items_are_not_told_twice_under_other_names() -> None:
    """A server that names its items anew in the last event does not double the answer."""
    added = {"type": "response.output_item.added", "output_index": 0, "item": MESSAGE}
    done = {"type": "response.output_item.done", "output_index": 0, "item": message("Hi")}
    last = completed({**message("Hi"), "id": "msg_other"})
    assert len(answer_to(stream_of(CREATED, added, delta("Hi"), done, last)).message.content) == 1


def test_parallel_calls_may_interleave() -> None:
    """Argument pieces of several open calls go to the call of their output_index."""
    calls = [
        {"id": f"fc_{at}", "type": "function_call", "call_id": f"call_{at}", "name": "f", "arguments": ""}
        for at in (0, 1)
    ]
    added = [{"type": "response.output_item.added", "output_index": at, "item": calls[at]} for at in (0, 1)]
    pieces = [(0, '{"a'), (1, '{"b'), (0, '":1}'), (1, '":2}')]
    deltas = [
        {"type": "response.function_call_arguments.delta", "output_index": at, "delta": piece} for at, piece in pieces
    ]
    done = [
        {"type": "response.output_item.done", "output_index": at, "item": {**calls[at], "arguments": arguments}}
        for at, arguments in ((1, '{"b":2}'), (0, '{"a":1}'))
    ]
    answer = answer_to(stream_of(CREATED, *added, *deltas, *done, completed()))
    assert [block.tool_call.arguments_json for block in answer.message.content] == ['{"a":1}', '{"b":2}']
    assert [block.tool_call.call_id for block in answer.message.content] == ["call_0", "call_1"]


def test_a_stream_without_event_names_and_with_comments_is_read() -> None:
    """OpenRouter's way: no event lines, comments between, [DONE] at the end, CRLF line ends."""
    lines = [": OPENROUTER PROCESSING", ""]
    for event in (CREATED, delta("Hi"), completed(message("Hi"))):
        lines += [f"data: {json.dumps(event)}", ""]
    body = "\r\n".join([*lines, "data: [DONE]", "", ""]).encode()
    check_translation(translation, stream=body, family="openai")
    assert answer_to(body).message.content[0].text.text == "Hi"


def test_halves_of_a_character_are_joined() -> None:
    """A surrogate pair that is split over two deltas becomes its character, and nothing is told twice."""
    raw = stream_of(CREATED, delta("\ud83d"), delta("\ude00!"), completed(message("\U0001f600!")))
    answer = answer_to(raw)
    assert answer.message.content[0].text.text == "\U0001f600!"
    assert not answer.notices


def test_keepalives_and_unknown_events_are_passed_over() -> None:
    """Neither begins the answer nor ends it, and what an unknown event says is there for who asks for it."""
    keepalive = {"type": "keepalive", "sequence_number": 3}
    newer = {"type": "response.newer_thing.delta", "delta": {"x": 1}, "output_index": 0}
    translated = translation(provider_events=True)
    assert translated.feed(stream_of(keepalive)) == []
    events = translated.feed(stream_of(CREATED, newer, delta("Hi"), completed(message("Hi"))))
    assert events[0].HasField("started")
    told = [event.provider_event.type for event in events if event.HasField("provider_event")]
    assert told[:3] == ["keepalive", "response.created", "response.newer_thing.delta"]


def test_an_event_too_large_for_one_comes_in_several() -> None:
    """A provider event above 1 MiB is cut, each piece saying that it goes on."""
    translated = translation(provider_events=True)
    events = translated.feed(stream_of(CREATED, delta("x" * 2_000_000)))
    pieces = [event.provider_event for event in events if event.provider_event.type.endswith("delta")]
    assert [piece.continues for piece in pieces] == [True] * (len(pieces) - 1) + [False]
    assert json.loads("".join(piece.raw_json for piece in pieces))["delta"] == "x" * 2_000_000
    assert max(event.ByteSize() for event in events) <= 1 << 20


def test_refused_words_are_a_refusal() -> None:
    """A refusal part is a refusal block, and the answer ends as refused although its status is completed."""
    event = {"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": "I cannot."}
    answer = answer_to(stream_of(CREATED, event, completed()))
    assert answer.message.content[0].refusal.text == "I cannot."
    assert answer.finished.reason == chat_pb2.FINISH_REASON_REFUSAL
    assert answer.finished.provider_finish_reason == "completed"


@pytest.mark.parametrize(
    ("why", "reason"),
    [
        ("max_output_tokens", chat_pb2.FINISH_REASON_MAX_TOKENS),
        ("content_filter", chat_pb2.FINISH_REASON_CONTENT_FILTER),
        ("max_messages", chat_pb2.FINISH_REASON_OTHER),
        ("newer_reason", chat_pb2.FINISH_REASON_OTHER),
    ],
)
def test_an_incomplete_answer_says_why(why: str, reason: chat_pb2.FinishReason.ValueType) -> None:
    """incomplete_details decides the reason, also where calls were begun, and stays as the server's word."""
    call = {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a'}
    last = completed(call, status="incomplete", incomplete_details={"reason": why})
    answer = answer_to(stream_of(CREATED, last))
    assert (answer.finished.reason, answer.finished.provider_finish_reason) == (reason, why)
    assert answer.message.content[0].tool_call.arguments_json == '{"a'


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_a_background_answer_that_is_not_there_yet_ends_at_once(status: str) -> None:
    """A body without an answer yet ends with OTHER, the status and the id under which to ask for it."""
    body: Event = {"id": "resp_1", "model": "gpt-x", "status": status, "output": [], "usage": None, "error": None}
    answer = answer_to(json.dumps(body).encode())
    assert answer.finished.reason == chat_pb2.FINISH_REASON_OTHER
    assert answer.finished.provider_finish_reason == status
    assert answer.started.provider_response_id == "resp_1"


@pytest.mark.parametrize(
    ("error", "expected", "status"),
    [
        ({"code": "server_error", "message": "x"}, UnavailableError, 200),
        ({"code": "rate_limit_exceeded", "message": "x"}, RateLimitedError, 200),
        ({"code": "insufficient_quota", "message": "x"}, BillingError, 200),
        ({"code": "invalid_image_url", "message": "x"}, InvalidRequestError, 200),
        ({"code": "image_too_large", "message": "x"}, RequestTooLargeError, 200),
    ],
)
def test_failures_are_told_in_three_forms(error: Event, expected: type[Exception], status: int) -> None:
    """A nested error event, a flat one and a failed response are the same failure, as is the status of a body."""
    nested = {"type": "error", "error": error}
    flat = {"type": "error", **error, "param": None, "sequence_number": 1}
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error, "output": []}}
    for last in (nested, flat, failed):
        translated = translation()
        with pytest.raises(expected) as raised:
            translated.feed(stream_of(CREATED, delta("Hi"), last))
        assert vars(raised.value)["provider_code"] == error["code"]
        assert vars(raised.value)["provider_status"] == status
        told = [event.WhichOneof("event") for event in vars(raised.value)["events"]]
        assert told == ["started", "block_started", "block_delta"]
    with pytest.raises(expected):
        translation().whole(json.dumps(failed["response"]).encode())


@pytest.mark.parametrize("code", ["bio_policy", "misalignment_policy_violation", "content_filter"])
def test_a_failure_by_policy_is_an_ending(code: str) -> None:
    """What a filter stops is finished, not failed, with the server's code and words."""
    error = {"code": code, "message": "Stopped."}
    failed = {"type": "response.failed", "response": {"id": "r", "status": "failed", "error": error}}
    answer = answer_to(stream_of(CREATED, delta("Hi"), failed))
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert answer.finished.provider_finish_reason == code
    assert answer.finished.refusal.explanation == "Stopped."
    assert answer.message.content[0].text.text == "Hi"


@pytest.mark.parametrize("record", params(iter(BROKEN)))
def test_recorded_failures_fail(record: Record) -> None:
    """Every recorded stream that tells an error raises one, wherever it is cut."""
    body = body_of(record)
    codes = {"insufficient_quota": BillingError, "rate_limit_exceeded": RateLimitedError}
    expected = next((error for code, error in codes.items() if code in body.decode()), UnavailableError)
    check_translation(lambda: translation(record), stream=body, error=expected)


def test_usage_before_a_failure_is_told() -> None:
    """Tokens that a failed response names are told before the failure."""
    usage = {"input_tokens": 5, "output_tokens": 0, "total_tokens": 5}
    failed = {
        "type": "response.failed",
        "response": {"error": {"code": "server_error", "message": "x"}, "usage": usage},
    }
    with pytest.raises(UnavailableError) as raised:
        translation().feed(stream_of(CREATED, failed))
    assert raised.value.events[-1].usage_updated.usage.items[0].quantity == 5


def test_a_stream_that_ends_early_is_broken() -> None:
    """Without a last event the answer is not complete, also where it breaks inside an event."""
    body = stream_of(CREATED, delta("Hi"))
    for cut in (body, body + b'data: {"type": "respon'):
        translated = translation()
        assert len(translated.feed(cut)) == 3
        with pytest.raises(StreamBrokenError):
            translated.end()


def test_something_else_is_refused_as_such() -> None:
    """JSON that is no response, and events that are no objects, break the protocol."""
    with pytest.raises(ProtocolError):
        translation().whole(b'{"choices": []}')
    with pytest.raises(ProtocolError):
        translation().feed(b"data: [1]\n\n")


def test_reasoning_in_the_clear_and_its_summary_are_blocks_apart() -> None:
    """Summaries are marked as such, and what is encrypted hangs on the last block of the item."""
    item = {"id": "rs_1", "type": "reasoning", "summary": [], "status": "in_progress"}
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": item},
        {"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "sum"},
        {"type": "response.reasoning_text.delta", "output_index": 0, "content_index": 0, "delta": "all"},
    ]
    done = {
        **item,
        "summary": [{"type": "summary_text", "text": "sum"}],
        "content": [{"type": "reasoning_text", "text": "all"}],
        "encrypted_content": "gAAA=",
    }
    last = {"type": "response.output_item.done", "output_index": 0, "item": done}
    blocks = answer_to(stream_of(CREATED, *events, last, completed())).message.content
    assert [(block.thinking.text, block.thinking.is_summary) for block in blocks] == [("sum", True), ("all", False)]
    assert [[state.data for state in block.states] for block in blocks] == [[], [b"gAAA="]]


def test_the_phase_of_a_message_is_told_when_it_begins() -> None:
    """Commentary and final answer can be told apart from the first word."""
    added = {"type": "response.output_item.added", "output_index": 0, "item": {**MESSAGE, "phase": "commentary"}}
    events = events_of(stream_of(CREATED, added, delta("Hm"), completed({**message("Hm"), "phase": "commentary"})))
    started = next(event.block_started.block for event in events if event.HasField("block_started"))
    assert json.loads(started.provider_metadata_json)["phase"] == "commentary"


def test_audio_comes_as_media() -> None:
    """Audio pieces, cut anywhere in their base64, and their transcript make one media block."""
    request = chat_pb2.ChatRequest()
    request.audio_output.format = "wav"
    translated = ResponsesTranslation(DIALECT, Call(request, "m"))
    events = translated.feed(
        stream_of(
            CREATED,
            {"type": "response.audio.delta", "delta": "AAEC"},
            {"type": "response.audio.transcript.delta", "delta": "Hello"},
            {"type": "response.audio.delta", "delta": "Aw"},
            {"type": "response.audio.delta", "delta": "QF"},
            completed(),
        )
    )
    deltas = [event.block_delta.media for event in events if event.block_delta.HasField("media")]
    assert b"".join(piece.data for piece in deltas) == bytes(range(6))
    assert "".join(piece.transcript for piece in deltas) == "Hello"
    assert events[1].block_started.block.media.mime_type == "audio/wav"


def test_a_preview_of_an_image_is_media_that_says_so() -> None:
    """A partial image is a media block of its own whose metadata tells its number."""
    added = {
        "type": "response.output_item.added",
        "output_index": 0,
        "item": {"id": "ig_1", "type": "image_generation_call"},
    }
    partial = {
        "type": "response.image_generation_call.partial_image",
        "output_index": 0,
        "partial_image_index": 0,
        "partial_image_b64": "AAEC",
        "output_format": "png",
    }
    item = {
        "id": "ig_1",
        "type": "image_generation_call",
        "status": "completed",
        "result": "AAEC",
        "output_format": "png",
    }
    done = {"type": "response.output_item.done", "output_index": 0, "item": item}
    blocks = answer_to(stream_of(CREATED, added, partial, done, completed(item))).message.content
    assert [block.WhichOneof("content") for block in blocks] == ["tool_call", "media", "media"]
    assert json.loads(blocks[1].provider_metadata_json)["partial_image_index"] == 0
    assert blocks[2].media.data == b"\x00\x01\x02"


def test_a_custom_call_of_a_tool_that_nobody_declared_is_the_servers() -> None:
    """XAI calls its own tools so: with tools declared and none of free text among them, it is not the caller's."""
    call = {"id": "ctc_1", "type": "custom_tool_call", "call_id": "c", "name": "x_search", "input": "{}"}
    for tools, executor in (
        ([{"type": "x_search"}], content_pb2.TOOL_EXECUTOR_PROVIDER),
        ([{"type": "custom", "name": "x_search"}], content_pb2.TOOL_EXECUTOR_CLIENT),
        ([], content_pb2.TOOL_EXECUTOR_CLIENT),
    ):
        body = {"id": "r", "model": "m", "status": "completed", "output": [call], "tools": tools}
        assert answer_to(json.dumps(body).encode()).message.content[0].tool_call.executed_by == executor


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        # inside, as OpenAI counts
        (
            {"input_tokens": 10, "cached": 4, "written": 3, "output_tokens": 5, "reasoning": 2, "total": 15},
            (3, 4, 3, 3, 2),
        ),
        # cached tokens outside, which the total shows
        ({"input_tokens": 10, "cached": 4, "output_tokens": 5, "total": 19}, (10, 4, 0, 5, 0)),
        # reasoning outside, which the total shows
        ({"input_tokens": 10, "output_tokens": 5, "reasoning": 7, "total": 22}, (10, 0, 0, 5, 7)),
        # reasoning outside, since it is more than the output, and no total
        ({"input_tokens": 10, "output_tokens": 5, "reasoning": 7}, (10, 0, 0, 5, 7)),
        # cached outside, since it is more than the input
        ({"input_tokens": 3, "cached": 40, "output_tokens": 5}, (3, 40, 0, 5, 0)),
    ],
)
def test_usage_is_made_disjoint(usage: dict[str, int], expected: tuple[int, ...]) -> None:
    """What is inside what is told by the total, and by parts that do not fit."""
    told = {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": usage.get("cached", 0),
            "cache_write_tokens": usage.get("written", 0),
        },
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": usage.get("reasoning", 0)},
        **({"total_tokens": usage["total"]} if "total" in usage else {}),
    }
    items = answer_to(stream_of(CREATED, completed(usage=told))).finished.usage.items
    kinds = (
        usage_pb2.USAGE_KIND_INPUT,
        usage_pb2.USAGE_KIND_CACHE_READ,
        usage_pb2.USAGE_KIND_CACHE_WRITE,
        usage_pb2.USAGE_KIND_OUTPUT,
        usage_pb2.USAGE_KIND_REASONING,
    )
    counted = {item.kind: item.quantity for item in items}
    assert tuple(counted.get(kind, 0) for kind in kinds) == expected


def test_cache_writes_are_told_by_lifetime() -> None:
    """Tokens written for 30 minutes and for 12 hours are items of their own."""
    details = {
        "cached_tokens": 0,
        "cache_write_tokens": 9,
        "cache_write_tokens_details": {"ttl_30m_tokens": 5, "ttl_12h_tokens": 4},
    }
    usage = {"input_tokens": 9, "input_tokens_details": details, "output_tokens": 1, "total_tokens": 10}
    items = answer_to(stream_of(CREATED, completed(usage=usage))).finished.usage.items
    written = [item for item in items if item.kind == usage_pb2.USAGE_KIND_CACHE_WRITE]
    assert [(item.cache_ttl.seconds, item.quantity) for item in written] == [(1800, 5), (43200, 4)]


def test_tools_and_drawing_are_counted_apart() -> None:
    """Searches are calls; tokens of the model that draws name that model and their modality."""
    tool_usage = {
        "web_search": {"num_requests": 2},
        "image_gen": {
            "input_tokens": 10,
            "input_tokens_details": {"image_tokens": 4, "text_tokens": 6},
            "output_tokens": 7,
            "output_tokens_details": {"image_tokens": 7, "text_tokens": 0},
            "total_tokens": 17,
        },
    }
    tools = [{"type": "image_generation", "model": "gpt-image-2"}]
    last = completed(
        tool_usage=tool_usage,
        tools=tools,
        output=[{"id": "i", "type": "x", "svg_usage": {"model": "svg", "output_tokens": 3}}],
    )
    items = answer_to(stream_of(CREATED, last)).finished.usage.items
    told = {(item.kind, item.tool, item.modality, item.model, item.unit): item.quantity for item in items}
    token, call = usage_pb2.USAGE_UNIT_TOKEN, usage_pb2.USAGE_UNIT_CALL
    image, text = content_pb2.MODALITY_IMAGE, content_pb2.MODALITY_TEXT
    assert told == {
        (usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, "web_search", 0, "", call): 2,
        (usage_pb2.USAGE_KIND_INPUT, "", image, "gpt-image-2", token): 4,
        (usage_pb2.USAGE_KIND_INPUT, "", text, "gpt-image-2", token): 6,
        (usage_pb2.USAGE_KIND_OUTPUT, "", image, "gpt-image-2", token): 7,
        (usage_pb2.USAGE_KIND_OUTPUT, "", 0, "svg", token): 3,
    }


@pytest.mark.parametrize(
    ("tool", "more", "expected"),
    [
        ("web_search", {}, {"web_search": 1, "file_search": 1}),
        ("web_search_preview_2025_03_11", {}, {"web_search_preview": 1, "file_search": 1}),
        ("web_search", {"tool_usage": {"web_search": {"num_requests": 3}}}, {"web_search": 3, "file_search": 1}),
    ],
)
def test_searches_that_no_usage_tells_are_counted(tool: str, more: Event, expected: dict[str, int]) -> None:
    """Each search among the items is a call that is charged; a page that was opened is none."""
    output = [
        {"type": "web_search_call", "id": "w1", "status": "completed", "action": {"type": "search", "query": "q"}},
        {"type": "web_search_call", "id": "w2", "status": "completed", "action": {"type": "open_page", "url": "u"}},
        {"type": "file_search_call", "id": "f1", "status": "completed", "queries": ["q"]},
    ]
    last = completed(output=output, tools=[{"type": tool}], **more)
    items = answer_to(stream_of(CREATED, last)).finished.usage.items
    calls = {item.tool: item.quantity for item in items if item.kind == usage_pb2.USAGE_KIND_SERVER_TOOL_CALL}
    assert calls == expected


def test_the_echo_of_a_large_request_is_kept() -> None:
    """An answer that repeats a large request is told whole, in as many events as that takes."""
    body: Event = {
        "id": "r",
        "model": "m",
        "status": "completed",
        "output": [],
        "instructions": "x" * 2_000_000,
        "new": 1,
    }
    finished = answer_to(json.dumps(body).encode()).finished
    kept = {"status": "completed", "instructions": body["instructions"], "new": 1}
    assert json.loads(finished.provider_metadata_json) == kept


def test_notices_follow_started() -> None:
    """What the request's builder has to tell comes right after started."""
    notice = chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PARAM_DROPPED, field="sampling.seed", message="x")
    translated = ResponsesTranslation(DIALECT, Call(chat_pb2.ChatRequest(), "m"), {}, [notice])
    events = translated.feed(stream_of(CREATED, delta("Hi")))
    assert [event.WhichOneof("event") for event in events][:3] == ["started", "notice", "block_started"]
