"""A second turn replays what the first one brought, byte for byte."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.bedrock.answers import context, delta, start, stop, stream_of
from tests.adapters.bedrock.reading import Json, read
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters.bedrock.request import build_request
from execution_platform.adapters.bedrock.stream import ConverseTranslation
from execution_platform.adapters.spi import Call
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, content_pb2

CLAUDE = "eu.anthropic.claude-sonnet-4-6"

FIRST: list[Json] = [
    {"reasoningContent": {"reasoningText": {"text": "Let me see.", "signature": "EqQBCgIYAhIkabc+/=="}}},
    {"reasoningContent": {"redactedContent": "EmwKAhgBEgy3va3pzixa"}},
    {"text": "I look it up."},
    {"toolUse": {"toolUseId": "t-1", "name": "nova_grounding", "input": {"q": "x"}, "type": "server_tool_use"}},
    {"toolResult": {"toolUseId": "t-1", "content": [{"json": {"n": 1.0}}], "type": "nova_grounding_result"}},
    {
        "citationsContent": {
            "content": [{"text": "It is so."}],
            "citations": [{"location": {"web": {"url": "https://a.example/", "domain": "a.example"}}}],
        }
    },
    {"reasoningContent": {"reasoningText": {"text": "", "signature": "EpwBsecond"}}},
    {"toolUse": {"toolUseId": "t:2.x", "name": "look", "input": {"z": 1.0, "a": [1e2]}}},
]


def folded(body: bytes, model: str) -> content_pb2.Message:
    """The message that an answer tells, streamed or whole."""
    translated = ConverseTranslation(context(model=model))
    is_whole = body.lstrip().startswith(b"{")
    events = translated.whole(body) if is_whole else [*translated.feed(body), *translated.end()]
    fold = Fold()
    fold.add_all(events)
    return fold.response.message


def replayed(message: content_pb2.Message, model: str) -> tuple[bytes, list[Json], list[str]]:
    """The body of the second turn, the content of the assistant's message in it, and the fields of notices."""
    results = [
        content_pb2.ContentBlock(
            tool_result=content_pb2.ToolResultBlock(
                call_id=part.tool_call.call_id,
                content=[content_pb2.ContentBlock(text=content_pb2.TextBlock(text="42"))],
            )
        )
        for part in message.content
        if part.tool_call.executed_by == content_pb2.TOOL_EXECUTOR_CLIENT
    ]
    question = content_pb2.ContentBlock(text=content_pb2.TextBlock(text="hi"))
    tool = chat_pb2.Tool(function=chat_pb2.FunctionTool(name="look"))
    request = chat_pb2.ChatRequest(
        messages=[
            content_pb2.Message(role=content_pb2.ROLE_USER, content=[question]),
            message,
            content_pb2.Message(role=content_pb2.ROLE_USER, content=results or [question]),
        ],
        tools=[tool] if results else [],
    )
    wire = build_request(Call(request, model), "bedrock", "eu-central-1")
    told = [notice.field for notice in wire.notices]
    messages = json.loads(wire.body)["messages"]
    return wire.body, next((one["content"] for one in messages if one["role"] == "assistant"), []), told


def as_stream(content: list[Json]) -> bytes:
    """The same content as a stream."""
    events: list[bytes] = []
    for index, block in enumerate(content):
        [(kind, part)] = block.items()
        match kind:
            case "text":
                events += [delta(index, {"text": part[:3]}), delta(index, {"text": part[3:]})]
            case "reasoningContent":
                told = part.get("reasoningText", part)
                events += [delta(index, {kind: {key: value}}) for key, value in told.items()]
            case "toolUse":
                head = {key: value for key, value in part.items() if key != "input"}
                events += [start(index, {kind: head}), delta(index, {kind: {"input": json.dumps(part["input"])}})]
            case "toolResult":
                head = {key: value for key, value in part.items() if key != "content"}
                events += [start(index, {kind: head}), delta(index, {kind: part["content"]})]
            case _:
                events += [delta(index, {"text": part["content"][0]["text"]})]
                events += [delta(index, {"citation": one}) for one in part["citations"]]
        events.append(stop(index))
    return stream_of(*events, stop={"stopReason": "tool_use"})


@pytest.mark.parametrize("form", ["whole", "streamed"])
def test_every_kind_of_block_goes_back_as_it_came(form: str) -> None:
    """Thinking, its signatures, calls, results of Bedrock's own tools and citations are sent back unchanged."""
    message = {"output": {"message": {"role": "assistant", "content": FIRST}}, "stopReason": "tool_use", "usage": {}}
    body = json.dumps(message).encode() if form == "whole" else as_stream(FIRST)
    raw, content, told = replayed(folded(body, CLAUDE), CLAUDE)
    assert content == FIRST
    assert told == []
    assert b'{"z": 1.0, "a": [100.0]}' in raw


_BROKEN = ("error", "midstream", "stream_truncated", "eventstream_bad_crc", "eof")


def _answers() -> Iterator[Record]:
    for split in ("open", "documented"):
        for record in records(split, "bedrock"):
            whole = not any(feature.startswith(_BROKEN) for feature in record["features"])
            chats = record["api"] in {"converse", "converse-stream"} and record["response"]["status"] == 200
            if whole and chats and _is_read(body_of(record)):
                yield record


def _is_read(body: bytes) -> bool:
    """Whether a body is one that the independent reading can make something of."""
    try:
        return bool(read(body).content)
    except (AssertionError, ValueError, KeyError):
        return False


@pytest.mark.parametrize("record", params(_answers()))
def test_a_recorded_answer_goes_back_as_it_came(record: Record) -> None:
    """The second turn holds the recorded content, with signatures and encrypted parts byte for byte."""
    body = body_of(record)
    told = read(body).content
    model = record["model"] or CLAUDE
    raw, content, notices = replayed(folded(body, model), model)
    for secret in _secrets(told):
        assert json.dumps(secret, ensure_ascii=False).encode() in raw
    assert content == [_sent(part) for part in told if not _says_nothing(part)]
    assert not [field for field in notices if "content" in field and not _blank(told, field)]


def _secrets(content: list[Json]) -> list[str]:
    reasoning = [part["reasoningContent"] for part in content if "reasoningContent" in part]
    signed = [told["reasoningText"].get("signature") for told in reasoning if "reasoningText" in told]
    return [secret for secret in [*signed, *(told.get("redactedContent") for told in reasoning)] if secret]


def _says_nothing(part: Json) -> bool:
    return not part or not part.get("text", "x").strip()


def _blank(content: list[Json], field: str) -> bool:
    return _says_nothing(content[int(field.rpartition("[")[2].rstrip("]"))])


def _sent(part: Json) -> Any:
    """A block as the request's format has it: without a type of its own, and a call without that of every call."""
    part = {key: value for key, value in part.items() if key != "type"}
    if "toolUse" in part and part["toolUse"].get("type") == "tool_use":
        return {"toolUse": {key: value for key, value in part["toolUse"].items() if key != "type"}}
    return part


def test_reasoning_of_another_maker_stays_behind() -> None:
    """Claude takes none that it did not sign, Nova none that Claude signed, and a notice says so."""
    signed, unsigned = FIRST[0], {"reasoningContent": {"reasoningText": {"text": "hm"}}}
    for model, mine, other in ((CLAUDE, signed, unsigned), ("us.amazon.nova-2-lite-v1:0", unsigned, signed)):
        told = {"output": {"message": {"role": "assistant", "content": [mine, other, {"text": "x"}]}}}
        body = json.dumps({**told, "stopReason": "end_turn", "usage": {}}).encode()
        _, content, notices = replayed(folded(body, model), model)
        assert content == [mine, {"text": "x"}]
        assert notices == ["messages[1].content[1]"]
