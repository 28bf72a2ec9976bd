"""Tools of a request, from the contract to Converse. Pure.

Sources: ToolConfiguration and what it holds in botocore's service model; "Tool use" of the Amazon Bedrock User Guide.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from execution_platform.adapters.bedrock.families import Maker, ModelFacts
from execution_platform.adapters.bedrock.prompt_blocks import PromptBlocks, WireBlock, is_wire_name
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import apply_tool_options, config_fields
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["parallel_choice", "write_tool_config", "write_tools"]

_NO_ARGUMENTS = {"type": "object", "properties": {}}
_SYSTEM_TOOL = "systemTool"
_FORCED = frozenset({chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED})


def write_tools(
    request: chat_pb2.ChatRequest, family: str, facts: ModelFacts, blocks: PromptBlocks, notices: Notices
) -> list[WireBlock]:
    """Return the tools that the model takes, with cache points behind them.

    Raises:
        InvalidRequestError: JSON in a definition is none, a name is not one that the provider takes, or no tool is
            left to choose among.
        UnsupportedOptionError: a tool must be left out and the request wants that refused.
    """
    written: list[WireBlock] = []
    allowed = set(request.tool_choice.allowed_names)
    for position, tool in enumerate(request.tools):
        path = f"tools[{position}]"
        if facts.tools is False:
            notices.param_dropped(path, "the model calls no tools")
            continue
        kind, definition = _definition(tool, family, facts, path, notices)
        if not kind or (allowed and definition["name"] not in allowed):
            continue
        written.append({kind: apply_tool_options(definition, tool, path)})
        if tool.HasField("cache_hint"):
            _append_cache_point(written, tool, facts, blocks, path, notices)
    if allowed and facts.tools is not False:
        _tell_allowed(written, notices)
    return written


def _append_cache_point(
    written: list[WireBlock],
    tool: chat_pb2.Tool,
    facts: ModelFacts,
    blocks: PromptBlocks,
    path: str,
    notices: Notices,
) -> None:
    if facts.caches is False or facts.caches_tools is False:
        notices.param_dropped(f"{path}.cache_hint", "the model caches no tools")
    else:
        written.append(blocks.cache_point(tool.cache_hint, f"{path}.cache_hint"))


def _tell_allowed(written: list[WireBlock], notices: Notices) -> None:
    if not written:
        message = "tool_choice.allowed_names: names no tool of this request"
        raise InvalidRequestError(message, field="tool_choice.allowed_names")
    # It is honoured, at the price of a prompt that caches less well: never a reason to refuse.
    why = "only the allowed tools are shown to the model"
    notices.add(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, "tool_choice.allowed_names", why)


def _definition(
    tool: chat_pb2.Tool, family: str, facts: ModelFacts, path: str, notices: Notices
) -> tuple[str, dict[str, Any]]:
    """Return the kind of tool and its definition; empty: it is left out."""
    match tool.WhichOneof("tool"):
        case "function":
            return "toolSpec", _function(tool.function, facts, path, notices)
        case "provider" if tool.provider.family in {"", family}:
            own = tool.provider.name if tool.provider.type == _SYSTEM_TOOL else tool.provider.type
            config = config_fields(tool.provider.config_json, f"{path}.provider.config_json")
            return _SYSTEM_TOOL, {"name": own} | config
        case "provider":
            notices.param_dropped(path, f"a tool of {tool.provider.family!r} does not exist at this provider")
        case "mcp_server":
            notices.param_dropped(path, "the provider talks to no MCP servers")
        case _:
            pass
    return "", {}


def _function(function: chat_pb2.FunctionTool, facts: ModelFacts, path: str, notices: Notices) -> dict[str, Any]:
    if not is_wire_name(function.name):
        message = f"{path}.function.name: the provider takes 1 to 64 letters, digits, _ and -"
        raise InvalidRequestError(message, field=f"{path}.function.name")
    definition: dict[str, Any] = {"name": function.name}
    if function.description:
        definition["description"] = function.description
    definition["inputSchema"] = {"json": _NO_ARGUMENTS}
    if function.parameters_json.strip():
        field = f"{path}.function.parameters_json"
        definition["inputSchema"] = {"json": raw_json(function.parameters_json, field, must_be_object=True)}
    if function.strict and facts.schemas is False:
        notices.param_dropped(f"{path}.function.strict", "the model keeps to no schema")
    elif function.HasField("strict"):
        definition["strict"] = function.strict
    return definition


def write_tool_config(
    request: chat_pb2.ChatRequest,
    tools: list[WireBlock],
    tools_used: Iterable[str],
    facts: ModelFacts,
    notices: Notices,
) -> dict[str, Any] | None:
    """Return `toolConfig`; None: there is none.

    The provider refuses calls and results in a conversation without it, and has no choice "none": then tools are
    shown that the request did not want to be called, and a notice says so.

    Raises:
        UnsupportedOptionError: a choice cannot be honoured and the request wants that refused.
    """
    mode = request.tool_choice.mode
    if mode == chat_pb2.TOOL_CHOICE_MODE_NONE:
        if not tools_used:
            return None
        if tools:
            notices.param_adjusted("tool_choice.mode", "the model decides: the provider cannot forbid calls here")
            return {"tools": tools}
    if not tools:
        if mode in _FORCED:
            notices.param_dropped("tool_choice.mode", "there is no tool that the model could be made to call")
        shown = [{"toolSpec": {"name": name, "inputSchema": {"json": _NO_ARGUMENTS}}} for name in tools_used]
        if not shown or facts.tools is False:
            return None
        notices.param_defaulted("tools", "the tools of earlier calls are named: the provider takes no calls otherwise")
        return {"tools": shown}
    config: dict[str, Any] = {"tools": tools}
    choice = _choice(request, facts, notices)
    if choice:
        config["toolChoice"] = choice
    return config


def _choice(request: chat_pb2.ChatRequest, facts: ModelFacts, notices: Notices) -> dict[str, Any] | None:
    mode = request.tool_choice.mode
    taken = facts.forced if mode == chat_pb2.TOOL_CHOICE_MODE_REQUIRED else facts.named
    if mode in _FORCED and taken is False:
        notices.param_adjusted("tool_choice.mode", "the model takes no such forced call; it decides itself")
        return None
    match mode:
        case chat_pb2.TOOL_CHOICE_MODE_REQUIRED:
            return {"any": {}}
        case chat_pb2.TOOL_CHOICE_MODE_NAMED:
            return {"tool": {"name": request.tool_choice.name}}
        case chat_pb2.TOOL_CHOICE_MODE_AUTO:
            return {"auto": {}}
        case _:
            return None


def parallel_choice(
    request: chat_pb2.ChatRequest, choice: dict[str, Any] | None, facts: ModelFacts, notices: Notices
) -> dict[str, Any] | None:
    """Return Claude's own tool choice where one call at a time is asked for; None: nothing is to be said.

    Raises:
        UnsupportedOptionError: it cannot be honoured and the request wants that refused.
    """
    if not request.HasField("parallel_tool_calls"):
        return None
    field = "parallel_tool_calls"
    if request.parallel_tool_calls:
        if facts.parallel is False:
            notices.param_dropped(field, "the model makes one call at a time")
        return None
    if facts.parallel is False:
        return None
    if facts.maker is not Maker.CLAUDE:
        notices.param_dropped(field, "the provider has no such option for this model")
        return None
    kind = next(iter(choice or {"auto": {}}))
    named = {"name": request.tool_choice.name} if kind == "tool" else {}
    return {"type": kind, **named, "disable_parallel_tool_use": True}
