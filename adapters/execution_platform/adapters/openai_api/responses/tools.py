"""Tools and their choice as Responses takes them. Source: openai 3.52, types/responses/tool_param.py, tool_choice_*."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.patches import apply_tool_options, config_fields
from execution_platform.adapters.wire import decode_json, encode_json, raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["write_choice", "write_tools"]

_NO_ARGUMENTS = {"type": "object", "properties": {}, "additionalProperties": False}


def write_tools(request: chat_pb2.ChatRequest, dialect: Dialect, notices: Notices) -> list[dict[str, Any]]:
    """Return the tools, without those of other families.

    Where a server cannot be told which are allowed, it sees only those: it can choose no other.
    """
    tools = []
    for position, tool in enumerate(request.tools):
        path = f"tools[{position}]"
        written = None
        if not _is_ruled_out(tool, request.tool_choice, dialect):
            written = _tool(tool, path, dialect, notices)
        if written is None:
            continue
        if tool.HasField("cache_hint"):
            notices.param_dropped(f"{path}.cache_hint", "tools take no cache breakpoint")
        tools.append(apply_tool_options(written, tool, path))
    return tools


def _is_ruled_out(tool: chat_pb2.Tool, choice: chat_pb2.ToolChoice, dialect: Dialect) -> bool:
    """Tell whether a tool is not allowed, where the server cannot be told so."""
    return bool(choice.allowed_names) and not dialect.allowed_tools and _name(tool) not in choice.allowed_names


def _name(tool: chat_pb2.Tool) -> str:
    match tool.WhichOneof("tool"):
        case "function":
            return tool.function.name
        case "provider":
            return tool.provider.name or tool.provider.type
        case _:
            return tool.mcp_server.name


def _tool(tool: chat_pb2.Tool, path: str, dialect: Dialect, notices: Notices) -> dict[str, Any] | None:
    match tool.WhichOneof("tool"):
        case "function":
            return _function(tool.function, f"{path}.function", dialect, notices)
        case "provider":
            provider = tool.provider
            if provider.family not in ("", dialect.family, dialect.provider):
                notices.param_dropped(path, f"the tool is {provider.family}'s")
                return None
            config = config_fields(provider.config_json, f"{path}.provider.config_json")
            return {"type": provider.type, **({"name": provider.name} if provider.name else {}), **config}
        case _:
            return _mcp(tool.mcp_server, f"{path}.mcp_server")


def _function(function: chat_pb2.FunctionTool, path: str, dialect: Dialect, notices: Notices) -> dict[str, Any]:
    parameters: Any = _NO_ARGUMENTS
    if function.parameters_json:
        parameters = raw_json(function.parameters_json, f"{path}.parameters_json", must_be_object=True)
    written: dict[str, Any] = {"type": "function", "name": function.name, "parameters": parameters}
    if function.description:
        written["description"] = function.description
    if function.HasField("strict") and dialect.strict_tools:
        written["strict"] = function.strict
    elif function.HasField("strict"):
        notices.param_dropped(f"{path}.strict", f"{dialect.provider} has no such option")
    return written


def _mcp(server: chat_pb2.McpServerTool, path: str) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "mcp", "server_label": server.name}
    if server.url:
        written["server_url"] = server.url
    if server.authorization_token:
        written["authorization"] = server.authorization_token
    if server.allowed_tools:
        written["allowed_tools"] = list(server.allowed_tools)
    return written | config_fields(server.config_json, f"{path}.config_json")


def write_choice(
    request: chat_pb2.ChatRequest, tools: Iterable[dict[str, Any]], dialect: Dialect, notices: Notices
) -> Any:
    """Return the choice of tools; None: the provider's default.

    Args:
        request: what is asked.
        tools: as they are written.
        dialect: as spoken to the model.
        notices: where to tell what is left out.
    """
    choice = request.tool_choice
    written = [decode_json(encode_json(tool)) for tool in tools]
    modes = {
        chat_pb2.TOOL_CHOICE_MODE_NONE: "none",
        chat_pb2.TOOL_CHOICE_MODE_REQUIRED: "required",
        chat_pb2.TOOL_CHOICE_MODE_AUTO: "auto",
    }
    mode = modes.get(choice.mode)
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NAMED:
        return _named(choice.name, written, notices)
    if not choice.allowed_names or not dialect.allowed_tools or mode == "none":
        return mode
    allowed = [_reference(tool) for tool in written if _label(tool) in choice.allowed_names]
    return {"type": "allowed_tools", "mode": mode or "auto", "tools": allowed}


def _named(name: str, tools: list[dict[str, Any]], notices: Notices) -> Any:
    for tool in tools:
        if _label(tool) == name:
            return _reference(tool)
    notices.param_dropped("tool_choice.name", f"there is no tool {name!r} for this provider")
    return None


def _label(tool: dict[str, Any]) -> Any:
    return tool.get("name") or tool.get("server_label") or tool.get("type")


def _reference(tool: dict[str, Any]) -> dict[str, Any]:
    """Return how a choice speaks of a tool: by name, by label, or by type alone."""
    keys = {"function": "name", "custom": "name", "namespace": "name", "mcp": "server_label"}
    key = keys.get(tool["type"], "")
    return {"type": tool["type"], **({key: tool.get(key)} if key else {})}
