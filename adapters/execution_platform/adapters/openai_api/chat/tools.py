"""Tools and tool choice of Chat Completions requests."""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.patches import apply_patch, apply_tool_options
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["add_tools"]

_NO_ARGUMENTS = {"type": "object", "properties": {}}


def add_tools(body: dict[str, Any], request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    """Write ``tools``, ``tool_choice`` and ``parallel_tool_calls`` into a body."""
    if "tools" in dialect.unsupported:
        if request.tools:
            notices.param_dropped("tools", f"{dialect.provider} has no tools for this model")
        return
    defined = _defined(request, dialect, notices)
    choice = request.tool_choice
    names = set(choice.allowed_names)
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED and not dialect.named_choice:
        names = {choice.name}
    if names and not dialect.allowed_tools:
        # A model that sees only the allowed tools can choose no other.
        defined = {name: tool for name, tool in defined.items() if name in names}
    if defined:
        body["tools"] = list(defined.values())
    if request.HasField("tool_choice") and "tool_choice" not in dialect.unsupported:
        _add_choice(body, choice, defined, dialect, notices)
    elif request.HasField("tool_choice"):
        notices.param_dropped("tool_choice", f"{dialect.provider} has no such option")
    if request.HasField("parallel_tool_calls"):
        _add_parallel(body, request, dialect, notices)


def _defined(request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> dict[str, Any]:
    defined: dict[str, Any] = {}
    for number, tool in enumerate(request.tools):
        field = f"tools[{number}]"
        if tool.HasField("cache_hint"):
            notices.param_dropped(f"{field}.cache_hint", "this format has no cache breakpoints on tools")
        definition = _definition(tool, field, dialect, notices)
        if definition is not None:
            defined[_name(tool) or field] = apply_tool_options(definition, tool, field)
    return defined


def _name(tool: chat_pb2.Tool) -> str:
    return tool.function.name if tool.WhichOneof("tool") == "function" else tool.provider.name or tool.provider.type


def _definition(tool: chat_pb2.Tool, field: str, dialect: Dialect, notices: Notices) -> dict[str, Any] | None:
    kind = tool.WhichOneof("tool")
    if kind == "function":
        return {"type": "function", "function": _function(tool.function, f"{field}.function", dialect, notices)}
    if kind == "provider" and tool.provider.family in {"", dialect.family, dialect.provider}:
        return _provider_tool(tool.provider, f"{field}.provider", dialect, notices)
    what = "tools of MCP servers" if kind == "mcp_server" else "tools of other providers"
    notices.param_dropped(field, f"{dialect.provider} has no {what} in this format")
    return None


def _function(function: chat_pb2.FunctionTool, field: str, dialect: Dialect, notices: Notices) -> dict[str, Any]:
    definition: dict[str, Any] = {"name": function.name}
    if function.description:
        definition["description"] = function.description
    if function.parameters_json:
        definition["parameters"] = raw_json(function.parameters_json, f"{field}.parameters_json", must_be_object=True)
    else:
        # Several servers refuse a function without parameters; a strict schema must close itself.
        closed = {"additionalProperties": False, "required": []} if function.strict else {}
        definition["parameters"] = _NO_ARGUMENTS | closed
    if function.HasField("strict"):
        if dialect.strict_tools:
            definition["strict"] = function.strict
        else:
            notices.param_dropped(f"{field}.strict", f"{dialect.provider} has no such option")
    return definition


def _provider_tool(
    tool: chat_pb2.ProviderTool, field: str, dialect: Dialect, notices: Notices
) -> dict[str, Any] | None:
    definition: dict[str, Any] = {"name": tool.name} if tool.name else {}
    if tool.config_json:
        definition = apply_patch(definition, tool.config_json, f"{field}.config_json")
    if tool.type != "custom":
        return {"type": tool.type} | definition
    if dialect.custom_tools:
        return {"type": "custom", "custom": definition}
    notices.param_dropped(field, f"{dialect.provider} has no tools that take free text")
    return None


def _add_choice(
    body: dict[str, Any], choice: chat_pb2.ToolChoice, defined: dict[str, Any], dialect: Dialect, notices: Notices
) -> None:
    if not defined:
        if choice.mode in {chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED}:
            notices.param_dropped("tool_choice", "there is no tool to choose")
        return
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NONE:
        body["tool_choice"] = "none"
    elif choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED and dialect.named_choice:
        body["tool_choice"] = _named(choice.name, defined)
    elif choice.allowed_names and dialect.allowed_tools:
        mode = "required" if choice.mode == chat_pb2.TOOL_CHOICE_MODE_REQUIRED else "auto"
        allowed = [_named(name, defined) for name in choice.allowed_names]
        body["tool_choice"] = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    elif choice.mode in {chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED}:
        body["tool_choice"] = dialect.required_choice
    else:
        body["tool_choice"] = "auto"


def _named(name: str, defined: dict[str, Any]) -> dict[str, Any]:
    kind = defined.get(name, {}).get("type", "function")
    if isinstance(kind, msgspec.Raw):
        kind = msgspec.json.decode(kind)
    return {"type": kind, kind: {"name": name}} if kind in {"function", "custom"} else {"type": kind}


def _add_parallel(body: dict[str, Any], request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> None:
    place = dialect.places.get("parallel_tool_calls")
    if place is None or "parallel_tool_calls" in dialect.unsupported:
        notices.param_dropped("parallel_tool_calls", f"{dialect.provider} has no such option")
    elif "tools" in body:
        body[place] = request.parallel_tool_calls
    else:
        notices.param_dropped("parallel_tool_calls", "there are no tools")
