"""The provider's settings: credentials, folders, how many runs at once, and what is missing. Imports no SDK."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import SecretStr

from execution_platform.adapters.capabilities import named
from execution_platform.adapters.claude_agent.sandbox import find_programs
from execution_platform.adapters.claude_agent.workspace import overlap, resolved_roots
from execution_platform.adapters.errors import NotConfiguredError
from execution_platform.adapters.price_listings import ANTHROPIC
from execution_platform.adapters.spi import CapabilityRow, KnownModel, ProviderConfig, ProviderOption

__all__ = [
    "ALIASES",
    "CAPABILITIES",
    "DEFAULT_MODEL",
    "MODELS",
    "OPTIONS",
    "PRICE_LISTING",
    "AgentSettings",
    "missing",
    "settings_of",
]

DEFAULT_MODEL = "sonnet"

ALIASES: Mapping[str, str] = {
    "fable": "claude-fable-5-2",
    "haiku": "claude-haiku-5-5",
    "opus": "claude-opus-5-5",
    "sonnet": "claude-sonnet-5-5",
}
"""What the CLI's own names stand for. Source: its runs at the pinned version; a newer one may mean newer models."""

_MILLION = 1_000_000
_128K = 128_000

#: Sizes: the models overview at https://platform.claude.com/docs/en/models/, read 2026-11-21.
MODELS: tuple[KnownModel, ...] = (
    KnownModel("sonnet", "Claude Sonnet, the newest", _MILLION, _128K),
    KnownModel("opus", "Claude Opus, the newest", _MILLION, _128K),
    KnownModel("haiku", "Claude Haiku, the newest", _MILLION, _128K),
    KnownModel("fable", "Claude Fable, the newest", _MILLION, None),
    KnownModel("claude-sonnet-5-5", "Claude Sonnet 5.5", _MILLION, _128K),
    KnownModel("claude-opus-5-5", "Claude Opus 5.5", _MILLION, _128K),
    KnownModel("claude-haiku-5-5", "Claude Haiku 5.5", _MILLION, _128K),
    KnownModel("claude-fable-5-2", "Claude Fable 5.2", _MILLION, None),
)

#: What a caller can do with a run. `tools` are those that a caller brings, which no run can call.
CAPABILITIES: tuple[CapabilityRow, ...] = (
    CapabilityRow(
        supported=named("streaming", "thinking", "structured_output", "image_input", "pdf_input", "prompt_caching"),
        unsupported=named("tools", "parallel_tools", "audio_input", "seed", "logprobs", "embeddings", "batch"),
        source="claude-agent-sdk 0.2.187: types.py (ClaudeAgentOptions)",
        as_of="2026-11-21",
    ),
)


def _listed(model: str) -> Sequence[str]:
    name = model.partition("[")[0]
    return (ALIASES.get(name, name),)


#: A run is charged as Anthropic's models are, those that it calls at their own names.
PRICE_LISTING = replace(ANTHROPIC, names=_listed)

OPTIONS: Sequence[ProviderOption] = (
    ProviderOption(
        "config_dir",
        "Folder of the agent's own login and sessions. Default: execution-platform/claude-agent in $XDG_STATE_HOME, "
        "or in ~/.local/state.",
    ),
    ProviderOption(
        "workspaces",
        "Folders, separated by colons, within which a request or persona may name a workspace. Not set: none may be "
        "named, and each run works in an empty folder that goes with it.",
    ),
    ProviderOption("read_only", "Further folders, separated by colons, that every run may read."),
    ProviderOption(
        "most_runs", "Runs at the same time, of all workers together, 1 to 256; each takes about 250 MB.", "4"
    ),
    ProviderOption(
        "most_waiting", "Runs of each worker that wait for their turn, 0 to 100000; further ones are refused.", "64"
    ),
    ProviderOption("max_turns", "Most turns of a run whose request names no number; 0: no limit.", "0"),
)

_BOUNDS = {"most_runs": (1, 256), "most_waiting": (0, 100_000), "max_turns": (0, 10_000)}

#: Where the CLI keeps a login. Only whether the file is there is looked at.
_LOGIN_FILE = ".credentials.json"

#: Folder of a login in the configuration folder; see workspace.Folders.
_LOGIN_FOLDER = "login"


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How runs are run.

    Attributes:
        api_key: an API key, or the token of a login; None: the configuration folder holds a login.
        base_url: where the Messages API is; empty: the CLI's default.
        config_dir: folder below which the CLI's own are.
        workspaces: folders within which a workspace may lie, resolved.
        read_only: further folders that every run may read, resolved.
        most_runs: runs at the same time.
        most_waiting: runs that wait.
        max_turns: most turns where a request names none; 0: no limit.
    """

    api_key: SecretStr | None
    base_url: str
    config_dir: Path
    workspaces: tuple[Path, ...]
    read_only: tuple[Path, ...]
    most_runs: int
    most_waiting: int
    max_turns: int


def settings_of(config: ProviderConfig) -> AgentSettings:
    """Return how runs are run.

    Raises:
        NotConfiguredError: a setting is not valid.
    """
    config_dir, read_only = _config_dir(config), _roots(config, "read_only")
    if any(overlap(folder, config_dir.resolve()) for folder in read_only):
        raise NotConfiguredError("EP_CLAUDE_AGENT_READ_ONLY would show every run all sessions, and a login")
    most_runs, most_waiting, max_turns = (_number(config, name) for name in ("most_runs", "most_waiting", "max_turns"))
    return AgentSettings(
        config.api_key,
        config.base_url,
        config_dir,
        _roots(config, "workspaces"),
        read_only,
        most_runs,
        most_waiting,
        max_turns,
    )


def missing(config: ProviderConfig) -> str:
    """Return what is missing to run the agent, naming the remedy; empty: nothing."""
    if importlib.util.find_spec("claude_agent_sdk") is None:
        return "claude-agent-sdk is not installed: pip install 'execution-platform[claude-agent]'"
    try:
        settings = settings_of(config)
        find_programs()
    except NotConfiguredError as error:
        return error.message
    if settings.api_key is None and not (settings.config_dir / _LOGIN_FOLDER / _LOGIN_FILE).exists():
        return f"set EP_CLAUDE_AGENT_API_KEY, or log in with CLAUDE_CONFIG_DIR={settings.config_dir / _LOGIN_FOLDER}"
    return ""


def _config_dir(config: ProviderConfig) -> Path:
    configured = config.options.get("config_dir", "")
    if not configured:
        state = os.environ.get("XDG_STATE_HOME", "")
        base = Path(state) if state.startswith("/") else Path.home() / ".local" / "state"
        return base / "execution-platform" / "claude-agent"
    path = Path(configured).expanduser()
    if not path.is_absolute():
        raise NotConfiguredError("EP_CLAUDE_AGENT_CONFIG_DIR must be an absolute path")
    return path


def _roots(config: ProviderConfig, name: str) -> tuple[Path, ...]:
    try:
        return resolved_roots(config.options.get(name, ""))
    except NotConfiguredError as error:
        raise NotConfiguredError(f"EP_CLAUDE_AGENT_{name.upper()}: {error.message}") from error


def _number(config: ProviderConfig, name: str) -> int:
    default = next(option.default for option in OPTIONS if option.name == name)
    low, high = _BOUNDS[name]
    try:
        number = int(config.options.get(name) or default)
    except ValueError:
        number = low - 1
    if not low <= number <= high:
        raise NotConfiguredError(f"EP_CLAUDE_AGENT_{name.upper()} must be a whole number from {low} to {high}")
    return number
