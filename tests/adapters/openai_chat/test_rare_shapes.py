"""Shapes of answers that only single servers have: nothing of them is lost, and each token counts once."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.openai_chat.answers import (
    DIALECTS,
    chunk,
    counted,
    fold,
    said,
    sse,
    streamed,
    text_of,
    translation,
    whole,
)

from execution_platform.adapters.errors import StreamBrokenError
from execution_platform.adapters.openai_api.chat.request import build_chat
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2

ENCRYPTED = {"type": "reasoning", "summary": [{"type": "summary_encrypted_text", "data": "c2VjcmV0"}]}
SIGNED = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}], "signature": "s1", "closed": True}
NEWER = {"type": "thinking", "thinking": [{"type": "sketch", "lines": [1, 2]}]}


def replayed(answer: chat_pb2.CompleteChatResponse, provider: str) -> Any:
    """The message that a server gets back for its own answer."""
    request = chat_pb2.ChatRequest(messages=[answer.message])
    return json.loads(build_chat(Call(request, "m", unary=True), DIALECTS[provider]).body)["messages"][0]


def test_members_of_a_text_part_that_have_no_field_are_kept() -> None:
    """What a text part says besides its text stands in the metadata."""
    part = {"type": "text", "text": "hi", "citations": [{"page": 7}]}
    answer = fold(translation().whole(whole({"content": [part]})))
    assert text_of(answer) == "hi"
    assert json.loads(answer.finished.provider_metadata_json)["message"]["content"] == {"citations": [{"page": 7}]}


def test_words_that_databricks_encrypts_go_back_as_they_came() -> None:
    """An encrypted summary is redacted thinking and is replayed as the part that it was."""
    answer = fold(translation(DIALECTS["databricks"]).whole(whole({"content": [ENCRYPTED]})))
    assert [block.data for block in said(answer, "redacted_thinking")] == [b"c2VjcmV0"]
    assert not said(answer, "thinking")
    assert replayed(answer, "databricks")["content"] == [ENCRYPTED]


@pytest.mark.parametrize("part", [SIGNED, NEWER], ids=["signed", "newer"])
def test_thinking_parts_of_mistral_go_back_as_they_came(part: dict[str, Any]) -> None:
    """The signature of a thinking part, and what it holds besides words, are replayed."""
    answer = fold(translation(DIALECTS["mistral"]).whole(whole({"content": [part]})))
    assert replayed(answer, "mistral")["content"] == [part]


def test_a_signature_of_a_thinking_part_is_state() -> None:
    """A thinking part's signature is the block's state, streamed in a piece of its own or not."""
    pieces = [{**SIGNED, "signature": None}, {"type": "thinking", "thinking": [], "signature": "s1"}]
    chunks = [chunk({"content": [piece]}) for piece in pieces]
    answers = [
        fold(translation(DIALECTS["mistral"]).whole(whole({"content": [SIGNED]}))),
        streamed([sse(*chunks, chunk({}, "stop"))], DIALECTS["mistral"]),
    ]
    for answer in answers:
        states = [(state.kind, state.data) for block in answer.message.content for state in block.states]
        assert states == [("signature", b"s1")]


def test_sources_within_thinking_are_citations() -> None:
    """A reference within a thinking part cites from the place where it stands."""
    inner = [{"type": "text", "text": "hm"}, {"type": "reference", "reference_ids": [4, 5]}]
    answer = fold(translation().whole(whole({"content": [{"type": "thinking", "thinking": inner}]})))
    (block,) = answer.message.content
    assert [(one.source_id, one.text_range.start) for one in block.citations] == [("4", 2), ("5", 2)]


def test_a_delta_of_null_beside_a_message_says_nothing() -> None:
    """The message is read where the delta beside it is null."""
    body = json.loads(whole({"content": "hi"}))
    body["choices"][0]["delta"] = None
    assert text_of(fold(translation().whole(json.dumps(body).encode()))) == "hi"


def test_usage_within_a_choice_counts() -> None:
    """Moonshot tells usage in the last choice; it is used unless the chunk has its own."""
    last = chunk({}, "stop")
    last["choices"][0]["usage"] = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    answer = streamed([sse(chunk({"content": "a"}), last)])
    assert counted(answer.finished.usage) == {("INPUT", "UNSPECIFIED"): 3, ("OUTPUT", "UNSPECIFIED"): 2}


def test_usage_alone_at_the_end_completes_an_answer() -> None:
    """A stream without finish reason and [DONE] is whole where the usage of all came last, broken where not."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    tally = {"id": "c1", "model": "m", "choices": [], "usage": usage}
    answer = streamed([sse(chunk({"content": "a"}), tally, done=False)])
    assert answer.finished.reason == chat_pb2.FINISH_REASON_STOP
    for chunks in ([tally, chunk({"content": "a"})], [chunk({"content": "a"}), tally, chunk({"content": "b"})]):
        with pytest.raises(StreamBrokenError):
            streamed([sse(*chunks, done=False)])


@pytest.mark.parametrize(
    ("total", "cached", "reasoning", "expected"),
    [
        (1060, 1000, 20, (10, 1000, 30, 20)),  # only the cached tokens are beyond the prompt
        (1080, 1000, 20, (10, 1000, 50, 20)),  # both are beyond
        (80, 4, 20, (6, 4, 50, 20)),  # only the reasoning is beyond the answer
        (60, 4, 20, (6, 4, 30, 20)),  # both are inside
        (68, 8, 8, (2, 8, 50, 8)),  # either could be: reasoning is left out more often
    ],
)
def test_what_the_total_shows_to_be_outside_is_counted_once(
    total: int, cached: int, reasoning: int, expected: tuple[int, ...]
) -> None:
    """Of 10 prompt and 50 answer tokens the parts are inside or beyond as the total says, and add up to it."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 50,
        "total_tokens": total,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }
    counts = counted(fold(translation().whole(whole({"content": "a"}, usage=usage))).finished.usage)
    assert tuple(counts[kind, "UNSPECIFIED"] for kind in ("INPUT", "CACHE_READ", "OUTPUT", "REASONING")) == expected
    assert sum(counts.values()) == total
