"""Turns a body of the Messages API back into a ChatRequest, as a caller would have to write it."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from google.protobuf import duration_pb2

from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]

TTLS = {"5m": 300, "1h": 3600}
CHOICES = {
    "auto": chat_pb2.TOOL_CHOICE_MODE_AUTO,
    "any": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "tool": chat_pb2.TOOL_CHOICE_MODE_NAMED,
    "none": chat_pb2.TOOL_CHOICE_MODE_NONE,
}
DISPLAYS = {"omitted": chat_pb2.REASONING_DISPLAY_OMITTED, "summarized": chat_pb2.REASONING_DISPLAY_SUMMARY}
ROLES = {
    "user": content_pb2.ROLE_USER,
    "assistant": content_pb2.ROLE_ASSISTANT,
    "system": content_pb2.ROLE_SYSTEM,
}


def request_of(body: Json) -> chat_pb2.ChatRequest:
    """The request that says what a body says; what has no field goes into provider_options."""
    body = copy.deepcopy(body)
    rest = {key: value for key, value in body.items() if key not in {"model", "stream", "messages"}}
    request = chat_pb2.ChatRequest()
    request.system.extend(blocks_of(rest.pop("system", []), ""))
    for message in body["messages"]:
        family = "anthropic" if message["role"] == "assistant" else ""
        content = blocks_of(message["content"], family)
        request.messages.append(content_pb2.Message(role=ROLES[message["role"]], content=content))
    servers = {server["name"]: server for server in rest.pop("mcp_servers", [])}
    request.tools.extend(tool_of(tool, servers) for tool in rest.pop("tools", []))
    toolsets = {tool.mcp_server.name for tool in request.tools if tool.HasField("mcp_server")}
    request.tools.extend(server_of(server) for name, server in servers.items() if name not in toolsets)
    _read_choice(request, rest.pop("tool_choice", None))
    _read_sampling(request.sampling, rest)
    _read_reasoning(request, rest)
    cache = rest.pop("cache_control", None)
    if cache:
        request.cache.automatic = True
        if "ttl" in cache:
            _read_ttl(request.cache.ttl, cache)
    request.service_tier = rest.pop("service_tier", "")
    request.context.end_user_id = (rest.get("metadata") or {}).get("user_id", "")
    rest.pop("metadata", None)
    if rest:
        request.provider_options.add(provider="anthropic", options_json=json.dumps(rest))
    return request


def _read_sampling(sampling: chat_pb2.Sampling, rest: Json) -> None:
    if "max_tokens" in rest:
        sampling.max_output_tokens = rest.pop("max_tokens")
    for name in ("temperature", "top_p", "top_k"):
        if rest.get(name) is not None:
            setattr(sampling, name, rest.pop(name))
    sampling.stop_sequences.extend(rest.pop("stop_sequences", None) or [])


def _read_reasoning(request: chat_pb2.ChatRequest, rest: Json) -> None:
    thinking = rest.pop("thinking", None)
    if thinking:
        request.reasoning.enabled = thinking["type"] != "disabled"
        if "budget_tokens" in thinking:
            request.reasoning.budget_tokens = thinking["budget_tokens"]
        request.reasoning.display = DISPLAYS.get(thinking.get("display", ""), chat_pb2.REASONING_DISPLAY_UNSPECIFIED)
    config = rest.pop("output_config", None) or {}
    request.reasoning.effort = config.pop("effort", "")
    form = config.pop("format", None)
    if form:
        request.output_format.json_schema.schema_json = json.dumps(form["schema"])
    if config:
        rest["output_config"] = config


def _read_choice(request: chat_pb2.ChatRequest, choice: Json | None) -> None:
    if choice is None:
        return
    request.tool_choice.mode = CHOICES[choice["type"]]
    request.tool_choice.name = choice.get("name", "")
    if "disable_parallel_tool_use" in choice:
        request.parallel_tool_calls = not choice["disable_parallel_tool_use"]


def _read_ttl(ttl: duration_pb2.Duration, cache: Json) -> None:
    ttl.seconds = TTLS[cache["ttl"]]


def tool_of(tool: Json, servers: dict[str, Json]) -> chat_pb2.Tool:
    """A tool, whoever runs it."""
    tool = dict(tool)
    made = chat_pb2.Tool()
    cache = tool.pop("cache_control", None)
    if cache:
        made.cache_hint.SetInParent()
        if "ttl" in cache:
            _read_ttl(made.cache_hint.ttl, cache)
    kind = tool.pop("type", None) or "custom"
    if kind == "mcp_toolset":
        made.CopyFrom(server_of(servers[tool["mcp_server_name"]]))
        return made
    if kind != "custom":
        made.provider.type = kind
        made.provider.family = "anthropic"
        made.provider.name = tool.pop("name", "")
        made.provider.config_json = json.dumps(tool) if tool else ""
        return made
    made.function.name = tool.pop("name")
    made.function.description = tool.pop("description", "")
    made.function.parameters_json = json.dumps(tool.pop("input_schema"))
    if "strict" in tool:
        made.function.strict = tool.pop("strict")
    if tool:
        made.provider_options_json = json.dumps(tool)
    return made


def server_of(server: Json) -> chat_pb2.Tool:
    """A remote MCP server."""
    made = chat_pb2.Tool()
    made.mcp_server.name = server["name"]
    made.mcp_server.url = server["url"]
    made.mcp_server.authorization_token = server.get("authorization_token") or ""
    rest = {key: server[key] for key in server if key not in {"type", "name", "url", "authorization_token"}}
    made.mcp_server.config_json = json.dumps(rest) if rest else ""
    return made


def blocks_of(content: Any, family: str) -> list[content_pb2.ContentBlock]:
    """Content blocks; a string is one block of text."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    return [block_of(block, family) for block in content]


def block_of(told: Json, family: str) -> content_pb2.ContentBlock:
    """A content block."""
    block = content_pb2.ContentBlock(family=family)
    told = dict(told)
    cache = told.pop("cache_control", None)
    if cache:
        block.cache_hint.SetInParent()
        if "ttl" in cache:
            _read_ttl(block.cache_hint.ttl, cache)
    match told["type"]:
        case "text":
            block.text.text = told["text"]
            for citation in told.get("citations") or []:
                block.citations.add(raw_json=json.dumps(citation))
        case "image" | "document" if told["source"]["type"] != "content":
            _read_media(block, told)
        case "thinking":
            block.thinking.text = told["thinking"]
            block.states.add(kind="signature", data=told["signature"].encode())
        case "redacted_thinking":
            block.redacted_thinking.data = told["data"].encode()
        case "tool_use" | "server_tool_use" | "mcp_tool_use":
            _read_call(block, told)
        case "tool_result":
            _read_result(block, told)
        case kind if kind.endswith("_tool_result"):
            _read_provider_result(block, told)
        case "container_upload":
            block.media.file_id = told["file_id"]
            block.provider_metadata_json = '{"type":"container_upload"}'
        case _:
            block.opaque.type = told["type"]
            block.opaque.json = json.dumps(told)
    return block


def _read_media(block: content_pb2.ContentBlock, told: Json) -> None:
    media, source = block.media, told["source"]
    media.mime_type = source.get("media_type") or ("image/png" if told["type"] == "image" else "application/pdf")
    match source["type"]:
        case "base64":
            media.data = _bytes(source["data"])
        case "text":
            media.data = source["data"].encode()
        case "url":
            media.uri = source["url"]
        case "file":
            media.file_id = source["file_id"]
        case kind:
            raise AssertionError(f"no field for a source of type {kind}")
    media.filename = told.get("title") or ""
    if told.get("citations"):
        media.citations = told["citations"]["enabled"]
    if "context" in told:
        block.provider_metadata_json = json.dumps({"context": told["context"]})


def _bytes(text: str) -> bytes:
    """Base64, or where a recording shortened it, whatever stands there."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _read_call(block: content_pb2.ContentBlock, told: Json) -> None:
    client = told["type"] == "tool_use"
    block.tool_call.call_id = told["id"]
    block.tool_call.name = told["name"]
    block.tool_call.arguments_json = json.dumps(told["input"])
    block.tool_call.executed_by = content_pb2.TOOL_EXECUTOR_CLIENT if client else content_pb2.TOOL_EXECUTOR_PROVIDER
    block.tool_call.provider_type = "" if client else told["type"]
    rest = {key: value for key, value in told.items() if key not in {"type", "id", "name", "input"}}
    block.provider_metadata_json = json.dumps(rest) if rest else ""


def _read_result(block: content_pb2.ContentBlock, told: Json) -> None:
    block.tool_result.call_id = told["tool_use_id"]
    block.tool_result.content.extend(blocks_of(told.get("content") or [], ""))
    block.tool_result.is_error = told.get("is_error") or False


def _read_provider_result(block: content_pb2.ContentBlock, told: Json) -> None:
    result = block.tool_result
    result.call_id = told["tool_use_id"]
    result.provider_type = told["type"]
    result.structured_content_json = json.dumps(told["content"])
    result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    rest = {key: value for key, value in told.items() if key not in {"type", "tool_use_id", "content"}}
    block.provider_metadata_json = json.dumps(rest) if rest else ""
