"""Turns recorded Chat Completions bodies into ChatRequests, and brings two bodies into one form for comparing."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any

from google.protobuf import duration_pb2

from execution_platform.v1 import chat_pb2, content_pb2

Json = dict[str, Any]

_SAMPLING = (
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "logprobs",
    "top_logprobs",
)

#: Members that the contract has a field for; others travel as provider options.
_FIELDS = {
    "messages",
    "model",
    "stream",
    "stream_options",
    "max_tokens",
    "max_completion_tokens",
    "stop",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "response_format",
    "reasoning_effort",
    "verbosity",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "modalities",
    "audio",
    "user",
    "safety_identifier",
    *_SAMPLING,
}

_MODALITIES = {
    "text": content_pb2.MODALITY_TEXT,
    "audio": content_pb2.MODALITY_AUDIO,
    "image": content_pb2.MODALITY_IMAGE,
}

_CHOICES = {
    "auto": chat_pb2.TOOL_CHOICE_MODE_AUTO,
    "none": chat_pb2.TOOL_CHOICE_MODE_NONE,
    "required": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
    "any": chat_pb2.TOOL_CHOICE_MODE_REQUIRED,
}


def request_of(body: Json, provider: str) -> chat_pb2.ChatRequest:
    """Say in the contract's words what a body says."""
    request = chat_pb2.ChatRequest()
    messages = list(body["messages"])
    while messages and messages[0]["role"] in {"system", "developer"}:
        request.system.extend(_blocks(messages.pop(0)["content"]))
    for message in messages:
        request.messages.append(_message(message, provider))
    for key in _SAMPLING:
        if body.get(key) is not None:
            setattr(request.sampling, key, body[key])
    limit = body.get("max_completion_tokens", body.get("max_tokens"))
    if limit is not None:
        request.sampling.max_output_tokens = limit
    stop = body.get("stop") or []
    request.sampling.stop_sequences.extend([stop] if isinstance(stop, str) else stop)
    _read_tools(request, body)
    _read_output(request, body)
    _read_rest(request, body, provider)
    return request


def _message(told: Json, provider: str) -> content_pb2.Message:
    if told["role"] == "tool":
        result = content_pb2.ToolResultBlock(call_id=told["tool_call_id"], content=_blocks(told["content"]))
        return content_pb2.Message(role=content_pb2.ROLE_USER, content=[content_pb2.ContentBlock(tool_result=result)])
    if told["role"] != "assistant":
        role = content_pb2.ROLE_USER if told["role"] == "user" else content_pb2.ROLE_SYSTEM
        return content_pb2.Message(role=role, name=told.get("name", ""), content=_blocks(told["content"]))
    message = content_pb2.Message(role=content_pb2.ROLE_ASSISTANT)
    if told.get("reasoning_content"):
        thinking = message.content.add(family=provider)
        thinking.thinking.text = told["reasoning_content"]
    message.content.extend(_blocks(told.get("content") or ""))
    for call in told.get("tool_calls") or []:
        block = message.content.add()
        block.tool_call.call_id, block.tool_call.name = call["id"], call["function"]["name"]
        block.tool_call.arguments_json = call["function"]["arguments"]
    return message


def _blocks(content: Any) -> list[content_pb2.ContentBlock]:
    if isinstance(content, str):
        return [content_pb2.ContentBlock(text=content_pb2.TextBlock(text=content))] if content else []
    return [_block(part) for part in content]


def _block(part: Json) -> content_pb2.ContentBlock:
    block = content_pb2.ContentBlock()
    if part["type"] == "text":
        block.text.text = part["text"]
    elif part["type"] == "image_url":
        _read_url(block.media, part["image_url"]["url"])
        block.media.detail = part["image_url"].get("detail", "")
    elif part["type"] == "input_audio":
        block.media.mime_type = f"audio/{part['input_audio']['format']}"
        block.media.data = _bytes(part["input_audio"]["data"])
    elif part["type"] == "file":
        _read_url(block.media, part["file"]["file_data"])
        block.media.filename = part["file"]["filename"]
    else:
        raise NotImplementedError(part["type"])
    hint = part.get("prompt_cache_breakpoint") or part.get("cache_control")
    if hint is not None:
        block.cache_hint.SetInParent()
        if "ttl" in hint:
            block.cache_hint.ttl.CopyFrom(_duration(hint["ttl"]))
    return block


def _read_url(media: content_pb2.MediaBlock, url: str) -> None:
    head, _, data = url.partition(",")
    if url.startswith("data:"):
        media.mime_type = head.removeprefix("data:").removesuffix(";base64")
        media.data = _bytes(data)
    else:
        media.uri = url
        media.mime_type = "application/pdf" if url.endswith(".pdf") else ""


def _bytes(data: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error:  # shortened by the recorder
        return b"elided"


def _duration(ttl: str) -> duration_pb2.Duration:
    return duration_pb2.Duration(seconds=int(ttl[:-1]) * {"m": 60, "h": 3600}[ttl[-1]])


def _read_tools(request: chat_pb2.ChatRequest, body: Json) -> None:
    for told in body.get("tools") or []:
        function = request.tools.add().function
        function.name, function.description = told["function"]["name"], told["function"].get("description", "")
        function.parameters_json = json.dumps(told["function"]["parameters"])
        if "strict" in told["function"]:
            function.strict = told["function"]["strict"]
    choice = body.get("tool_choice")
    if isinstance(choice, str):
        request.tool_choice.mode = _CHOICES[choice]
    elif choice:
        request.tool_choice.mode = chat_pb2.TOOL_CHOICE_MODE_NAMED
        request.tool_choice.name = choice["function"]["name"]
    if "parallel_tool_calls" in body:
        request.parallel_tool_calls = body["parallel_tool_calls"]


def _read_output(request: chat_pb2.ChatRequest, body: Json) -> None:
    form = body.get("response_format") or {}
    if form.get("type") == "json_object":
        request.output_format.json.SetInParent()
    elif form.get("type") == "json_schema":
        schema = form["json_schema"]
        request.output_format.json_schema.schema_json = json.dumps(schema["schema"])
        request.output_format.json_schema.name = schema["name"]
        if "strict" in schema:
            request.output_format.json_schema.strict = schema["strict"]
    request.output_format.verbosity = body.get("verbosity", "")
    request.output_modalities.extend(_MODALITIES[name] for name in body.get("modalities") or [])
    if "audio" in body:
        request.audio_output.voice, request.audio_output.format = body["audio"]["voice"], body["audio"]["format"]


def _read_rest(request: chat_pb2.ChatRequest, body: Json, provider: str) -> None:
    request.reasoning.effort = body.get("reasoning_effort", "")
    request.service_tier = body.get("service_tier", "")
    request.cache.key = body.get("prompt_cache_key", "")
    options = body.get("prompt_cache_options") or {}
    if options.get("mode") == "explicit":
        request.cache.automatic = False
    if "ttl" in options:
        request.cache.ttl.CopyFrom(_duration(options["ttl"]))
    request.context.end_user_id = body.get("safety_identifier") or body.get("user") or ""
    rest = {key: value for key, value in body.items() if key not in _FIELDS}
    if rest:
        request.provider_options.add(provider=provider, options_json=json.dumps(rest))


def alike(body: Json) -> Json:
    """Bring a body into a form in which what means the same looks the same."""
    form = {_SAME_KEYS.get(key, key): value for key, value in body.items() if value is not None}
    form["messages"] = [_alike_message(message) for message in body["messages"]]
    if isinstance(form.get("stop"), str):
        form["stop"] = [form["stop"]]
    form["tools"] = [_alike_tool(tool) for tool in body.get("tools") or []]
    form.pop("stream_options", None)
    return {key: value for key, value in form.items() if value != _DEFAULTS.get(key, [])}


_DEFAULTS: Json = {"stream": False, "tool_choice": "auto", "response_format": {"type": "text"}}


def _alike_tool(tool: Json) -> Json:
    return {**tool, "function": {key: value for key, value in tool["function"].items() if value != ""}}


_SAME_KEYS = {"max_tokens": "max_completion_tokens", "user": "safety_identifier"}


def _alike_message(message: Json) -> Json:
    form = {key: value for key, value in message.items() if value not in (None, "", [])}
    if form["role"] == "developer":
        form["role"] = "system"
    content = form.get("content")
    if isinstance(content, str):
        form["content"] = [{"type": "text", "text": content}]
    elif content:
        form["content"] = [json.loads(_BASE64.sub('"data', json.dumps(part))) for part in content]
    return form


#: Base64 is compared by its place only: recorders shorten it.
_BASE64 = re.compile(
    r'"(?:data:[a-z/-]+;base64,|(?<="data": "))[^"]{40,}|"data:[a-z/-]+;base64,[^"]*|(?<="data": )"[^"]*'
)
