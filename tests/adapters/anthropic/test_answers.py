"""Corners of the Messages API's answers, on small answers of our own making."""

from __future__ import annotations

import json

import pytest
from tests.adapters.anthropic.wire import (
    START,
    STOP,
    Json,
    block,
    delta,
    folded,
    sse,
    streamed,
    text,
    translation,
    whole,
)

from execution_platform.adapters.errors import (
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2


def items(usage: usage_pb2.Usage) -> dict[tuple[int, int, str, str], int]:
    """Quantities by kind, seconds of cache life, tool and model."""
    return {(item.kind, item.cache_ttl.seconds, item.tool, item.model): item.quantity for item in usage.items}


def kinds(answer: chat_pb2.CompleteChatResponse) -> list[str | None]:
    return [part.WhichOneof("content") for part in answer.message.content]


# -- stop reasons


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("end_turn", chat_pb2.FINISH_REASON_STOP),
        ("max_tokens", chat_pb2.FINISH_REASON_MAX_TOKENS),
        ("tool_use", chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("pause_turn", chat_pb2.FINISH_REASON_PAUSED),
        ("refusal", chat_pb2.FINISH_REASON_REFUSAL),
        ("compaction", chat_pb2.FINISH_REASON_PAUSED),
        ("model_context_window_exceeded", chat_pb2.FINISH_REASON_CONTEXT_LENGTH),
        ("a_word_of_the_future", chat_pb2.FINISH_REASON_OTHER),
    ],
)
def test_each_stop_reason_has_its_finish_reason(word: str, reason: int) -> None:
    """The provider's word is kept, and mapped to ours; an unknown one is OTHER."""
    finished = streamed(START, *text(0, "x"), delta(word), STOP).finished
    assert (finished.reason, finished.provider_finish_reason) == (reason, word)


def test_the_matched_stop_sequence_is_told_even_if_it_is_empty() -> None:
    """A stop sequence that is there is told; null is absent."""
    answer = streamed(START, *text(0, "x"), delta("stop_sequence", stop_sequence=""), STOP)
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP_SEQUENCE
    assert answer.finished.HasField("matched_stop_sequence")
    assert not streamed(START, delta(), STOP).finished.HasField("matched_stop_sequence")


def test_a_refusal_without_content_stopped_the_prompt() -> None:
    """A refusal with no block at all says that no answer was made; one after text does not."""
    details = {"type": "refusal", "category": "cyber", "explanation": "no", "recommended_model": "other"}
    refused = streamed(START, delta("refusal", stop_details=details), STOP).finished
    assert (refused.refusal.category, refused.refusal.explanation) == ("cyber", "no")
    assert refused.refusal.prompt_blocked
    assert json.loads(refused.refusal.raw_json) == details
    later = streamed(START, *text(0, "well"), delta("refusal"), STOP).finished
    assert not later.refusal.prompt_blocked


# -- what comes around an answer


def test_pings_comments_and_the_marker_of_other_formats_say_nothing() -> None:
    """A ping anywhere, an OpenRouter comment and [DONE] leave the answer as it is."""
    plain = streamed(START, *text(0, "hi"), delta(), STOP)
    ping = {"type": "ping"}
    data = b": OPENROUTER PROCESSING\n\n" + sse(START, ping, *text(0, "hi"), ping, delta(), ping, STOP, "[DONE]")
    translated = translation()
    assert folded([*translated.feed(data), *translated.end()]) == plain


def test_events_without_names_are_known_by_their_type() -> None:
    """A server that leaves out the event lines is read all the same."""
    data = sse(*(json.dumps(event) for event in [START, *text(0, "h", "i"), delta(), STOP]))
    translated = translation()
    answer = folded([*translated.feed(data), *translated.end()])
    assert answer.message.content[0].text.text == "hi"


def test_what_follows_the_end_belongs_to_no_answer() -> None:
    """After message_stop nothing is read, not even an error."""
    error = {"type": "error", "error": {"type": "api_error", "message": "late"}}
    assert streamed(START, *text(0, "hi"), delta(), STOP, error, START) == streamed(
        START, *text(0, "hi"), delta(), STOP
    )


def test_a_start_told_twice_starts_one_answer() -> None:
    """A repeated message_start before any content is passed over."""
    translated = translation()
    events = translated.feed(sse(START, START, *text(0, "hi"), delta(), STOP))
    assert sum(event.HasField("started") for event in events) == 1


def test_an_unknown_event_is_kept_in_the_metadata() -> None:
    """An event of a type that nobody knows yet goes verbatim into the answer's metadata."""
    event = {"type": "brand_new", "value": [1, 2]}
    metadata = json.loads(streamed(START, event, delta(), STOP).finished.provider_metadata_json)
    assert metadata == {"events": [event]}


def test_unknown_members_anywhere_reach_the_metadata() -> None:
    """New members of events, messages, blocks and deltas are kept at the answer or at their block."""
    start = {**START, "message": {**START["message"], "container": {"id": "c"}, "provider": "Somewhere"}, "trace": 1}
    said = {"type": "text", "text": "", "shine": True}
    events = block(0, said, {"type": "text_delta", "text": "hi", "mood": "calm"}, {"type": "text_delta", "text": "!"})
    answer = streamed(start, *events, {**delta(), "context_management": {"applied_edits": []}}, {**STOP, "metrics": 2})
    assert json.loads(answer.finished.provider_metadata_json) == {
        "trace": 1,
        "container": {"id": "c"},
        "provider": "Somewhere",
        "context_management": {"applied_edits": []},
        "metrics": 2,
    }
    assert answer.message.content[0].text.text == "hi!"
    assert json.loads(answer.message.content[0].provider_metadata_json) == {"shine": True, "mood": "calm"}


def test_the_providers_events_come_verbatim_when_asked_for() -> None:
    """With provider_events each event also comes as it stood; a very large one in several pieces."""
    long = "x" * 600_000
    stream = sse(START, *text(0, long), delta(), STOP)
    translated = translation(provider_events=True)
    events = translated.feed(stream)
    assert events[0].HasField("started")
    answer = folded(events)
    told = [json.loads(event.raw_json)["type"] for event in answer.provider_events]
    assert told == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    assert all(event.ByteSize() < 1 << 20 for event in events)


# -- blocks


def test_thinking_without_text_keeps_its_signature() -> None:
    """A block of thinking may hold a signature and no text; its increments of hidden tokens add up."""
    hidden = {"type": "thinking_delta", "thinking": "", "estimated_tokens": 50}
    signature = {"type": "signature_delta", "signature": "c2ln/+=="}
    events = block(0, {"type": "thinking", "thinking": "", "signature": ""}, hidden, hidden, signature)
    (told,) = streamed(START, *events, delta(), STOP).message.content
    assert told.thinking.text == ""
    assert [(state.kind, state.data) for state in told.states] == [("signature", b"c2ln/+==")]
    assert json.loads(told.provider_metadata_json) == {"estimated_tokens": 100}


@pytest.mark.parametrize(("model", "summary"), [("claude-sonnet-5-5", True), ("claude-3-7-sonnet-20250219", False)])
def test_thinking_of_newer_models_is_a_summary(model: str, summary: bool) -> None:
    """What models since Claude 4 show of their thinking is a summary; Claude 3.7 shows it as it is."""
    thinking = {"type": "thinking", "thinking": "hm", "signature": "s"}
    assert whole(model=model, content=[thinking]).message.content[0].thinking.is_summary is summary


def test_redacted_thinking_comes_whole() -> None:
    """Redacted thinking has no deltas; its data is kept byte for byte."""
    answer = streamed(START, *block(0, {"type": "redacted_thinking", "data": "EmwKAhgB=="}), delta(), STOP)
    assert answer.message.content[0].redacted_thinking.data == b"EmwKAhgB=="


@pytest.mark.parametrize("pieces", [[], [""], ["", ""]])
def test_a_call_without_arguments_has_an_empty_object(pieces: list[str]) -> None:
    """No pieces, or only empty ones, leave the object that stood in the block's start."""
    call = {"type": "tool_use", "id": "t", "name": "now", "input": {}}
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    answer = streamed(START, *block(0, call, *deltas), delta("tool_use"), STOP)
    assert answer.message.content[0].tool_call.arguments_json == "{}"


def test_arguments_that_stand_in_the_start_are_kept_as_they_stand() -> None:
    """A server may give the whole input at once: key order, spacing and large numbers stay."""
    start = (
        '{"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"t","name":"f","input":%s}}'
    )
    given = '{"b": 1.0, "a": 12345678901234567890123}'
    stop = {"type": "content_block_stop", "index": 0}
    answer = streamed(START, start % given, stop, delta("tool_use"), STOP)
    assert answer.message.content[0].tool_call.arguments_json == given


def test_parallel_calls_may_interleave() -> None:
    """Pieces of two open calls go to their own blocks."""
    calls = [{"type": "tool_use", "id": name, "name": name, "input": {}} for name in "ab"]
    starts = [{"type": "content_block_start", "index": at, "content_block": call} for at, call in enumerate(calls)]

    def piece(index: int, part: str) -> Json:
        told = {"type": "input_json_delta", "partial_json": part}
        return {"type": "content_block_delta", "index": index, "delta": told}

    pieces = [piece(0, '{"x"'), piece(1, '{"y"'), piece(0, ":1}"), piece(1, ":2}")]
    stops = [{"type": "content_block_stop", "index": at} for at in (1, 0)]
    answer = streamed(START, *starts, *pieces, *stops, delta("tool_use"), STOP)
    assert [part.tool_call.arguments_json for part in answer.message.content] == ['{"x":1}', '{"y":2}']


def test_the_caller_of_a_call_is_metadata() -> None:
    """Who called a tool, such as code that the provider runs, is kept for the replay."""
    caller = {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"}
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}, "caller": caller, "toolset_name": "browser"}
    (told,) = whole(content=[call], stop_reason="tool_use").message.content
    assert told.tool_call.executed_by == content_pb2.TOOL_EXECUTOR_CLIENT
    assert json.loads(told.provider_metadata_json) == {"caller": caller, "toolset_name": "browser"}


def test_a_call_without_an_id_gets_one_and_says_so() -> None:
    """An id is minted, different for each call of an answer, in characters that the provider takes."""
    calls = [{"type": "tool_use", "name": "f", "input": {}} for _ in range(2)]
    first, second = (part.tool_call for part in whole(content=calls).message.content)
    assert first.call_id_minted
    assert first.call_id != second.call_id
    assert first.call_id.replace("_", "").isalnum()


def test_results_of_the_providers_tools_come_whole() -> None:
    """A result keeps its JSON, its type, and whether it is an error."""
    good = {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": {"type": "x_result", "n": 1}}
    bad = {"type": "web_search_tool_result", "tool_use_id": "s", "content": {"type": "web_search_tool_result_error"}}
    mcp = {"type": "mcp_tool_result", "tool_use_id": "m", "is_error": True, "content": [{"type": "text", "text": "e"}]}
    results = [part.tool_result for part in whole(content=[good, bad, mcp]).message.content]
    assert [result.is_error for result in results] == [False, True, True]
    assert [result.provider_type for result in results] == [part["type"] for part in (good, bad, mcp)]
    assert [json.loads(result.structured_content_json) for result in results] == [
        part["content"] for part in (good, bad, mcp)
    ]


def test_a_file_of_the_container_is_a_medium() -> None:
    """A container_upload names a file at the provider."""
    (told,) = whole(content=[{"type": "container_upload", "file_id": "file_1"}]).message.content
    assert told.media.file_id == "file_1"
    assert json.loads(told.provider_metadata_json) == {"type": "container_upload"}


def test_a_block_of_the_future_is_kept_whole() -> None:
    """An unknown block is opaque; what its deltas bring is added to it."""
    start = {"type": "sculpture", "clay": None, "weight": 3}
    events = block(0, start, {"type": "sculpture_delta", "clay": "re"}, {"type": "sculpture_delta", "clay": "d"})
    (told,) = streamed(START, *events, delta(), STOP).message.content
    assert told.opaque.type == "sculpture"
    assert json.loads(told.opaque.json) == {"type": "sculpture", "clay": "red", "weight": 3}


def test_an_unknown_block_given_whole_stands_as_it_stood() -> None:
    """Without deltas the JSON of an opaque block is the very text that came."""
    raw = '{ "type":"sculpture",  "z": 1.0, "a": 1e2 }'
    start = f'{{"type":"content_block_start","index":0,"content_block":{raw}}}'
    stop = {"type": "content_block_stop", "index": 0}
    assert streamed(START, start, stop, delta(), STOP).message.content[0].opaque.json == raw


def test_a_fallback_says_that_another_model_goes_on() -> None:
    """The block is kept for the replay, and the route changes, by the provider's decision."""
    fallback = {
        "type": "fallback",
        "from": {"model": "claude-fable-5-1"},
        "to": {"model": "claude-opus-5-5"},
        "trigger": {"type": "refusal", "category": "bio"},
    }
    answer = streamed(START, *text(0, "a"), *block(1, fallback), *text(2, "b"), delta(), STOP)
    assert kinds(answer) == ["text", "opaque", "text"]
    (changed,) = answer.route_changes
    assert changed.origin == chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER
    assert (changed.route.served_model, changed.reason) == ("claude-opus-5-5", "bio")
    assert json.loads(changed.raw_json) == fallback
    assert answer.finished.route.served_model == "claude-opus-5-5"


def test_an_unknown_delta_of_a_known_block_is_kept() -> None:
    """What a text block cannot hold becomes its metadata."""
    events = block(0, {"type": "text", "text": "a"}, {"type": "aroma_delta", "aroma": "tea"})
    (told,) = streamed(START, *events, delta(), STOP).message.content
    assert told.text.text == "a"
    assert json.loads(told.provider_metadata_json) == {"aroma": "tea"}


CITATIONS: list[tuple[Json, content_pb2.CitationRange | None]] = [
    (
        {
            "type": "char_location",
            "document_index": 1,
            "document_title": "T",
            "start_char_index": 2,
            "end_char_index": 5,
        },
        content_pb2.CitationRange(start=2, end=5, unit=content_pb2.CITATION_UNIT_CHARACTER),
    ),
    (
        {
            "type": "page_location",
            "document_index": 0,
            "document_title": None,
            "start_page_number": 1,
            "end_page_number": 2,
        },
        content_pb2.CitationRange(start=1, end=2, unit=content_pb2.CITATION_UNIT_PAGE),
    ),
    (
        {"type": "content_block_location", "document_index": 0, "start_block_index": 0, "end_block_index": 1},
        content_pb2.CitationRange(start=0, end=1, unit=content_pb2.CITATION_UNIT_BLOCK),
    ),
    (
        {
            "type": "search_result_location",
            "source": "https://a.example/",
            "start_block_index": 0,
            "end_block_index": 1,
        },
        content_pb2.CitationRange(start=0, end=1, unit=content_pb2.CITATION_UNIT_BLOCK),
    ),
    ({"type": "web_search_result_location", "url": "https://b.example/", "encrypted_index": "x", "title": "B"}, None),
]


@pytest.mark.parametrize(
    ("told", "expected"), CITATIONS, ids=lambda case: case["type"] if isinstance(case, dict) else ""
)
def test_each_kind_of_citation_is_read(told: Json, expected: content_pb2.CitationRange | None) -> None:
    """A citation before its text keeps source, range and JSON, streamed or whole."""
    told = {**told, "cited_text": "words"}
    said = {"type": "text", "text": "", "citations": None}
    events = block(0, said, {"type": "citations_delta", "citation": told}, {"type": "text_delta", "text": "so"})
    (streamed_block,) = streamed(START, *events, delta(), STOP).message.content
    (whole_block,) = whole(content=[{"type": "text", "text": "so", "citations": [told]}]).message.content
    assert streamed_block.citations == whole_block.citations
    (citation,) = streamed_block.citations
    assert citation.cited_text == "words"
    assert citation.HasField("source_range") == (expected is not None)
    assert expected is None or citation.source_range == expected
    assert citation.uri == told.get("url", told.get("source", ""))
    assert json.loads(citation.raw_json) == told


def test_half_a_surrogate_pair_waits_for_the_other() -> None:
    """A character that is cut between two deltas is told whole; a lone half becomes a replacement character."""
    pieces = [
        f'{{"type":"content_block_delta","index":0,"delta":{{"type":"text_delta","text":"{half}"}}}}'
        for half in (r"\ud83d", r"\ude00 and \ud83d")
    ]
    start, *_, stop = text(0)
    answer = streamed(START, start, *pieces, stop, delta(), STOP)
    assert answer.message.content[0].text.text == "\U0001f600 and \ufffd"
    assert [notice.code for notice in answer.notices] == [chat_pb2.NOTICE_CODE_PROVIDER_WARNING]


# -- usage and cost


def test_usage_replaces_key_by_key_and_is_disjoint() -> None:
    """Later numbers replace earlier ones; thinking is taken out of the output, writes are split by their life."""
    start = json.loads(json.dumps(START))
    start["message"]["usage"] = {
        "input_tokens": 100,
        "cache_creation_input_tokens": 60,
        "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
        "output_tokens": 1,
        "service_tier": "priority",
        "speed": "fast",
        "inference_geo": "eu",
        "novelty": 1,
    }
    last = {
        "input_tokens": 120,
        "cache_read_input_tokens": None,
        "output_tokens": 50,
        "output_tokens_details": {"thinking_tokens": 20},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
    }
    answer = streamed(start, *text(0, "x"), delta(usage=last), STOP)
    usage = answer.finished.usage
    assert items(usage) == {
        (usage_pb2.USAGE_KIND_INPUT, 0, "", ""): 120,
        (usage_pb2.USAGE_KIND_CACHE_READ, 0, "", ""): 7,
        (usage_pb2.USAGE_KIND_CACHE_WRITE, 0, "", ""): 10,
        (usage_pb2.USAGE_KIND_CACHE_WRITE, 300, "", ""): 20,
        (usage_pb2.USAGE_KIND_CACHE_WRITE, 3600, "", ""): 30,
        (usage_pb2.USAGE_KIND_OUTPUT, 0, "", ""): 30,
        (usage_pb2.USAGE_KIND_REASONING, 0, "", ""): 20,
        (usage_pb2.USAGE_KIND_SERVER_TOOL_CALL, 0, "web_search", ""): 2,
    }
    assert (usage.service_tier, usage.speed, usage.region) == ("priority", "fast", "eu")
    assert json.loads(usage.provider_usage_json) == last
    assert json.loads(answer.finished.provider_metadata_json) == {"usage_before": {"novelty": 1}}


def test_iterations_of_others_are_added_and_own_ones_are_not() -> None:
    """Advisors and compaction are billed apart, under their model; the answer's own turns are in the total already."""
    turn = {"type": "message", "input_tokens": 10, "output_tokens": 5}
    advisor = {"type": "advisor_message", "model": "claude-opus-5-5", "input_tokens": 3, "output_tokens": 2}
    compaction = {"type": "compaction", "input_tokens": 70, "output_tokens": 9, "cache_read_input_tokens": 1}
    usage = {"input_tokens": 20, "output_tokens": 10, "iterations": [compaction, turn, advisor, turn]}
    own = "claude-sonnet-5-5"
    assert items(whole(usage=usage).finished.usage) == {
        (usage_pb2.USAGE_KIND_INPUT, 0, "", ""): 20,
        (usage_pb2.USAGE_KIND_OUTPUT, 0, "", ""): 10,
        (usage_pb2.USAGE_KIND_INPUT, 0, "", own): 70,
        (usage_pb2.USAGE_KIND_CACHE_READ, 0, "", own): 1,
        (usage_pb2.USAGE_KIND_OUTPUT, 0, "", own): 9,
        (usage_pb2.USAGE_KIND_INPUT, 0, "", "claude-opus-5-5"): 3,
        (usage_pb2.USAGE_KIND_OUTPUT, 0, "", "claude-opus-5-5"): 2,
    }


@pytest.mark.parametrize(
    ("stated", "nanos"),
    [("0.000112", 112_000), ("1e-9", 1), ("0.0000000005", 0), ("0.0000000015", 2), ('"0.25"', 250_000_000), ("0", 0)],
)
def test_a_stated_cost_is_exact(stated: str, nanos: int) -> None:
    """A cost in US dollars is read from its digits and rounded once, half to even."""
    usage = f'{{"input_tokens":1,"output_tokens":1,"cost":{stated},"is_byok":false}}'
    body = json.dumps({**START["message"], "stop_reason": "end_turn"}).replace(
        json.dumps(START["message"]["usage"]), usage
    )
    cost = folded(translation().whole(body.encode())).finished.cost
    assert cost.status == usage_pb2.COST_STATUS_EXACT
    (line,) = cost.lines
    assert (line.amount.currency_code, line.amount.nanos, line.source) == ("USD", nanos, usage_pb2.COST_SOURCE_PROVIDER)


def test_with_an_own_key_the_upstream_costs_besides_the_fee() -> None:
    """OpenRouter with the operator's own key states a fee and what the upstream bills."""
    usage = {"output_tokens": 1, "cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}}
    lines = whole(usage=usage).finished.cost.lines
    assert [(line.amount.nanos, line.description) for line in lines] == [
        (1_000_000, ""),
        (20_000_000, "upstream_inference_cost"),
    ]


def test_an_answer_without_a_stated_cost_has_none() -> None:
    """Anthropic itself states no cost, so none is told."""
    assert not whole().finished.HasField("cost")


# -- errors


def test_an_error_first_in_a_stream_starts_no_answer() -> None:
    """An error event before anything else is raised alone, with the provider's request id."""
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"}
    with pytest.raises(OverloadedError) as raised:
        translation().feed(sse(error))
    assert raised.value.events == []
    assert (raised.value.provider_status, raised.value.provider_request_id) == (200, "req_1")


def test_an_error_carries_what_the_same_bytes_said_before_it() -> None:
    """Text and usage that came in the same read are not lost to the error."""
    error = {"type": "error", "error": {"type": "rate_limit_error", "message": "slow down"}}
    with pytest.raises(RateLimitedError) as raised:
        translation(provider_request_id="req_header").feed(sse(START, *text(0, "hi"), error))
    told = folded(raised.value.events)
    assert told.message.content[0].text.text == "hi"
    assert raised.value.provider_request_id == "req_header"


@pytest.mark.parametrize("kind", ["event", "body"])
def test_a_filter_that_stops_the_answer_finishes_it(kind: str) -> None:
    """What the provider reports as an error of its content filter is an answer's end."""
    error = {
        "type": "error",
        "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"},
    }
    if kind == "event":
        answer = streamed(START, *text(0, "so")[:-1], error)
        assert answer.message.content[0].text.text == "so"
    else:
        answer = folded(translation().whole(json.dumps(error).encode()))
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert answer.finished.refusal.prompt_blocked == (kind == "body")
    assert "content filtering" in answer.finished.refusal.explanation


def test_a_stream_that_stops_short_is_broken() -> None:
    """Without a stop reason the answer is not complete; with one only the closing word is missing."""
    translated = translation()
    translated.feed(sse(START, *text(0, "hi")))
    with pytest.raises(StreamBrokenError):
        translated.end()
    assert streamed(START, *text(0, "hi"), delta()).finished.reason == chat_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize(
    "events",
    [
        [START, {"type": "content_block_delta", "index": 3, "delta": {"type": "text_delta", "text": "x"}}],
        [START, {"type": "content_block_delta", "index": 3, "delta": {"type": "signature_delta", "signature": "x"}}],
        [START, {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "x"}}],
        [START, text(0)[0], text(0)[0]],
        [START, {"type": "content_block_start", "index": 0}],
        [STOP],
        [START, *text(0, "x"), START],
        ["not json"],
        ["[1, 2]"],
    ],
)
def test_a_breach_of_the_protocol_is_named(events: list[Json | str]) -> None:
    """A stream that contradicts the format is a ProtocolError, never anything else."""
    with pytest.raises(ProtocolError):
        translation().feed(sse(*events))


@pytest.mark.parametrize("body", [b"", b"{", b"null", b'"text"', b"{}", b'{"id":"x"}'])
def test_a_body_that_is_no_message_is_named(body: bytes) -> None:
    """An unstreamed answer that is no message is a ProtocolError."""
    with pytest.raises(ProtocolError):
        translation().whole(body)


def test_an_error_in_a_body_of_status_200_is_raised() -> None:
    """A gateway may answer an error with status 200."""
    with pytest.raises(UnavailableError):
        translation().whole(b'{"type":"error","error":{"type":"api_error","message":"down"}}')


def test_members_that_are_null_say_nothing() -> None:
    """A null error, delta or iteration is as if it were missing: the answer goes on."""
    note = {"type": "note_of_the_future", "error": None}
    last = {"type": "message_delta", "delta": None, "usage": {"output_tokens": 5, "iterations": [None]}}
    answer = streamed(START, *text(0, "hi"), note, delta(), last, STOP)
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    assert json.loads(answer.finished.provider_metadata_json) == {"events": [note]}
    assert whole(error=None, content=[]).finished.reason == chat_pb2.FINISH_REASON_STOP


def test_an_error_in_words_that_no_text_can_hold_is_told() -> None:
    """Half a character in an error's message or type is shown as such; the error stays what it is."""
    event = '{"type":"error","error":{"type":"overloaded_error","message":"busy \\ud83d"}}'
    with pytest.raises(OverloadedError) as caught:
        translation().feed(f"event: error\ndata: {event}\n\n".encode())
    assert caught.value.message.encode().endswith(b"busy ?")


def test_what_deltas_say_again_and_again_is_gathered() -> None:
    """Objects and lists that unknown deltas tell one after the other are all kept; equal ones once."""
    pieces = [{"type": "item_delta", "item": {"n": n}, "tags": [n], "by": {"id": "x"}} for n in (1, 2, 3)]
    answer = streamed(START, *block(0, {"type": "scroll_of_the_future"}, *pieces), delta(), STOP)
    [scroll] = answer.message.content
    assert json.loads(scroll.opaque.json) == {
        "type": "scroll_of_the_future",
        "item": [{"n": 1}, {"n": 2}, {"n": 3}],
        "tags": [1, 2, 3],
        "by": {"id": "x"},
    }


def test_a_ping_that_says_something_is_kept() -> None:
    """A bare ping says nothing; what else one says is metadata of the answer."""
    telling = {"type": "ping", "load": 0.5}
    bare = b"event: ping\ndata: \n\nevent: ping\ndata: still here\n\n"
    translated = translation()
    events = [*translated.feed(bare), *translated.feed(sse(START, {"type": "ping"}, telling, delta(), STOP))]
    assert json.loads(folded(events).finished.provider_metadata_json) == {"events": [telling]}


def test_unknown_events_without_end_are_told_of_once() -> None:
    """Of unknown events as many are kept as one event can hold; a single notice tells that there were more."""
    many = [{"type": "noise", "data": "x" * 40_000} for _ in range(6)]
    answer = streamed(START, *many, *text(0, "hi"), delta(), STOP)
    assert json.loads(answer.finished.provider_metadata_json) == {"events": many[:2]}
    assert [notice.code for notice in answer.notices] == [chat_pb2.NOTICE_CODE_PROVIDER_WARNING]


def test_what_only_the_first_usage_says_within_an_object_is_kept() -> None:
    """A split of cache writes that tells more than is known stays with the answer; one that is known does not."""
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1d_input_tokens": 4}
    for told, kept in ((split, {"usage_before": {"cache_creation": split}}), ({"ephemeral_5m_input_tokens": 3}, None)):
        usage = {"input_tokens": 1, "output_tokens": 1, "cache_creation_input_tokens": 7, "cache_creation": told}
        start = {**START, "message": {**START["message"], "usage": usage}}
        metadata = streamed(start, *text(0, "x"), delta(), STOP).finished.provider_metadata_json
        assert (json.loads(metadata) if metadata else None) == kept
