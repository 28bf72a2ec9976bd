"""The program's command line. What is private or long goes into files that only the cage has."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from claude_agent_sdk import ClaudeAgentOptions
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from execution_platform.adapters.claude_agent.errors import OPTION_FIELDS
from execution_platform.adapters.errors import InvalidRequestError

__all__ = ["PROGRAM", "Command", "command_of"]

#: Where the cage has the program.
PROGRAM = "/opt/claude"

_FILES = "/run/agent"

#: The kernel's limit, with the zero behind it: MAX_ARG_STRLEN of execve(2).
_LONGEST_ARGUMENT = 128 * 1024 - 1


@dataclass(frozen=True, slots=True)
class Command:
    """What is run in the cage.

    Attributes:
        arguments: the program and its arguments. Every process of the machine can read them.
        files: contents by path, read-only in the cage.
        fields: fields of the request that the program's options come from.
    """

    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict, repr=False)
    fields: Mapping[str, str] = field(default_factory=lambda: OPTION_FIELDS)


def command_of(options: ClaudeAgentOptions, fields: Mapping[str, str] = OPTION_FIELDS) -> Command:
    """Return the command line of a run as the SDK makes it, for the program in the cage.

    Args:
        options: the run's options.
        fields: fields of the request that the program's options come from.

    Raises:
        InvalidRequestError: an option is too long for one.
    """
    files: dict[str, bytes] = {}
    given = dataclasses.replace(options, cli_path=PROGRAM, cwd=None, extra_args=dict(options.extra_args))
    _move_servers(given, files)
    _move_system_prompt(given, files)
    # The SDK offers no other way to its command line; its version is pinned, and a test holds what comes out.
    command = SubprocessCLITransport("", given)._build_command()  # noqa: SLF001
    _check_lengths(command, fields)
    return Command(tuple(command), files, fields)


def _check_lengths(command: Sequence[str], fields: Mapping[str, str]) -> None:
    for option, argument in pairwise(command):
        if len(argument.encode()) > _LONGEST_ARGUMENT:
            raise InvalidRequestError(
                f"too long for the agent's {option}: {_LONGEST_ARGUMENT} bytes at most",
                field=fields.get(option, ""),
            )


def _move_servers(options: ClaudeAgentOptions, files: dict[str, bytes]) -> None:
    """MCP servers carry the callers' tokens."""
    servers = options.mcp_servers
    if not isinstance(servers, dict) or not servers:
        return
    path = f"{_FILES}/mcp.json"
    files[path] = json.dumps({"mcpServers": servers}).encode()
    options.mcp_servers = path


def _move_system_prompt(options: ClaudeAgentOptions, files: dict[str, bytes]) -> None:
    """A system prompt is the caller's business, and an argument ends at 128 KiB."""
    prompt = options.system_prompt
    path = f"{_FILES}/system.md"
    if isinstance(prompt, str) and prompt:
        files[path] = prompt.encode()
        options.system_prompt = {"type": "file", "path": path}
    elif isinstance(prompt, dict) and prompt["type"] == "custom" and prompt["prompt"]:
        files[path] = prompt["prompt"].encode()
        options.system_prompt = {"type": "file", "path": path}
    elif isinstance(prompt, dict) and prompt["type"] == "preset" and prompt.get("append"):
        files[path] = prompt["append"].encode()
        options.system_prompt = {"type": "preset", "preset": "claude_code"}
        options.extra_args["append-system-prompt-file"] = path
