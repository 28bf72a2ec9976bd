"""Every recorded answer of the Messages API says through the translation what plain JSON says."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.anthropic.reading import Json, arguments, read, tokens
from tests.adapters.recordings import Record, body_of, params, pieces_of, records

from execution_platform.adapters.anthropic.stream import AnswerContext, MessagesTranslation
from execution_platform.adapters.errors import OverloadedError, ProtocolError
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import check_translation
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

SPLICED = "doc-anthropic-768acc8ac574"
"""A second answer begins in the middle of the first: no translation can be right."""

ANSWERS = [
    record
    for split in ("open", "documented")
    for record in records(split, "anthropic", api="messages")
    if record["response"]["status"] == 200 and record["id"] != SPLICED
]
COMPLETE = [record for record in ANSWERS if "error_in_stream" not in record["features"]]
BROKEN = [record for record in ANSWERS if "error_in_stream" in record["features"]]

REASONS = {
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "tool_use": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "pause_turn": chat_pb2.FINISH_REASON_PAUSED,
    "refusal": chat_pb2.FINISH_REASON_REFUSAL,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}


def translation() -> MessagesTranslation:
    return MessagesTranslation(AnswerContext("anthropic", "claude-asked"))


def is_stream(body: bytes) -> bool:
    return not body.lstrip().startswith(b"{")


def answer_to(pieces: list[bytes]) -> chat_pb2.CompleteChatResponse:
    """What a body says; a stream may come in several pieces."""
    translated = translation()
    events: Events = []
    if is_stream(pieces[0]):
        for piece in pieces:
            events += translated.feed(piece)
        events += translated.end()
    else:
        events = translated.whole(pieces[0])
    fold = Fold()
    fold.add_all(events)
    return fold.response


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_keeps_the_promises_of_the_seam(record: Record) -> None:
    """Each recorded answer passes the conformance kit: whole, cut, ended early and damaged."""
    body = body_of(record)
    if is_stream(body):
        check_translation(translation, stream=body, family="anthropic", seeds=range(8))
    else:
        check_translation(translation, whole=body, family="anthropic", seeds=range(8))


@pytest.mark.parametrize("record", params(r for r in COMPLETE if is_stream(body_of(r))))
def test_where_the_network_cuts_decides_nothing(record: Record) -> None:
    """A stream that is cut at random places says what it says in one piece."""
    body = body_of(record)
    whole = answer_to([body])
    for seed in range(3):
        assert answer_to(pieces_of(body, seed)) == whole


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_says_what_its_json_says(record: Record) -> None:
    """Blocks, citations, signatures, arguments, end, usage and ids are those of the body, however it is cut."""
    answer = answer_to([body_of(record)])
    message = read(body_of(record)).message
    assert answer.started.provider_response_id == message["id"]
    assert answer.started.route.served_model in {message["model"], *_fallbacks(message)}
    assert len(answer.message.content) == len(message["content"])
    for block, told in zip(answer.message.content, message["content"], strict=True):
        check_block(block, told)
    check_end(answer.finished, message)
    assert counted(answer.finished.usage) == tokens(message["usage"], answer.finished.route.served_model)


def _fallbacks(message: Json) -> list[str]:
    return [block["from"]["model"] for block in message["content"] if block["type"] == "fallback"]


def check_block(block: content_pb2.ContentBlock, told: Json) -> None:
    match told["type"]:
        case "text":
            assert block.text.text == told["text"]
            assert [json.loads(citation.raw_json) for citation in block.citations] == (told.get("citations") or [])
            for citation, source in zip(block.citations, told.get("citations") or [], strict=True):
                check_citation(citation, source)
        case "thinking":
            assert block.thinking.text == told["thinking"]
            assert signatures(block) == ([told["signature"]] if told.get("signature") else [])
        case "redacted_thinking":
            assert block.redacted_thinking.data.decode() == told["data"]
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            check_call(block.tool_call, told)
        case kind if kind.endswith("_tool_result"):
            check_result(block.tool_result, told)
        case kind:
            assert block.opaque.type == kind
            assert json.loads(block.opaque.json) == told


def signatures(block: content_pb2.ContentBlock) -> list[str]:
    return [state.data.decode() for state in block.states if state.kind == "signature"]


def check_call(call: content_pb2.ToolCallBlock, told: Json) -> None:
    client = told["type"] == "tool_use"
    assert (call.call_id, call.name) == (told["id"], told["name"])
    assert call.executed_by == (content_pb2.TOOL_EXECUTOR_CLIENT if client else content_pb2.TOOL_EXECUTOR_PROVIDER)
    assert call.provider_type == ("" if client else told["type"])
    expected = arguments(told)
    assert (call.arguments_json if isinstance(expected, str) else json.loads(call.arguments_json)) == expected


def check_result(result: content_pb2.ToolResultBlock, told: Json) -> None:
    assert result.call_id == told["tool_use_id"]
    assert result.provider_type == told["type"]
    assert result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
    assert json.loads(result.structured_content_json) == told["content"]
    failed = isinstance(told["content"], dict) and told["content"]["type"].endswith("_error")
    assert result.is_error == (told.get("is_error") or failed)


UNITS = {
    "char_location": ("char_index", content_pb2.CITATION_UNIT_CHARACTER),
    "page_location": ("page_number", content_pb2.CITATION_UNIT_PAGE),
    "content_block_location": ("block_index", content_pb2.CITATION_UNIT_BLOCK),
    "search_result_location": ("block_index", content_pb2.CITATION_UNIT_BLOCK),
}


def check_citation(citation: content_pb2.Citation, told: Json) -> None:
    assert citation.provider_type == told["type"]
    assert citation.cited_text == told["cited_text"]
    assert citation.title == (told.get("document_title") or told.get("title") or "")
    assert citation.uri == told.get("url", "")
    assert citation.HasField("document_index") == ("document_index" in told)
    assert citation.document_index == told.get("document_index", 0)
    assert citation.HasField("source_range") == (told["type"] in UNITS)
    if told["type"] in UNITS:
        name, unit = UNITS[told["type"]]
        part = citation.source_range
        assert (part.start, part.end, part.unit) == (told[f"start_{name}"], told[f"end_{name}"], unit)


def check_end(finished: chat_pb2.Finished, message: Json) -> None:
    assert finished.provider_finish_reason == message["stop_reason"]
    assert finished.reason == REASONS[message["stop_reason"]]
    stop_sequence = message.get("stop_sequence")
    assert finished.HasField("matched_stop_sequence") == (stop_sequence is not None)
    assert finished.matched_stop_sequence == (stop_sequence or "")
    details = message.get("stop_details") or {}
    assert finished.refusal.category == (details.get("category") or "")
    assert finished.refusal.explanation == (details.get("explanation") or "")
    if details:
        assert json.loads(finished.refusal.raw_json) == details
    usage = message["usage"]
    assert finished.usage.service_tier == (usage.get("service_tier") or "")
    assert finished.usage.speed == (usage.get("speed") or "")
    assert finished.usage.region == (usage.get("inference_geo") or "")


KINDS = {
    usage_pb2.USAGE_KIND_INPUT: "input",
    usage_pb2.USAGE_KIND_CACHE_READ: "cache_read",
    usage_pb2.USAGE_KIND_CACHE_WRITE: "cache_write",
    usage_pb2.USAGE_KIND_OUTPUT: "output",
    usage_pb2.USAGE_KIND_REASONING: "reasoning",
}


def counted(usage: usage_pb2.Usage) -> dict[str, int]:
    """Usage items by name, as `reading.tokens` names them."""
    counts: dict[str, int] = {}
    for item in usage.items:
        if item.kind == usage_pb2.USAGE_KIND_SERVER_TOOL_CALL:
            name = item.tool
            assert item.unit == usage_pb2.USAGE_UNIT_CALL
        else:
            name = KINDS[item.kind] + (f" of {item.model}" if item.model else "")
            assert item.unit == usage_pb2.USAGE_UNIT_TOKEN
        counts[name] = counts.get(name, 0) + item.quantity
    return counts


@pytest.mark.parametrize("record", params(iter(BROKEN)))
def test_an_error_in_a_stream_is_raised_after_what_came_before(record: Record) -> None:
    """A stream that tells an error gives the text before it, then raises what the error means."""
    answer = check_translation(translation, stream=body_of(record), error=OverloadedError, family="anthropic")
    told = read(body_of(record))
    assert answer.text() == "".join(block["text"] for block in told.message.get("content", []))
    assert answer.error is not None
    assert answer.error.provider_code == "overloaded_error"
    assert answer.error.retryable
    assert counted(answer.usage or usage_pb2.Usage()) == tokens(told.message.get("usage", {}))


@pytest.mark.parametrize("record", params(r for r in records("documented", "anthropic") if r["id"] == SPLICED))
def test_another_answer_in_the_middle_of_one_is_an_error(record: Record) -> None:
    """A stream in which a second answer begins amid the first is a breach of the protocol, never two answers."""
    answer = check_translation(translation, stream=body_of(record), error=ProtocolError, family="anthropic")
    assert [block.WhichOneof("content") for block in answer.blocks] == ["thinking", "tool_call"]


# Keys of an answer that reach no field and no metadata, each with its reason.
UNPLACED = {
    "type": "says only which shape follows; blocks and citations keep theirs",
    "role": "an answer is always the assistant's",
}


def _metadata_keys(answer: chat_pb2.CompleteChatResponse) -> set[str]:
    texts = [answer.finished.provider_metadata_json, answer.finished.usage.provider_usage_json]
    texts += [block.provider_metadata_json for block in answer.message.content]
    return {key for text in texts if text for key in json.loads(text)}


PLACED_OF_MESSAGE = {"id", "model", "content", "usage", "stop_reason", "stop_sequence", "stop_details"}
PLACED_OF_BLOCK = {
    "text",
    "citations",
    "thinking",
    "signature",
    "data",
    "id",
    "name",
    "input",
    "content",
    "tool_use_id",
}
OPAQUE = {"compaction", "fallback", "mcp_tool_listing", "container_upload"}


def _unplaced(answer: chat_pb2.CompleteChatResponse, message: Json, events: list[Json]) -> set[str]:
    """Names that the body tells, not null, and that no field and no metadata has."""
    told = {key for key, value in message.items() if value is not None} - PLACED_OF_MESSAGE
    for block in message["content"]:
        if block["type"] not in OPAQUE:
            told |= {key for key, value in block.items() if value is not None} - PLACED_OF_BLOCK
    told |= {key for key, value in message["usage"].items() if value is not None} - set(_usage_fields(message["usage"]))
    for event in events:
        if event["type"] == "content_block_delta":
            told |= set(event["delta"]) - {"text", "thinking", "signature", "partial_json", "citation"}
            told -= {"content", "encrypted_content"}  # of a compaction, which is kept whole
    return told - _metadata_keys(answer) - set(UNPLACED)


def _usage_fields(usage: Json) -> dict[str, Any]:
    fields = ("input_tokens", "output_tokens", "cache_creation", "cache_creation_input_tokens", "server_tool_use")
    more = ("cache_read_input_tokens", "iterations", "output_tokens_details", "service_tier", "speed", "inference_geo")
    return {key: usage[key] for key in (*fields, *more) if key in usage}


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_no_key_of_an_answer_is_lost(record: Record) -> None:
    """Every key that says something reaches a field or the metadata, but for those that are explained here."""
    answer = answer_to([body_of(record)])
    reading = read(body_of(record))
    assert _unplaced(answer, reading.message, reading.events) == set()


def test_streamed_and_whole_forms_of_one_answer_are_the_same() -> None:
    """An answer told as a stream gives the blocks, end and usage of the same answer told whole."""
    checked = 0
    for record in COMPLETE:
        body = body_of(record)
        message = read(body).message
        whole = json.dumps(_as_whole(message)).encode()
        streamed = not body.lstrip().startswith(b"{")
        cut_short = any(isinstance(arguments(block), str) for block in message["content"] if "input" in block)
        if streamed and not cut_short:
            one, other = answer_to([body]), answer_to([whole])
            assert [_without_spelling(block) for block in one.message.content] == [
                _without_spelling(block) for block in other.message.content
            ]
            assert one.finished.reason == other.finished.reason
            assert counted(one.finished.usage) == counted(other.finished.usage)
            checked += 1
    if COMPLETE:
        assert checked > 20


def _as_whole(message: Json) -> Json:
    read_input = [{**block, "input": arguments(block)} if "input" in block else block for block in message["content"]]
    return {**message, "content": read_input}


def _without_spelling(block: content_pb2.ContentBlock) -> Json:
    """A block with its JSON decoded: a stream and a body may space it differently."""
    kind = block.WhichOneof("content")
    said: Json = {"kind": kind, "states": [(state.kind, state.data) for state in block.states]}
    said["citations"] = [json.loads(citation.raw_json) for citation in block.citations]
    match kind:
        case "tool_call":
            said["call"] = (block.tool_call.call_id, block.tool_call.name, json.loads(block.tool_call.arguments_json))
        case "tool_result":
            said["result"] = (block.tool_result.call_id, json.loads(block.tool_result.structured_content_json))
        case "opaque":
            said["opaque"] = json.loads(block.opaque.json)
        case _:
            said["content"] = (block.text.text, block.thinking.text, block.redacted_thinking.data)
    return said
