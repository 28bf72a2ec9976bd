"""What a persona fills into a request, and what it forbids."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.config.personas import PersonaSettings
from execution_platform.server.errors import NotAllowedError
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["Persona", "title_of"]

_MAX_LABELS = 32

#: One question each: who answers a part of it in the request has answered it.
_HOW_MUCH = ("enabled", "effort", "budget_tokens")

_SCALARS = (
    "max_output_tokens",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
)

_POLICIES = {
    "drop": chat_pb2.UNSUPPORTED_OPTION_POLICY_DROP,
    "reject": chat_pb2.UNSUPPORTED_OPTION_POLICY_REJECT,
}


@dataclass(frozen=True, slots=True)
class Persona:
    """A persona, made ready to be applied to requests.

    Attributes:
        name: its name; empty: no persona, only the configuration's defaults.
        settings: what the configuration says of it, whole.
    """

    name: str
    settings: PersonaSettings
    _sampling: dict[str, Any] = field(init=False)
    _offered: tuple[chat_pb2.Tool, ...] = field(init=False)
    _reasoning: chat_pb2.Reasoning = field(init=False)
    _provider_options: tuple[chat_pb2.ProviderOptions, ...] = field(init=False)

    def __post_init__(self) -> None:
        """Make ready what does not depend on the request."""
        sampling = self.settings.sampling
        values = {name: getattr(sampling, name) for name in _SCALARS}
        given = {name: value for name, value in values.items() if value is not None}
        object.__setattr__(self, "_sampling", given)
        object.__setattr__(self, "_offered", tuple(_tools(self.settings)))
        object.__setattr__(self, "_reasoning", _reasoning(self.settings))
        object.__setattr__(self, "_provider_options", tuple(_provider_options(self.settings)))

    @property
    def title(self) -> str:
        """What people call it."""
        return title_of(self.name)

    def applied(self, request: chat_pb2.ChatRequest) -> chat_pb2.ChatRequest:
        """Return a request with what it leaves open filled in; the request itself if nothing is. It is never changed.

        Raises:
            NotAllowedError: the request brings a tool that the persona does not allow.
            InvalidRequestError: there are more labels than a chat may have.
        """
        self._check_tools(request)
        filled = _Filled(request)
        self._fill_prompt(filled)
        self._fill_sampling(filled)
        self._fill_reasoning(filled)
        self._fill_labels(filled)
        if self._provider_options:
            # Adapters merge in order: first the persona's, then the request's over them.
            del filled.copy.provider_options[:]
            filled.copy.provider_options.extend([*self._provider_options, *request.provider_options])
        settings = self.settings
        if settings.service_tier and not request.service_tier:
            filled.copy.service_tier = settings.service_tier
        if settings.unsupported_options is not None and not request.unsupported_options:
            filled.copy.unsupported_options = _POLICIES[settings.unsupported_options]
        return filled.result

    def _check_tools(self, request: chat_pb2.ChatRequest) -> None:
        allowed = [tool.name for tool in self.settings.tools]
        if not allowed:
            return
        for index, tool in enumerate(request.tools):
            names = _names_of(tool)
            if not any(fnmatchcase(name, pattern) for name in names for pattern in allowed):
                raise NotAllowedError(
                    f"tools[{index}]: {self.title} does not allow the tool {names[0]!r}; allowed: {', '.join(allowed)}",
                    field=f"tools[{index}]",
                )

    def _fill_prompt(self, filled: _Filled) -> None:
        request = filled.request
        if self.settings.system_prompt:
            block = content_pb2.ContentBlock(text=content_pb2.TextBlock(text=self.settings.system_prompt))
            del filled.copy.system[:]
            filled.copy.system.extend([block, *request.system])
        if self._offered:
            brought = {name for tool in request.tools for name in _names_of(tool)}
            missing = [tool for tool in self._offered if tool.function.name not in brought]
            if missing:
                filled.copy.tools.extend(missing)

    def _fill_sampling(self, filled: _Filled) -> None:
        sampling = filled.request.sampling
        for name, value in self._sampling.items():
            if not sampling.HasField(name):  # type: ignore[arg-type]  # the names are this message's own
                setattr(filled.copy.sampling, name, value)
        stops = self.settings.sampling.stop_sequences
        if stops and not sampling.stop_sequences:
            filled.copy.sampling.stop_sequences.extend(stops)

    def _fill_reasoning(self, filled: _Filled) -> None:
        given, own = filled.request.reasoning, self._reasoning
        decided = given.HasField("enabled") or given.effort or given.HasField("budget_tokens")
        for descriptor, value in own.ListFields():
            if descriptor.name in _HOW_MUCH and decided:
                continue
            if descriptor.name == "display" and given.display:
                continue
            setattr(filled.copy.reasoning, descriptor.name, value)

    def _fill_labels(self, filled: _Filled) -> None:
        given = filled.request.context.labels
        missing = {key: value for key, value in self.settings.labels.items() if key not in given}
        if not missing:
            return
        if len(given) + len(missing) > _MAX_LABELS:
            raise InvalidRequestError(
                f"context.labels: with the {len(missing)} of {self.title} there are more than {_MAX_LABELS}",
                field="context.labels",
            )
        filled.copy.context.labels.update(missing)


def title_of(name: str) -> str:
    """Return what people call the persona of a name; empty: the defaults."""
    return f"persona {name}" if name else "the configuration's defaults"


class _Filled:
    """A request, and the copy of it that is made when the first thing is filled in."""

    def __init__(self, request: chat_pb2.ChatRequest) -> None:
        self.request = request
        self._copy: chat_pb2.ChatRequest | None = None

    @property
    def copy(self) -> chat_pb2.ChatRequest:
        """What may be changed."""
        if self._copy is None:
            self._copy = chat_pb2.ChatRequest()
            self._copy.CopyFrom(self.request)
        return self._copy

    @property
    def result(self) -> chat_pb2.ChatRequest:
        """The copy, if there is one."""
        return self.request if self._copy is None else self._copy


def _names_of(tool: chat_pb2.Tool) -> tuple[str, ...]:
    """Return what a tool is called, for the lists of allowed tools."""
    match tool.WhichOneof("tool"):
        case "function":
            return (tool.function.name,)
        case "provider":
            return tuple(filter(None, (tool.provider.name, tool.provider.type)))
        case _:
            return (tool.mcp_server.name,)


def _tools(settings: PersonaSettings) -> Iterator[chat_pb2.Tool]:
    for tool in settings.tools:
        if tool.offered:
            schema = "" if tool.parameters is None else json.dumps(tool.parameters, ensure_ascii=False)
            function = chat_pb2.FunctionTool(name=tool.name, description=tool.description, parameters_json=schema)
            yield chat_pb2.Tool(function=function)


def _provider_options(settings: PersonaSettings) -> Iterator[chat_pb2.ProviderOptions]:
    for provider, options in settings.provider_options.items():
        options_json = json.dumps(options, ensure_ascii=False)
        yield chat_pb2.ProviderOptions(provider=provider, options_json=options_json)


def _reasoning(settings: PersonaSettings) -> chat_pb2.Reasoning:
    own = settings.reasoning
    reasoning = chat_pb2.Reasoning(effort=own.effort)
    if own.enabled is not None:
        reasoning.enabled = own.enabled
    if own.budget_tokens is not None:
        reasoning.budget_tokens = own.budget_tokens
    if own.display:
        reasoning.display = chat_pb2.ReasoningDisplay.Value(f"REASONING_DISPLAY_{own.display.upper()}")
    return reasoning
