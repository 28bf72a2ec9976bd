"""Tools and tool choice in Gemini's words."""

from __future__ import annotations

from typing import Any

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.gemini.parts import FAMILY
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_patch, apply_tool_options
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["tool_config", "tools"]


def tools(request: chat_pb2.ChatRequest, notices: Notices) -> list[Any]:
    """Return the tools: neighbouring functions in one declaration list, each other tool on its own.

    Raises:
        InvalidRequestError: a schema or configuration is not JSON.
        UnsupportedOptionError: a tool is not Gemini's, and the request wants that refused.
    """
    found: list[Any] = []
    functions: list[Any] | None = None
    for position, tool in enumerate(request.tools):
        field = f"tools[{position}]"
        if tool.WhichOneof("tool") == "function":
            if functions is None:
                functions = []
                found.append({"functionDeclarations": functions})
            functions.append(apply_tool_options(_function(tool.function, field), tool, field))
            continue
        made = _other(tool, field, notices)
        if made is not None:
            functions = None
            found.append(apply_tool_options(made, tool, field))
    return found


def _function(function: chat_pb2.FunctionTool, field: str) -> dict[str, Any]:
    declaration: dict[str, Any] = {"name": function.name}
    if function.description:
        declaration["description"] = function.description
    if function.parameters_json:
        schema = raw_json(function.parameters_json, f"{field}.function.parameters_json", must_be_object=True)
        declaration["parametersJsonSchema"] = schema
    return declaration


def _other(tool: chat_pb2.Tool, field: str, notices: Notices) -> dict[str, Any] | None:
    if tool.WhichOneof("tool") == "mcp_server":
        return {"mcpServers": [_mcp_server(tool.mcp_server, field, notices)]}
    provider = tool.provider
    if provider.family and provider.family != FAMILY:
        notices.param_dropped(field, f"the tool {provider.type} is one of {provider.family}")
        return None
    config: Any = {}
    if provider.config_json:
        config = raw_json(provider.config_json, f"{field}.provider.config_json", must_be_object=True)
    return {provider.type: config}


def _mcp_server(server: chat_pb2.McpServerTool, field: str, notices: Notices) -> Any:
    if server.allowed_tools:
        notices.param_dropped(f"{field}.mcp_server.allowed_tools", "Gemini offers all tools of an MCP server")
    transport: dict[str, Any] = {"url": server.url}
    if server.authorization_token:
        transport["headers"] = {"Authorization": f"Bearer {server.authorization_token}"}
    made: dict[str, Any] = {"name": server.name, "streamableHttpTransport": transport}
    if server.config_json:
        return apply_patch(made, server.config_json, f"{field}.mcp_server.config_json")
    return made


def tool_config(request: chat_pb2.ChatRequest, notices: Notices) -> dict[str, Any]:
    """Return which tool the model shall call; empty: the model decides.

    Raises:
        InvalidRequestError: NAMED without a name.
        UnsupportedOptionError: an option has no place, and the request wants that refused.
    """
    if request.HasField("parallel_tool_calls") and not request.parallel_tool_calls:
        notices.param_dropped("parallel_tool_calls", "Gemini cannot be kept from calling several tools")
    choice = request.tool_choice
    allowed = list(choice.allowed_names)
    match choice.mode:
        case chat_pb2.TOOL_CHOICE_MODE_NONE:
            mode, allowed = "NONE", []
        case chat_pb2.TOOL_CHOICE_MODE_REQUIRED:
            mode = "ANY"
        case chat_pb2.TOOL_CHOICE_MODE_NAMED:
            if not choice.name:
                raise InvalidRequestError("tool_choice.name: required with NAMED", field="tool_choice.name")
            mode, allowed = "ANY", [choice.name]
        case _:
            mode = _free_mode(request, choice)
    if not mode:
        return {}
    config: dict[str, Any] = {"mode": mode}
    if allowed:
        config["allowedFunctionNames"] = allowed
    return {"functionCallingConfig": config}


def _free_mode(request: chat_pb2.ChatRequest, choice: chat_pb2.ToolChoice) -> str:
    """Return the mode for a free choice: VALIDATED holds calls to their schemas and may be given names, AUTO not."""
    if choice.allowed_names or any(tool.function.strict for tool in request.tools):
        return "VALIDATED"
    return "AUTO" if choice.mode == chat_pb2.TOOL_CHOICE_MODE_AUTO else ""
