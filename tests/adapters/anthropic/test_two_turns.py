"""A second turn replays what the first one brought, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.anthropic.reading import Json, read
from tests.adapters.anthropic.wire import START, STOP, block, delta, folded, sse, text, translation
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters.anthropic.request import build_request
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

FIRST: list[Json] = [
    {"type": "thinking", "thinking": "Let me see.", "signature": "EqQBCgIYAhIkabc+/=="},
    {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3pzix"},
    {"type": "text", "text": "I look it up."},
    {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    {
        "type": "web_search_tool_result",
        "tool_use_id": "srvtoolu_1",
        "content": [{"type": "web_search_result", "encrypted_content": "EqgfCioIARgB", "url": "https://a.example/"}],
        "caller": {"type": "direct"},
    },
    {"type": "mcp_tool_use", "id": "mcptoolu_1", "name": "echo", "server_name": "s", "input": {"m": 1}},
    {
        "type": "mcp_tool_result",
        "tool_use_id": "mcptoolu_1",
        "is_error": False,
        "content": [{"type": "text", "text": "1"}],
    },
    {"type": "fallback", "from": {"model": "a"}, "to": {"model": "b"}, "trigger": None},
    {"type": "compaction", "content": "so far", "encrypted_content": None, "signature": "sig"},
    {"type": "thinking", "thinking": "", "signature": "EpwBsecond"},
    {"type": "container_upload", "file_id": "file_1"},
    {
        "type": "tool_use",
        "id": "toolu_1",
        "name": "look",
        "input": {"z": 1.0, "a": [1e2]},
        "caller": {"type": "code_execution_20260120", "tool_id": "srvtoolu_1"},
    },
]


def answer_of(body: bytes) -> content_pb2.Message:
    """The message that a body tells, streamed or whole."""
    translated = translation()
    if body.lstrip().startswith(b"{"):
        return folded(translated.whole(body)).message
    return folded([*translated.feed(body), *translated.end()]).message


def replayed(message: content_pb2.Message) -> tuple[bytes, list[Json]]:
    """The body of the second turn, and the content of the assistant's message in it."""
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
    request = chat_pb2.ChatRequest(
        messages=[
            content_pb2.Message(role=content_pb2.ROLE_USER, content=[question]),
            message,
            content_pb2.Message(role=content_pb2.ROLE_USER, content=results or [question]),
        ]
    )
    wire = build_request(Call(request, "claude-opus-5"), "anthropic")
    assert [notice.field for notice in wire.notices] == ["sampling.max_output_tokens"]
    return wire.body, json.loads(wire.body)["messages"][1]["content"]


def as_stream(content: list[Json]) -> bytes:
    """The same content as a stream."""
    events: list[Json] = []
    for index, part in enumerate(content):
        match part["type"]:
            case "thinking":
                start = {"type": "thinking", "thinking": "", "signature": ""}
                words = {"type": "thinking_delta", "thinking": part["thinking"]}
                events += block(index, start, words, {"type": "signature_delta", "signature": part["signature"]})
            case "text":
                events += text(index, *part["text"])
            case _:
                events += block(index, part)
    return sse(START, *events, delta("tool_use"), STOP)


@pytest.mark.parametrize("form", ["whole", "streamed"])
def test_every_kind_of_block_goes_back_as_it_came(form: str) -> None:
    """Thinking, its signatures, calls, results of the provider's tools and opaque blocks are sent back unchanged."""
    whole = json.dumps({**START["message"], "content": FIRST, "stop_reason": "tool_use"}).encode()
    _, content = replayed(answer_of(whole if form == "whole" else as_stream(FIRST)))
    assert content == FIRST


def _with_thinking_or_tools(split: str) -> list[Record]:
    wanted = ("thinking", "redacted_thinking", "tool_call", "server_tool_result", "mcp", "compaction", "fallback")
    return [
        record
        for record in records(split, "anthropic", api="messages")
        if record["response"]["status"] == 200
        and any(feature in record["features"] for feature in wanted)
        and not {"error_in_stream", "stop_max_tokens"} & set(record["features"])
        and record["id"] != "doc-anthropic-768acc8ac574"
    ]


@pytest.mark.parametrize(
    "record", params(record for split in ("open", "documented") for record in _with_thinking_or_tools(split))
)
def test_a_recorded_answer_goes_back_as_it_came(record: Record) -> None:
    """The second turn holds the recorded content, its signatures and encrypted parts byte for byte."""
    body = body_of(record)
    raw, content = replayed(answer_of(body))
    told = read(body).message["content"]
    for secret in _secrets(told):
        assert json.dumps(secret, ensure_ascii=False).encode() in raw
    assert content == [_sent(part) for part in told if part.get("text") != ""]


def _secrets(value: Any) -> list[str]:
    if isinstance(value, dict):
        names = ["signature", "encrypted_content", "encrypted_index"]
        names += ["data"] if value.get("type") == "redacted_thinking" else []
        own = [value[name] for name in names if value.get(name)]
        return own + [secret for part in value.values() for secret in _secrets(part)]
    return [secret for part in value for secret in _secrets(part)] if isinstance(value, list) else []


def _sent(part: Json) -> Json:
    """A block as the request's format has it: null and empty members are left out, arguments are an object."""
    if part["type"] in {"compaction", "fallback"} or part["type"].endswith("_tool_result"):
        return part
    sent = {key: value for key, value in part.items() if value is not None and (key, value) != ("citations", [])}
    if isinstance(sent.get("input"), str):
        sent["input"] = json.loads(sent["input"])
    if sent["type"] == "thinking":
        sent.setdefault("signature", "")
    return sent
