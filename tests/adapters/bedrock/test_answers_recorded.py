"""Every recorded answer of Converse and ConverseStream says through the translation what plain JSON says."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from tests.adapters.bedrock.reading import Json, read, tokens
from tests.adapters.recordings import Record, body_of, needs_recordings, params, pieces_of, records

from execution_platform.adapters.bedrock.errors import error_from_answer
from execution_platform.adapters.bedrock.stream import AnswerContext, ConverseTranslation
from execution_platform.adapters.errors import (
    AdapterError,
    ContextLengthError,
    CredentialsError,
    ForbiddenError,
    InvalidRequestError,
    ModelNotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitedError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import check_translation
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

RECORDS = [record for split in ("open", "documented") for record in records(split, "bedrock")]
CHATS = [record for record in RECORDS if record["api"] in {"converse", "converse-stream"}]
BROKEN_FEATURES = {"error_in_stream", "stream_truncated", "eventstream_bad_crc"}
COMPLETE = [r for r in CHATS if r["response"]["status"] == 200 and not BROKEN_FEATURES & set(r["features"])]
BROKEN = [r for r in CHATS if r["response"]["status"] == 200 and BROKEN_FEATURES & set(r["features"])]
REFUSED = [r for r in RECORDS if r["response"]["status"] != 200]

OTHER_APIS = {
    "invoke": "InvokeModel takes and gives each maker's own JSON; chats go through Converse",
    "invoke-with-response-stream": "the same, streamed",
    "embeddings": "InvokeModel with a model that embeds",
    "count-tokens": "a number, read by the adapter",
}
"""Operations of the recordings that give no answer of Converse; only their errors are read here, which are the same."""

REASONS = {
    "end_turn": chat_pb2.FINISH_REASON_STOP,
    "tool_use": chat_pb2.FINISH_REASON_TOOL_CALLS,
    "max_tokens": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "stop_sequence": chat_pb2.FINISH_REASON_STOP_SEQUENCE,
    "guardrail_intervened": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "content_filtered": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "malformed_model_output": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
    "malformed_tool_use": chat_pb2.FINISH_REASON_MALFORMED_OUTPUT,
    "model_context_window_exceeded": chat_pb2.FINISH_REASON_CONTEXT_LENGTH,
}


def translation() -> ConverseTranslation:
    return ConverseTranslation(AnswerContext("bedrock", "a-model", request_id="chat-1"))


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


@needs_recordings
def test_every_recording_is_of_an_api_that_is_read_or_explained() -> None:
    """What is recorded of Bedrock are chats through Converse, and operations that are known not to be."""
    assert {record["api"] for record in RECORDS} - {"converse", "converse-stream"} == set(OTHER_APIS)
    assert len(COMPLETE) > 50
    assert len(BROKEN) > 10


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_keeps_the_promises_of_the_seam(record: Record) -> None:
    """Each recorded answer passes the conformance kit: whole, cut, ended early and damaged."""
    body = body_of(record)
    if is_stream(body):
        check_translation(translation, stream=body, family="bedrock", seeds=range(6))
    else:
        check_translation(translation, whole=body, family="bedrock", seeds=range(6))


@pytest.mark.parametrize("record", params(r for r in COMPLETE if is_stream(body_of(r))))
def test_where_the_network_cuts_decides_nothing(record: Record) -> None:
    """A stream that is cut at random places says what it says in one piece."""
    body = body_of(record)
    whole = answer_to([body])
    for seed in range(3):
        assert answer_to(pieces_of(body, seed)) == whole


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_says_what_its_json_says(record: Record) -> None:
    """Blocks, citations, signatures, arguments, end, usage and trace are those of the body."""
    body = body_of(record)
    answer, told = answer_to([body]), read(body)
    assert len(answer.message.content) == len(told.content)
    for block, said in zip(answer.message.content, told.content, strict=True):
        check_block(block, said)
    check_end(answer, told.answer)


def check_block(block: content_pb2.ContentBlock, told: Json) -> None:
    kind = next(key for key in told if key != "type")
    said = told[kind]
    if kind == "text":
        assert block.text.text == said
        assert not block.citations
    elif kind == "toolUse":
        check_call(block.tool_call, said)
    elif kind == "toolResult":
        assert block.tool_result.call_id == said["toolUseId"]
        assert block.tool_result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
        assert block.tool_result.provider_type == said["type"]
        assert block.tool_result.is_error == (said["status"] == "error")
        assert json.loads(block.tool_result.structured_content_json) == said["content"]
    elif kind == "citationsContent":
        assert block.text.text == "".join(part["text"] for part in said.get("content", []))
        assert [json.loads(citation.raw_json) for citation in block.citations] == said["citations"]
        for citation, source in zip(block.citations, said["citations"], strict=True):
            check_citation(citation, source)
    elif "redactedContent" in said:
        assert block.redacted_thinking.data.decode() == said["redactedContent"]
    else:
        assert block.thinking.text == said["reasoningText"]["text"]
        signature = said["reasoningText"].get("signature")
        states = [(state.kind, state.data.decode()) for state in block.states]
        assert states == ([("signature", signature)] if signature else [])


def check_call(call: content_pb2.ToolCallBlock, told: Json) -> None:
    by_caller = told.get("type", "tool_use") == "tool_use"
    assert (call.call_id, call.name) == (told["toolUseId"], told["name"])
    assert not call.call_id_minted
    assert call.executed_by == (content_pb2.TOOL_EXECUTOR_CLIENT if by_caller else content_pb2.TOOL_EXECUTOR_PROVIDER)
    assert call.provider_type == ("" if by_caller else told["type"])
    cut_short = isinstance(told["input"], str)
    assert (call.arguments_json if cut_short else json.loads(call.arguments_json)) == told["input"]


def check_citation(citation: content_pb2.Citation, told: Json) -> None:
    ((kind, place),) = told["location"].items()
    assert citation.provider_type == kind
    assert citation.uri == place.get("url", "")
    assert citation.title == told.get("title", "")
    assert citation.source_id == told.get("source", "")
    assert citation.cited_text == "".join(part["text"] for part in told.get("sourceContent", []))
    assert citation.HasField("document_index") == ("documentIndex" in place)
    assert citation.document_index == place.get("documentIndex", 0)
    assert citation.HasField("source_range") == ("start" in place)
    assert (citation.source_range.start, citation.source_range.end) == (place.get("start", 0), place.get("end", 0))


def check_end(answer: chat_pb2.CompleteChatResponse, told: Json) -> None:
    finished = answer.finished
    assert finished.provider_finish_reason == told["stopReason"]
    assert finished.reason == REASONS[told["stopReason"]]
    assert not finished.HasField("matched_stop_sequence")
    usage = told.get("usage")
    assert counted(finished.usage) == tokens(usage or {})
    assert (json.loads(finished.usage.provider_usage_json) if usage else finished.usage.provider_usage_json) == (
        usage or ""
    )
    assert [notice.code for notice in answer.notices] == ([] if usage else [chat_pb2.NOTICE_CODE_PROVIDER_WARNING]), (
        "an answer whose usage is not told says so"
    )
    guardrail = told.get("trace", {}).get("guardrail")
    if guardrail:
        assert json.loads(finished.refusal.raw_json) == guardrail
        assert finished.refusal.explanation == guardrail.get("actionReason", "")
        assert finished.refusal.category == "sensitiveInformationPolicy"
        assert not finished.refusal.prompt_blocked


KINDS = {
    usage_pb2.USAGE_KIND_INPUT: "input",
    usage_pb2.USAGE_KIND_CACHE_READ: "cache_read",
    usage_pb2.USAGE_KIND_CACHE_WRITE: "cache_write",
    usage_pb2.USAGE_KIND_OUTPUT: "output",
}


def counted(usage: usage_pb2.Usage) -> dict[str, int]:
    """Usage items by name, as `reading.tokens` names them."""
    counts: Counter[str] = Counter()
    for item in usage.items:
        assert item.unit == usage_pb2.USAGE_UNIT_TOKEN
        counts[KINDS[item.kind]] += item.quantity
    return dict(counts)


# Keys of an answer that reach no field and no metadata, each with its reason.
UNPLACED = {
    "role": "an answer is always the assistant's",
    "p": "random padding against guessing at lengths",
    "contentBlockIndex": "the blocks' own order, which their indexes tell",
    "type of toolUse": "tool_use says only that the call is an ordinary one, as executed_by CLIENT does",
}

PLACED = {
    "text": {"text"},
    "toolUse": {"toolUseId", "name", "input"},
    "toolResult": {"toolUseId", "content", "type"},
    "reasoningContent": {"reasoningText", "redactedContent"},
    "citationsContent": {"content", "citations"},
}


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_no_key_of_an_answer_is_lost(record: Record) -> None:
    """Every key that says something reaches a field or the metadata, verbatim, but for those explained here."""
    body = body_of(record)
    answer, told = answer_to([body]), read(body)
    metadata = json.loads(answer.finished.provider_metadata_json or "{}")
    ends = {key: value for key, value in told.answer.items() if key not in {"output", "stopReason", "usage"}}
    assert metadata == ends
    for _, event in told.events:
        rest = set(event) - {"start", "delta", "usage", "stopReason"} - set(metadata) - set(UNPLACED)
        assert rest == set()
    for block, said in zip(answer.message.content, told.content, strict=True):
        kept = json.loads(block.provider_metadata_json or "{}")
        kind = next(key for key in said if key != "type")
        inner = said[kind] if isinstance(said[kind], dict) else {}
        lost = (set(inner) | set(said)) - {kind} - PLACED[kind] - set(kept)
        if kind == "toolUse" and block.tool_call.executed_by == content_pb2.TOOL_EXECUTOR_CLIENT:
            assert inner.get("type", "tool_use") == "tool_use"
            lost -= {"type"}
        if kind == "toolUse" and block.tool_call.provider_type:
            lost -= {"type"}
        assert lost == set()


@pytest.mark.parametrize("record", params(r for r in COMPLETE if is_stream(body_of(r))))
def test_a_stream_and_the_whole_of_it_are_the_same_answer(record: Record) -> None:
    """An answer told as a stream gives the blocks, end and usage of the same answer told whole."""
    told = read(body_of(record))
    inputs = [block["toolUse"]["input"] for block in told.content if "toolUse" in block]
    if any(isinstance(given, str) for given in inputs):
        pytest.skip("a call of it is cut short, which only a stream can tell")
    streamed, whole = answer_to([body_of(record)]), answer_to([json.dumps(told.answer).encode()])
    assert [_alike(block) for block in streamed.message.content] == [_alike(block) for block in whole.message.content]
    for one, other in ((streamed.finished, whole.finished),):
        assert (one.reason, one.provider_finish_reason) == (other.reason, other.provider_finish_reason)
        assert list(one.usage.items) == list(other.usage.items)


def _alike(block: content_pb2.ContentBlock) -> content_pb2.ContentBlock:
    """A block whose JSON is spelt one way."""
    spelt = content_pb2.ContentBlock()
    spelt.CopyFrom(block)
    if spelt.HasField("tool_call"):
        spelt.tool_call.arguments_json = json.dumps(json.loads(spelt.tool_call.arguments_json))
    if spelt.HasField("tool_result"):
        content = json.loads(spelt.tool_result.structured_content_json)
        spelt.tool_result.structured_content_json = json.dumps(content)
        spelt.provider_metadata_json = json.dumps(json.loads(spelt.provider_metadata_json))
    for citation in spelt.citations:
        citation.raw_json = json.dumps(json.loads(citation.raw_json))
    return spelt


MEANT_IN_STREAMS: dict[str, type[AdapterError]] = {
    "throttlingException": RateLimitedError,
    "modelStreamErrorException": UnavailableError,
    "internalServerException": UnavailableError,
    "serviceUnavailableException": OverloadedError,
    "validationException": InvalidRequestError,
}


@pytest.mark.parametrize("record", params(iter(BROKEN)))
def test_a_stream_that_fails_or_breaks_gives_what_came_before_and_a_clear_error(record: Record) -> None:
    """Exception and error frames, wrong checksums and cut frames raise what they mean, after the text before them."""
    body = body_of(record)
    if "eventstream_bad_crc" in record["features"]:
        wanted: type[AdapterError] = StreamBrokenError
        text, code = "Hel", ""
    else:
        told = read(body)
        headers = told.failed[0] if told.failed else {}
        kind = headers.get(":exception-type", "")
        code = kind or headers.get(":error-code", "")
        wanted = MEANT_IN_STREAMS.get(kind, UnavailableError if headers else StreamBrokenError)
        text = "".join(block.get("text", "") for block in told.content)
    answer = check_translation(translation, stream=body, error=wanted, family="bedrock")
    assert answer.text() == text
    assert answer.error is not None
    assert type(answer.error) is wanted
    assert answer.error.provider_status == 200
    assert answer.error.provider_code == code
    assert answer.error.unanswered == (wanted is StreamBrokenError), "only a break leaves open what is charged for"


MEANT: dict[str, type[AdapterError]] = {
    "AccessDeniedException": ForbiddenError,
    "InternalServerException": UnavailableError,
    "ModelErrorException": UnavailableError,
    "ModelNotReadyException": OverloadedError,
    "ModelTimeoutException": ProviderTimeoutError,
    "ResourceNotFoundException": ModelNotFoundError,
    "ServiceUnavailableException": OverloadedError,
    "ThrottlingException": RateLimitedError,
    "UnrecognizedClientException": CredentialsError,
}
MEANT_BY_WORDS = {
    "identifier is invalid": ModelNotFoundError,
    "Input Tokens Exceeded": ContextLengthError,
    "Malformed input": InvalidRequestError,
}


@pytest.mark.parametrize("record", params(iter(REFUSED)))
def test_an_error_status_means_what_its_type_and_words_say(record: Record) -> None:
    """Each recorded error, of whatever operation, maps to its class and keeps status, type, words and request id."""
    response = record["response"]
    body, headers = body_of(record), response["headers"]
    error = error_from_answer(response["status"], headers, body)
    name = headers.get("x-amzn-errortype", "").partition(":")[0]
    message = json.loads(body)["message"]
    by_words = [meant for words, meant in MEANT_BY_WORDS.items() if words in message]
    assert type(error) is (by_words[0] if by_words else MEANT.get(name, InvalidRequestError))
    assert error.provider_status == response["status"]
    assert error.provider_code == name
    assert error.provider_request_id == headers.get("x-amzn-requestid", "")
    assert message in error.message
    assert not error.unanswered
