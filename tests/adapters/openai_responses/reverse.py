"""Turns a body of Responses back into a ChatRequest, as a caller would have to write it."""

from __future__ import annotations

import base64
import binascii
import copy
import json
from typing import Any

from tests.adapters.openai_responses.answers import answer_to

from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]
Block = content_pb2.ContentBlock

ROLES = {
    "user": content_pb2.ROLE_USER,
    "assistant": content_pb2.ROLE_ASSISTANT,
    "system": content_pb2.ROLE_SYSTEM,
    "developer": content_pb2.ROLE_SYSTEM,
}
MODES = {
    "auto": chat_pb2.TOOL_CHOICE_MODE_AUTO,
    "required": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "none": chat_pb2.TOOL_CHOICE_MODE_NONE,
}
SUMMARIES = {
    "auto": chat_pb2.REASONING_DISPLAY_SUMMARY,
    "concise": chat_pb2.REASONING_DISPLAY_CONCISE_SUMMARY,
    "detailed": chat_pb2.REASONING_DISPLAY_DETAILED_SUMMARY,
}
OWN_DEFAULT = "reasoning.encrypted_content"


def request_of(body: Json) -> chat_pb2.ChatRequest:
    """The request that says what a body says; what has no field goes into provider_options."""
    body = copy.deepcopy(body)
    rest = {key: value for key, value in body.items() if key not in {"model", "stream"}}
    request = chat_pb2.ChatRequest()
    instructions = rest.pop("instructions", None)
    if instructions is not None:
        request.system.add(text=content_pb2.TextBlock(text=instructions))
    _read_input(request, rest.pop("input"))
    request.tools.extend(_tool(tool) for tool in rest.pop("tools", []))
    _read_choice(request, rest.pop("tool_choice", None))
    _read_plain(request, rest)
    _read_reasoning(request, rest)
    _read_text(request, rest)
    _read_include(request, rest)
    if rest.get("store") is False:
        del rest["store"]
    if rest:
        request.provider_options.add(provider="openai", options_json=json.dumps(rest))
    return request


def _read_input(request: chat_pb2.ChatRequest, told: Any) -> None:
    items = [{"role": "user", "content": told}] if isinstance(told, str) else told
    answer: list[Json] = []
    for item in items:
        if "role" not in item and not item["type"].endswith("_output"):
            answer.append(item)
            continue
        if item.get("role") == "assistant" and "id" in item:
            answer.append(item)
            continue
        _end_answer(request, answer)
        if item.get("type", "").endswith("_output"):
            result = content_pb2.ToolResultBlock(call_id=item["call_id"], content=_blocks(item["output"]))
            request.messages.add(role=content_pb2.ROLE_USER, content=[Block(tool_result=result)])
        else:
            request.messages.add(role=ROLES[item["role"]], content=_blocks(item["content"]))
    _end_answer(request, answer)


def _end_answer(request: chat_pb2.ChatRequest, items: list[Json]) -> None:
    """Add what the model said before, as the platform had told it."""
    if items:
        body = json.dumps({"id": "resp", "model": "m", "status": "completed", "output": items}).encode()
        request.messages.append(answer_to(body).message)
        items.clear()


def _blocks(content: Any) -> list[Block]:
    if isinstance(content, str):
        return [Block(text=content_pb2.TextBlock(text=content))]
    return [_block(part) for part in content]


def _block(part: Json) -> Block:
    match part["type"]:
        case "input_text" | "output_text":
            block = Block(text=content_pb2.TextBlock(text=part["text"]))
        case "input_image":
            media = _source(part, "image_url")
            media.detail = part.get("detail", "")
            media.mime_type = media.mime_type or "image/png"
            block = Block(media=media)
        case "input_file":
            media = _source(part, "file_data" if "file_data" in part else "file_url")
            media.filename = part.get("filename", "")
            block = Block(media=media)
        case kind:
            raise AssertionError(kind)
    if "prompt_cache_breakpoint" in part:
        block.cache_hint.SetInParent()
    return block


def _source(part: Json, key: str) -> content_pb2.MediaBlock:
    url = part[key]
    head, _, data = url.partition(";base64,")
    if not url.startswith("data:"):
        return content_pb2.MediaBlock(uri=url)
    try:
        decoded = base64.b64decode(data, validate=True)
    except binascii.Error:
        decoded = b"shortened by the collection"
    return content_pb2.MediaBlock(mime_type=head.removeprefix("data:"), data=decoded)


def _tool(tool: Json) -> chat_pb2.Tool:
    tool = dict(tool)
    kind = tool.pop("type")
    if kind == "function":
        function = chat_pb2.FunctionTool(
            name=tool.pop("name"),
            description=tool.pop("description", None) or "",
            parameters_json=json.dumps(tool.pop("parameters")),
            strict=tool.pop("strict", None),
        )
        return chat_pb2.Tool(function=function, provider_options_json=json.dumps(tool) if tool else "")
    if kind == "mcp":
        server = chat_pb2.McpServerTool(
            name=tool.pop("server_label"),
            url=tool.pop("server_url", ""),
            authorization_token=tool.pop("authorization", ""),
            allowed_tools=tool.pop("allowed_tools", None) or [],
            config_json=json.dumps(tool),
        )
        return chat_pb2.Tool(mcp_server=server)
    provider = chat_pb2.ProviderTool(
        family="openai", type=kind, name=tool.pop("name", ""), config_json=json.dumps(tool)
    )
    return chat_pb2.Tool(provider=provider)


def _read_choice(request: chat_pb2.ChatRequest, choice: Any) -> None:
    if isinstance(choice, str):
        request.tool_choice.mode = MODES[choice]
    elif isinstance(choice, dict) and choice["type"] == "allowed_tools":
        request.tool_choice.mode = MODES[choice["mode"]]
        request.tool_choice.allowed_names.extend(tool["name"] for tool in choice["tools"])
    elif isinstance(choice, dict):
        request.tool_choice.mode = chat_pb2.TOOL_CHOICE_MODE_NAMED
        request.tool_choice.name = choice.get("name") or choice.get("server_label") or choice["type"]


def _read_plain(request: chat_pb2.ChatRequest, rest: Json) -> None:
    for key in ("max_output_tokens", "temperature", "top_p", "top_logprobs"):
        if rest.get(key) is not None:
            setattr(request.sampling, key, rest.pop(key))
    if rest.get("parallel_tool_calls") is not None:
        request.parallel_tool_calls = rest.pop("parallel_tool_calls")
    request.service_tier = rest.pop("service_tier", None) or ""
    request.cache.key = rest.pop("prompt_cache_key", None) or ""
    request.context.end_user_id = rest.pop("safety_identifier", None) or ""


def _read_reasoning(request: chat_pb2.ChatRequest, rest: Json) -> None:
    reasoning = rest.pop("reasoning", None) or {}
    request.reasoning.effort = reasoning.pop("effort", None) or ""
    if reasoning.get("summary"):
        request.reasoning.display = SUMMARIES[reasoning.pop("summary")]
    if reasoning:
        rest["reasoning"] = reasoning


def _read_text(request: chat_pb2.ChatRequest, rest: Json) -> None:
    text = rest.pop("text", None) or {}
    request.output_format.verbosity = text.get("verbosity") or ""
    told = text.get("format") or {}
    match told.get("type"):
        case "text":
            request.output_format.text.SetInParent()
        case "json_object":
            request.output_format.json.SetInParent()
        case "json_schema":
            request.output_format.json_schema.CopyFrom(
                chat_pb2.JsonSchemaFormat(
                    schema_json=json.dumps(told["schema"]),
                    name=told["name"],
                    description=told.get("description") or "",
                    strict=told.get("strict"),
                )
            )
        case _:
            pass


def _read_include(request: chat_pb2.ChatRequest, rest: Json) -> None:
    include = rest.pop("include", None)
    if include and "message.output_text.logprobs" in include:
        include.remove("message.output_text.logprobs")
        request.sampling.logprobs = True
    others = [each for each in include or [] if each != OWN_DEFAULT]
    if others:
        rest["include"] = [*others, *([OWN_DEFAULT] if include and OWN_DEFAULT in include else [])]
