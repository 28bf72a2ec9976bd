"""Blocks of Bedrock's answers that nobody recorded, from the service model."""

from __future__ import annotations

import base64
import json

import pytest
from tests.adapters.bedrock.answers import (
    context,
    delta,
    failed,
    metadata_of,
    start,
    stop,
    stream_of,
    streamed,
    whole,
)
from tests.adapters.bedrock.reading import Json, event, frame

from execution_platform.adapters.bedrock.media import kind_of, media_type
from execution_platform.adapters.bedrock.stream import ConverseTranslation
from execution_platform.adapters.errors import (
    ProtocolError,
)
from execution_platform.adapters.testing import check_stream
from execution_platform.v1 import chat_pb2, content_pb2

# -- calls and results


@pytest.mark.parametrize(("pieces", "said"), [([], "{}"), ([""], "{}"), (["{}"], "{}"), (["", '{"a"', ": 1e0}"], None)])
def test_arguments_are_their_pieces_joined_or_an_empty_object(pieces: list[str], said: str | None) -> None:
    """A call without arguments has {}, whether no piece came or an empty one; others stand as the model wrote them."""
    calls = [delta(0, {"toolUse": {"input": piece}}) for piece in pieces]
    answer = streamed(start(0, {"toolUse": {"toolUseId": "t1", "name": "look"}}), *calls, stop(0))
    call = answer.blocks[0].tool_call
    assert call.arguments_json == ('{"a": 1e0}' if said is None else said)
    assert (call.call_id, call.name, call.executed_by) == ("t1", "look", content_pb2.TOOL_EXECUTOR_CLIENT)


def test_calls_that_interleave_keep_their_own_arguments() -> None:
    """Two calls whose pieces alternate, and stop in any order, are told apart by their position."""
    answer = streamed(
        start(1, {"toolUse": {"toolUseId": "t1", "name": "one"}}),
        start(2, {"toolUse": {"toolUseId": "t2", "name": "two"}}),
        delta(2, {"toolUse": {"input": '{"b":'}}),
        delta(1, {"toolUse": {"input": '{"a":1}'}}),
        delta(2, {"toolUse": {"input": "2}"}}),
        stop(2),
        stop(1),
    )
    assert [block.tool_call.arguments_json for block in answer.blocks] == ['{"a":1}', '{"b":2}']


def test_whole_arguments_keep_their_spelling() -> None:
    """The input of a whole call is handed on digit by digit."""
    body = (
        b'{"output":{"message":{"content":[{"toolUse":{"toolUseId":"t","name":"n","input":'
        b'{ "x": 1.0e2,"y":12345678901234567890}}}]}},"stopReason":"tool_use"}'
    )
    events = ConverseTranslation(context()).whole(body)
    assert check_stream([events]).blocks[0].tool_call.arguments_json == '{ "x": 1.0e2,"y":12345678901234567890}'


def test_a_call_without_an_id_gets_one_that_says_so() -> None:
    """A call that the provider gave no id has one of the platform's, marked as such."""
    answer = streamed(start(0, {"toolUse": {"name": "look"}}), stop(0))
    call = answer.blocks[0].tool_call
    assert call.call_id == "call_chat-1_0"
    assert call.call_id_minted


@pytest.mark.parametrize(
    "events",
    [
        [start(0, {"toolUse": {"toolUseId": "t"}})],
        [delta(0, {"toolUse": {"input": "{}"}})],
        [start(0, {"toolUse": {"toolUseId": "t", "name": "n"}})] * 2,
        [event("contentBlockDelta", {"delta": {"text": "x"}})],
        [event("contentBlockDelta", {"contentBlockIndex": 0})],
        [event("contentBlockDelta", "[]")],
        [event("contentBlockDelta", "{")],
        [start(0, {"image": {"format": "png"}}), delta(0, {"image": {"source": {"bytes": "§"}}})],
    ],
)
def test_events_that_cannot_be_are_a_breach_of_the_protocol(events: list[bytes]) -> None:
    """A call without a name or a start, a block begun twice, no position, no JSON, no base64: ProtocolError."""
    failed(stream_of(*events), ProtocolError)


def test_a_result_of_a_tool_that_bedrock_ran_is_kept_as_json() -> None:
    """Texts of a result that follow one another are one text; its JSON stands as it came."""
    answer = streamed(
        start(0, {"toolUse": {"toolUseId": "t", "name": "nova_grounding", "type": "server_tool_use"}}),
        stop(0),
        start(1, {"toolResult": {"toolUseId": "t", "type": "nova_grounding_result", "status": "error"}}),
        delta(1, {"toolResult": [{"text": "a"}]}),
        delta(1, {"toolResult": [{"text": "b"}, {"text": "c"}, {"json": {"n": 1}}]}),
        delta(1, {"toolResult": [{"text": "d"}]}),
        stop(1),
    )
    call, result = answer.blocks[0].tool_call, answer.blocks[1].tool_result
    assert (call.executed_by, call.provider_type) == (content_pb2.TOOL_EXECUTOR_PROVIDER, "server_tool_use")
    assert json.loads(result.structured_content_json) == [
        {"text": "ab"},
        {"text": "c"},
        {"json": {"n": 1}},
        {"text": "d"},
    ]
    assert (result.call_id, result.is_error, result.provider_type) == ("t", True, "nova_grounding_result")
    assert json.loads(answer.blocks[1].provider_metadata_json) == {"status": "error"}


# -- reasoning


def test_a_signature_without_text_is_a_thinking_block() -> None:
    """Reasoning that is not shown still has its signature, byte for byte, in one state however it came."""
    answer = streamed(
        delta(0, {"reasoningContent": {"signature": "EqQB"}}), delta(0, {"reasoningContent": {"signature": "Cg=="}})
    )
    (block,) = answer.blocks
    assert block.thinking.text == ""
    assert [(state.kind, state.data) for state in block.states] == [("signature", b"EqQBCg==")]


@pytest.mark.parametrize(
    ("pieces", "said"),
    [(["YWJj"], "YWJj"), (["YWJj", "ZGVm"], "YWJjZGVm"), (["YQ==", "Yg=="], "YWI="), (["not base64"], "not base64")],
)
def test_encrypted_reasoning_comes_back_as_one_base64(pieces: list[str], said: str) -> None:
    """One piece stands as it came; several, each base64 for itself, are base64 of all their bytes."""
    answer = streamed(*[delta(0, {"reasoningContent": {"redactedContent": piece}}) for piece in pieces], stop(0))
    assert [block.redacted_thinking.data.decode() for block in answer.blocks] == [said]


def test_encrypted_reasoning_of_broken_pieces_is_refused() -> None:
    """Pieces that cannot be joined because they are not base64 are a breach of the protocol."""
    pieces = [delta(0, {"reasoningContent": {"redactedContent": piece}}) for piece in ("a=", "YQ==")]
    failed(stream_of(*pieces), ProtocolError)


@pytest.mark.parametrize(
    ("model", "summary"),
    [
        ("us.anthropic.claude-sonnet-4-6", True),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", False),
        ("deepseek.r1-v1:0", False),
    ],
)
def test_thinking_is_a_summary_where_the_model_sums_up(model: str, summary: bool) -> None:
    """Claude's thinking after 3.7 is marked as a summary, streamed and whole; that of others is not."""
    reasoning = {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "s", "more": 1}}}
    one = whole([reasoning], context={"model": model}).blocks[0]
    other = streamed(delta(0, {"reasoningContent": {"text": "hm"}}), context={"model": model}).blocks[0]
    assert one.thinking.is_summary is other.thinking.is_summary is summary
    assert json.loads(one.provider_metadata_json) == {"more": 1}


def test_what_changes_its_kind_within_a_position_is_another_block() -> None:
    """Reasoning, text and encrypted reasoning under one position are three blocks, in order."""
    answer = streamed(
        delta(0, {"reasoningContent": {"text": "hm"}}),
        delta(0, {"text": "so"}),
        delta(0, {"reasoningContent": {"redactedContent": "YQ=="}}),
        stop(0),
    )
    assert [block.WhichOneof("content") for block in answer.blocks] == ["thinking", "text", "redacted_thinking"]


# -- citations

PLACES: list[tuple[Json, str, content_pb2.CitationUnit.ValueType]] = [
    ({"web": {"url": "https://a.example/x", "domain": "a.example"}}, "web", content_pb2.CITATION_UNIT_UNSPECIFIED),
    (
        {"documentChar": {"documentIndex": 0, "start": 0, "end": 9}},
        "documentChar",
        content_pb2.CITATION_UNIT_CHARACTER,
    ),
    ({"documentPage": {"documentIndex": 2, "start": 1, "end": 3}}, "documentPage", content_pb2.CITATION_UNIT_PAGE),
    ({"documentChunk": {"documentIndex": 1, "start": 4, "end": 5}}, "documentChunk", content_pb2.CITATION_UNIT_BLOCK),
    (
        {"searchResultLocation": {"searchResultIndex": 7, "start": 0, "end": 1}},
        "searchResultLocation",
        content_pb2.CITATION_UNIT_BLOCK,
    ),
    ({"elsewhere": {"start": 3}}, "elsewhere", content_pb2.CITATION_UNIT_UNSPECIFIED),
]


@pytest.mark.parametrize(("place", "kind", "unit"), PLACES)
def test_each_kind_of_citation_is_read_and_kept(
    place: Json, kind: str, unit: content_pb2.CitationUnit.ValueType
) -> None:
    """All kinds of places are told in fields, streamed and whole alike, and their JSON is kept."""
    told = {"title": "T", "source": "s3://b/k", "sourceContent": [{"text": "a"}, {"text": "b"}], "location": place}
    one = streamed(delta(0, {"citation": told}), delta(0, {"text": "said"}), stop(0)).blocks[0]
    other = whole([{"citationsContent": {"content": [{"text": "said"}], "citations": [told]}}]).blocks[0]
    assert one == other
    assert one.text.text == "said"
    (citation,) = one.citations
    assert json.loads(citation.raw_json) == told
    assert (citation.provider_type, citation.title, citation.cited_text) == (kind, "T", "ab")
    assert citation.uri == (place[kind].get("url") or "s3://b/k")
    assert citation.source_range.unit == unit
    assert citation.source_range.start == place[kind].get("start", 0)
    assert citation.HasField("document_index") == ("documentIndex" in place[kind])


def test_cited_content_that_is_more_than_text_is_kept() -> None:
    """Members that the contract has no field for stay with the block."""
    content = [{"text": "a"}, {"text": "b", "weight": 2}]
    answer = whole([{"citationsContent": {"content": content, "citations": [], "score": 1}}])
    assert answer.blocks[0].text.text == "ab"
    assert json.loads(answer.blocks[0].provider_metadata_json) == {"content": content, "score": 1}


# -- media

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


def test_an_image_is_its_pieces_joined() -> None:
    """The bytes of an image come in pieces, each base64 for itself."""
    pieces = [base64.b64encode(PNG[at : at + 50]).decode() for at in range(0, len(PNG), 50)]
    answer = streamed(
        start(0, {"image": {"format": "png"}}),
        *[delta(0, {"image": {"source": {"bytes": piece}}}) for piece in pieces],
        stop(0),
    )
    (block,) = answer.blocks
    assert (block.media.mime_type, block.media.data) == ("image/png", PNG)


def test_an_image_at_s3_or_of_no_bytes_is_told() -> None:
    """An image may lie at S3, or not be there at all; why is kept."""
    answer = streamed(
        start(0, {"image": {"format": "webp"}}),
        delta(0, {"image": {"source": {"s3Location": {"uri": "s3://b/i", "bucketOwner": "1"}}}}),
        stop(0),
        start(1, {"image": {"format": "png"}}),
        delta(1, {"image": {"error": {"message": "too large"}}}),
        stop(1),
    )
    at_s3, missing = answer.blocks
    assert (at_s3.media.uri, at_s3.media.mime_type) == ("s3://b/i", "image/webp")
    assert json.loads(at_s3.provider_metadata_json) == {"bucketOwner": "1"}
    assert (missing.media.data, missing.media.mime_type) == (b"", "image/png")
    assert json.loads(missing.provider_metadata_json) == {"error": {"message": "too large"}}


@pytest.mark.parametrize(
    ("kind", "form", "mime"),
    [
        ("image", "jpeg", "image/jpeg"),
        ("document", "pdf", "application/pdf"),
        ("video", "three_gp", "video/3gpp"),
        ("audio", "mp3", "audio/mpeg"),
        ("audio", "newest", "audio/newest"),
    ],
)
def test_media_of_a_whole_answer_have_type_bytes_and_name(kind: str, form: str, mime: str) -> None:
    """Images, documents, video and audio come with their media type; what has no field is kept."""
    told = {"format": form, "name": "file", "source": {"bytes": "YWJj"}, "extra": True}
    (block,) = whole([{kind: told}]).blocks
    assert (block.media.mime_type, block.media.data, block.media.filename) == (mime, b"abc", "file")
    assert json.loads(block.provider_metadata_json) == {"extra": True}


def test_media_that_come_can_go_back() -> None:
    """Every format that the service model knows has a media type which a request turns into that kind again."""
    known = {
        "image": ["png", "jpeg", "gif", "webp"],
        "document": ["pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"],
        "video": ["mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"],
    }
    for kind, forms in known.items():
        for form in forms:
            media = content_pb2.MediaBlock(mime_type=media_type(kind, form), data=b"x")
            assert kind_of(media) == (kind, form)


# -- what nobody knows yet


def test_blocks_of_unknown_kinds_are_kept_verbatim() -> None:
    """Guarded text, a cache point, a document of text and whatever comes next are opaque, as they stood."""
    content: list[Json] = [
        {"guardContent": {"text": {"text": "x"}}},
        {"cachePoint": {"type": "default"}},
        {"document": {"name": "d", "source": {"text": "words"}}},
        {"hologram": {"depth": 1.50}},
    ]
    answer = whole(content)
    assert [(block.opaque.type, json.loads(block.opaque.json)) for block in answer.blocks] == [
        (next(iter(told)), told) for told in content
    ]


@pytest.mark.parametrize(
    ("events", "said"),
    [
        ([start(0, {"hologram": {"depth": 1}})], {"hologram": {"depth": 1}}),
        ([delta(0, {"hologram": {"data": "ab"}})], {"hologram": {"data": "ab"}}),
        (
            [delta(0, {"hologram": {"depth": 1, "data": "ab"}}), delta(0, {"hologram": {"depth": 2}})],
            {"hologram": {"depth": 2, "data": "ab"}},
        ),
        (
            [
                start(0, {"hologram": {"depth": 1}}),
                delta(0, {"hologram": {"data": "ab", "parts": [1]}}),
                delta(0, {"hologram": {"data": "cd", "parts": [2]}}),
            ],
            {"hologram": {"depth": 1, "data": "abcd", "parts": [1, 2]}},
        ),
    ],
)
def test_streamed_blocks_of_unknown_kinds_are_put_together(events: list[bytes], said: Json) -> None:
    """The start and the deltas of an unknown block become the block that a whole answer would hold."""
    (block,) = streamed(*events, stop(0)).blocks
    assert block.opaque.type == "hologram"
    assert json.loads(block.opaque.json) == said


def test_unknown_members_stay_with_their_block_or_their_answer() -> None:
    """Members that no field has are metadata: of events and deltas with their block, the others with the end."""
    answer = streamed(
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": "a", "mood": "b"}, "speed": 1}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"mood": "c", "tags": ["x"]}}),
        event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"tags": ["y"]}}),
        event("contentBlockStop", {"contentBlockIndex": 0, "seal": True}),
        event("weather", {"sky": "blue"}),
        frame({":event-type": "noise", ":message-type": "event"}, b"no json"),
        frame({":event-type": "initial-response", ":message-type": "event"}, b""),
        frame({":message-type": "whatever"}, b'{"n":1}'),
        stop={"flavour": "sweet"},
        metadata={"colour": "red"},
    )
    assert json.loads(answer.blocks[0].provider_metadata_json) == {
        "mood": "bc",
        "tags": ["x", "y"],
        "speed": 1,
        "seal": True,
    }
    assert metadata_of(answer) == {
        "flavour": "sweet",
        "colour": "red",
        "metrics": {"latencyMs": 1},
        "events": [{"weather": {"sky": "blue"}}, {"noise": "no json"}, {"": {"n": 1}}],
    }


def test_events_without_end_are_not_all_kept() -> None:
    """Above a limit unknown events are left out, and a notice says so once."""
    noise = [event("noise", {"text": "x" * 30_000}) for _ in range(6)]
    translated = ConverseTranslation(context())
    answer = check_stream([translated.feed(stream_of(*noise))])
    assert len(metadata_of(answer)["events"]) == 3
    assert [notice.code for notice in answer.notices] == [chat_pb2.NOTICE_CODE_PROVIDER_WARNING]


@pytest.mark.parametrize(
    ("events", "kind", "kept"),
    [
        ([delta(0, {"reasoningContent": {"text": "a", "mood": "b"}})], "thinking", {"mood": "b"}),
        ([delta(0, {"reasoningContent": {"mood": "b"}})], "thinking", {"mood": "b"}),
        (
            [delta(0, {"reasoningContent": {"redactedContent": "YQ==", "mood": "b"}})],
            "redacted_thinking",
            {"mood": "b"},
        ),
        ([delta(0, {"toolResult": [{"text": "a"}]})], "tool_result", None),
        (
            [start(0, {"toolUse": {"toolUseId": "t", "name": "n", "hue": 1}}), delta(0, {"toolUse": {"tone": 2}})],
            "tool_call",
            {"hue": 1, "tone": 2},
        ),
        (
            [
                start(0, {"image": {"format": "png", "hue": 1}}),
                delta(0, {"image": {"source": {"bytes": "YQ==", "tone": 2}, "alt": "x"}}),
                delta(0, {"image": {"source": {"elsewhere": 3}}}),
            ],
            "media",
            {"hue": 1, "tone": 2, "alt": "x", "source": {"elsewhere": 3}},
        ),
    ],
)
def test_unknown_members_of_any_delta_stay_with_the_block(events: list[bytes], kind: str, kept: Json | None) -> None:
    """Whatever a delta or a start says besides is metadata of its block."""
    (block,) = streamed(*events, stop(0)).blocks
    assert block.WhichOneof("content") == kind
    assert json.loads(block.provider_metadata_json or "null") == kept


def test_arguments_may_come_as_an_object() -> None:
    """Servers like Bedrock stream the arguments as the object itself: its JSON is what the model wrote."""
    answer = streamed(
        start(0, {"toolUse": {"toolUseId": "t", "name": "n"}}), delta(0, {"toolUse": {"input": {"a": [1]}}})
    )
    assert json.loads(answer.blocks[0].tool_call.arguments_json) == {"a": [1]}


def test_one_delta_may_say_two_things() -> None:
    """A delta of reasoning and text gives both, in the order in which they stand."""
    answer = streamed(
        delta(0, {"text": "a"}), delta(0, {"text": "b", "reasoningContent": {"text": "hm"}}), delta(1, {"text": "c"})
    )
    assert [(block.text.text, block.thinking.text) for block in answer.blocks] == [("ab", ""), ("", "hm"), ("c", "")]
