"""A run's provider options: which there are, and what each may hold.

They come from a persona and from the request. Whatever is not listed here is refused with its name: what decides which
program runs, in which environment, with which settings and folders, is the operator's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.patches import patches_for
from execution_platform.adapters.wire import decode_json, encode_json, merge_patch
from execution_platform.v1 import chat_pb2

__all__ = ["ALLOWED", "EFFORTS", "RunOptions", "read_options", "wrong_options"]

EFFORTS = ("low", "medium", "high", "xhigh", "max")
"""Source: `EffortLevel` in `types.py` of claude-agent-sdk 0.2.187."""

_MODES = ("default", "acceptEdits", "plan", "bypassPermissions", "dontAsk", "auto")
_MOST_TURNS = 10_000
_MOST_TOKENS = 10_000_000
_MOST_DOLLARS = 1_000_000
_MOST_NAMES = 1_000

_Check = Callable[[Any], str]
"""Says what a value must be; empty: it is that."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The options of one run, checked.

    Attributes:
        values: what was given, by name.
        paths: the field of the request that gave it, by name.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    paths: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        """Return an option's value."""
        return self.values.get(name, default)

    def refuse(self, name: str, why: str) -> InvalidRequestError:
        """Return the error for an option's value."""
        path = self.paths.get(name, name)
        return InvalidRequestError(f"{path}: {why}", field=path)


def read_options(request: chat_pb2.ChatRequest, names: Collection[str]) -> RunOptions:
    """Return the request's options for these names of the provider, later ones over earlier ones (RFC 7396).

    Raises:
        InvalidRequestError: they are not a JSON object, name what may not be named, or hold what they may not.
    """
    merged: dict[str, Any] = {}
    paths: dict[str, str] = {}
    for path, patch in patches_for(request, names):
        for name in patch:
            paths[name] = f"{path}.{name}"
            if name not in ALLOWED:
                raise InvalidRequestError(f"{paths[name]}: {_NOT_ALLOWED}", field=paths[name])
        merged = merge_patch(merged, patch)
    options = RunOptions(decode_json(encode_json(merged)), paths)
    for name, wrong in wrong_options(options.values).items():
        raise options.refuse(name, wrong)
    return options


def wrong_options(values: Mapping[str, Any]) -> dict[str, str]:
    """Return what is wrong with options, by name; null is as if it were not there."""
    told = {name: ALLOWED[name](value) if name in ALLOWED else _NOT_ALLOWED for name, value in values.items()}
    return {name: wrong for name, wrong in told.items() if wrong and values[name] is not None}


def _names(value: Any) -> str:
    fits = isinstance(value, list) and len(value) <= _MOST_NAMES
    return "" if fits and all(_is_name(name) for name in value) else "must be a list of names of tools"


def _is_name(value: Any) -> bool:
    # A comma would make two of it on the CLI's command line, and a dash at its start another option.
    return isinstance(value, str) and bool(value.strip()) and not value.startswith("-") and _is_plain(value)


def _is_plain(text: str) -> bool:
    return "," not in _outside_of_brackets(text) and text.isprintable()


def _outside_of_brackets(rule: str) -> str:
    """Return a rule such as `Bash(git add a, b)` without its part in brackets."""
    return rule.partition("(")[0] + rule.rpartition(")")[2] if rule.endswith(")") else rule


def _one_of(*words: str) -> _Check:
    return lambda value: "" if value in words else f"must be one of {', '.join(words)}"


def _whole(least: int, most: int) -> _Check:
    def check(value: Any) -> str:
        fits = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
        return "" if fits else f"must be a whole number from {least} to {most}"

    return check


def _dollars(value: Any) -> str:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= _MOST_DOLLARS
    return "" if fits else f"must be a number of US dollars above 0, at most {_MOST_DOLLARS}"


def _flag(value: Any) -> str:
    return "" if isinstance(value, bool) else "must be true or false"


def _folder(value: Any) -> str:
    fits = isinstance(value, str) and value.startswith("/") and "\0" not in value
    return "" if fits else "must be the absolute path of a folder"


def _model(value: Any) -> str:
    fits = isinstance(value, str) and bool(value) and not value.startswith("-") and value.isprintable()
    return "" if fits else "must be the name of a model"


def _system_prompt(value: Any) -> str:
    if isinstance(value, str):
        return ""
    keys = set(value) if isinstance(value, dict) else set()
    if keys and keys <= {"append"} and isinstance(value["append"], str):
        return ""
    return 'must be a text, which takes the place of the agent\'s own, or {"append": text}'


def _thinking(value: Any) -> str:
    try:
        msgspec.convert(value, _Adaptive | _Enabled | _Disabled)
    except msgspec.ValidationError as error:
        return f"must be of type adaptive, enabled (with budget_tokens) or disabled ({error})"
    return ""


class _Adaptive(msgspec.Struct, tag_field="type", tag="adaptive", forbid_unknown_fields=True):
    display: str = "summarized"


class _Enabled(msgspec.Struct, tag_field="type", tag="enabled", forbid_unknown_fields=True):
    budget_tokens: Annotated[int, msgspec.Meta(ge=1, le=_MOST_TOKENS)]
    display: str = "summarized"


class _Disabled(msgspec.Struct, tag_field="type", tag="disabled", forbid_unknown_fields=True):
    pass


class _Stdio(msgspec.Struct, tag_field="type", tag="stdio", forbid_unknown_fields=True):
    command: str
    args: list[str] = []
    env: dict[str, str] = {}


class _Http(msgspec.Struct, tag_field="type", tag="http", forbid_unknown_fields=True):
    url: str
    headers: dict[str, str] = {}


class _Sse(msgspec.Struct, tag_field="type", tag="sse", forbid_unknown_fields=True):
    url: str
    headers: dict[str, str] = {}


def _servers(value: Any) -> str:
    if not isinstance(value, dict):
        return "must be an object with a server for each name"
    for server in value.values():
        try:
            msgspec.convert({"type": "stdio", **server} if isinstance(server, dict) else server, _Stdio | _Http | _Sse)
        except msgspec.ValidationError as error:
            return f"has a server that is none of type stdio, http or sse ({error})"
    return ""


class _Agent(msgspec.Struct, forbid_unknown_fields=True):
    description: str
    prompt: str
    tools: list[str] | None = None
    disallowedTools: list[str] | None = None  # noqa: N815 - the SDK's name
    model: str | None = None
    maxTurns: Annotated[int, msgspec.Meta(ge=1, le=_MOST_TURNS)] | None = None  # noqa: N815 - the SDK's name
    background: bool | None = None
    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None


def _agents(value: Any) -> str:
    try:
        msgspec.convert(value, dict[str, _Agent])
    except msgspec.ValidationError as error:
        return f"must be an object with a definition for each name ({error})"
    return ""


ALLOWED: Mapping[str, _Check] = {
    "agents": _agents,
    "allowed_tools": _names,
    "disallowed_tools": _names,
    "effort": _one_of(*EFFORTS),
    "fallback_model": _model,
    "forward_subagent_text": _flag,
    "max_budget_usd": _dollars,
    "max_thinking_tokens": _whole(0, _MOST_TOKENS),
    "max_turns": _whole(1, _MOST_TURNS),
    "mcp_servers": _servers,
    "permission_mode": _one_of(*_MODES),
    "system_prompt": _system_prompt,
    "thinking": _thinking,
    "tools": _names,
    "workspace": _folder,
}
"""The options that a persona or a caller may set, each with its check."""

_NOT_ALLOWED = f"may not be set; what may: {', '.join(sorted(ALLOWED))}"
