"""Tools from plain Python functions: described to the model by signature and docstring, and run when it calls."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import inspect
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, ParamSpec, TypeAlias, TypeVar, overload

from execution_platform.client.answer import Answer
from execution_platform.client.content import tool_result
from execution_platform.client.schema import (
    Field,
    described_names,
    object_from_json,
    object_schema,
    resolved_hints,
)
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["PythonTool", "Runnable", "run_tool_calls", "run_tool_calls_async", "tool"]

P = ParamSpec("P")
R = TypeVar("R")


class PythonTool(Generic[P, R]):
    """A Python function that a model may call; it can still be called as before.

    Attributes:
        function: the function.
        definition: what the model is told of it.
    """

    def __init__(
        self, function: Callable[P, R], *, name: str = "", description: str = "", strict: bool | None = None
    ) -> None:
        self.function = function
        self._signature = inspect.signature(function)
        self._fields = _parameters(function, self._signature)
        self.definition = chat_pb2.FunctionTool(
            name=name or _name_of(function),
            description=description or _description(function),
            parameters_json=json.dumps(object_schema(self._fields), ensure_ascii=False),
            strict=strict,
        )

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __repr__(self) -> str:
        """Return the tool's name."""
        return f"PythonTool({self.name!r})"

    @property
    def name(self) -> str:
        """Name by which the model calls it."""
        return self.definition.name

    @property
    def is_async(self) -> bool:
        """Whether the function has to be awaited."""
        called = type(self.function).__call__
        return inspect.iscoroutinefunction(self.function) or inspect.iscoroutinefunction(called)

    def run(self, call: content_pb2.ToolCallBlock) -> R:
        """Call the function with the arguments that a model wrote.

        Raises:
            ValueError: the arguments are no JSON, or do not fit the signature.
        """
        bound = inspect.BoundArguments(self._signature, {})
        bound.arguments.update(self._arguments(call))
        return self.function(*bound.args, **bound.kwargs)

    def _arguments(self, call: content_pb2.ToolCallBlock) -> dict[str, Any]:
        if call.HasField("arguments_text"):
            if len(self._fields) != 1:
                raise ValueError("free text was given to a tool that does not take exactly one argument")
            return object_from_json(self._fields, {self._fields[0].name: call.arguments_text})
        try:
            given = json.loads(call.arguments_json or "{}")
        except json.JSONDecodeError as error:
            raise ValueError(f"the arguments are no JSON: {error}") from error
        return object_from_json(self._fields, given)


Runnable: TypeAlias = PythonTool[..., Any] | Callable[..., Any]
"""A tool that can be run: decorated, or a plain function."""


@overload
def tool(function: Callable[P, R], /) -> PythonTool[P, R]: ...
@overload
def tool(
    *, name: str = "", description: str = "", strict: bool | None = None
) -> Callable[[Callable[P, R]], PythonTool[P, R]]: ...
def tool(
    function: Callable[P, R] | None = None,
    /,
    *,
    name: str = "",
    description: str = "",
    strict: bool | None = None,
) -> PythonTool[P, R] | Callable[[Callable[P, R]], PythonTool[P, R]]:
    """Make a tool of a function, as a decorator or by a call.

    The parameters' types give the JSON schema (see `execution_platform.client.schema`), defaults make them optional,
    and Annotated texts or the docstring describe them.

    Args:
        function: the function.
        name: name of the tool; empty: the function's.
        description: what it does and when to call it; empty: the docstring without its section about parameters.
        strict: whether arguments must fit exactly; None: the provider's default.

    Raises:
        TypeError: a parameter's type has no JSON schema, or takes any number of arguments.
    """
    if function is not None:
        return PythonTool(function, name=name, description=description, strict=strict)
    return lambda decorated: PythonTool(decorated, name=name, description=description, strict=strict)


def run_tool_calls(answer: Answer | content_pb2.Message, tools: Iterable[Runnable]) -> content_pb2.Message:
    """Run the calls of an answer one after another, and return the message that tells their results.

    What a tool raises becomes a result with `is_error`, and so does a call of a tool that is not there.

    Args:
        answer: the answer, or its message.
        tools: the tools; plain functions go by their name.

    Raises:
        TypeError: a tool is asynchronous; use `run_tool_calls_async`.
        ValueError: the answer calls no tool of the caller's.
    """
    named = _by_name(tools)
    if waiting := [each.name for each in named.values() if each.is_async]:
        raise TypeError(f"{', '.join(waiting)} must be awaited: use run_tool_calls_async")
    return _results([_run(named, call) for call in _calls(answer)])


async def run_tool_calls_async(answer: Answer | content_pb2.Message, tools: Iterable[Runnable]) -> content_pb2.Message:
    """Run the calls of an answer at the same time, and return the message that tells their results in order.

    Functions that are not asynchronous run in threads. Otherwise as `run_tool_calls`.

    Raises:
        ValueError: the answer calls no tool of the caller's.
    """
    named = _by_name(tools)
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_run_async(named, call)) for call in _calls(answer)]
    return _results([task.result() for task in running])


def _by_name(tools: Iterable[Runnable]) -> dict[str, PythonTool[..., Any]]:
    described = [each if isinstance(each, PythonTool) else PythonTool(each) for each in tools]
    return {each.name: each for each in described}


def _calls(answer: Answer | content_pb2.Message) -> list[content_pb2.ToolCallBlock]:
    calls = (answer if isinstance(answer, Answer) else Answer.of_message(answer)).tool_calls
    if not calls:
        raise ValueError("the answer calls no tool")
    return calls


def _results(results: Sequence[content_pb2.ContentBlock]) -> content_pb2.Message:
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=results)


def _run(tools: dict[str, PythonTool[..., Any]], call: content_pb2.ToolCallBlock) -> content_pb2.ContentBlock:
    if call.name not in tools:
        return _unknown(tools, call)
    try:
        return _result(call, tools[call.name].run(call))
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to read
        return _failure(call, error)


async def _run_async(
    tools: dict[str, PythonTool[..., Any]], call: content_pb2.ToolCallBlock
) -> content_pb2.ContentBlock:
    if call.name not in tools:
        return _unknown(tools, call)
    called = tools[call.name]
    try:
        value = await called.run(call) if called.is_async else await asyncio.to_thread(called.run, call)
        return _result(call, value)
    except Exception as error:  # noqa: BLE001 - whatever a tool raises is for the model to read
        return _failure(call, error)


def _unknown(tools: Iterable[str], call: content_pb2.ToolCallBlock) -> content_pb2.ContentBlock:
    return tool_result(call, f"There is no tool {call.name!r}. There are: {', '.join(tools) or 'none'}.", is_error=True)


def _failure(call: content_pb2.ToolCallBlock, error: Exception) -> content_pb2.ContentBlock:
    return tool_result(call, f"{type(error).__name__}: {error}", is_error=True)


def _result(call: content_pb2.ToolCallBlock, value: Any) -> content_pb2.ContentBlock:
    """Return what a tool returned: content as it is, None as nothing, an object as JSON, anything else as its text."""
    if isinstance(value, str | content_pb2.ContentBlock):
        return tool_result(call, value)
    if isinstance(value, list) and value and all(isinstance(each, content_pb2.ContentBlock) for each in value):
        return tool_result(call, value)
    if value is None:
        return tool_result(call)
    written = json.dumps(value, default=_jsonable, ensure_ascii=False)
    if written.startswith("{"):
        return tool_result(call, structured_content_json=written)  # one form only: providers take either
    return tool_result(call, written)


def _jsonable(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, set | frozenset):
        return list(value)
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)


def _parameters(function: Callable[..., Any], signature: inspect.Signature) -> list[Field]:
    hints = resolved_hints(function if inspect.isroutine(function) else type(function).__call__)
    said = described_names(function.__doc__)
    fields = []
    for parameter in signature.parameters.values():
        if parameter.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
            raise TypeError(f"{parameter} takes any number of arguments, which no model can know")
        required = parameter.default is inspect.Parameter.empty
        annotation = hints.get(parameter.name, inspect.Parameter.empty)
        fields.append(Field(parameter.name, annotation, parameter.default, required, said.get(parameter.name, "")))
    return fields


def _name_of(function: Callable[..., Any]) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


def _description(function: Callable[..., Any]) -> str:
    """Return a docstring up to the section about its parameters."""
    lines = (inspect.getdoc(function) or "").splitlines()
    ends = ("Args:", "Arguments:", "Parameters:", "Returns:", "Raises:", "Yields:", ":param", ":return", ":raises")
    kept = next((lines[:i] for i, line in enumerate(lines) if line.startswith(ends)), lines)
    return "\n".join(kept).strip()
