"""Tools of a request, from the contract to the Messages API.

Sources: `types/tool_union_param.py`, `types/beta/beta_mcp_toolset_param.py`, `types/tool_choice_*_param.py` of the
anthropic SDK 2.11.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from execution_platform.adapters.anthropic.models import ModelFacts
from execution_platform.adapters.anthropic.prompt_blocks import PromptBlocks
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_tool_options, config_fields
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["WireTools", "write_tool_choice", "write_tools"]

_NO_ARGUMENTS = {"type": "object", "properties": {}}


@dataclass(slots=True)
class WireTools:
    """The tools as they go out.

    Attributes:
        tools: definitions, MCP toolsets among them.
        mcp_servers: servers that the provider talks to.
    """

    tools: list[dict[str, Any]] = field(default_factory=list)
    mcp_servers: list[dict[str, Any]] = field(default_factory=list)


def write_tools(request: chat_pb2.ChatRequest, family: str, blocks: PromptBlocks, notices: Notices) -> WireTools:
    """Return the tools that the provider takes.

    Raises:
        InvalidRequestError: JSON in a definition is none, or no tool is left to choose among.
        UnsupportedOptionError: a tool must be left out and the request wants that refused.
    """
    wire = WireTools()
    allowed = set(request.tool_choice.allowed_names)
    for position, tool in enumerate(request.tools):
        path = f"tools[{position}]"
        definition = _definition(tool, family, wire, path, notices)
        if definition is None or (allowed and _choice_name(tool) not in allowed):
            continue
        if tool.HasField("cache_hint"):
            definition["cache_control"] = blocks.hint(tool.cache_hint, path)
        wire.tools.append(apply_tool_options(definition, tool, path))
    if allowed:
        _tell_allowed(wire, notices)
    return wire


def _tell_allowed(wire: WireTools, notices: Notices) -> None:
    if not wire.tools:
        message = "tool_choice.allowed_names: names no tool of this request"
        raise InvalidRequestError(message, field="tool_choice.allowed_names")
    # It is honoured, at the price of a prompt that caches less well: never a reason to refuse.
    why = "only the allowed tools are shown to the model"
    notices.add(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, "tool_choice.allowed_names", why)


def _choice_name(tool: chat_pb2.Tool) -> str:
    match tool.WhichOneof("tool"):
        case "function":
            return tool.function.name
        case "provider":
            return tool.provider.name or tool.provider.type
        case _:
            return tool.mcp_server.name


def _definition(
    tool: chat_pb2.Tool, family: str, wire: WireTools, path: str, notices: Notices
) -> dict[str, Any] | None:
    match tool.WhichOneof("tool"):
        case "function":
            return _function(tool.function, path)
        case "provider":
            return _provider_tool(tool.provider, family, path, notices)
        case "mcp_server":
            return _mcp_server(tool.mcp_server, wire, path)
        case _:
            return None


def _function(function: chat_pb2.FunctionTool, path: str) -> dict[str, Any]:
    definition: dict[str, Any] = {"name": function.name}
    if function.description:
        definition["description"] = function.description
    definition["input_schema"] = _NO_ARGUMENTS
    if function.parameters_json.strip():
        field_path = f"{path}.function.parameters_json"
        definition["input_schema"] = raw_json(function.parameters_json, field_path, must_be_object=True)
    if function.HasField("strict"):
        definition["strict"] = function.strict
    return definition


def _provider_tool(tool: chat_pb2.ProviderTool, family: str, path: str, notices: Notices) -> dict[str, Any] | None:
    if tool.family not in {"", family}:
        notices.param_dropped(path, f"a tool of {tool.family!r} does not exist at this provider")
        return None
    definition: dict[str, Any] = {"type": tool.type}
    if tool.name:
        definition["name"] = tool.name
    return definition | config_fields(tool.config_json, f"{path}.provider.config_json")


def _mcp_server(server: chat_pb2.McpServerTool, wire: WireTools, path: str) -> dict[str, Any]:
    definition: dict[str, Any] = {"type": "url", "url": server.url, "name": server.name}
    if server.authorization_token:
        definition["authorization_token"] = server.authorization_token
    wire.mcp_servers.append(definition | config_fields(server.config_json, f"{path}.mcp_server.config_json"))
    toolset: dict[str, Any] = {"type": "mcp_toolset", "mcp_server_name": server.name}
    if server.allowed_tools:
        toolset["default_config"] = {"enabled": False}
        toolset["configs"] = {name: {"enabled": True} for name in server.allowed_tools}
    return toolset


def write_tool_choice(request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> dict[str, Any] | None:
    """Return the choice; None: nothing was asked. There must be tools. Raises like param_adjusted."""
    mode = request.tool_choice.mode
    told = request.HasField("tool_choice")
    if mode in {chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED} and not facts.forced_tools:
        notices.param_adjusted("tool_choice.mode", "the model takes no forced calls; it decides itself")
        mode = chat_pb2.TOOL_CHOICE_MODE_AUTO
    if mode == chat_pb2.TOOL_CHOICE_MODE_NONE:
        return {"type": "none"}
    choice: dict[str, Any] = {"type": "auto"}
    if mode == chat_pb2.TOOL_CHOICE_MODE_REQUIRED:
        choice = {"type": "any"}
    elif mode == chat_pb2.TOOL_CHOICE_MODE_NAMED:
        choice = {"type": "tool", "name": request.tool_choice.name}
    if request.HasField("parallel_tool_calls"):
        choice["disable_parallel_tool_use"] = not request.parallel_tool_calls
        told = True
    return choice if told else None
