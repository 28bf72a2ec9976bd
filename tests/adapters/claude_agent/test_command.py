from __future__ import annotations

import json

import pytest
from pydantic import SecretStr

pytest.importorskip("claude_agent_sdk", reason="claude-agent-sdk is not installed (extra claude-agent)")

from claude_agent_sdk import ClaudeAgentOptions

from execution_platform.adapters.claude_agent.command import command_of
from execution_platform.adapters.claude_agent.environment import agent_environment


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


def test_the_environment_keeps_the_program_to_its_model() -> None:
    """The four variables that stop other traffic are set, and retries are few."""
    environment = agent_environment()
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
