"""Every recorded Chat Completions answer says through the translation what plain JSON says."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.adapters.openai_chat.answers import dialect_of, fold, said, streamed, text_of, total, translation
from tests.adapters.openai_chat.reading import Reading, documents, is_stream, paths, read, token_sums
from tests.adapters.recordings import Record, body_of, needs_recordings, params, pieces_of, records

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.openai_api.chat.stream import ChatTranslation
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.testing import check_translation
from execution_platform.v1 import chat_pb2, usage_pb2

ANSWERS = [
    record
    for split in ("open", "documented")
    for provider in ("openai", "azure", "openai_compatible")
    for record in records(split, provider, api="chat.completions")
    if record["response"]["status"] == 200
]
BROKEN = [record for record in ANSWERS if b'"error":' in body_of(record).replace(b" ", b"")]
COMPLETE = [record for record in ANSWERS if record not in BROKEN]

REASONS = {
    "stop": chat_pb2.FINISH_REASON_STOP,
    "": chat_pb2.FINISH_REASON_STOP,
    "eos": chat_pb2.FINISH_REASON_STOP,
    "length": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "content_filter": chat_pb2.FINISH_REASON_CONTENT_FILTER,
}

#: One prefix that was both read from and written to the cache: the two overlap.
OVERLAPPING = "openai_compatible-30d158c6be7971"


def dialect_for(record: Record) -> Dialect:
    return dialect_of(record["vendor"], record["model"] or "")


def make(record: Record) -> ChatTranslation:
    return translation(dialect_for(record), headers=record["response"]["headers"])


def answer_to(record: Record) -> chat_pb2.CompleteChatResponse:
    body = body_of(record)
    if is_stream(body):
        return streamed([body], dialect_for(record))
    return fold(make(record).whole(body))


#: Servers whose cached tokens are not in the total that they state, which the kit takes for a slip of ours.
BEYOND_TOTAL = {OVERLAPPING, *(record["id"] for record in COMPLETE if dialect_for(record).cached_outside)}


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_keeps_the_promises_of_the_seam(record: Record) -> None:
    """Each recorded answer passes the conformance kit: whole, cut, ended early and damaged."""
    body = body_of(record)
    family, exact = dialect_for(record).family, record["id"] not in BEYOND_TOTAL
    if is_stream(body):
        check_translation(lambda: make(record), stream=body, family=family, exact_usage=exact, seeds=range(8))
    else:
        check_translation(lambda: make(record), whole=body, family=family, exact_usage=exact, seeds=range(8))


@pytest.mark.parametrize("record", params(r for r in COMPLETE if is_stream(body_of(r))))
def test_where_the_network_cuts_decides_nothing(record: Record) -> None:
    """A stream that is cut at random places says what it says in one piece."""
    body = body_of(record)
    answer = streamed([body], dialect_for(record))
    for seed in range(4):
        assert streamed(pieces_of(body, seed), dialect_for(record)) == answer


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_an_answer_says_what_its_json_says(record: Record) -> None:
    """Blocks, signatures, arguments, sources, end and identifiers are those of the body."""
    answer, told = answer_to(record), read(body_of(record))
    assert answer.started.provider_response_id == told.response_id
    assert answer.started.route.served_model == told.model
    assert text_of(answer) == told.text
    assert "".join(block.text for block in said(answer, "thinking")) == told.thinking
    assert "".join(block.text for block in said(answer, "refusal")) == told.refusal
    assert [block.data.decode() for block in said(answer, "redacted_thinking")] == told.encrypted
    signatures = [state.data.decode() for block in answer.message.content for state in block.states]
    assert signatures == told.signatures
    check_calls(answer, told)
    check_sources(answer, told)
    assert [one.token for logprobs in answer.logprobs for one in logprobs.tokens] == told.tokens
    media = said(answer, "media")
    assert "".join(block.transcript for block in media) == told.transcript
    assert b"".join(block.data for block in media) == base64.b64decode(told.audio_base64)
    check_end(answer.finished, told)


def check_calls(answer: chat_pb2.CompleteChatResponse, told: Reading) -> None:
    calls = said(answer, "tool_call")
    assert [(call.name, call.arguments_json) for call in calls] == [(name, json) for _, name, json in told.calls]
    for call, (call_id, _, _) in zip(calls, told.calls, strict=True):
        assert call.call_id_minted == (not call_id)
        assert call.call_id == (call_id or "call_r1_0")


def check_sources(answer: chat_pb2.CompleteChatResponse, told: Reading) -> None:
    citations = [citation for block in answer.message.content for citation in block.citations]
    if told.sources:
        assert [citation.uri for citation in citations] == told.sources
        return
    assert [json.loads(citation.raw_json) for citation in citations] == told.citations
    for citation, source in zip(citations, told.citations, strict=True):
        inner = source[source["type"]]
        assert citation.provider_type == source["type"]
        assert (citation.uri, citation.title) == (inner.get("url", ""), inner.get("title", inner.get("name")))
        if "start_index" in inner:
            cited = (citation.text_range.start, citation.text_range.end)
            assert cited == (inner["start_index"], inner["end_index"])


def check_end(finished: chat_pb2.Finished, told: Reading) -> None:
    assert finished.provider_finish_reason == told.word
    if told.word in {"length", "content_filter"}:
        assert finished.reason == REASONS[told.word]
    elif told.calls:
        assert finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS
    else:
        assert finished.reason == (chat_pb2.FINISH_REASON_REFUSAL if told.refusal else REASONS[told.word])


@pytest.mark.parametrize("record", params(r for r in COMPLETE if read(body_of(r)).usage and r["id"] != OVERLAPPING))
def test_each_token_is_counted_once(record: Record) -> None:
    """Input, cache and answer add up to what the usage object says, and the object itself is kept."""
    usage = answer_to(record).finished.usage
    told = read(body_of(record)).usage
    sums = token_sums(told)
    outside = dialect_for(record).cached_outside
    prompt = sums["prompt"] if outside else sums["prompt"] - sums["read"] - sums["written"]
    assert total(usage, usage_pb2.USAGE_KIND_INPUT) == prompt
    assert total(usage, usage_pb2.USAGE_KIND_CACHE_READ) == sums["read"]
    assert total(usage, usage_pb2.USAGE_KIND_CACHE_WRITE) == sums["written"]
    assert total(usage, usage_pb2.USAGE_KIND_REASONING) == sums["reasoning"]
    assert total(usage, usage_pb2.USAGE_KIND_OUTPUT) == sums["answer"] - sums["reasoning"]
    assert json.loads(usage.provider_usage_json) == told


@pytest.mark.parametrize("record", params(r for r in COMPLETE if read(body_of(r)).others))
def test_further_choices_are_kept_as_they_came(record: Record) -> None:
    """Choices beyond the first stand verbatim in the metadata."""
    metadata = json.loads(answer_to(record).finished.provider_metadata_json)
    choices = [choice for one in documents(body_of(record)) for choice in one["choices"] if choice["index"]]
    assert metadata["other_choices"] == choices


@pytest.mark.parametrize("record", params(iter(BROKEN)))
def test_a_failure_in_the_stream_comes_after_what_was_said(record: Record) -> None:
    """What came before the failure is told, the failure is raised, and nothing is finished."""
    translated = make(record)
    with pytest.raises(AdapterError) as raised:
        translated.feed(body_of(record))
    answer = fold(raised.value.events)
    assert text_of(answer) == read(body_of(record)).text
    assert not answer.HasField("finished")
    assert raised.value.provider_status == 200


#: Members that reach no field, each with the reason.
UNTOLD = {
    ".object": "what kind of JSON it is, which the address and `stream` already decide",
    ".obfuscation": "padding against eavesdroppers",
    ".p": "padding against eavesdroppers (Mistral)",
    ".choices[].index": "0 for the choice that is told; others are kept verbatim",
    ".choices[].delta.role": "always the assistant's",
    ".choices[].message.role": "always the assistant's",
    ".choices[].delta.tool_calls[].index": "which pieces belong together",
    ".choices[].message.tool_calls[].index": "which pieces belong together",
    ".choices[].delta.tool_calls[].type": "function calls are the ordinary ones; custom ones name their type",
    ".choices[].message.tool_calls[].type": "function calls are the ordinary ones; custom ones name their type",
    ".choices[].text": "repeats the content (Together)",
    ".choices[].delta.reasoning": "repeats reasoning_details",
    ".choices[].message.reasoning": "repeats reasoning_details",
    ".choices[].delta.reasoning_content": "repeats reasoning_details",
    ".choices[].delta.content[].type": "which kind of block it is",
    ".choices[].message.content[].type": "which kind of block it is",
    ".choices[].delta.content[].thinking[].type": "the only one is text",
    ".choices[].message.content[].thinking[].type": "the only one is text",
    ".citations": "each address is in the citation of its search result",
}


def leaves(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """The values at the ends of a JSON value, with their paths; null and empty ones say nothing."""
    if isinstance(value, dict):
        return [leaf for key, member in value.items() for leaf in leaves(member, f"{path}.{key}")]
    if isinstance(value, list):
        return [leaf for member in value for leaf in leaves(member, f"{path}[]")]
    return [] if value is None or value == "" else [(path, value)]


@pytest.mark.parametrize("record", params(iter(COMPLETE)))
def test_nothing_that_an_answer_says_is_lost(record: Record) -> None:
    """Each value of the body is found in the events, or its path is listed with the reason why not."""
    events = make(record).feed(body_of(record)) if is_stream(body_of(record)) else make(record).whole(body_of(record))
    answer = answer_to(record)
    told = [text_of(answer), *strings_of(answer)] + [str(event) for event in events if event.HasField("notice")]
    haystack = "\n".join(told)
    numbers = {json.dumps(value) for text in told for value in numbers_in(text)}
    lost = {
        path
        for path, value in leaves_of(record)
        if path not in UNTOLD
        and not is_told(value, haystack, numbers)
        and not path.startswith((".usage", ".x_groq.usage"))
    }
    assert lost == set()


def leaves_of(record: Record) -> list[tuple[str, Any]]:
    """The values of an answer; usage is compared as a whole elsewhere, times of chunks count once."""
    found = [leaf for document in documents(body_of(record)) for leaf in leaves(document)]
    first = next((value for path, value in found if path == ".created" and value), 0)
    return [(path, value) for path, value in found if path != ".created" or value == first != 0]


def strings_of(answer: chat_pb2.CompleteChatResponse) -> list[str]:
    """Everything that the folded answer holds, as text."""
    found = [answer.finished.provider_metadata_json, answer.finished.usage.provider_usage_json]
    found += [answer.started.provider_response_id, answer.started.route.served_model]
    found += [answer.finished.usage.service_tier, answer.finished.provider_finish_reason]
    for block in answer.message.content:
        found += [block.id, block.provider_metadata_json, block.thinking.text, block.refusal.text, block.opaque.json]
        found += [block.tool_call.call_id, block.tool_call.name, block.tool_call.arguments_json]
        found += [block.redacted_thinking.data.decode(), *(state.data.decode() for state in block.states)]
        found += [citation.raw_json for citation in block.citations]
        found += [block.media.transcript, base64.b64encode(block.media.data).decode()]
    for logprobs in answer.logprobs:
        for token in logprobs.tokens:
            found += [token.token, json.dumps({"logprob": token.logprob, "bytes": list(token.token_bytes)})]
    return found


def numbers_in(text: str) -> list[Any]:
    """All numbers and truth values of a JSON text."""
    try:
        value = json.loads(text)
    except ValueError:
        return []
    return [leaf for _, leaf in leaves(value) if not isinstance(leaf, str)]


def is_told(value: Any, haystack: str, numbers: set[str]) -> bool:
    if isinstance(value, str):
        return value in haystack or json.dumps(value)[1:-1] in haystack
    return json.dumps(value) in numbers


@needs_recordings
def test_the_list_of_untold_members_is_not_longer_than_it_must_be() -> None:
    """Each member that is listed as untold occurs in a recorded answer."""
    seen = {path for record in COMPLETE for document in documents(body_of(record)) for path in paths(document)}
    assert set(UNTOLD) <= seen
