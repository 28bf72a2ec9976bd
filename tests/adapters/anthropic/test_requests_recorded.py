"""Recorded requests, turned into ChatRequests and back, say the same."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.adapters.anthropic.reverse import Json, request_of
from tests.adapters.recordings import Record, params, records

from execution_platform.adapters.anthropic.request import build_count, build_request
from execution_platform.adapters.spi import Call

REQUESTS = [record for record in records("open", "anthropic") if record["api"] in {"messages", "count_tokens"}]


def built(record: Record) -> tuple[Json, list[str]]:
    """The body that we make of a recorded one, and the codes of the notices."""
    told = record["request"]["body"]
    call = Call(request_of(told), told.get("model", "model-in-the-path"), unary=not told.get("stream"))
    build = build_count if record["api"] == "count_tokens" else build_request
    wire = build(call, "anthropic")
    return json.loads(wire.body), [f"{notice.field}: {notice.message}" for notice in wire.notices]


# What the recordings say and the contract cannot tell apart from saying nothing, or says in another form:
# - members that are null, `is_error: false`, an empty description, list of tools or of stop sequences: the same as
#   leaving them out;
# - a string of content: one block of text;  `type: custom` of a tool and `stream: false`: the defaults;
# - base64 that the collection has shortened: compared by its shape;
# - `mcp_servers` alone, the form of the first beta: the later form adds a toolset to the tools;
# - the model's name in the path and `anthropic_version` (Vertex): another provider's business, here sent as given.
@pytest.mark.parametrize("record", params(iter(REQUESTS)))
def test_a_recorded_request_comes_back(record: Record) -> None:
    """What a recorded request says is said by the body that is built from its ChatRequest."""
    body, notices = built(record)
    told = record["request"]["body"]
    if "model" not in told:
        told = {**told, "model": "model-in-the-path"}
    assert normal(body) == normal(told), notices
    assert notices == []


def normal(body: Json) -> Json:
    """A body in the form in which two that say the same are equal."""
    body = _without_nothing(body)
    if not body.get("stream"):
        body.pop("stream", None)
    if isinstance(body.get("system"), str):
        body["system"] = [{"type": "text", "text": body["system"]}]
    if not body.get("stop_sequences"):
        body.pop("stop_sequences", None)
    for message in body["messages"]:
        message["content"] = _content(message["content"])
    body["tools"] = [_tool(tool) for tool in body.get("tools", []) if tool.get("type") != "mcp_toolset"]
    return body


def _without_nothing(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nothing(part) for key, part in value.items() if part is not None}
    return [_without_nothing(part) for part in value] if isinstance(value, list) else value


def _tool(tool: Json) -> Json:
    if tool.get("type") == "custom":
        del tool["type"]
    if not tool.get("description"):
        tool.pop("description", None)
    return tool


def _content(content: Any) -> Any:
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for block in content:
        if block["type"] == "tool_result":
            block["content"] = _content(block.get("content", []))
            if not block.get("is_error"):
                block.pop("is_error", None)
        source = block.get("source")
        if isinstance(source, dict) and source.get("type") == "base64":
            source["data"] = "some base64"
    return content
