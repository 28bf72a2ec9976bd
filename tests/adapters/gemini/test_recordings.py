"""Every recorded and documented answer of Gemini says through the adapter what an independent reading says."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.gemini.answers import APIS, FAMILY, calls, streamed, translation, whole
from tests.adapters.gemini.reading import SERVER_PARTS, Reading, chunks_of, read
from tests.adapters.recordings import Record, body_of, needs_recordings, params, pieces_of, records

from execution_platform.adapters.errors import ProtocolError, StreamBrokenError
from execution_platform.adapters.testing import Answer, check_translation, same_answer
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

#: Documented bodies that are no whole answer on purpose.
BROKEN = {
    "streaming-failure-invalid-json": ProtocolError,
    "unary-failure-invalid-response": ProtocolError,
    "streaming-success-quotes-escaped": StreamBrokenError,
    "streaming-failure-empty-content": StreamBrokenError,
    "streaming-failure-malformed-content": StreamBrokenError,
}

FILTERS = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE", "MODEL_ARMOR", "IMAGE_SAFETY"}
MALFORMED = {"MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"}


def answers(*, complete: bool = True) -> Iterator[Record]:
    for split in ("open", "documented"):
        for api in APIS:
            for record in records(split, "gemini", api):
                broken = record.get("kind") in BROKEN
                if record["response"]["status"] == 200 and broken is not complete:
                    yield record


def is_streamed(record: Record) -> bool:
    return bool(record["api"] == "streamGenerateContent")


def answer_of(record: Record) -> Answer:
    body = body_of(record)
    return streamed([body]) if is_streamed(record) else whole(body)


def reason_of(reading: Reading) -> "chat_pb2.FinishReason.ValueType":
    word = {"1": "STOP", "2": "MAX_TOKENS", "3": "SAFETY"}.get(reading.finish, reading.finish)
    if reading.block_reason is not None or word in FILTERS:
        return chat_pb2.FINISH_REASON_CONTENT_FILTER
    if word == "STOP":
        return chat_pb2.FINISH_REASON_TOOL_CALLS if reading.calls else chat_pb2.FINISH_REASON_STOP
    if word in MALFORMED:
        return chat_pb2.FINISH_REASON_MALFORMED_OUTPUT
    return chat_pb2.FINISH_REASON_MAX_TOKENS if word == "MAX_TOKENS" else chat_pb2.FINISH_REASON_OTHER


def signatures_of(answer: Answer) -> list[tuple[str, str]]:
    return [
        (_part_kind(block), state.data.decode())
        for block in answer.blocks
        for state in block.states
        if state.kind == "thought_signature"
    ]


def _part_kind(block: content_pb2.ContentBlock) -> str:
    match block.WhichOneof("content"):
        case "tool_call":
            return block.tool_call.provider_type or "functionCall"
        case "tool_result":
            return block.tool_result.provider_type
        case "media":
            return "inlineData"
        case kind:
            return str(kind)


def sum_of(usage: usage_pb2.Usage | None, *kinds: "usage_pb2.UsageKind.ValueType") -> int:
    return sum(item.quantity for item in usage.items if item.kind in kinds) if usage else 0


@pytest.mark.parametrize("record", params(answers()))
def test_an_answer_says_what_an_independent_reading_says(record: Record) -> None:
    """Text, thoughts, signatures, calls, media and the reason are those of the body."""
    answer, reading = answer_of(record), read(body_of(record))
    assert answer.text() == reading.text
    assert "".join(block.thinking.text for block in answer.blocks) == reading.thinking
    assert signatures_of(answer) == reading.signatures
    found = [
        (call.name, None if call.call_id_minted else call.call_id, json.loads(call.arguments_json or "{}"))
        for call in calls(answer)
    ]
    assert found == reading.calls
    media = [block.media for block in answer.blocks if block.WhichOneof("content") == "media"]
    assert [(one.mime_type, one.data) for one in media] == reading.media
    assert answer.finished is not None
    assert answer.finished.reason == reason_of(reading)
    assert answer.finished.provider_finish_reason == (reading.finish or reading.block_reason or "")
    assert answer.finished.refusal.prompt_blocked == (reading.block_reason is not None)


@pytest.mark.parametrize("record", params(answers()))
def test_usage_is_the_last_that_was_told_and_counts_nothing_twice(record: Record) -> None:
    """Each count of the last usageMetadata is the sum of its items, cached tokens apart from the other input."""
    answer, said = answer_of(record), read(body_of(record)).usage
    usage = answer.usage
    assert json.loads(usage.provider_usage_json if usage and usage.provider_usage_json else "{}") == said
    cached = sum_of(usage, usage_pb2.USAGE_KIND_CACHE_READ)
    assert cached == said.get("cachedContentTokenCount", 0)
    assert sum_of(usage, usage_pb2.USAGE_KIND_INPUT) + cached == said.get("promptTokenCount", 0)
    assert sum_of(usage, usage_pb2.USAGE_KIND_OUTPUT) == said.get("candidatesTokenCount", 0)
    assert sum_of(usage, usage_pb2.USAGE_KIND_REASONING) == said.get("thoughtsTokenCount", 0)
    assert sum_of(usage, usage_pb2.USAGE_KIND_TOOL_INPUT) == said.get("toolUsePromptTokenCount", 0)
    if usage is not None and "totalTokenCount" in said:
        assert sum(item.quantity for item in usage.items) == said["totalTokenCount"]


@pytest.mark.parametrize("record", params(answers()))
def test_tools_of_google_come_verbatim(record: Record) -> None:
    """Code, its result, and calls and answers of Google's other tools hold the part's JSON."""
    found = []
    for block in answer_of(record).blocks:
        call, result = block.tool_call, block.tool_result
        if call.provider_type in SERVER_PARTS[:1]:
            found.append((call.provider_type, json.loads(call.arguments_json)))
        elif call.provider_type:
            said: dict[str, Any] = {"toolType": call.name, "id": call.call_id}
            found.append((call.provider_type, said | {"args": json.loads(call.arguments_json or "{}")}))
        elif result.provider_type in SERVER_PARTS[1:2]:
            found.append((result.provider_type, json.loads(result.structured_content_json)))
        elif result.provider_type:
            said = {"toolType": result.name, "id": result.call_id}
            if result.structured_content_json:
                said["response"] = json.loads(result.structured_content_json)
            found.append((result.provider_type, said))
    assert found == read(body_of(record)).server_parts


@pytest.mark.parametrize("record", params(answers()))
def test_arguments_stand_as_the_model_wrote_them(record: Record) -> None:
    """The text of a call's arguments is a slice of the body, unless it came value by value."""
    body = body_of(record).decode()
    if "partialArgs" not in body:
        assert [call for call in calls(answer_of(record)) if call.arguments_json not in body] == []


@pytest.mark.parametrize("record", params(answers()))
def test_sources_keep_their_place_in_the_text(record: Record) -> None:
    """Each grounding segment is a citation whose byte range names the segment's words in its block's text."""
    answer, reading = answer_of(record), read(body_of(record))
    ranges = []
    for block in answer.blocks:
        for citation in block.citations:
            if citation.provider_type == "groundingSupport" and citation.HasField("text_range"):
                start, end = citation.text_range.start, citation.text_range.end
                words = json.loads(citation.raw_json)["segment"].get("text", "")
                ranges.append((start, end, words))
                assert citation.text_range.unit == content_pb2.CITATION_UNIT_BYTE
                if reading.text.encode()[start:end] == words.encode() and len(read_texts(answer)) == 1:
                    assert block.text.text.encode()[start:end].decode() == words
    assert ranges == reading.supports
    kinds = [citation.provider_type for block in answer.blocks for citation in block.citations]
    assert kinds.count("citation") == reading.citations
    addresses = [one.uri for block in answer.blocks for one in block.citations if one.provider_type == "urlContext"]
    assert addresses == reading.retrieved


def read_texts(answer: Answer) -> list[str]:
    return [block.text.text for block in answer.blocks if block.text.text]


@pytest.mark.parametrize("record", params(answers()))
def test_a_translation_keeps_the_promises_of_the_seam(record: Record) -> None:
    """Whole, cut anywhere, ended early or damaged, an answer passes the conformance kit."""
    body = body_of(record)
    what: dict[str, Any] = {"stream": body} if is_streamed(record) else {"whole": body}
    check_translation(lambda: translation(provider_events=True), family=FAMILY, **what)


@pytest.mark.parametrize("record", params(record for record in answers() if is_streamed(record)))
def test_the_framings_say_the_same(record: Record) -> None:
    """The chunks of a stream as events, as one streamed array and as an unstreamed array give the same answer."""
    chunks = [json.dumps(chunk, ensure_ascii=False) for chunk in chunks_of(body_of(record))]
    array = ("[" + "\n,\n".join(chunks) + "]").encode()
    events = "".join(f"data: {chunk}\r\n\r\n" for chunk in chunks).encode()
    as_events = streamed(pieces_of(events, 1))
    same_answer(as_events, streamed(pieces_of(array, 2)), "events and array")
    same_answer(as_events, whole(array), "events and unstreamed array")


@pytest.mark.parametrize("record", params(answers(complete=False)))
def test_what_is_no_whole_answer_is_an_error(record: Record) -> None:
    """A body that breaks the protocol, or stops in the middle, is the error that says so."""
    with pytest.raises(BROKEN[record["kind"]]):
        answer_of(record)


@needs_recordings
def test_the_recordings_are_many() -> None:
    """The tests above ran over the recordings."""
    found = list(answers())
    assert len(found) > 100
    assert {record["api"] for record in found} == set(APIS)
