"""Checks a request before anything is spent. Every refusal names the field and the fix."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from google.protobuf import duration_pb2
from google.protobuf.message import Message

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.v1 import capability_pb2, chat_pb2, content_pb2

__all__ = ["check_chat", "check_tool_choice"]

_PERSONA = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
_TOOL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,128}\Z")
_SCHEMA_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
_MAX_LABELS = 32
_MAX_LABEL_CHARACTERS = 128
_MAX_DEPTH = 8

#: Most entries of a list of ChatRequest.routing.
_MAX_ROUTES = 16
_MAX_NAME_CHARACTERS = 512

#: Sampling fields with their smallest and largest value, both allowed.
_SAMPLING_RANGES = {
    "max_output_tokens": (1, 2**31 - 1),
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "top_k": (1, 2**31 - 1),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "top_logprobs": (0, 20),
}


def check_chat(request: chat_pb2.ChatRequest, *, needs_messages: bool = True) -> None:
    """Check a request, but for its choice of a tool, which may be one that the persona brings.

    Args:
        request: the request.
        needs_messages: refuse a chat in which nothing is said.

    Raises:
        InvalidRequestError: a field is wrong; the error's ``field`` is its path.
    """
    _check_enums(request, "", _MAX_DEPTH)
    _check_identity(request)
    for index, block in enumerate(request.system):
        _check_block(block, f"system[{index}]", _MAX_DEPTH)
    if needs_messages and not request.messages:
        _refuse("messages", "must hold at least one message")
    _check_messages(request)
    _check_tools(request)
    _check_sampling(request.sampling)
    _check_output(request)
    _check_context(request.context)
    _check_cache(request)
    _check_routing(request.routing)
    for index, options in enumerate(request.provider_options):
        path = f"provider_options[{index}]"
        if not options.provider:
            _refuse(f"{path}.provider", "name the provider that the options are for")
        _check_json(options.options_json, f"{path}.options_json", needs_object=True, required=True)


def check_tool_choice(request: chat_pb2.ChatRequest) -> None:
    """Check that a request chooses among the tools that it has.

    Raises:
        InvalidRequestError: it does not; the error's ``field`` is the path.
    """
    choice = request.tool_choice
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED and not choice.name:
        _refuse("tool_choice.name", "must name the tool for NAMED")
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_REQUIRED and not request.tools:
        _refuse("tool_choice.mode", "REQUIRED needs at least one tool in tools")
    wanted = [choice.name] if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED else list(choice.allowed_names)
    if not wanted or any(tool.WhichOneof("tool") != "function" for tool in request.tools):
        return  # tools of providers and MCP servers bring names that only the provider knows
    names = {tool.function.name for tool in request.tools}
    for name in wanted:
        if name not in names:
            _refuse("tool_choice", f"names {name!r}, which is not in tools")


def _refuse(field: str, why: str) -> None:
    raise InvalidRequestError(f"{field}: {why}", field=field)


def _check_identity(request: chat_pb2.ChatRequest) -> None:
    if request.request_id:
        try:
            canonical = str(uuid.UUID(request.request_id))
        except ValueError:
            canonical = ""
        if canonical != request.request_id.lower():
            _refuse("request_id", "must be a UUID such as 0b5f1d6e-6a0b-4c59-9f0c-0a3b6d1a2c4e, or empty")
    if request.persona and not _PERSONA.match(request.persona):
        _refuse("persona", "must be 1 to 128 letters, digits, '_', '-' or '.'")
    if len(request.model) > 512:
        _refuse("model", "is longer than 512 characters")


def _check_messages(request: chat_pb2.ChatRequest) -> None:
    for index, message in enumerate(request.messages):
        path = f"messages[{index}]"
        if message.role == content_pb2.ROLE_UNSPECIFIED:
            _refuse(f"{path}.role", "must be ROLE_USER, ROLE_ASSISTANT or ROLE_SYSTEM")
        if not message.content and message.role != content_pb2.ROLE_ASSISTANT:
            _refuse(f"{path}.content", "must hold at least one block")
        for at, block in enumerate(message.content):
            _check_block(block, f"{path}.content[{at}]", _MAX_DEPTH)


def _check_block(block: content_pb2.ContentBlock, path: str, depth: int) -> None:
    if depth == 0:
        _refuse(path, f"blocks are nested deeper than {_MAX_DEPTH}")
    kind = block.WhichOneof("content")
    if kind is None:
        _refuse(path, "has no content: set one of text, media, tool_call, tool_result ...")
    elif kind == "media":
        _check_media(block.media, f"{path}.media")
    elif kind == "tool_call":
        _check_tool_call(block.tool_call, f"{path}.tool_call")
    elif kind == "tool_result":
        result = block.tool_result
        if not result.call_id:
            _refuse(f"{path}.tool_result.call_id", "must name the call that it answers")
        _check_json(result.structured_content_json, f"{path}.tool_result.structured_content_json")
        for index, inner in enumerate(result.content):
            _check_block(inner, f"{path}.tool_result.content[{index}]", depth - 1)
    elif kind == "opaque":
        _check_json(block.opaque.json, f"{path}.opaque.json", required=True)
    _check_json(block.provider_metadata_json, f"{path}.provider_metadata_json", needs_object=True)
    if block.HasField("cache_hint"):
        _check_duration(block.cache_hint.ttl, f"{path}.cache_hint.ttl")


def _check_media(media: content_pb2.MediaBlock, path: str) -> None:
    source = media.WhichOneof("source")
    if source is None:
        _refuse(path, "has no source: set data, uri or file_id")
    if source == "data" and not media.mime_type:
        _refuse(f"{path}.mime_type", "must be set for data, for example image/png")
    if media.mime_type and not re.match(r"[\w.+-]+/[\w.+*-]+", media.mime_type):
        _refuse(f"{path}.mime_type", "must be a media type such as image/png")
    if source in {"uri", "file_id"} and not getattr(media, source):
        _refuse(f"{path}.{source}", "must not be empty")


def _check_tool_call(call: content_pb2.ToolCallBlock, path: str) -> None:
    if not call.call_id:
        _refuse(f"{path}.call_id", "must be set")
    if not call.name:
        _refuse(f"{path}.name", "must be set")
    if call.arguments_json and call.HasField("arguments_text"):
        _refuse(f"{path}.arguments_text", "excludes arguments_json")


def _check_tools(request: chat_pb2.ChatRequest) -> None:
    names: set[str] = set()
    for index, tool in enumerate(request.tools):
        path = f"tools[{index}]"
        name = _check_tool(tool, path)
        if name and name in names:
            _refuse(path, f"the name {name!r} is taken by another tool")
        names.add(name)
        _check_json(tool.provider_options_json, f"{path}.provider_options_json", needs_object=True)
        if tool.HasField("cache_hint"):
            _check_duration(tool.cache_hint.ttl, f"{path}.cache_hint.ttl")


def _check_tool(tool: chat_pb2.Tool, path: str) -> str:
    kind = tool.WhichOneof("tool")
    if kind is None:
        _refuse(path, "is empty: set function, provider or mcp_server")
    if kind == "function":
        if not _TOOL_NAME.match(tool.function.name):
            _refuse(f"{path}.function.name", "must be 1 to 128 letters, digits, '_', '-' or '.'")
        _check_json(tool.function.parameters_json, f"{path}.function.parameters_json", needs_object=True)
        return tool.function.name
    if kind == "provider":
        if not tool.provider.type:
            _refuse(f"{path}.provider.type", "must be the provider's type of the tool")
        _check_json(tool.provider.config_json, f"{path}.provider.config_json", needs_object=True)
        return tool.provider.name
    if not tool.mcp_server.name:
        _refuse(f"{path}.mcp_server.name", "must be set")
    _check_json(tool.mcp_server.config_json, f"{path}.mcp_server.config_json", needs_object=True)
    return ""


def _check_sampling(sampling: chat_pb2.Sampling) -> None:
    for name, (low, high) in _SAMPLING_RANGES.items():
        if sampling.HasField(name):  # type: ignore[arg-type]  # the names are this message's own
            value = getattr(sampling, name)
            if not low <= value <= high:
                _refuse(f"sampling.{name}", f"must be {low} to {high}, not {value}")
    for index, text in enumerate(sampling.stop_sequences):
        if not text:
            _refuse(f"sampling.stop_sequences[{index}]", "must not be empty")
    for token, bias in sampling.logit_bias.items():
        if not -100 <= bias <= 100:
            _refuse(f"sampling.logit_bias[{token}]", f"must be -100 to 100, not {bias}")


def _check_output(request: chat_pb2.ChatRequest) -> None:
    if request.reasoning.HasField("budget_tokens") and request.reasoning.budget_tokens < 0:
        _refuse("reasoning.budget_tokens", "must be 0 or more")
    output = request.output_format
    if output.HasField("json_schema"):
        _check_json(
            output.json_schema.schema_json, "output_format.json_schema.schema_json", needs_object=True, required=True
        )
        if output.json_schema.name and not _SCHEMA_NAME.match(output.json_schema.name):
            _refuse("output_format.json_schema.name", "must be 1 to 64 letters, digits, '_' or '-'")
    for index, modality in enumerate(request.output_modalities):
        if modality == content_pb2.MODALITY_UNSPECIFIED:
            _refuse(f"output_modalities[{index}]", "must be a modality such as MODALITY_TEXT")


def _check_context(context: chat_pb2.CallContext) -> None:
    if len(context.labels) > _MAX_LABELS:
        _refuse("context.labels", f"holds more than {_MAX_LABELS} labels")
    for key, value in context.labels.items():
        if not key or len(key) > _MAX_LABEL_CHARACTERS or len(value) > _MAX_LABEL_CHARACTERS:
            _refuse("context.labels", f"keys and values must have 1 to {_MAX_LABEL_CHARACTERS} characters")


def _check_cache(request: chat_pb2.ChatRequest) -> None:
    if request.cache.HasField("ttl"):
        _check_duration(request.cache.ttl, "cache.ttl")


def _check_routing(routing: chat_pb2.Routing) -> None:
    for name in ("fallback_models", "allowed_providers", "allowed_regions"):
        values = getattr(routing, name)
        if len(values) > _MAX_ROUTES:
            _refuse(f"routing.{name}", f"holds more than {_MAX_ROUTES} names")
        for index, value in enumerate(values):
            if not 0 < len(value) <= _MAX_NAME_CHARACTERS:
                _refuse(f"routing.{name}[{index}]", f"must have 1 to {_MAX_NAME_CHARACTERS} characters")
    if routing.HasField("first_token_timeout"):
        _check_time(routing.first_token_timeout, "routing.first_token_timeout")
    if routing.HasField("idle_timeout"):
        _check_time(routing.idle_timeout, "routing.idle_timeout")
    for index, capability in enumerate(routing.required_capabilities):
        if capability == capability_pb2.CAPABILITY_UNSPECIFIED:
            _refuse(f"routing.required_capabilities[{index}]", "must be a capability such as CAPABILITY_TOOLS")


def _check_time(duration: duration_pb2.Duration, path: str) -> None:
    _check_duration(duration, path)
    if not duration.seconds and not duration.nanos:
        _refuse(path, "must be above 0")


def _check_duration(duration: duration_pb2.Duration, path: str) -> None:
    if duration.seconds < 0 or duration.nanos < 0 or duration.nanos >= 10**9 or duration.seconds > 315_576_000_000:
        _refuse(path, "must be a duration of 0 or more")


def _check_json(text: str, path: str, *, needs_object: bool = False, required: bool = False) -> None:
    if not text:
        if required:
            _refuse(path, "must hold JSON")
        return
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{path}: not valid JSON ({error})", field=path) from error
    if needs_object and not isinstance(value, dict):
        _refuse(path, "must be a JSON object")


def _check_enums(message: Message, path: str, depth: int) -> None:
    """Refuse enum numbers that the contract does not know, and floats that are not numbers, wherever they are."""
    for field, value in message.ListFields():
        here = f"{path}.{field.name}" if path else field.name
        if field.message_type is not None:
            if field.message_type.GetOptions().map_entry:
                _check_map(value, here)
            elif depth > 0:
                for inner, at in _each(value, here, repeated=field.is_repeated):
                    _check_enums(inner, at, depth - 1)
        elif field.enum_type is not None:
            for number, at in _each(value, here, repeated=field.is_repeated):
                if number not in field.enum_type.values_by_number:
                    _refuse(at, f"{number} is not a value of {field.enum_type.name}")
        elif isinstance(value, float) and not math.isfinite(value):
            _refuse(here, "must be a finite number")


def _check_map(values: Mapping[Any, Any], path: str) -> None:
    for key, value in values.items():
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(f"{path}[{key}]", "must be a finite number")


def _each(value: Any, path: str, *, repeated: bool) -> Iterable[tuple[Any, str]]:
    if not repeated:
        return [(value, path)]
    return [(inner, f"{path}[{index}]") for index, inner in enumerate(value)]
