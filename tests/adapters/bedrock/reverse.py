"""Turns a body of Converse back into a ChatRequest, as a caller would have to write it."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]
Block = content_pb2.ContentBlock

TTLS = {"5m": 300, "1h": 3600}
CHOICES = {
    "auto": chat_pb2.TOOL_CHOICE_MODE_AUTO,
    "any": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "tool": chat_pb2.TOOL_CHOICE_MODE_NAMED,
}
DISPLAYS = {"omitted": chat_pb2.REASONING_DISPLAY_OMITTED, "summarized": chat_pb2.REASONING_DISPLAY_SUMMARY}
ROLES = {
    "user": content_pb2.ROLE_USER,
    "assistant": content_pb2.ROLE_ASSISTANT,
    "system": content_pb2.ROLE_SYSTEM,
}
TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "jpeg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
}


def request_of(body: Json) -> chat_pb2.ChatRequest:
    """The request that says what a body says; what has no field goes into provider_options."""
    rest = copy.deepcopy(body)
    request = chat_pb2.ChatRequest()
    request.system.extend(blocks_of(rest.pop("system", []), ""))
    for message in rest.pop("messages"):
        family = "bedrock" if message["role"] == "assistant" else ""
        content = blocks_of(message["content"], family)
        request.messages.append(content_pb2.Message(role=ROLES[message["role"]], content=content))
    config = rest.pop("toolConfig", {})
    request.tools.extend(tools_of(config.get("tools", [])))
    for kind, choice in config.get("toolChoice", {}).items():
        request.tool_choice.mode = CHOICES[kind]
        request.tool_choice.name = choice.get("name", "")
    _read_sampling(request.sampling, rest.pop("inferenceConfig", {}))
    _read_further(request, rest)
    _read_output(request, rest)
    request.service_tier = rest.pop("serviceTier", {}).get("type", "")
    if rest:
        request.provider_options.add(provider="bedrock", options_json=json.dumps(rest))
    return request


def _read_sampling(sampling: chat_pb2.Sampling, config: Json) -> None:
    for wire, name in (("maxTokens", "max_output_tokens"), ("temperature", "temperature"), ("topP", "top_p")):
        if wire in config:
            setattr(sampling, name, config[wire])
    sampling.stop_sequences.extend(config.get("stopSequences", []))


def _read_further(request: chat_pb2.ChatRequest, rest: Json) -> None:
    further = rest.pop("additionalModelRequestFields", {})
    thinking = further.pop("thinking", None)
    if thinking:
        request.reasoning.enabled = thinking["type"] != "disabled"
        if "budget_tokens" in thinking:
            request.reasoning.budget_tokens = thinking["budget_tokens"]
        request.reasoning.display = DISPLAYS.get(thinking.get("display", ""), chat_pb2.REASONING_DISPLAY_UNSPECIFIED)
    request.reasoning.effort = further.pop("output_config", {}).get("effort", "")
    if further:
        rest["additionalModelRequestFields"] = further


def _read_output(request: chat_pb2.ChatRequest, rest: Json) -> None:
    config = rest.pop("outputConfig", {})
    request.reasoning.effort = config.get("effort", "") or request.reasoning.effort
    if "textFormat" in config:
        told = config["textFormat"]["structure"]["jsonSchema"]
        schema = request.output_format.json_schema
        schema.schema_json, schema.name = told["schema"], told["name"]
        schema.description = told.get("description", "")


def tools_of(tools: list[Json]) -> list[chat_pb2.Tool]:
    """Tools; a cache point belongs to the tool before it."""
    made: list[chat_pb2.Tool] = []
    for told in tools:
        [(kind, definition)] = told.items()
        if kind == "cachePoint":
            _read_hint(made[-1].cache_hint, definition)
            continue
        tool = chat_pb2.Tool()
        if kind == "systemTool":
            tool.provider.family, tool.provider.type = "bedrock", definition["name"]
        else:
            function = tool.function
            function.name, function.description = definition["name"], definition.get("description", "")
            function.parameters_json = json.dumps(definition["inputSchema"]["json"])
            if "strict" in definition:
                function.strict = definition["strict"]
        made.append(tool)
    return made


def _read_hint(hint: content_pb2.CacheHint, point: Json) -> None:
    hint.SetInParent()
    if "ttl" in point:
        hint.ttl.seconds = TTLS[point["ttl"]]


def blocks_of(content: list[Json], family: str) -> list[Block]:
    """Content blocks; a cache point belongs to the block before it."""
    made: list[Block] = []
    for told in content:
        if "cachePoint" in told:
            _read_hint(made[-1].cache_hint, told["cachePoint"])
        else:
            made.append(block_of(told, family))
    return made


def block_of(told: Json, family: str) -> Block:
    """A content block."""
    [(kind, part)] = told.items()
    block = Block(family=family)
    match kind:
        case "text":
            block.text.text = part
        case "guardContent":
            block.text.text = part["text"].pop("text")
            block.provider_metadata_json = json.dumps({"guardContent": part["text"]})
        case "image" | "document" | "video":
            _read_media(block.media, part)
        case "reasoningContent":
            block.thinking.text = part["reasoningText"]["text"]
            block.states.add(kind="signature", data=part["reasoningText"]["signature"].encode())
        case "toolUse":
            call = block.tool_call
            call.call_id, call.name, call.arguments_json = part["toolUseId"], part["name"], json.dumps(part["input"])
            call.provider_type = part.get("type", "")
            by_provider = bool(call.provider_type)
            call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER if by_provider else content_pb2.TOOL_EXECUTOR_CLIENT
        case "toolResult":
            _read_result(block.tool_result, part)
        case _:
            block.opaque.type, block.opaque.json = kind, json.dumps(told)
    return block


def _read_media(media: content_pb2.MediaBlock, part: Json) -> None:
    media.mime_type = TYPES[part["format"]]
    [(kind, source)] = part["source"].items()
    match kind:
        case "bytes":
            media.data = _bytes(source)
        case "text":
            media.data = source.encode()
        case _:
            media.uri = source["uri"]
    media.filename = part.get("name", "")
    if "citations" in part:
        media.citations = part["citations"]["enabled"]


def _bytes(text: str) -> bytes:
    """Base64, or where a recording shortened it, whatever stands there."""
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return text.encode()


def _read_result(result: content_pb2.ToolResultBlock, part: Json) -> None:
    result.call_id = part["toolUseId"]
    result.is_error = part.get("status") == "error"
    if "type" in part:
        result.provider_type = part["type"]
        result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
        result.structured_content_json = json.dumps(part["content"])
        return
    for told in part["content"]:
        if "json" in told:
            result.structured_content_json = json.dumps(told["json"])
        else:
            result.content.append(block_of(told, ""))
