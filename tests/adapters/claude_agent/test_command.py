from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import SecretStr

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from claude_agent_sdk import ClaudeAgentOptions

from execution_platform.adapters.claude_agent.command import command_of
from execution_platform.adapters.claude_agent.environment import agent_environment
from execution_platform.adapters.claude_agent.options import read_options
from execution_platform.adapters.claude_agent.request import build_run
from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.spi import Call
from execution_platform.v1 import chat_pb2, content_pb2


def test_the_command_line_is_the_sdk_s() -> None:
    """Options become the arguments that the pinned SDK makes of them."""
    options = ClaudeAgentOptions(
        tools=["Bash"],
        allowed_tools=["Bash", "Read"],
        model="claude-sonnet-5",
        max_turns=3,
        permission_mode="dontAsk",
        resume="0b0e4b42-0000-4000-8000-000000000000",
        setting_sources=[],
        strict_mcp_config=True,
        include_partial_messages=True,
        cwd="/somewhere",
        cli_path="/somewhere/else",
    )
    arguments = command_of(options).arguments
    assert arguments[0] == "/opt/claude"
    assert arguments[arguments.index("--tools") + 1] == "Bash"
    assert arguments[arguments.index("--allowedTools") + 1] == "Bash,Read"
    assert "--resume=0b0e4b42-0000-4000-8000-000000000000" in arguments
    assert {"--include-partial-messages", "--strict-mcp-config", "--setting-sources=", "--verbose"} <= set(arguments)
    assert not any("/somewhere" in argument for argument in arguments)


@pytest.mark.parametrize(
    ("prompt", "option"),
    [
        ("long words" * 100_000, "--system-prompt-file"),
        ({"type": "custom", "prompt": "long words" * 100_000}, "--system-prompt-file"),
        ({"type": "preset", "preset": "claude_code", "append": "long words" * 100_000}, "--append-system-prompt-file"),
    ],
)
def test_a_system_prompt_is_a_file(prompt: object, option: str) -> None:
    """A system prompt of any length is no argument, which ends at 128 KiB and which everybody can read."""
    command = command_of(ClaudeAgentOptions(system_prompt=prompt))  # type: ignore[arg-type] # all forms of it
    path = command.arguments[command.arguments.index(option) + 1]
    assert command.files == {path: b"long words" * 100_000}
    assert max(map(len, command.arguments)) < 100
    assert "long words" not in repr(command)


def test_mcp_servers_are_a_file() -> None:
    """MCP servers carry tokens; the options of the caller stay as they were."""
    servers = {"a": {"type": "http", "url": "http://127.0.0.1:1/mcp", "headers": {"authorization": "token"}}}
    options = ClaudeAgentOptions(mcp_servers=servers, extra_args={"x": None})  # type: ignore[arg-type] # a plain dict
    command = command_of(options)
    path = command.arguments[command.arguments.index("--mcp-config") + 1]
    assert json.loads(command.files[path]) == {"mcpServers": servers}
    assert not any("token" in argument for argument in command.arguments)
    assert options.mcp_servers == servers
    assert options.extra_args == {"x": None}


def test_without_system_prompt_and_servers_there_are_no_files() -> None:
    """An empty system prompt stays an argument, as the SDK makes it."""
    command = command_of(ClaudeAgentOptions())
    assert command.files == {}
    assert command.arguments[command.arguments.index("--system-prompt") + 1] == ""


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"output_format": {"type": "json_schema", "schema": {"description": "ä" * 30_000}}}, "output_format"),
        ({"allowed_tools": ["Bash(" + "x" * 200_000 + ")"]}, "tools"),
        ({"disallowed_tools": ["Bash(" + "x" * 200_000 + ")"]}, ""),
    ],
)
def test_what_is_too_long_for_an_argument_is_refused(options: dict[str, Any], field: str) -> None:
    """The kernel's limit counts bytes, and the request is what has to be shorter."""
    with pytest.raises(InvalidRequestError, match="too long") as refused:
        command_of(ClaudeAgentOptions(**options))
    assert refused.value.field.startswith(field)


@pytest.mark.parametrize("name", ["allowed_tools", "disallowed_tools", "tools"])
def test_a_provider_option_that_is_too_long_is_named(name: str) -> None:
    """The field is the provider option's, where that made the argument."""
    given = chat_pb2.ProviderOptions(
        provider="claude_agent", options_json=json.dumps({name: ["Bash(" + "x" * 200_000 + ")"]})
    )
    request = chat_pb2.ChatRequest(provider_options=[given])
    request.messages.add(role=content_pb2.ROLE_USER).content.add().text.text = "Hi"
    run = build_run(Call(request, "sonnet"), read_options(request, {"claude_agent"}), "s").run
    with pytest.raises(InvalidRequestError, match="too long") as refused:
        command_of(run.options, run.fields)
    assert refused.value.field == f"provider_options[0].options_json.{name}"


def test_the_environment_keeps_the_program_to_its_model() -> None:
    """The four variables that stop other traffic are set, and retries are few; nothing is there but what is meant."""
    environment = agent_environment()
    of_users = {"PATH", "HOME", "USER", "SHELL", "LANG", "TMPDIR"}
    of_the_program = {"CLAUDE_CODE_MAX_RETRIES", "CLAUDE_CODE_ENTRYPOINT", "BUN_OPTIONS"}
    quiet = {"DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING", "DISABLE_AUTOUPDATER"}
    assert set(environment) == {*of_users, *of_the_program, *quiet, "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC"}
    for name in ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_TELEMETRY", "DISABLE_ERROR_REPORTING"):
        assert environment[name] == "1"
    assert environment["DISABLE_AUTOUPDATER"] == "1"
    assert environment["CLAUDE_CODE_MAX_RETRIES"] == "1"
    assert "ANTHROPIC_API_KEY" not in environment
    assert "ANTHROPIC_BASE_URL" not in environment


def test_a_login_s_token_is_no_api_key() -> None:
    """A token of `claude setup-token` goes where the program looks for one, a key where it looks for a key."""
    key = agent_environment(SecretStr("sk-ant-api03-x"), "http://127.0.0.1:1")
    assert key["ANTHROPIC_API_KEY"] == "sk-ant-api03-x"
    assert key["ANTHROPIC_BASE_URL"] == "http://127.0.0.1:1"
    token = agent_environment(SecretStr("sk-ant-oat01-x"), further={"TZ": "UTC"})
    assert token["CLAUDE_CODE_OAUTH_TOKEN"] == "sk-ant-oat01-x"
    assert token["TZ"] == "UTC"
    assert "ANTHROPIC_API_KEY" not in token
