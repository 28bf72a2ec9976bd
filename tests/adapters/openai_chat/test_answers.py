"""Corner cases of Chat Completions answers, one by one."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from tests.adapters.openai_chat.answers import DIALECTS, chunk, fold, said, sse, streamed, text_of, translation, whole

from execution_platform.adapters.errors import (
    AdapterError,
    OverloadedError,
    ProtocolError,
    RateLimitedError,
    StreamBrokenError,
    UnavailableError,
)
from execution_platform.adapters.testing import check_translation
from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]


def call(index: int | None, call_id: str = "", name: str = "", arguments: str = "", **more: Any) -> Json:
    """A piece of a tool call."""
    piece: Json = {"function": {"arguments": arguments, **({"name": name} if name else {})}, **more}
    if index is not None:
        piece["index"] = index
    if call_id:
        piece |= {"id": call_id, "type": "function"}
    return piece


def calls_of(response: chat_pb2.CompleteChatResponse) -> list[tuple[str, str, str]]:
    return [(one.call_id, one.name, one.arguments_json) for one in said(response, "tool_call")]


def test_pieces_of_parallel_calls_find_their_call() -> None:
    """Interleaved pieces are joined by their index."""
    answer = streamed(
        [
            sse(
                chunk({"tool_calls": [call(0, "a", "f"), call(1, "b", "g")]}),
                chunk({"tool_calls": [call(1, arguments='{"y":')]}),
                chunk({"tool_calls": [call(0, arguments="{}")]}),
                chunk({"tool_calls": [call(1, arguments="2}")]}),
                chunk({}, "tool_calls"),
            )
        ]
    )
    assert calls_of(answer) == [("a", "f", "{}"), ("b", "g", '{"y":2}')]


def test_calls_without_an_index_are_told_apart() -> None:
    """Whole calls without an index are calls of their own, and a nameless piece belongs to the last one."""
    answer = streamed(
        [
            sse(
                chunk({"tool_calls": [call(None, "a", "f", "{}"), call(None, "b", "f", "{")]}),
                chunk({"tool_calls": [call(None, arguments="}")]}, "tool_calls"),
            )
        ]
    )
    assert calls_of(answer) == [("a", "f", "{}"), ("b", "f", "{}")]


def test_one_index_for_all_calls_does_not_join_them() -> None:
    """A server that gives every call of a turn the index 0 still has as many calls as ids."""
    answer = streamed([sse(chunk({"tool_calls": [call(0, "a", "f", "{}"), call(0, "b", "f", "{}")]}, "stop"))])
    assert [one[0] for one in calls_of(answer)] == ["a", "b"]


def test_a_name_that_comes_late_is_waited_for() -> None:
    """Arguments before the name are held; the block starts with its name."""
    translated = translation()
    events = translated.feed(
        sse(
            chunk({"tool_calls": [call(0, "a", arguments='{"x"')]}),
            chunk({"tool_calls": [call(0, name="f", arguments=":1}")]}, "tool_calls"),
        )
    )
    started = next(event.block_started.block for event in events if event.HasField("block_started"))
    assert started.tool_call.name == "f"
    assert calls_of(fold(events)) == [("a", "f", '{"x":1}')]


def test_a_call_without_an_id_gets_one_that_says_so() -> None:
    """A minted id is flagged."""
    (one,) = said(streamed([sse(chunk({"tool_calls": [call(0, "", "f", "{}")]}, "tool_calls"))]), "tool_call")
    assert (one.call_id, one.call_id_minted) == ("call_r1_0", True)


def test_a_custom_tool_takes_free_text() -> None:
    """The input of a custom call is text, streamed and whole."""
    custom = {"id": "a", "type": "custom", "custom": {"name": "shell", "input": "ls -l"}}
    for answer in (
        fold(translation().whole(whole({"content": None, "tool_calls": [custom]}, "tool_calls"))),
        streamed(
            [
                sse(
                    chunk({"tool_calls": [{**custom, "index": 0, "custom": {"name": "shell", "input": "ls"}}]}),
                    chunk({"tool_calls": [{"index": 0, "custom": {"input": " -l"}}]}, "tool_calls"),
                )
            ]
        ),
    ):
        (one,) = said(answer, "tool_call")
        assert (one.name, one.arguments_text, one.arguments_json) == ("shell", "ls -l", "")
        assert one.provider_type == "custom"


def test_arguments_that_are_an_object_stay_as_they_were_written() -> None:
    """A server that gives the object instead of its text loses no digit of it."""
    body = whole({"tool_calls": [{"id": "a", "function": {"name": "f", "arguments": None}}]}, "tool_calls")
    body = body.replace(b'"arguments": null', b'"arguments": {"n": 1.50, "big": 12345678901234567890123}')
    assert calls_of(fold(translation().whole(body)))[0][2] == '{"n": 1.50, "big": 12345678901234567890123}'


def test_what_a_server_adds_to_a_call_is_kept_with_it() -> None:
    """Members of a call that the contract has no field for are the block's metadata."""
    extra = {"google": {"thought_signature": "c2ln"}}
    answer = streamed([sse(chunk({"tool_calls": [call(0, "a", "f", "{}", extra_content=extra)]}, "tool_calls"))])
    assert json.loads(answer.message.content[0].provider_metadata_json) == {"extra_content": extra}


def test_legacy_function_calls_are_tool_calls() -> None:
    """function_call in pieces is one call, marked with its old type."""
    answer = streamed(
        [
            sse(
                chunk({"function_call": {"name": "f", "arguments": ""}}),
                chunk({"function_call": {"arguments": "{}"}}),
                chunk({}, "function_call"),
            )
        ]
    )
    (one,) = said(answer, "tool_call")
    assert (one.name, one.arguments_json, one.provider_type, one.call_id_minted) == ("f", "{}", "function_call", True)
    assert answer.finished.reason == chat_pb2.FINISH_REASON_TOOL_CALLS


@pytest.mark.parametrize(
    ("word", "delta", "reason"),
    [
        ("stop", {"content": "x"}, chat_pb2.FINISH_REASON_STOP),
        ("stop", {"tool_calls": [call(0, "a", "f", "{}")]}, chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("", {"tool_calls": [call(0, "a", "f", "{}")]}, chat_pb2.FINISH_REASON_TOOL_CALLS),
        ("eos", {"content": "x"}, chat_pb2.FINISH_REASON_STOP),
        ("length", {"tool_calls": [call(0, "a", "f", "{")]}, chat_pb2.FINISH_REASON_MAX_TOKENS),
        ("stop", {"refusal": "no"}, chat_pb2.FINISH_REASON_REFUSAL),
        ("content_filter", {"content": "x"}, chat_pb2.FINISH_REASON_CONTENT_FILTER),
        ("model_length", {"content": "x"}, chat_pb2.FINISH_REASON_CONTEXT_LENGTH),
        ("stop_sequence", {"content": "x"}, chat_pb2.FINISH_REASON_STOP_SEQUENCE),
        ("sensitive", {"content": "x"}, chat_pb2.FINISH_REASON_CONTENT_FILTER),
        ("no_such_word", {"content": "x"}, chat_pb2.FINISH_REASON_OTHER),
    ],
)
def test_the_end_is_decided_by_the_word_and_by_what_is_there(word: str, delta: Json, reason: int) -> None:
    """Calls make "stop" TOOL_CALLS, a refusal makes it REFUSAL; the provider's word is kept."""
    finished = streamed([sse(chunk(delta, word))]).finished
    assert (finished.reason, finished.provider_finish_reason) == (reason, word)


def test_a_named_stop_sequence_is_told() -> None:
    """The sequence that vLLM names is the one that matched; the number of a token is not."""
    one = chunk({"content": "x"}, "stop")
    one["choices"][0]["stop_reason"] = "END"
    finished = streamed([sse(one)]).finished
    assert (finished.reason, finished.matched_stop_sequence) == (chat_pb2.FINISH_REASON_STOP_SEQUENCE, "END")
    one["choices"][0]["stop_reason"] = 128009
    finished = streamed([sse(one)]).finished
    assert finished.reason == chat_pb2.FINISH_REASON_STOP
    assert json.loads(finished.provider_metadata_json)["choice"] == {"stop_reason": 128009}


@pytest.mark.parametrize(
    ("word", "kind"), [("insufficient_system_resource", OverloadedError), ("network_error", UnavailableError)]
)
def test_an_answer_that_the_provider_broke_off_has_failed(word: str, kind: type[AdapterError]) -> None:
    """Some words mean that there was no end."""
    with pytest.raises(kind) as raised:
        translation().feed(sse(chunk({"content": "x"}), chunk({}, word)))
    assert text_of(fold(raised.value.events)) == "x"


def test_either_end_mark_is_enough() -> None:
    """A finish reason without [DONE], and [DONE] without a finish reason, complete an answer."""
    assert streamed([sse(chunk({"content": "x"}, "stop"), done=False)]).finished.reason == chat_pb2.FINISH_REASON_STOP
    assert streamed([sse(chunk({"content": "x"}))]).finished.reason == chat_pb2.FINISH_REASON_STOP


@pytest.mark.parametrize("end", [b"", b'data: {"id":"c1","choices":[{"index":0,"delta":{"content":"y'])
def test_a_stream_without_an_end_is_broken(end: bytes) -> None:
    """Neither mark: the stream broke, also in the middle of an event."""
    translated = translation()
    translated.feed(sse(chunk({"content": "x"}), done=False) + end)
    with pytest.raises(StreamBrokenError):
        translated.end()


def test_nothing_is_read_after_the_end() -> None:
    """What follows [DONE] is no part of the answer."""
    answer = streamed([sse(chunk({"content": "x"}, "stop")) + sse(chunk({"content": "y"}, "stop"))])
    assert text_of(answer) == "x"


def test_a_finish_chunk_may_still_carry_content() -> None:
    """Content in the chunk with the finish reason, and in one after it, is content."""
    answer = streamed([sse(chunk({"content": "a"}), chunk({"content": "b"}, "stop"), chunk({"content": "c"}, "stop"))])
    assert text_of(answer) == "abc"


def test_comments_events_and_line_ends_do_not_matter() -> None:
    """Comments, event names, carriage returns and chunks without choices are passed over."""
    stream = b": OPENROUTER PROCESSING\n\nevent: ping\ndata: {}\n\n" + sse(
        {"id": "", "model": "", "choices": [], "prompt_filter_results": []}, chunk({"content": "x"}, "stop")
    )
    assert text_of(streamed([stream.replace(b"\n", b"\r\n")])) == "x"


def test_a_choice_without_a_delta_says_nothing() -> None:
    """Azure's late filter results come in a choice that has no delta."""
    late = {
        "id": "c1",
        "model": "m",
        "choices": [{"index": 0, "content_filter_results": {"hate": {"filtered": False}}}],
    }
    answer = streamed([sse(chunk({"content": "x"}), late, chunk({}, "stop"))])
    metadata = json.loads(answer.finished.provider_metadata_json)
    assert metadata["choice"]["content_filter_results"] == {"hate": {"filtered": False}}


def test_a_filtered_answer_names_its_categories() -> None:
    """What was filtered stays so, whatever later pieces say."""
    one = chunk({"content": "x"})
    one["choices"][0]["content_filter_results"] = {"hate": {"filtered": True, "severity": "high"}}
    two = chunk({}, "content_filter")
    two["choices"][0]["content_filter_results"] = {"hate": {"filtered": False}, "sexual": {"filtered": False}}
    finished = streamed([sse(one, two)]).finished
    assert finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert finished.refusal.category == "hate"
    assert not finished.refusal.prompt_blocked


def test_a_server_that_does_not_stream_is_read_whole() -> None:
    """One JSON body in place of a stream is read as one, however it is cut."""
    body = b"\n " + whole({"content": "x"})
    assert text_of(streamed([body[at : at + 1] for at in range(len(body))])) == "x"


def test_an_error_after_the_end_is_a_remark() -> None:
    """OpenRouter repeats a reached limit as an error: the answer stays complete, a notice tells."""
    error = {"id": "c1", "choices": [], "error": {"message": "max tokens reached", "code": 400}}
    answer = streamed([sse(chunk({"content": "x"}, "length"), error)])
    assert answer.finished.reason == chat_pb2.FINISH_REASON_MAX_TOKENS
    assert [notice.message for notice in answer.notices] == ["max tokens reached"]


def test_usage_after_an_error_is_told_before_it() -> None:
    """OpenRouter sends usage after the error: both reach the caller, the usage first."""
    error = chunk({"content": ""}, "error", error={"code": 429, "message": "upstream is limited"})
    usage = {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}}
    translated = translation(DIALECTS["openrouter"])
    events = translated.feed(sse(chunk({"content": "x"}), error, done=False))
    with pytest.raises(RateLimitedError) as raised:
        translated.feed(sse(usage))
    events += raised.value.events
    assert [event.WhichOneof("event") for event in events][-1] == "usage_updated"


def test_a_filter_in_the_stream_ends_the_answer() -> None:
    """An error with a filter's code, before any output, is a blocked prompt and no failure."""
    answer = streamed([sse({"error": {"message": "filtered", "code": "content_filter"}})])
    assert answer.finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER
    assert answer.finished.refusal.prompt_blocked


@pytest.mark.parametrize(
    "error",
    [
        {"object": "error", "message": "boom", "type": "InternalServerError", "code": 500},
        {"error_code": "INTERNAL_ERROR", "message": "boom"},
        {"detail": "boom"},
    ],
)
def test_an_error_without_the_word_is_an_error(error: Json) -> None:
    """Flat error objects of several servers are seen, in streams and as bodies with status 200."""
    with pytest.raises(UnavailableError):
        translation().feed(sse(error))
    with pytest.raises(UnavailableError):
        translation().whole(json.dumps(error).encode())


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"no json", b'{"id":"x"}', b""])
def test_a_body_that_is_no_answer_breaks_the_protocol(body: bytes) -> None:
    """A whole answer needs choices."""
    with pytest.raises(ProtocolError):
        translation().whole(body)


def test_thinking_ends_where_the_answer_begins() -> None:
    """Reasoning that is plain text is stopped before the text block starts."""
    events = translation().feed(
        sse(chunk({"reasoning_content": "hm"}), chunk({"reasoning_content": None, "content": "x"}, "stop"))
    )
    told = [event.WhichOneof("event") for event in events]
    assert told[:5] == ["started", "block_started", "block_delta", "block_stopped", "block_started"]


def test_reasoning_that_comes_twice_is_told_once() -> None:
    """The same words in two or three fields are one thinking block."""
    delta = {
        "reasoning": "a",
        "reasoning_content": "a",
        "reasoning_details": [{"type": "reasoning.text", "text": "a", "index": 0}],
    }
    answer = streamed([sse(chunk(delta), chunk({"reasoning": "b", "reasoning_content": "b"}), chunk({}, "stop"))])
    assert "".join(block.text for block in said(answer, "thinking")) == "ab"


def test_reasoning_details_keep_what_signs_them() -> None:
    """Text, summary and encrypted pieces are blocks; signatures are states, the rest is metadata."""
    pieces = [
        {"type": "reasoning.text", "text": "so", "format": "f", "index": 0},
        {"type": "reasoning.text", "signature": "sig==", "format": "f", "index": 0},
        {"type": "reasoning.summary", "summary": "short", "format": "f", "index": 1},
        {"type": "reasoning.encrypted", "data": "gAAA", "id": "rs_1", "format": "f", "index": 2},
        {"type": "reasoning.new_kind", "x": 1},
    ]
    answer = streamed([sse(*(chunk({"reasoning_details": [piece]}) for piece in pieces), chunk({}, "stop"))])
    text, summary, encrypted, unknown = answer.message.content
    assert (text.thinking.text, text.thinking.is_summary) == ("so", False)
    assert [(state.kind, state.data) for state in text.states] == [("signature", b"sig==")]
    assert json.loads(text.provider_metadata_json) == {"type": "reasoning.text", "format": "f", "index": 0}
    assert (summary.thinking.text, summary.thinking.is_summary) == ("short", True)
    assert (encrypted.redacted_thinking.data, encrypted.id) == (b"gAAA", "rs_1")
    assert json.loads(unknown.opaque.json) == pieces[-1]


def test_content_in_parts_is_read() -> None:
    """Mistral's parts: thinking, text, references to sources, and kinds that nobody knows yet."""
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "closed": True},
        {"type": "text", "text": "as told"},
        {"type": "reference", "reference_ids": [3, 1]},
        {"type": "hologram", "x": 1},
    ]
    answer = fold(translation().whole(whole({"content": parts})))
    thinking, text, unknown = answer.message.content
    assert thinking.thinking.text == "hm"
    assert json.loads(thinking.provider_metadata_json) == {"type": "thinking", "closed": True}
    assert [(citation.source_id, citation.text_range.start) for citation in text.citations] == [("3", 7), ("1", 7)]
    assert json.loads(unknown.opaque.json) == parts[-1]


def test_databricks_reasoning_keeps_its_signature() -> None:
    """A reasoning part with a signed summary is a thinking block with a state."""
    summary = [{"type": "summary_text", "text": "hm", "signature": "sig"}]
    parts = [{"type": "reasoning", "summary": summary}, {"type": "text", "text": "x"}]
    thinking = fold(translation().whole(whole({"content": parts}))).message.content[0]
    assert (thinking.thinking.text, thinking.thinking.is_summary) == ("hm", True)
    assert thinking.states[0].data == b"sig"


def test_audio_comes_in_pieces_of_any_length() -> None:
    """Base64 that is cut inside a group of four is the same audio; the transcript and the expiry come along."""
    data = base64.b64encode(b"RIFF sound").decode()
    answer = streamed(
        [
            sse(
                chunk({"audio": {"id": "audio_1", "transcript": "Hel"}}),
                chunk({"audio": {"data": data[:5]}}),
                chunk({"audio": {"data": data[5:], "transcript": "lo"}}),
                chunk({"audio": {"expires_at": 17}}),
                chunk({}, "stop"),
            )
        ]
    )
    (block,) = answer.message.content
    assert (block.media.data, block.media.transcript, block.id) == (b"RIFF sound", "Hello", "audio_1")
    assert json.loads(block.provider_metadata_json) == {"expires_at": 17}


def test_images_are_media() -> None:
    """An image in a data URL is its bytes; one at an address is the address."""
    url = "data:image/png;base64," + base64.b64encode(b"png").decode()
    images = [{"type": "image_url", "image_url": {"url": url}}, {"image_url": {"url": "https://example.com/a.png"}}]
    first, second = said(fold(translation().whole(whole({"content": "", "images": images}))), "media")
    assert (first.mime_type, first.data) == ("image/png", b"png")
    assert second.uri == "https://example.com/a.png"


def test_sources_that_come_last_still_find_their_text() -> None:
    """Annotations in the chunk with the finish reason are citations of the text block."""
    source = {"url": "https://example.com", "title": "T", "start_index": 0, "end_index": 1}
    late = {"content": "", "annotations": [{"type": "url_citation", "url_citation": source}]}
    (block,) = streamed([sse(chunk({"content": "x"}), chunk(late, "stop"))]).message.content
    (citation,) = block.citations
    assert (citation.uri, citation.title, citation.text_range.end) == ("https://example.com", "T", 1)
    assert citation.text_range.unit == content_pb2.CITATION_UNIT_CHARACTER


def test_a_source_too_large_for_one_event_is_an_opaque_block() -> None:
    """A parsed file that stands in an annotation goes out in pieces."""
    file = {"type": "file", "file": {"hash": "h", "name": "f", "content": [{"type": "text", "text": "x" * 2_000_000}]}}
    translated = translation()
    events = translated.whole(whole({"content": "x", "annotations": [file]}))
    assert max(event.ByteSize() for event in events) < 2**20
    (opaque,) = said(fold(events), "opaque")
    assert json.loads(opaque.json) == file


def test_search_results_are_joined_to_their_addresses() -> None:
    """Perplexity's citations keep their order, with title and snippet of their search result, and come once."""
    more: Json = {
        "citations": ["https://b.example", "https://a.example"],
        "search_results": [
            {"title": "A", "url": "https://a.example", "snippet": "about a"},
            {"title": "C", "url": "https://c.example", "snippet": ""},
        ],
    }
    answer = streamed([sse(chunk({"content": "x[1]"}, **more), chunk({}, "stop", **more))])
    told = [(citation.uri, citation.title) for citation in answer.message.content[0].citations]
    assert told == [("https://b.example", ""), ("https://a.example", "A"), ("https://c.example", "C")]


def test_log_probabilities_go_with_their_text() -> None:
    """Those of content and refusal reach their block, with bytes and alternatives; Together's old shape too."""
    token = {"token": "é", "logprob": -0.5, "bytes": [195, 169], "top_logprobs": [{"token": "e", "logprob": -1.0}]}
    one = chunk({"content": "é"})
    one["choices"][0]["logprobs"] = {"content": [token], "refusal": None}
    two = chunk({"refusal": "no"}, "stop")
    two["choices"][0]["logprobs"] = {"content": None, "refusal": [{"token": "no", "logprob": -2}]}
    text, refusal = streamed([sse(one, two)]).logprobs
    assert (text.tokens[0].token_bytes, text.tokens[0].logprob) == ("é".encode(), -0.5)
    assert text.tokens[0].top[0].token == "e"
    assert refusal.tokens[0].token == "no"
    old = chunk({"content": "a"}, "stop")
    old["choices"][0]["logprobs"] = {"tokens": ["a"], "token_logprobs": [-3.0], "token_ids": [7]}
    (told,) = streamed([sse(old)]).logprobs
    assert (told.tokens[0].token, told.tokens[0].token_id, told.tokens[0].logprob) == ("a", 7, -3.0)


def test_halves_of_a_character_are_joined() -> None:
    """A surrogate pair that is cut between two deltas is one character."""
    stream = sse(chunk({"content": "A"}), chunk({"content": "B"}), chunk({}, "stop"))
    stream = stream.replace(b'"A"', b'"\\ud83d"').replace(b'"B"', b'"\\ude00"')
    assert text_of(streamed([stream])) == "\U0001f600"


def test_a_model_that_changes_is_told() -> None:
    """Another model in the middle of an answer is a change of route by the provider."""
    answer = streamed([sse(chunk({"content": "x"}), chunk({"content": "y"}, model="n"), chunk({}, "stop", model="n"))])
    (change,) = answer.route_changes
    assert (change.route.served_model, change.origin) == ("n", chat_pb2.ROUTE_CHANGE_ORIGIN_PROVIDER)


def test_provider_events_come_verbatim_when_asked_for() -> None:
    """Each chunk's JSON follows as it stood, after started."""
    request = chat_pb2.ChatRequest(stream_options=chat_pb2.StreamOptions(provider_events=True))
    first = b'{"id":"","choices":[],  "prompt_filter_results":[]}'
    second = json.dumps(chunk({"content": "x"}, "stop")).encode()
    translated = translation(request=request)
    events = translated.feed(b"data: " + first + b"\n\ndata: " + second + b"\n\ndata: [DONE]\n\n")
    assert events[0].HasField("started")
    raw = [event.provider_event.raw_json.encode() for event in events if event.HasField("provider_event")]
    assert raw == [first, second]


def test_headers_are_told() -> None:
    """The provider's request id is in started, its rate limits are in finished."""
    headers = {
        "x-request-id": "req_1",
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "1m30s",
        "retry-after": "1",
    }
    answer = fold(translation(headers=headers).whole(whole({"content": "x"})))
    assert answer.started.provider_request_id == "req_1"
    (limit,) = answer.finished.rate_limits
    assert (limit.name, limit.limit, limit.remaining, limit.reset_after.seconds) == ("requests", 500, 499, 90)


def test_a_stream_and_a_body_of_one_answer_say_the_same() -> None:
    """The kit finds no difference between the two shapes of one answer with everything in it."""
    usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
    detail = {"type": "reasoning.text", "text": "hm", "signature": "s", "index": 0, "format": "f"}
    message = {
        "reasoning_details": [detail],
        "content": "See",
        "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "T"}}],
        "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}}],
    }
    stream = sse(
        chunk({"reasoning_details": [{**detail, "text": "h", "signature": None}]}),
        chunk({"reasoning_details": [{**detail, "text": "m"}]}),
        chunk({"content": "S"}),
        chunk({"content": "ee"}),
        chunk({"annotations": message["annotations"]}),
        chunk({"tool_calls": [call(0, "a", "f", '{"x"')]}),
        chunk({"tool_calls": [call(0, arguments=":1}")]}),
        chunk({}, "tool_calls"),
        {"id": "c1", "model": "m", "choices": [], "usage": usage},
    )
    body = whole(message, "tool_calls", usage=usage)
    check_translation(translation, stream=stream, whole=body, family="openai")
