"""A ChatRequest as a run of the agent. Pure.

Source: `ClaudeAgentOptions` in `types.py` of claude-agent-sdk 0.2.187.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions

from execution_platform.adapters.claude_agent.errors import OPTION_FIELDS, option_fields
from execution_platform.adapters.claude_agent.options import EFFORTS, RunOptions
from execution_platform.adapters.claude_agent.prompt import Turn, user_message, write_system
from execution_platform.adapters.claude_agent.sessions import Place
from execution_platform.adapters.claude_agent.stream import FAMILY
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.patches import config_fields
from execution_platform.adapters.spi import Call
from execution_platform.adapters.wire import decode_json, raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["AgentRun", "BuiltRun", "build_run"]

#: Longest schema: it goes to the CLI as an argument, and those end at 128 KiB.
_MOST_SCHEMA = 100_000

#: Longest `max_output_tokens` that is one: the CLI reads it as a number of its own.
_MOST_OUTPUT = 1_000_000

_NO_EFFORT = frozenset({"none", "off"})
_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9_-]")

_SAMPLING = ("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty", "seed", "logprobs")
_FORCED = frozenset({chat_pb2.TOOL_CHOICE_MODE_REQUIRED, chat_pb2.TOOL_CHOICE_MODE_NAMED})


@dataclass(frozen=True, slots=True)
class AgentRun:
    """What is run.

    Attributes:
        options: the run's options; where and in which environment it runs is the cage's.
        prompt: messages of the SDK's streaming input; the last one starts the run.
        fields: fields of the request that the program's options come from.
    """

    options: ClaudeAgentOptions
    prompt: tuple[dict[str, Any], ...]
    fields: Mapping[str, str] = field(default_factory=lambda: OPTION_FIELDS)


@dataclass(frozen=True, slots=True)
class BuiltRun:
    """A run, and what has to be known beside it.

    Attributes:
        run: what is run.
        environment: further variables of its environment.
        notices: what could not be honoured, or was filled in.
        resumed: it goes on with a session.
        structured: its answer was asked for in a form of the caller's.
    """

    run: AgentRun
    environment: Mapping[str, str] = field(default_factory=dict)
    notices: tuple[chat_pb2.Notice, ...] = ()
    resumed: bool = False
    structured: bool = False


def build_run(
    call: Call,
    options: RunOptions,
    session_id: str,
    *,
    resumed: tuple[Place, int] | None = None,
    lost: bool = False,
    max_turns: int = 0,
) -> BuiltRun:
    """Return the run for an answer.

    Args:
        call: what is asked.
        options: the request's provider options.
        session_id: the run's own session.
        resumed: where another session is gone on from, and how many messages of the request it holds; None: nowhere.
        lost: the request names a session that is there no more.
        max_turns: most turns where the request does not say; 0: no limit.

    Raises:
        InvalidRequestError: something in the request is not valid; the error names the field.
        UnsupportedOptionError: the provider cannot honour an option, and the request wants that refused.
    """
    notices = Notices(call.request)
    if lost:
        notices.state_dropped("messages", "the session of the earlier turns is not here any more")
    given = ClaudeAgentOptions(
        model=call.model,
        session_id=session_id,
        setting_sources=[],
        strict_mcp_config=True,
        include_partial_messages=True,
        # What callers write is data: it neither names files to read nor commands of the CLI.
        verbatim_prompts=True,
        max_turns=max_turns or None,
    )
    _write_system_prompt(given, call.request, options, notices)
    _write_reasoning(given, call.request.reasoning, notices)
    _write_tools(given, call.request, notices)
    _write_options(given, options)
    _write_tool_choice(given, call.request, notices)
    _write_format(given, call.request, notices)
    environment = _write_sampling(call.request.sampling, notices)
    _drop_the_rest(call.request, notices)
    told = 0
    if resumed is not None:
        place, told = resumed
        given.resume, given.resume_session_at, given.fork_session = place.session_id, place.entry or None, True
    turns = [Turn(message, f"messages[{at}]") for at, message in enumerate(call.request.messages) if at >= told]
    prompt = user_message(turns, FAMILY, notices, resumed=resumed is not None)
    return BuiltRun(
        AgentRun(given, (prompt,), option_fields(options.paths)),
        environment,
        tuple(notices.items),
        resumed=resumed is not None,
        structured=given.output_format is not None,
    )


def _write_system_prompt(
    given: ClaudeAgentOptions, request: chat_pb2.ChatRequest, options: RunOptions, notices: Notices
) -> None:
    """Put the request's instructions behind those of the options; each request's own count, also in a session."""
    told = options.get("system_prompt", {"append": ""})
    system = write_system(request.system, notices)
    parts = [told if isinstance(told, str) else told["append"], system]
    text = "\n\n".join(filter(None, parts))
    if isinstance(told, str):
        given.system_prompt = {"type": "custom", "prompt": text, "snapshot": False}
    elif text:
        given.system_prompt = {"type": "preset", "preset": "claude_code", "append": text, "snapshot": False}
    else:
        given.system_prompt = {"type": "preset", "preset": "claude_code", "snapshot": False}


def _write_reasoning(given: ClaudeAgentOptions, reasoning: chat_pb2.Reasoning, notices: Notices) -> None:
    told_off = reasoning.HasField("enabled") and not reasoning.enabled
    budget = reasoning.budget_tokens if reasoning.HasField("budget_tokens") else None
    effort = reasoning.effort
    if told_off or budget == 0 or effort in _NO_EFFORT:
        given.thinking = {"type": "disabled"}
    elif budget is not None:
        given.thinking = {"type": "enabled", "budget_tokens": budget}
    elif reasoning.enabled or reasoning.display:
        given.thinking = {"type": "adaptive"}
    if effort == "minimal":
        notices.param_adjusted("reasoning.effort", "low is used: the provider's efforts begin there")
        effort = "low"
    if effort in EFFORTS:
        given.effort = effort  # type: ignore[assignment]  # one of the SDK's words
    elif effort and effort not in _NO_EFFORT:
        notices.param_dropped("reasoning.effort", f"the provider's efforts are {', '.join(EFFORTS)}")
    _write_display(given, reasoning.display, notices)


def _write_display(given: ClaudeAgentOptions, display: chat_pb2.ReasoningDisplay.ValueType, notices: Notices) -> None:
    if not display:
        return
    if given.thinking is None or given.thinking["type"] == "disabled":
        notices.param_dropped("reasoning.display", "the model was not asked to think")
        return
    if display in {
        chat_pb2.REASONING_DISPLAY_CONCISE_SUMMARY,
        chat_pb2.REASONING_DISPLAY_DETAILED_SUMMARY,
    }:
        notices.param_adjusted("reasoning.display", "the provider has one length of summary")
    given.thinking["display"] = "omitted" if display == chat_pb2.REASONING_DISPLAY_OMITTED else "summarized"


# -- tools


def _write_tools(given: ClaudeAgentOptions, request: chat_pb2.ChatRequest, notices: Notices) -> None:
    servers: dict[str, Any] = {}
    for position, tool in enumerate(request.tools):
        path = f"tools[{position}]"
        match tool.WhichOneof("tool"):
            case "mcp_server":
                servers[tool.mcp_server.name] = _server(tool.mcp_server, f"{path}.mcp_server")
                given.allowed_tools += _server_tools(tool.mcp_server)
            case "provider" if tool.provider.family in {"", FAMILY}:
                given.allowed_tools.append(_own_tool(tool.provider, path, notices))
            case "provider":
                notices.param_dropped(path, f"a tool of {tool.provider.family!r} does not exist at this provider")
            case _:
                why = "the agent runs its tools itself and cannot call one that the caller runs; use an MCP server"
                notices.param_dropped(path, why)
        _drop_of_tool(tool, path, notices)
    given.mcp_servers = servers


def _server(server: chat_pb2.McpServerTool, path: str) -> dict[str, Any]:
    written: dict[str, Any] = {"type": "http", "url": server.url}
    if server.authorization_token:
        written["headers"] = {"Authorization": f"Bearer {server.authorization_token}"}
    further = {name: decode_json(bytes(raw)) for name, raw in config_fields(server.config_json, path).items()}
    unknown = further.keys() - {"type", "headers"}
    if unknown or further.get("type", "http") not in {"http", "sse"}:
        raise InvalidRequestError(
            f"{path}.config_json: may hold type (http or sse) and headers", field=f"{path}.config_json"
        )
    headers = further.pop("headers", {})
    if not isinstance(headers, dict) or not all(isinstance(value, str) for value in headers.values()):
        raise InvalidRequestError(
            f"{path}.config_json.headers: must be an object of texts", field=f"{path}.config_json"
        )
    written |= further
    if headers:
        written["headers"] = written.get("headers", {}) | headers
    return written


def _server_tools(server: chat_pb2.McpServerTool) -> list[str]:
    """Return the names that the CLI gives a server's tools; those of all of them are the server's own."""
    name = f"mcp__{_NOT_IN_NAMES.sub('_', server.name)}"
    return [f"{name}__{_NOT_IN_NAMES.sub('_', tool)}" for tool in server.allowed_tools] or [name]


def _own_tool(tool: chat_pb2.ProviderTool, path: str, notices: Notices) -> str:
    """Return the name of a tool that the CLI brings, such as Bash; it may be used without asking."""
    if tool.config_json.strip() not in {"", "{}"}:
        notices.param_dropped(f"{path}.provider.config_json", "the agent's tools have no options")
    name = tool.name or tool.type
    if not re.fullmatch(r"\w+", name):
        raise InvalidRequestError(f"{path}.provider.type: {name!r} is no tool's name", field=f"{path}.provider.type")
    return name


def _drop_of_tool(tool: chat_pb2.Tool, path: str, notices: Notices) -> None:
    if tool.HasField("cache_hint"):
        why = "the agent decides itself what is cached"
        notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{path}.cache_hint", why)
    if tool.provider_options_json:
        notices.param_dropped(f"{path}.provider_options_json", "the agent defines its tools itself")


def _write_tool_choice(given: ClaudeAgentOptions, request: chat_pb2.ChatRequest, notices: Notices) -> None:
    choice = request.tool_choice
    if choice.mode == chat_pb2.TOOL_CHOICE_MODE_NONE:
        given.tools, given.allowed_tools, given.mcp_servers = [], [], {}
    elif choice.mode in _FORCED:
        notices.param_dropped("tool_choice.mode", "the agent decides itself which tools it uses")
    if choice.allowed_names:
        notices.param_dropped("tool_choice.allowed_names", "name tools in the provider options allowed_tools and tools")
    if request.HasField("parallel_tool_calls"):
        notices.param_dropped("parallel_tool_calls", "the agent decides itself how many tools it uses at once")


# -- options


def _write_options(given: ClaudeAgentOptions, options: RunOptions) -> None:
    """Put the provider options over what the request says by itself."""
    given.allowed_tools = list(dict.fromkeys([*given.allowed_tools, *options.get("allowed_tools", ())]))
    given.disallowed_tools = list(options.get("disallowed_tools", ()))
    given.tools = options.get("tools")
    # Nobody is there to be asked: what is not allowed is denied, and told.
    given.permission_mode = options.get("permission_mode", "dontAsk")
    given.max_turns = options.get("max_turns", given.max_turns)
    given.max_budget_usd = options.get("max_budget_usd")
    given.fallback_model = options.get("fallback_model")
    given.forward_subagent_text = options.get("forward_subagent_text", False)
    given.effort = options.get("effort", given.effort)
    given.thinking = options.get("thinking", given.thinking)
    given.max_thinking_tokens = options.get("max_thinking_tokens")
    agents = options.get("agents")
    given.agents = {name: AgentDefinition(**members) for name, members in agents.items()} if agents else None
    servers = options.get("mcp_servers", {})
    if isinstance(given.mcp_servers, dict):
        twice = servers.keys() & given.mcp_servers.keys()
        if twice:
            raise options.refuse("mcp_servers", f"{min(twice)!r} is in the request's tools already")
        given.mcp_servers = given.mcp_servers | servers


def _write_format(given: ClaudeAgentOptions, request: chat_pb2.ChatRequest, notices: Notices) -> None:
    output = request.output_format
    match output.WhichOneof("format"):
        case "json":
            notices.param_dropped("output_format.json", "the provider makes JSON only after a schema")
        case "json_schema":
            given.output_format = {"type": "json_schema", "schema": _schema(output.json_schema, notices)}
        case _:
            pass
    if output.verbosity:
        notices.param_dropped("output_format.verbosity", "the provider has no such option")
    for modality in request.output_modalities:
        if modality not in {content_pb2.MODALITY_TEXT, content_pb2.MODALITY_UNSPECIFIED}:
            name = content_pb2.Modality.Name(modality)
            notices.param_dropped("output_modalities", f"the provider answers with text only, not {name}")
    if request.HasField("audio_output"):
        notices.param_dropped("audio_output", "the provider answers with text only")


def _schema(schema: chat_pb2.JsonSchemaFormat, notices: Notices) -> Any:
    path = "output_format.json_schema"
    if len(schema.schema_json) > _MOST_SCHEMA:
        raise InvalidRequestError(
            f"{path}.schema_json: longer than {_MOST_SCHEMA} characters", field=f"{path}.schema_json"
        )
    for name, given in (("description", bool(schema.description)), ("strict", schema.HasField("strict"))):
        if given and not (name == "strict" and schema.strict):
            # The answer is held to the schema all the same: never a reason to refuse.
            why = "the provider has no such option; it always checks against the schema"
            notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{path}.{name}", why)
    return decode_json(bytes(raw_json(schema.schema_json, f"{path}.schema_json", must_be_object=True)))


def _write_sampling(sampling: chat_pb2.Sampling, notices: Notices) -> dict[str, str]:
    """Return the variables that the CLI reads limits from."""
    for name in (*_SAMPLING, "top_logprobs"):
        if sampling.HasField(name):  # type: ignore[arg-type]  # the names are this message's own
            notices.param_dropped(f"sampling.{name}", "the agent does not let it be chosen")
    if sampling.stop_sequences:
        notices.param_dropped("sampling.stop_sequences", "the agent does not let them be chosen")
    if sampling.logit_bias:
        notices.param_dropped("sampling.logit_bias", "the provider has no such option")
    if not sampling.HasField("max_output_tokens"):
        return {}
    why = "it holds for each of the run's model calls, and a call that reaches it is gone on with a few times"
    notices.param_adjusted("sampling.max_output_tokens", why)
    return {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(min(sampling.max_output_tokens, _MOST_OUTPUT))}


def _drop_the_rest(request: chat_pb2.ChatRequest, notices: Notices) -> None:
    if request.service_tier:
        notices.param_dropped("service_tier", "the agent does not let it be chosen")
    for name in ("ttl", "key", "cached_content"):
        given = request.cache.HasField("ttl") if name == "ttl" else bool(getattr(request.cache, name))
        if given:
            notices.param_dropped(f"cache.{name}", "the agent decides itself what is cached")
