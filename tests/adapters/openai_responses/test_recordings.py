"""Every recorded answer of Responses says through the translation what plain JSON says."""

from __future__ import annotations

import base64
import json
from collections import Counter
from decimal import Decimal
from typing import Any

import pytest
from tests.adapters.openai_responses.answers import ANSWERS, CONTRADICTORY, answered, is_stream, translation
from tests.adapters.openai_responses.reading import (
    Reading,
    encrypted,
    for_the_caller,
    function_calls,
    parts,
    read,
    refusals,
    streamed_text,
    texts,
    thoughts,
    tokens,
)
from tests.adapters.recordings import Record, body_of, needs_recordings, params, pieces_of

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.testing import check_translation
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

SERVERS_CALLS = {
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "mcp_call",
    "x_search_call",
}
RESULTS = {"shell_call_output", "tool_search_output", "program_output"}
CALLERS_OWN = {"computer_call", "local_shell_call", "shell_call", "apply_patch_call", "tool_search_call", "program"}
KNOWN = SERVERS_CALLS | RESULTS | CALLERS_OWN
KNOWN |= {"message", "reasoning", "function_call", "custom_tool_call", "mcp_approval_request"}

#: Published without most of the pieces.
ABRIDGED = {"doc-openai-8d1824d45156", "doc-openai-39a92a03ea19"}

RECORDED = params(iter(ANSWERS))


def blocks_of(answer: chat_pb2.CompleteChatResponse, kind: str) -> list[content_pb2.ContentBlock]:
    return [block for block in answer.message.content if block.WhichOneof("content") == kind]


@pytest.mark.parametrize("record", RECORDED)
def test_cuts_change_nothing(record: Record) -> None:
    """An answer says the same in one piece, cut anywhere, and byte by byte; damage raises only adapter errors."""
    body = body_of(record)
    stream, whole = (body, None) if is_stream(body) else (None, body)
    check_translation(lambda: translation(record), stream=stream, whole=whole, family="openai", seeds=range(3))


@pytest.mark.parametrize("record", RECORDED)
def test_the_words_are_those_of_the_body(record: Record) -> None:
    """Text and refusals equal the items' and, in a stream, the pieces joined."""
    reading, answer = read(body_of(record)), answered(record)
    told = [block.text.text for block in blocks_of(answer, "text")]
    if record["id"] not in CONTRADICTORY:
        assert told == texts(reading)
    assert [block.refusal.text for block in blocks_of(answer, "refusal")] == refusals(reading)
    if reading.events and record["id"] not in ABRIDGED:
        assert "".join(told) == streamed_text(reading)


@pytest.mark.parametrize("record", RECORDED)
def test_reasoning_is_that_of_the_body(record: Record) -> None:
    """Reasoning, whether it is a summary, and encrypted content equal the items', byte for byte."""
    reading, answer = read(body_of(record)), answered(record)
    blocks = blocks_of(answer, "thinking")
    assert [(block.thinking.text, block.thinking.is_summary) for block in blocks] == thoughts(reading)
    states = [state for block in blocks for state in block.states]
    assert [state.data.decode() for state in states] == encrypted(reading)
    assert {state.kind for state in states} <= {"encrypted_content"}


@pytest.mark.parametrize("record", RECORDED)
def test_calls_are_those_of_the_body(record: Record) -> None:
    """Function calls keep both ids, the name and the arguments exactly as they were written."""
    reading, answer = read(body_of(record)), answered(record)
    calls = [
        (block.id, call.call_id, call.name, call.arguments_json or call.arguments_text)
        for block in blocks_of(answer, "tool_call")
        for call in [block.tool_call]
        if call.provider_type in ("", "custom_tool_call")
    ]
    assert calls == function_calls(reading)


@pytest.mark.parametrize("record", RECORDED)
def test_tools_of_the_server_come_whole(record: Record) -> None:
    """Each call that the server ran is a call of PROVIDER with the item verbatim as its result, or its image."""
    reading, answer = read(body_of(record)), answered(record)
    results = blocks_of(answer, "tool_result") + blocks_of(answer, "media")
    calls = [block.tool_call for block in blocks_of(answer, "tool_call")]
    for item in reading.items:
        if item["type"] not in SERVERS_CALLS | RESULTS:
            continue
        block = next(block for block in results if block.id == item["id"])
        if block.HasField("media"):
            assert block.media.data == base64.b64decode(item["result"])
        else:
            assert json.loads(block.tool_result.structured_content_json) == item
            assert block.tool_result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
            # A program's output may come in a later answer than the program.
            assert block.tool_result.call_id in {item.get("call_id"), *(call.call_id for call in calls)}
        if item["type"] in SERVERS_CALLS:
            call = next(call for call in calls if call.call_id == (item.get("call_id") or item["id"]))
            assert call.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
            assert call.provider_type == item["type"]


@pytest.mark.parametrize("record", RECORDED)
def test_unknown_items_come_verbatim(record: Record) -> None:
    """An item of a type without blocks of its own is an opaque block with its JSON."""
    reading, answer = read(body_of(record)), answered(record)
    told = [item for item in reading.items if item["type"] not in KNOWN]
    opaque = [block.opaque for block in blocks_of(answer, "opaque")]
    assert [json.loads(block.json) for block in opaque] == told
    assert [block.type for block in opaque] == [item["type"] for item in told]


@pytest.mark.parametrize("record", RECORDED)
def test_citations_are_those_of_the_body(record: Record) -> None:
    """Each annotation is a citation of its own text, with its address, range and JSON."""
    reading, answer = read(body_of(record)), answered(record)
    blocks = blocks_of(answer, "text")
    for block, part in zip(blocks, parts(reading, "output_text"), strict=True):
        told = part.get("annotations") or []
        assert [json.loads(citation.raw_json) for citation in block.citations] == told
        for citation, annotation in zip(block.citations, told, strict=True):
            assert citation.provider_type == annotation["type"]
            assert citation.uri == annotation.get("url", "")
            assert citation.source_id == annotation.get("file_id", "")
            assert citation.title == annotation.get("title", annotation.get("filename", ""))
            span = citation.text_range
            assert (span.start, span.end) == (annotation.get("start_index", 0), annotation.get("end_index", 0))


@pytest.mark.parametrize("record", RECORDED)
def test_log_probabilities_are_those_of_the_body(record: Record) -> None:
    """Log probabilities of each text equal those of its part, token by token."""
    reading, answer = read(body_of(record)), answered(record)
    told = {entry.index: list(entry.tokens) for entry in answer.logprobs}
    for block, part in zip(blocks_of(answer, "text"), parts(reading, "output_text"), strict=True):
        wanted = part.get("logprobs") or []
        tokens_told = told.get(block.index, [])
        assert [token.token for token in tokens_told] == [entry["token"] for entry in wanted]
        # Finished items round what the pieces said exactly.
        assert [token.logprob for token in tokens_told] == pytest.approx(
            [entry["logprob"] for entry in wanted], abs=1e-5
        )
        for token, entry in zip(tokens_told, wanted, strict=True):
            assert [top.token for top in token.top] == [each["token"] for each in entry["top_logprobs"]]
            assert list(token.token_bytes) == entry.get("bytes", [])


@pytest.mark.parametrize("record", RECORDED)
def test_the_end_is_that_of_the_body(record: Record) -> None:
    """Reason and the server's word for it follow from status, details and the calls left to the caller."""
    reading, answer = read(body_of(record)), answered(record)
    word, reason = expected_end(reading)
    assert answer.finished.provider_finish_reason == word
    assert chat_pb2.FinishReason.Name(answer.finished.reason) == f"FINISH_REASON_{reason}"


def expected_end(reading: Reading) -> tuple[str, str]:
    status = reading.response["status"]
    if status == "incomplete":
        why = reading.response["incomplete_details"]["reason"]
        return why, {"max_output_tokens": "MAX_TOKENS", "max_tokens": "MAX_TOKENS", "content_filter": "CONTENT_FILTER"}[
            why
        ]
    if status != "completed":
        return status, "OTHER"
    if for_the_caller(reading):
        return status, "TOOL_CALLS"
    return status, "REFUSAL" if refusals(reading) else "STOP"


@pytest.mark.parametrize("record", RECORDED)
def test_usage_is_that_of_the_body(record: Record) -> None:
    """Items are disjoint, add up to the stated total, and the JSON of usage stands as it was."""
    body = body_of(record)
    reading, answer = read(body), answered(record)
    told = reading.response.get("usage")
    usage = answer.finished.usage
    counted = {
        usage_pb2.UsageKind.Name(item.kind): item.quantity
        for item in usage.items
        if item.unit == usage_pb2.USAGE_UNIT_TOKEN and not item.model
    }
    assert counted == (tokens(told) if told else {})
    assert usage.service_tier == (reading.response.get("service_tier") or "")
    if told is None:
        assert usage.provider_usage_json == ""
    else:
        assert json.loads(usage.provider_usage_json) == told
        assert usage.provider_usage_json.encode() in body


def tools_told(response: dict[str, Any]) -> list[tuple[str, dict[str, int]]]:
    """The tools of which an answer tells the requests."""
    return [(name, used) for name, used in (response.get("tool_usage") or {}).items() if "num_requests" in used]


def searches_shown(response: dict[str, Any]) -> list[str]:
    """The searches among an answer's items, by tool; a page that was opened is none."""
    preview = any(tool["type"].startswith("web_search_preview") for tool in response.get("tools") or [])
    found = []
    for item in response.get("output") or []:
        if item["type"] == "file_search_call":
            found.append("file_search")
        elif item["type"] == "web_search_call" and (item.get("action") or {}).get("type", "search") == "search":
            found.append("web_search_preview" if preview else "web_search")
    return found


@pytest.mark.parametrize("record", RECORDED)
def test_counts_and_costs_are_those_of_the_body(record: Record) -> None:
    """Calls of the server's tools and the cost that it states are told exactly."""
    reading, answer = read(body_of(record)), answered(record)
    usage: dict[str, Any] = reading.response.get("usage") or {}
    calls = {
        item.tool: item.quantity
        for item in answer.finished.usage.items
        if item.kind == usage_pb2.USAGE_KIND_SERVER_TOOL_CALL
    }
    told = {
        name.removesuffix("_calls"): count
        for name, count in (usage.get("server_side_tool_usage_details") or {}).items()
        if count
    }
    if "server_side_tool_usage_details" not in usage:
        shown = Counter(searches_shown(reading.response))
        told = {**shown, **{name: used["num_requests"] for name, used in tools_told(reading.response) if used}}
    assert calls == {name: count for name, count in told.items() if count}
    lines = answer.finished.cost.lines
    if "cost_in_usd_ticks" in usage:
        assert Decimal(lines[0].amount.nanos) == round(Decimal(usage["cost_in_usd_ticks"]) / 10)
    elif "cost" in usage:
        assert Decimal(lines[0].amount.nanos) / 10**9 == Decimal(str(usage["cost"]))
    else:
        assert not lines


@pytest.mark.parametrize("record", RECORDED)
def test_identifiers_are_those_of_the_answer(record: Record) -> None:
    """The answer's id and model come from the body, the request's id from the headers."""
    reading, answer = read(body_of(record)), answered(record)
    started = answer.started
    assert started.provider_response_id == reading.response["id"]
    assert started.route.served_model == reading.response["model"]
    headers = {name.lower(): value for name, value in record["response"]["headers"].items()}
    named = headers.get("x-request-id") or headers.get("apim-request-id") or headers.get("x-generation-id") or ""
    assert started.provider_request_id == named
    limits = {name for name in headers if name.startswith("x-ratelimit-limit") and headers[name].isdecimal()}
    assert len(answer.finished.rate_limits) == len(limits)


@pytest.mark.parametrize("record", params(record for record in ANSWERS if is_stream(body_of(record))))
def test_a_stream_says_what_its_last_event_says(record: Record) -> None:
    """The answer as it was streamed equals the finished answer that the stream's last event holds."""
    reading = read(body_of(record))
    whole = translation(record)
    check = whole.whole(json.dumps(reading.response).encode())
    streamed = answered(record)
    told = [event.block_started.block.WhichOneof("content") for event in check if event.HasField("block_started")]
    assert told == [block.WhichOneof("content") for block in streamed.message.content if not is_preview(block)]


def is_preview(block: content_pb2.ContentBlock) -> bool:
    return "partial_image_index" in block.provider_metadata_json


@pytest.mark.parametrize("record", RECORDED)
def test_the_servers_own_events_come_verbatim(record: Record) -> None:
    """With provider_events each event of the server comes as it stood, and nothing else changes."""
    body = body_of(record)
    plain, told = translation(record), translation(record, provider_events=True)
    if is_stream(body):
        quiet = plain.feed(body) + plain.end()
        loud = told.feed(body) + told.end()
    else:
        quiet, loud = plain.whole(body), told.whole(body)
    assert [event for event in loud if not event.HasField("provider_event")] == quiet
    raw = [event.provider_event.raw_json for event in loud if event.HasField("provider_event")]
    wanted = read(body).events or [json.loads(body)]
    assert [json.loads(text) for text in raw] == wanted
    assert all(text.encode() in body for text in raw)


@needs_recordings
@pytest.mark.parametrize("seed", range(3))
def test_what_came_before_a_cut_is_kept(seed: int) -> None:
    """A stream that breaks off in the middle raises after all that it had said."""
    streams = [each for each in ANSWERS if is_stream(body_of(each))]
    body = body_of(streams[seed])
    cut = body[: len(body) // 2]
    translated = translation()
    events = [event for piece in pieces_of(cut, seed) for event in translated.feed(piece)]
    with pytest.raises(AdapterError) as raised:
        translated.end()
    whole = translation()
    assert events + raised.value.events == whole.feed(cut)
