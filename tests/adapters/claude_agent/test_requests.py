"""What a request becomes: the SDK's options, and the message that starts the run."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from google.protobuf import duration_pb2

from execution_platform.adapters.claude_agent.options import ALLOWED, read_options
from execution_platform.adapters.claude_agent.sessions import SESSION_STATE, Place
from execution_platform.adapters.claude_agent.stream import FAMILY
from execution_platform.adapters.errors import InvalidRequestError, UnsupportedOptionError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from claude_agent_sdk import ClaudeAgentOptions

from execution_platform.adapters.claude_agent.prompt import last_place
from execution_platform.adapters.claude_agent.request import BuiltRun, build_run

USER, ASSISTANT, SYSTEM = content_pb2.ROLE_USER, content_pb2.ROLE_ASSISTANT, content_pb2.ROLE_SYSTEM
SESSION = "6f0d7a5e-0f43-4a7e-9f6e-0a3a52a1c0de"
ENTRY = "11111111-0f43-4a7e-9f6e-0a3a52a1c0de"


def said(text: str, role: content_pb2.Role.ValueType = USER) -> content_pb2.Message:
    """Return a message of one text."""
    return content_pb2.Message(role=role, content=[content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text))])


def answered(text: str, place: Place | None, family: str = FAMILY) -> content_pb2.Message:
    """Return an answer, with where it ends in its session."""
    message = said(text, ASSISTANT)
    message.content[0].family = family
    if place:
        message.content[0].states.add(kind=SESSION_STATE, data=place.encoded())
    return message


def asked(*messages: content_pb2.Message, **fields: Any) -> chat_pb2.ChatRequest:
    """Return a request."""
    return chat_pb2.ChatRequest(messages=messages or [said("hello")], **fields)


def given(options: dict[str, Any], provider: str = FAMILY) -> chat_pb2.ProviderOptions:
    """Return provider options."""
    return chat_pb2.ProviderOptions(provider=provider, options_json=json.dumps(options))


def built(request: chat_pb2.ChatRequest, *, max_turns: int = 0, lost: bool = False) -> BuiltRun:
    """Return the run of a request, whose session is there unless it is lost."""
    place = last_place(request, FAMILY)
    return build_run(
        Call(request, "sonnet"),
        read_options(request, {FAMILY}),
        SESSION,
        resumed=None if lost else place,
        lost=lost,
        max_turns=max_turns,
    )


def options_of(request: chat_pb2.ChatRequest, **more: Any) -> ClaudeAgentOptions:
    """Return the SDK's options for a request."""
    return built(request, **more).run.options


def content_of(run: BuiltRun) -> list[dict[str, Any]]:
    """Return the blocks of the message that starts a run."""
    [prompt] = run.run.prompt
    content: list[dict[str, Any]] = prompt["message"]["content"]
    return content


def dropped(run: BuiltRun) -> list[str]:
    """Return the fields that notices are about."""
    return [notice.field for notice in run.notices]


def test_a_run_reads_nothing_of_its_own_accord() -> None:
    """No settings, no servers of files, no files or commands named in a prompt; who is not asked is denied."""
    options = options_of(asked())
    assert options.setting_sources == []
    assert options.strict_mcp_config
    assert options.verbatim_prompts
    assert options.include_partial_messages
    assert (options.permission_mode, options.model, options.session_id) == ("dontAsk", "sonnet", SESSION)
    defaults = ClaudeAgentOptions()
    for name in ("cli_path", "cwd", "settings", "hooks", "plugins", "add_dirs", "extra_args", "env", "can_use_tool"):
        assert getattr(options, name) == getattr(defaults, name)


def test_one_message_is_sent_as_it_is() -> None:
    """The prompt of a new conversation is the message's own blocks."""
    assert content_of(built(asked(said("hello")))) == [{"type": "text", "text": "hello"}]


def test_a_session_is_told_only_what_is_new() -> None:
    """A conversation goes on behind the answer's entry, in a session of its own, with the messages that follow."""
    request = asked(said("one"), answered("two", Place(SESSION, ENTRY)), said("three"))
    run = built(request)
    assert content_of(run) == [{"type": "text", "text": "three"}]
    options = run.run.options
    assert (options.resume, options.resume_session_at, options.fork_session) == (SESSION, ENTRY, True)
    assert run.resumed
    assert not run.notices


def test_the_last_session_counts() -> None:
    """Of several answers the last one that names a session is gone on from."""
    first, second = Place(SESSION, ENTRY), Place(ENTRY, SESSION)
    request = asked(said("1"), answered("2", first), said("3"), answered("4", second), said("5"))
    assert last_place(request, FAMILY) == (second, 4)


@pytest.mark.parametrize("data", [b"", b"x", b"../../etc", f"{SESSION}/../x".encode(), b"--resume", b"\xff" * 36])
def test_a_state_that_names_no_session_is_none(data: bytes) -> None:
    """What comes back from a caller and is no session's name is never taken for one."""
    message = said("two", ASSISTANT)
    message.content[0].family = FAMILY
    message.content[0].states.add(kind=SESSION_STATE, data=data)
    assert last_place(asked(said("1"), message, said("3")), FAMILY) is None


def test_another_familys_state_is_no_session() -> None:
    """A state of the same kind in a block of another provider names no session here."""
    assert last_place(asked(said("1"), answered("2", Place(SESSION), "anthropic"), said("3")), FAMILY) is None


def test_nothing_new_means_to_go_on() -> None:
    """An answer that was cut by its most turns is sent back and gone on with, and a notice says how."""
    run = built(asked(said("one"), answered("two", Place(SESSION, ENTRY))))
    assert content_of(run) == [{"type": "text", "text": "Continue from where you left off."}]
    assert [notice.code for notice in run.notices] == [chat_pb2.NOTICE_CODE_PARAM_DEFAULTED]


def test_earlier_turns_are_text_where_there_is_no_session() -> None:
    """Without a session the earlier turns stand before the last message, each with who spoke, and a notice says so."""
    thought = content_pb2.ContentBlock(thinking=content_pb2.ThinkingBlock(text="hm"), family="anthropic")
    called = content_pb2.ContentBlock(
        tool_call=content_pb2.ToolCallBlock(call_id="c1", name="look", arguments_json='{"at":1}')
    )
    result = content_pb2.ContentBlock(tool_result=content_pb2.ToolResultBlock(call_id="c1", name="look", is_error=True))
    result.tool_result.content.add().text.text = "dark"
    request = asked(
        said("one"),
        content_pb2.Message(role=ASSISTANT, content=[thought, called]),
        content_pb2.Message(role=USER, content=[result]),
        said("two", ASSISTANT),
        said("three"),
    )
    run = built(request)
    [first, last] = content_of(run)
    assert first["text"].startswith("What follows is the conversation so far.")
    assert '<user>\none\n</user>\n<assistant>\n[call of the tool look: {"at":1}]\n' in first["text"]
    assert "[failure of the tool look: dark]" in first["text"]
    assert "hm" not in first["text"]
    assert first["text"].endswith("two\n</assistant>\n</conversation>\n\n")
    assert last == {"type": "text", "text": "three"}
    assert dropped(run) == ["messages[1].content[0]", "messages"]


def test_a_lost_session_is_told() -> None:
    """Where the session is gone a notice says so, and the turns go as text."""
    run = built(asked(said("one"), answered("two", Place(SESSION, ENTRY)), said("three")), lost=True)
    assert [notice.code for notice in run.notices] == [
        chat_pb2.NOTICE_CODE_STATE_DROPPED,
        chat_pb2.NOTICE_CODE_BLOCK_DROPPED,
    ]
    assert run.run.options.resume is None
    assert not run.resumed


def test_images_and_documents_go_along() -> None:
    """Images, PDF and plain text are blocks of the message; what the agent cannot take is left out with a notice."""
    blocks = [
        content_pb2.MediaBlock(mime_type="image/png", data=b"\x89PNG"),
        content_pb2.MediaBlock(mime_type="application/pdf", data=b"%PDF", filename="a.pdf"),
        content_pb2.MediaBlock(mime_type="text/plain; charset=utf-8", data="\u00e4".encode()),
        content_pb2.MediaBlock(uri="https://example.org/a.pdf?x=1"),
        content_pb2.MediaBlock(mime_type="audio/wav", data=b"RIFF"),
        content_pb2.MediaBlock(file_id="file_1"),
    ]
    message = content_pb2.Message(role=USER, content=[content_pb2.ContentBlock(media=media) for media in blocks])
    run = built(asked(message))
    encoded = base64.b64encode(b"\x89PNG").decode()
    assert content_of(run) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="},
            "title": "a.pdf",
        },
        {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "\u00e4"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf?x=1"}},
    ]
    assert dropped(run) == ["messages[0].content[4]", "messages[0].content[5]"]


def test_nothing_to_answer_is_refused() -> None:
    """A request whose last message holds nothing that the agent takes is refused before anything is spent."""
    with pytest.raises(InvalidRequestError) as caught:
        built(asked(said("")))
    assert caught.value.field == "messages"


def test_instructions_go_behind_the_agents_own() -> None:
    """The request's instructions are added to Claude Code's prompt; a text of the options takes its place instead."""
    system = [content_pb2.ContentBlock(text=content_pb2.TextBlock(text="Be kind."))]
    code: dict[str, Any] = {"type": "preset", "preset": "claude_code", "snapshot": False}
    assert options_of(asked()).system_prompt == dict(code)
    assert options_of(asked(system=system)).system_prompt == {**code, "append": "Be kind."}
    appended = asked(system=system, provider_options=[given({"system_prompt": {"append": "Be short."}})])
    assert options_of(appended).system_prompt == {**code, "append": "Be short.\n\nBe kind."}
    replaced = asked(system=system, provider_options=[given({"system_prompt": "You are a test."})])
    assert options_of(replaced).system_prompt == {
        "type": "custom",
        "prompt": "You are a test.\n\nBe kind.",
        "snapshot": False,
    }


REASONINGS: list[tuple[chat_pb2.Reasoning, Any, Any]] = [
    (chat_pb2.Reasoning(), None, None),
    (chat_pb2.Reasoning(enabled=False), {"type": "disabled"}, None),
    (chat_pb2.Reasoning(budget_tokens=0), {"type": "disabled"}, None),
    (chat_pb2.Reasoning(effort="none"), {"type": "disabled"}, None),
    (chat_pb2.Reasoning(enabled=True), {"type": "adaptive"}, None),
    (chat_pb2.Reasoning(budget_tokens=4096), {"type": "enabled", "budget_tokens": 4096}, None),
    (chat_pb2.Reasoning(effort="max"), None, "max"),
    (chat_pb2.Reasoning(effort="minimal"), None, "low"),
    (chat_pb2.Reasoning(effort="heroic"), None, None),
    (
        chat_pb2.Reasoning(display=chat_pb2.REASONING_DISPLAY_SUMMARY),
        {"type": "adaptive", "display": "summarized"},
        None,
    ),
]


@pytest.mark.parametrize(("reasoning", "thinking", "effort"), REASONINGS)
def test_reasoning_is_thinking_and_effort(reasoning: chat_pb2.Reasoning, thinking: Any, effort: Any) -> None:
    """How a caller wants the model to reason becomes the SDK's thinking and effort."""
    options = options_of(asked(reasoning=reasoning))
    assert (options.thinking, options.effort) == (thinking, effort)


def test_a_longest_answer_holds_for_each_model_call() -> None:
    """The limit goes to the CLI as its variable, with a notice that it is no limit of the whole run."""
    run = built(asked(sampling=chat_pb2.Sampling(max_output_tokens=500)))
    assert run.environment == {"CLAUDE_CODE_MAX_OUTPUT_TOKENS": "500"}
    assert dropped(run) == ["sampling.max_output_tokens"]
    assert built(asked()).environment == {}


def test_a_schema_is_the_form_of_the_answer() -> None:
    """An answer after a schema is asked of the SDK, and its translation knows to look for it."""
    schema = chat_pb2.JsonSchemaFormat(schema_json='{"type":"object"}', name="answer", strict=True)
    run = built(asked(output_format=chat_pb2.OutputFormat(json_schema=schema)))
    assert run.run.options.output_format == {"type": "json_schema", "schema": {"type": "object"}}
    assert run.structured
    assert not run.notices
    assert not built(asked()).structured


def test_servers_become_the_agents_own() -> None:
    """An MCP server is the agent's with its token in a header, and its tools, or those that are named, may be used."""
    server = chat_pb2.McpServerTool(
        name="my docs", url="https://mcp.example.org", authorization_token="made-up", allowed_tools=["find it"]
    )
    plain = chat_pb2.McpServerTool(name="more", url="https://more.example.org/sse", config_json='{"type": "sse"}')
    options = options_of(asked(tools=[chat_pb2.Tool(mcp_server=server), chat_pb2.Tool(mcp_server=plain)]))
    assert options.mcp_servers == {
        "my docs": {
            "type": "http",
            "url": "https://mcp.example.org",
            "headers": {"Authorization": "Bearer made-up"},
        },
        "more": {"type": "sse", "url": "https://more.example.org/sse"},
    }
    assert options.allowed_tools == ["mcp__my_docs__find_it", "mcp__more"]


def test_the_agents_own_tools_can_be_named() -> None:
    """A provider's tool of this family is one of the CLI's, which may be used then without asking."""
    tools = [chat_pb2.Tool(provider=chat_pb2.ProviderTool(family=FAMILY, type="Bash"))]
    request = asked(tools=tools, provider_options=[given({"allowed_tools": ["Read", "Bash(git log:*, x)"]})])
    assert options_of(request).allowed_tools == ["Bash", "Read", "Bash(git log:*, x)"]


def test_no_tool_may_be_called_where_none_is_chosen() -> None:
    """A tool choice of none leaves the agent without any tool."""
    server = chat_pb2.McpServerTool(name="docs", url="https://mcp.example.org")
    choice = chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_NONE)
    options = options_of(
        asked(
            tools=[chat_pb2.Tool(mcp_server=server)],
            tool_choice=choice,
            provider_options=[given({"tools": ["Bash"], "mcp_servers": {"x": {"command": "x"}}})],
        )
    )
    assert (options.tools, options.mcp_servers, options.allowed_tools) == ([], {}, [])


DROPPED: list[tuple[dict[str, Any], str]] = [
    ({"tools": [chat_pb2.Tool(function=chat_pb2.FunctionTool(name="f"))]}, "tools[0]"),
    ({"tools": [chat_pb2.Tool(provider=chat_pb2.ProviderTool(family="openai", type="x"))]}, "tools[0]"),
    ({"tool_choice": chat_pb2.ToolChoice(mode=chat_pb2.TOOL_CHOICE_MODE_REQUIRED)}, "tool_choice.mode"),
    ({"tool_choice": chat_pb2.ToolChoice(allowed_names=["f"])}, "tool_choice.allowed_names"),
    ({"parallel_tool_calls": False}, "parallel_tool_calls"),
    ({"sampling": chat_pb2.Sampling(temperature=0.5)}, "sampling.temperature"),
    ({"sampling": chat_pb2.Sampling(top_p=0.5)}, "sampling.top_p"),
    ({"sampling": chat_pb2.Sampling(top_k=5)}, "sampling.top_k"),
    ({"sampling": chat_pb2.Sampling(seed=5)}, "sampling.seed"),
    ({"sampling": chat_pb2.Sampling(top_logprobs=5)}, "sampling.top_logprobs"),
    ({"sampling": chat_pb2.Sampling(stop_sequences=["x"])}, "sampling.stop_sequences"),
    ({"sampling": chat_pb2.Sampling(logit_bias={1: 1.0})}, "sampling.logit_bias"),
    ({"output_format": chat_pb2.OutputFormat(json=chat_pb2.JsonFormat())}, "output_format.json"),
    ({"output_format": chat_pb2.OutputFormat(verbosity="low")}, "output_format.verbosity"),
    ({"output_modalities": [content_pb2.MODALITY_AUDIO]}, "output_modalities"),
    ({"audio_output": chat_pb2.AudioOutput(voice="x")}, "audio_output"),
    ({"service_tier": "priority"}, "service_tier"),
    ({"cache": chat_pb2.CachePolicy(ttl=duration_pb2.Duration(seconds=300))}, "cache.ttl"),
    ({"cache": chat_pb2.CachePolicy(key="x")}, "cache.key"),
    ({"reasoning": chat_pb2.Reasoning(effort="heroic")}, "reasoning.effort"),
]


@pytest.mark.parametrize(("fields", "field"), DROPPED)
def test_what_the_agent_cannot_honour_is_told_or_refused(fields: dict[str, Any], field: str) -> None:
    """An option that no run has is left out with a notice of its field, or refused where the caller wants that."""
    assert dropped(built(asked(**fields))) == [field]
    with pytest.raises(UnsupportedOptionError) as caught:
        built(asked(**fields, unsupported_options=chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT))
    assert caught.value.field == field


def test_labels_and_end_users_reach_no_run() -> None:
    """On whose behalf a chat runs is in nothing that the agent is given."""
    context = chat_pb2.CallContext(end_user_id="somebody-7", session_id="task-9", labels={"team": "blue-team"})
    told = repr(built(asked(context=context)))
    assert not [word for word in ("somebody-7", "task-9", "blue-team") if word in told]


# -- provider options

VALUES: dict[str, Any] = {
    "agents": {"counter": {"description": "counts", "prompt": "Count.", "tools": ["Read"], "maxTurns": 3}},
    "allowed_tools": ["Bash(git log:*)", "mcp__docs"],
    "disallowed_tools": ["WebFetch"],
    "effort": "xhigh",
    "fallback_model": "haiku",
    "forward_subagent_text": True,
    "max_budget_usd": 1.5,
    "max_thinking_tokens": 1024,
    "max_turns": 7,
    "mcp_servers": {"docs": {"type": "stdio", "command": "docs", "args": ["-v"], "env": {"A": "b"}}},
    "permission_mode": "acceptEdits",
    "tools": ["Bash"],
    "thinking": {"type": "enabled", "budget_tokens": 2048},
}


@pytest.mark.parametrize("name", VALUES)
def test_provider_options_are_the_sdks(name: str) -> None:
    """Each option that is listed becomes the SDK's of that name."""
    value = getattr(options_of(asked(provider_options=[given({name: VALUES[name]})])), name)
    if name == "agents":
        assert (value["counter"].prompt, value["counter"].maxTurns) == ("Count.", 3)
    else:
        assert value == VALUES[name]


def test_every_option_is_tried() -> None:
    """There is no option without a test of what it does."""
    elsewhere = {"system_prompt", "workspace"}
    assert ALLOWED.keys() == VALUES.keys() | elsewhere


def test_a_request_says_more_than_the_settings() -> None:
    """The most turns of the settings hold where the request names none."""
    assert options_of(asked(), max_turns=9).max_turns == 9
    assert options_of(asked(provider_options=[given({"max_turns": 3})]), max_turns=9).max_turns == 3
    assert options_of(asked()).max_turns is None


def test_later_options_lie_over_earlier_ones() -> None:
    """Options are merged as RFC 7396 says, and null takes one away again."""
    first, second = {"max_turns": 3, "effort": "low", "tools": ["Bash"]}, {"max_turns": 4, "effort": None}
    options = options_of(asked(provider_options=[given(first), given({"x": 1}, "openai"), given(second)]))
    assert (options.max_turns, options.effort, options.tools) == (4, None, ["Bash"])


@pytest.mark.parametrize(
    "name", ["cli_path", "env", "extra_args", "settings", "hooks", "plugins", "add_dirs", "cwd", "resume", "sandbox"]
)
def test_what_is_the_operators_is_refused_by_name(name: str) -> None:
    """What decides which program runs, where and how is never taken from a caller; the error names the field."""
    with pytest.raises(InvalidRequestError) as caught:
        built(asked(provider_options=[given({"max_turns": 3}), given({name: "x"})]))
    assert caught.value.field == f"provider_options[1].options_json.{name}"


WRONG: list[tuple[str, Any]] = [
    ("agents", {"a": {"prompt": "x"}}),
    ("agents", {"a": {"description": "x", "prompt": "x", "hooks": {}}}),
    ("allowed_tools", "Bash"),
    ("allowed_tools", ["Bash,Write"]),
    ("allowed_tools", ["--dangerously-skip-permissions"]),
    ("tools", [""]),
    ("effort", "heroic"),
    ("thinking", {"type": "enabled", "budget_tokens": -5}),
    ("agents", {"a": {"description": "d", "prompt": "p", "maxTurns": -3}}),
    ("agents", {"a": {"description": "d", "prompt": "p", "effort": "heroic"}}),
    ("fallback_model", "--print"),
    ("max_budget_usd", 0),
    ("max_thinking_tokens", 1.5),
    ("max_turns", 0),
    ("max_turns", True),
    ("mcp_servers", {"a": {"type": "sdk", "name": "x"}}),
    ("mcp_servers", {"a": {"type": "http"}}),
    ("mcp_servers", ["x"]),
    ("permission_mode", "yolo"),
    ("system_prompt", {"type": "file", "path": "/etc/passwd"}),
    ("thinking", {"type": "enabled"}),
    ("workspace", 7),
    ("workspace", "relative/path"),
    ("workspace", "/work\0"),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_refused_by_name(name: str, value: Any) -> None:
    """A value that an option cannot have is refused with the option's field."""
    with pytest.raises(InvalidRequestError) as caught:
        built(asked(provider_options=[given({name: value})]))
    assert caught.value.field == f"provider_options[0].options_json.{name}"


def test_errors_of_options_hold_no_tokens() -> None:
    """A wrong server is refused without a word of the token that it holds."""
    wrong = {"docs": {"type": "http", "url": 7, "headers": {"Authorization": "Bearer made-up-token"}}}
    with pytest.raises(InvalidRequestError) as caught:
        built(asked(provider_options=[given({"mcp_servers": wrong})]))
    assert "made-up-token" not in str(caught.value)


def test_a_server_is_named_once() -> None:
    """A server of the request's tools and one of the options may not have one name."""
    server = chat_pb2.McpServerTool(name="docs", url="https://mcp.example.org")
    options = given({"mcp_servers": {"docs": {"command": "docs"}}})
    with pytest.raises(InvalidRequestError, match="docs"):
        built(asked(tools=[chat_pb2.Tool(mcp_server=server)], provider_options=[options]))
