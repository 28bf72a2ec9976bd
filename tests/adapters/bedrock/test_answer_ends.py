"""Usage, ends and errors of Bedrock's answers, from the service model; and whatever else may come."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.bedrock.answers import (
    START,
    USAGE,
    context,
    delta,
    end_of,
    failed,
    metadata_of,
    start,
    stop,
    streamed,
    whole,
)
from tests.adapters.bedrock.reading import Json, event, exception, frame, service_shapes

from execution_platform.adapters.bedrock.stream import ConverseTranslation
from execution_platform.adapters.errors import (
    AdapterError,
    NotSupportedError,
    ProtocolError,
    RateLimitedError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import check_stream, check_translation
from execution_platform.v1 import chat_pb2, usage_pb2

# -- usage


def items_of(usage: usage_pb2.Usage) -> list[tuple[str, int, int, str]]:
    return [
        (usage_pb2.UsageKind.Name(item.kind)[11:], item.cache_ttl.seconds, item.quantity, item.tool)
        for item in usage.items
    ]


CACHED = {"inputTokens": 10, "outputTokens": 5, "cacheReadInputTokens": 100, "cacheWriteInputTokens": 30}
_IN_OUT = [("INPUT", 0, 10, ""), ("CACHE_READ", 0, 100, "")]


@pytest.mark.parametrize(
    ("usage", "items"),
    [
        ({**CACHED, "totalTokens": 145}, [*_IN_OUT, ("CACHE_WRITE", 0, 30, ""), ("OUTPUT", 0, 5, "")]),
        (
            {**CACHED, "cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 10}]},
            [*_IN_OUT, ("CACHE_WRITE", 3600, 20, ""), ("CACHE_WRITE", 300, 10, ""), ("OUTPUT", 0, 5, "")],
        ),
        (
            {**CACHED, "cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "1w", "inputTokens": 10}]},
            [*_IN_OUT, ("CACHE_WRITE", 3600, 20, ""), ("CACHE_WRITE", 0, 10, ""), ("OUTPUT", 0, 5, "")],
        ),
        (
            {**CACHED, "cacheDetails": [{"ttl": "1h", "inputTokens": 25}, {"ttl": "5m", "inputTokens": 25}]},
            [*_IN_OUT, ("CACHE_WRITE", 3600, 25, ""), ("CACHE_WRITE", 300, 5, ""), ("OUTPUT", 0, 5, "")],
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheDetails": [{"ttl": "5m", "inputTokens": 7}]},
            [("INPUT", 0, 1, ""), ("CACHE_WRITE", 300, 7, ""), ("OUTPUT", 0, 2, "")],
        ),
        (
            {"inputTokens": 50, "outputTokens": 5, "cacheReadInputTokens": 40, "totalTokens": 55},
            [("INPUT", 0, 10, ""), ("CACHE_READ", 0, 40, ""), ("OUTPUT", 0, 5, "")],
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "cacheReadInputTokenCount": 3, "cacheWriteInputTokenCount": 4},
            [("INPUT", 0, 1, ""), ("CACHE_READ", 0, 3, ""), ("CACHE_WRITE", 0, 4, ""), ("OUTPUT", 0, 2, "")],
        ),
        (
            {"inputTokens": 1, "outputTokens": 2, "serverToolUsage": {"webSearch": 3, "none": 0, "odd": {}}},
            [("INPUT", 0, 1, ""), ("OUTPUT", 0, 2, ""), ("SERVER_TOOL_CALL", 0, 3, "webSearch")],
        ),
        ({"inputTokens": -5, "outputTokens": "3", "cacheDetails": {}, "serverToolUsage": []}, []),
    ],
)
def test_usage_is_disjoint(usage: Json, items: list[tuple[str, int, int, str]]) -> None:
    """Nothing is counted twice: caches by time to live, by either name, inside the input where the total says so."""
    for answer in (streamed(delta(0, {"text": "x"}), metadata={"usage": usage}), whole([{"text": "x"}], usage=usage)):
        finished = end_of(answer)
        assert items_of(finished.usage) == items
        assert json.loads(finished.usage.provider_usage_json) == usage
        assert answer.usage is not None
        assert items_of(answer.usage) == items


def test_tier_speed_and_routed_model_are_told() -> None:
    """Service tier, latency class and the model that a router chose reach their fields; the trace stays whole."""
    trace = {"promptRouter": {"invokedModelId": "arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-1-70b"}}
    more = {"serviceTier": {"type": "flex"}, "performanceConfig": {"latency": "optimized", "x": 1}, "trace": trace}
    region = {"region": "us-east-1"}
    for answer in (streamed(metadata=more, context=region), whole([], **more, context=region)):
        finished = end_of(answer)
        assert (finished.usage.service_tier, finished.usage.speed) == ("flex", "optimized")
        assert finished.route.served_model == trace["promptRouter"]["invokedModelId"]
        assert (finished.route.model, finished.route.region) == ("us.anthropic.claude-sonnet-4-6", "us-east-1")
        assert metadata_of(answer) == {
            "metrics": {"latencyMs": 1},
            "performanceConfig": {"latency": "optimized", "x": 1},
            "trace": trace,
        }


# -- ends

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
    "some_day": chat_pb2.FINISH_REASON_OTHER,
}


@pytest.mark.parametrize(("word", "reason"), REASONS.items())
def test_each_stop_reason_has_its_meaning(word: str, reason: chat_pb2.FinishReason.ValueType) -> None:
    """All reasons of the service model, and one that nobody knows, streamed and whole."""
    for answer in (
        streamed(delta(0, {"text": "x"}), stop={"stopReason": word}),
        whole([{"text": "x"}], stopReason=word),
    ):
        finished = end_of(answer)
        assert (finished.reason, finished.provider_finish_reason) == (reason, word)
        assert finished.HasField("refusal") == (reason == chat_pb2.FINISH_REASON_CONTENT_FILTER)


def test_the_reasons_are_those_of_the_service_model() -> None:
    """No reason of botocore's model is without a meaning here."""
    assert set(service_shapes()["StopReason"]["enum"]) == set(REASONS) - {"some_day"}


@pytest.mark.parametrize(
    ("fields", "matched"),
    [
        ({"stop_sequence": "END"}, "END"),
        ({"delta": {"stop_sequence": "END"}}, "END"),
        ({"delta": {"stop_sequence": None}}, None),
        ({"stop_sequence": 5}, None),
        ("text", None),
    ],
)
def test_a_matched_stop_sequence_is_told_where_the_model_does(fields: Any, matched: str | None) -> None:
    """Of the model's own fields the stop sequence is read, and all are kept."""
    answer = streamed(stop={"stopReason": "stop_sequence", "additionalModelResponseFields": fields})
    finished = end_of(answer)
    assert (finished.matched_stop_sequence if finished.HasField("matched_stop_sequence") else None) == matched
    assert metadata_of(answer)["additionalModelResponseFields"] == fields


TOPIC = {"topicPolicy": {"topics": [{"name": "weapons", "type": "DENY", "action": "BLOCKED"}]}}
HARMLESS = {"contentPolicy": {"filters": [{"type": "HATE", "confidence": "LOW", "action": "NONE", "detected": True}]}}
NAMES = {"sensitiveInformationPolicy": {"piiEntities": [{"match": "x", "type": "NAME", "action": "ANONYMIZED"}]}}


@pytest.mark.parametrize(
    ("guardrail", "category", "prompt_blocked"),
    [
        ({"inputAssessment": {"g": TOPIC}, "actionReason": "Guardrail blocked."}, "topicPolicy", True),
        ({"inputAssessment": {"g": {**HARMLESS, **TOPIC}}, "modelOutput": []}, "topicPolicy", True),
        ({"inputAssessment": {"g": HARMLESS}, "outputAssessments": {"g": [TOPIC]}}, "topicPolicy", False),
        (
            {"inputAssessment": {"g": NAMES}, "outputAssessments": {"g": [NAMES, TOPIC]}, "modelOutput": ["a"]},
            "sensitiveInformationPolicy, topicPolicy",
            False,
        ),
        ({"inputAssessment": [], "outputAssessments": {"g": 5}}, "", False),
    ],
)
def test_what_a_guardrail_stopped_is_told(guardrail: Json, category: str, prompt_blocked: bool) -> None:
    """Policies that intervened, their explanation, whether the model was asked at all, and the trace as it stands."""
    trace = {"guardrail": guardrail}
    answer = streamed(
        delta(0, {"text": "Sorry."}), stop={"stopReason": "guardrail_intervened"}, metadata={"trace": trace}
    )
    finished = end_of(answer)
    assert finished.refusal.category == category
    assert finished.refusal.prompt_blocked is prompt_blocked
    assert finished.refusal.explanation == guardrail.get("actionReason", "")
    assert json.loads(finished.refusal.raw_json) == guardrail
    assert metadata_of(answer)["trace"] == trace


@pytest.mark.parametrize(("output_tokens", "prompt_blocked"), [(0, True), (7, False)])
def test_without_a_trace_usage_tells_whether_the_model_was_asked(output_tokens: int, prompt_blocked: bool) -> None:
    """A guardrail that tells nothing, and an answer of no tokens: the prompt was stopped."""
    usage = {"inputTokens": 0, "outputTokens": output_tokens, "totalTokens": output_tokens}
    answer = whole([{"text": "Sorry."}], stopReason="guardrail_intervened", usage=usage)
    assert end_of(answer).refusal.prompt_blocked is prompt_blocked


def test_a_trace_too_large_for_the_detail_stays_in_the_metadata() -> None:
    """A trace of half a megabyte is told once, in pieces that keep below the limit of an event."""
    guardrail = {"modelOutput": ["x" * 500_000]}
    body = {
        "output": {"message": {"content": []}},
        "stopReason": "guardrail_intervened",
        "trace": {"guardrail": guardrail},
    }
    answer = check_stream([ConverseTranslation(context()).whole(json.dumps(body).encode())])
    assert end_of(answer).refusal.raw_json == ""
    assert metadata_of(answer) == {"trace": {"guardrail": guardrail}}


def test_metadata_may_come_before_the_stop() -> None:
    """An answer ends when both are in, whichever comes first; what follows is not its own."""
    tail = [event("metadata", {"usage": USAGE}), event("messageStop", {"stopReason": "end_turn"})]
    stream = b"".join([START, delta(0, {"text": "x"}), *tail, exception("throttlingException", {"message": "late"})])
    translated = ConverseTranslation(context())
    answer = check_stream([translated.feed(stream)])
    assert translated.finished
    assert translated.feed(b"anything") == []
    assert translated.end() == []
    assert items_of(end_of(answer).usage) == [("INPUT", 0, 10, ""), ("OUTPUT", 0, 5, "")]


@pytest.mark.parametrize("rest", [b"", event("metadata", {"usage": USAGE})[:-9]])
def test_an_answer_without_its_metadata_is_whole_with_a_notice(rest: bytes) -> None:
    """After its stop an answer is complete; that its usage never came is told, and nothing is made up."""
    stream = b"".join([START, delta(0, {"text": "x"}), event("messageStop", {"stopReason": "end_turn"}), rest])
    answer = check_translation(lambda: ConverseTranslation(context()), stream=stream, seeds=range(3))
    assert end_of(answer).reason == chat_pb2.FINISH_REASON_STOP
    assert not end_of(answer).usage.items
    assert [notice.code for notice in answer.notices] == [chat_pb2.NOTICE_CODE_PROVIDER_WARNING]


@pytest.mark.parametrize(
    ("stream", "where"),
    [
        (b"", "before the answer did"),
        (START, "before the answer did"),
        (START + delta(0, {"text": "x"}) + stop(0), "before the answer did"),
        (START + delta(0, {"text": "x"})[:-1], "in the middle of a frame"),
        (START + event("metadata", {"usage": USAGE}), "before the answer did"),
    ],
)
def test_an_answer_without_its_stop_is_broken(stream: bytes, where: str) -> None:
    """A stream that ends before messageStop is broken, and may be charged for."""
    translated = ConverseTranslation(context(provider_request_id="aws-1"))
    translated.feed(stream)
    with pytest.raises(StreamBrokenError, match=where) as broken:
        translated.end()
    assert (broken.value.provider_request_id, broken.value.unanswered) == ("aws-1", True)


def test_an_exception_after_the_stop_is_an_error() -> None:
    """What fails before the metadata fails: its usage would be missing without a word."""
    stream = START + event("messageStop", {"stopReason": "end_turn"}) + exception("throttlingException", {})
    failed(stream, RateLimitedError)


def test_an_error_frame_tells_its_code_and_words() -> None:
    """A frame of type error has no payload: its headers say what it is."""
    headers = {":message-type": "error", ":error-code": "InternalError", ":error-message": "it broke"}
    answer = failed(START + frame(headers, b""), UnavailableError)
    assert answer.error is not None
    assert answer.error.provider_code == "InternalError"
    assert "it broke" in answer.error.message


FILTERED = {"message": "The model returned the following errors: Output blocked by content filtering policy"}


def test_an_error_that_is_a_filter_ends_the_answer() -> None:
    """What a filter stops is an answer's end, also told as an exception in the stream or as an error status."""
    stream = START + delta(0, {"text": "x"}) + exception("validationException", FILTERED)
    answer = check_translation(lambda: ConverseTranslation(context()), stream=stream, seeds=range(3))
    headers = {"x-amzn-errortype": "ValidationException:http://internal"}
    refused = check_stream([ConverseTranslation(context()).blocked(headers, json.dumps(FILTERED).encode())])
    for said, word, prompt_blocked in (
        (answer, "validationException", False),
        (refused, "ValidationException", True),
    ):
        finished = end_of(said)
        assert finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
        assert finished.provider_finish_reason == word
        assert finished.refusal.explanation == FILTERED["message"]
        assert finished.refusal.prompt_blocked is prompt_blocked
        assert json.loads(finished.refusal.raw_json) == FILTERED


def test_other_errors_are_no_end() -> None:
    """An error that is no filter's gives no events, so that whoever asks raises it."""
    assert ConverseTranslation(context()).blocked({}, b'{"message":"no"}') == []
    assert ConverseTranslation(context()).blocked({}, b"<html>") == []


def test_a_body_that_is_no_answer_is_an_error() -> None:
    """AWS's front tells an unknown path with status 200; other bodies break the protocol."""
    front = b'{"Output":{"__type":"com.amazon.coral.service#UnknownOperationException"},"Version":"1.0"}'
    for body, wanted in ((front, NotSupportedError), (b"{}", ProtocolError), (b'{"output":{}}', ProtocolError)):
        with pytest.raises(wanted):
            ConverseTranslation(context()).whole(body)


# -- events and words


def test_events_are_told_verbatim_where_they_are_asked_for() -> None:
    """Each event goes out as it stood, padding and all, behind `started`; a whole answer is one."""
    first = delta(0, {"text": "x"})
    stream = b"".join([first, event("messageStop", {"stopReason": "end_turn"}), event("metadata", {"usage": USAGE})])
    asked = context(provider_events=True)
    answer = check_stream([ConverseTranslation(asked).feed(stream)])
    assert [(told.provider, told.type) for told in answer.provider_events] == [
        ("bedrock", "contentBlockDelta"),
        ("bedrock", "messageStop"),
        ("bedrock", "metadata"),
    ]
    assert json.loads(answer.provider_events[0].raw_json) == {
        "contentBlockIndex": 0,
        "delta": {"text": "x"},
        "p": "ab",
    }
    body = b'{"output":{"message":{"content":[]}},"stopReason":"end_turn"}'
    answer = check_stream([ConverseTranslation(asked).whole(body)])
    assert [told.raw_json for told in answer.provider_events] == [body.decode()]


def test_halves_of_a_character_are_joined_across_deltas() -> None:
    """A surrogate pair that deltas cut in two is one character again."""
    halves = [
        event("contentBlockDelta", f'{{"contentBlockIndex":0,"delta":{{"text":"{half}"}}}}')
        for half in ("a\\ud83d", "\\ude00b")
    ]
    assert streamed(*halves).text() == "a\N{GRINNING FACE}b"


def test_notices_and_ids_come_with_the_beginning() -> None:
    """`started` tells both ids and is followed by what the request had to leave out."""
    notice = chat_pb2.Notice(code=chat_pb2.NOTICE_CODE_PARAM_DROPPED, field="sampling.seed", message="no")
    answer = streamed(context={"provider_request_id": "aws-1", "notices": (notice,)})
    assert answer.started is not None
    assert (answer.started.request_id, answer.started.provider_request_id) == ("chat-1", "aws-1")
    assert answer.notices == [notice]


def test_a_start_without_a_kind_waits_for_its_delta() -> None:
    """Servers like Bedrock begin texts with an empty start, or say that they are texts: the block is the same."""
    starts: list[Json] = [{}, {"text": ""}, {"text": {}}]
    for told in starts:
        answer = streamed(start(0, told), delta(0, {"text": "x"}), stop(0))
        assert [block.text.text for block in answer.blocks] == ["x"]


# -- any stream

_SCALARS = st.none() | st.booleans() | st.integers(-3, 9) | st.sampled_from(["", "x", "{}", "YQ==", "error", "5m"])
_KEYS = st.sampled_from(
    [
        "text",
        "toolUse",
        "toolUseId",
        "name",
        "input",
        "type",
        "toolResult",
        "status",
        "reasoningContent",
        "signature",
        "redactedContent",
        "citation",
        "location",
        "web",
        "start",
        "end",
        "image",
        "format",
        "source",
        "bytes",
        "s3Location",
        "usage",
        "inputTokens",
        "stopReason",
        "trace",
        "guardrail",
        "other",
    ]
)
_JSON = st.recursive(
    _SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3), max_leaves=8
)
_STARTS = st.sampled_from([{}, {"toolUse": {"name": "n"}}, {"toolResult": {}}, {"image": {"format": "png"}}])
_EVENTS = st.one_of(
    st.builds(start, st.integers(0, 2), _STARTS | st.dictionaries(_KEYS, _JSON, max_size=2)),
    st.builds(delta, st.integers(0, 2), st.dictionaries(_KEYS, _JSON, max_size=2)),
    st.builds(lambda text: delta(0, {"text": text}), st.text(max_size=5)),
    st.builds(stop, st.integers(0, 2)),
    st.builds(event, st.sampled_from(["messageStart", "messageStop", "metadata", "x"]), st.dictionaries(_KEYS, _JSON)),
)


@settings(max_examples=200)
@given(st.lists(_EVENTS, max_size=8))
def test_any_events_keep_the_promises(events: list[bytes]) -> None:
    """Whatever comes, in whatever order, blocks start and stop once, and nothing but an AdapterError is raised."""
    translated = ConverseTranslation(context())
    lists: list[Events] = []
    complete = True
    try:
        lists.extend(map(translated.feed, events))
        lists.append(translated.end())
    except AdapterError as error:
        lists.append(error.events)
        complete = False
    check_stream([one for one in lists if one], complete=complete, family="bedrock")


@settings(max_examples=100)
@given(st.lists(st.dictionaries(_KEYS, _JSON, max_size=3), max_size=4), st.dictionaries(_KEYS, _JSON, max_size=4))
def test_any_whole_answer_keeps_the_promises(content: list[Json], more: Json) -> None:
    """A body of any blocks and members is an answer, or an AdapterError."""
    body = json.dumps({**more, "output": {"message": {"content": content}}}).encode()
    try:
        events = ConverseTranslation(context()).whole(body)
    except AdapterError:
        return
    check_stream([events], family="bedrock")
