"""Write what the real program prints, as samples: ``python tests/adapters/claude_agent/capture_samples.py``.

Needs the extra `claude-agent` and user namespaces. The model is the mock of `messages_api`; nothing leaves loopback.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions
from pydantic import SecretStr
from tests.adapters.claude_agent.messages_api import MessagesApi

from execution_platform.adapters.claude_agent.environment import agent_environment
from execution_platform.adapters.claude_agent.errors import OPTION_FIELDS
from execution_platform.adapters.claude_agent.runs import Runs
from execution_platform.adapters.claude_agent.sandbox import Cage
from execution_platform.adapters.errors import AdapterError

SAMPLES: dict[str, tuple[str, dict[str, Any]]] = {
    "text": ("@text Hello there.", {}),
    "thinking": ("@think Let me see.", {}),
    "tool": ('@tool Bash {"command": "echo seen"}\n@text It said {result}.', {}),
    "two_tools": ('@tool Bash {"command": "echo one"}\n&tool Bash {"command": "echo two"}\n@text Both.', {}),
    "tool_fails": ('@tool Bash {"command": "exit 3"}\n@text It failed.', {}),
    "tool_denied": ('@tool Write {"file_path": "/workspace/a.txt", "content": "a"}\n@text Denied.', {}),
    "most_turns": ('@tool Bash {"command": "true"}', {"max_turns": 2}),
    "error_401": ("@error 401", {}),
    "error_429": ("@error 429", {}),
    "error_529_once": ("@error 529 1\n@text Then it went well.", {}),
    "sub_agent": (
        (
            '@tool Agent {"description": "count", "subagent_type": "general-purpose", '
            '"prompt": "@tool Bash {\\"command\\": \\"echo inner\\"}\\n@text The inner answer."}'
            "\n@text It told {result}."
        ),
        {"tools": ["Bash", "Agent"], "allowed_tools": ["Bash", "Agent"]},
    ),
}


@dataclass(frozen=True)
class Asked:
    """A run."""

    options: ClaudeAgentOptions
    prompt: tuple[dict[str, Any], ...]
    fields: Mapping[str, str] = field(default_factory=lambda: OPTION_FIELDS)


def asked(prompt: str, **options: Any) -> Asked:
    """Return a run of one message, with the options that every run has."""
    given: dict[str, Any] = {
        "tools": ["Bash", "Read", "Write"],
        "allowed_tools": ["Bash"],
        "permission_mode": "dontAsk",
        "system_prompt": "Be short.",
        "model": "claude-sonnet-5",
        "max_turns": 4,
        "include_partial_messages": True,
        "setting_sources": [],
        "strict_mcp_config": True,
    }
    message = {"type": "user", "message": {"role": "user", "content": prompt}, "parent_tool_use_id": None}
    return Asked(ClaudeAgentOptions(**given | options), (message,))


async def capture(folder: Path, names: list[str]) -> None:
    """Write the samples."""
    runs = Runs(1, 1)
    with MessagesApi() as api, tempfile.TemporaryDirectory() as config:
        environment = agent_environment(SecretStr("sk-made-up"), api.url)
        for name in names or list(SAMPLES):
            prompt, options = SAMPLES[name]
            cage = Cage(workspace=None, config_dir=Path(config), environment=environment, login=True)
            lines = b""
            try:
                async with runs.begin(asked(prompt, **options), cage) as running:
                    async with aclosing(running.output()) as output:
                        async for piece in output:
                            lines += piece
                    print(f"{name}: {len(lines)} bytes, first line after {running.startup_seconds:.2f} s")
            except AdapterError as error:
                print(f"{name}: {error!r}")
            (folder / f"{name}.ndjson").write_bytes(lines)
    await runs.aclose()


def main() -> None:
    """Capture all samples, or those that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent / "samples")
    parser.add_argument("names", nargs="*")
    given = parser.parse_args()
    given.folder.mkdir(exist_ok=True)
    asyncio.run(capture(given.folder, given.names))


if __name__ == "__main__":
    main()
