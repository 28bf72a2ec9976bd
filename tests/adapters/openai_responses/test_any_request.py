"""Whatever a caller sends, a body comes out or an error that says why."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.openai.models import DIALECT
from execution_platform.adapters.openai_api.responses.kinds import CALLS, OUTPUTS
from execution_platform.adapters.openai_api.responses.request import build_responses
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

Block = content_pb2.ContentBlock

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
FAMILIES = st.sampled_from(["", "openai", "anthropic"])
TYPES = st.sampled_from(["", *CALLS, *OUTPUTS, "newer_call"])
JSONS = st.sampled_from(
    ["", "{}", '{"a": 1.50}', "[1]", "{", "null", '{"content": [], "status": "x", "part": {"y": 1}}']
)
METADATA = st.sampled_from(["", "{}", '{"summary_index":0}', '{"content_index":1,"phase":"x"}', '{"actions":[]}', "no"])
EXECUTORS = st.sampled_from(list(content_pb2.ToolExecutor.values()))
MEDIA_TYPES = st.sampled_from(["", "image/png", "audio/wav", "video/mp4", "application/pdf"])


def media() -> st.SearchStrategy[content_pb2.MediaBlock]:
    return st.one_of(
        st.builds(content_pb2.MediaBlock, mime_type=MEDIA_TYPES, data=st.binary(max_size=4), detail=WORDS),
        st.builds(content_pb2.MediaBlock, mime_type=MEDIA_TYPES, uri=WORDS, filename=WORDS),
        st.builds(content_pb2.MediaBlock, mime_type=MEDIA_TYPES, file_id=WORDS),
    )


def blocks() -> st.SearchStrategy[Block]:
    state = st.builds(content_pb2.OpaqueState, kind=st.just("encrypted_content"), data=st.binary(max_size=4))
    citation = st.builds(content_pb2.Citation, raw_json=JSONS)
    common = {
        "id": WORDS,
        "family": FAMILIES,
        "provider_metadata_json": METADATA,
        "states": st.lists(state, max_size=1),
        "cache_hint": st.sampled_from([None, content_pb2.CacheHint()]),
    }
    call = st.builds(
        content_pb2.ToolCallBlock,
        call_id=WORDS,
        name=WORDS,
        arguments_json=JSONS,
        arguments_text=st.none() | WORDS,
        executed_by=EXECUTORS,
        provider_type=TYPES,
    )
    text = st.builds(content_pb2.TextBlock, text=WORDS)
    result = st.builds(
        content_pb2.ToolResultBlock,
        call_id=WORDS,
        content=st.lists(st.builds(Block, text=text), max_size=2),
        structured_content_json=JSONS,
        executed_by=EXECUTORS,
        provider_type=TYPES,
        is_error=st.booleans(),
    )
    thinking = st.builds(content_pb2.ThinkingBlock, text=WORDS, is_summary=st.booleans())
    return st.one_of(
        st.builds(Block, text=text, citations=st.lists(citation, max_size=1), **common),
        st.builds(Block, media=media(), **common),
        st.builds(Block, thinking=thinking, **common),
        st.builds(Block, redacted_thinking=st.just(content_pb2.RedactedThinkingBlock(data=b"x")), **common),
        st.builds(Block, tool_call=call, **common),
        st.builds(Block, tool_result=result, **common),
        st.builds(Block, refusal=st.just(content_pb2.RefusalBlock(text="no")), **common),
        st.builds(Block, opaque=st.builds(content_pb2.OpaqueBlock, type=TYPES, json=JSONS), **common),
    )


def requests() -> st.SearchStrategy[chat_pb2.ChatRequest]:
    roles = st.sampled_from([content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_SYSTEM])
    message = st.builds(content_pb2.Message, role=roles, content=st.lists(blocks(), max_size=4), name=WORDS)
    option = st.builds(chat_pb2.ProviderOptions, provider=FAMILIES, options_json=JSONS)
    return st.builds(
        chat_pb2.ChatRequest,
        system=st.lists(blocks(), max_size=2),
        messages=st.lists(message, min_size=1, max_size=3),
        provider_options=st.lists(option, max_size=2),
    )


@given(requests(), st.sampled_from(["gpt-6.1-sol", "gpt-4.1"]))
def test_a_body_or_a_reason(request: chat_pb2.ChatRequest, model: str) -> None:
    """Any conversation becomes a body that is JSON or is refused as the caller's fault, and stays as it is."""
    before = request.SerializeToString(deterministic=True)
    with contextlib.suppress(InvalidRequestError):
        wire = build_responses(Call(request, model), DIALECT.for_model(model))
        assert isinstance(json.loads(wire.body)["input"], list)
        assert all(notice.code and notice.message for notice in wire.notices)
    assert request.SerializeToString(deterministic=True) == before
