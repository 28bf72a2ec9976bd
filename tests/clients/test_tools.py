"""Tools from Python functions: what the model is told, and what happens when it calls."""

import datetime as dt
import enum
import functools
import json
import threading
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict

import pytest

from execution_platform.client import Answer, run_tool_calls, run_tool_calls_async, text, tool
from execution_platform.client.schema import described_names, from_json, type_schema
from execution_platform.v1 import chat_pb2, content_pb2


class Unit(enum.Enum):
    """A unit."""

    C = "celsius"
    F = "fahrenheit"


@dataclass
class Place:
    """Where.

    Attributes:
        city: the city.
    """

    city: str
    at: tuple[float, float] | None = None
    tags: list[str] = field(default_factory=list)


class Options(TypedDict):
    """How."""

    unit: Literal["c", "f"]
    days: NotRequired[int]


CityName = NewType("CityName", str)


@dataclass
class Tree:
    """Contains itself."""

    children: list["Tree"]


def call(name: str, arguments: Any = None, call_id: str = "1") -> content_pb2.ContentBlock:
    """Return a call of a tool."""
    written = arguments if isinstance(arguments, str) else json.dumps(arguments or {})
    return content_pb2.ContentBlock(
        tool_call=content_pb2.ToolCallBlock(call_id=call_id, name=name, arguments_json=written)
    )


def answer(*calls: content_pb2.ContentBlock) -> Answer:
    """Return an answer that calls tools."""
    return Answer(chat_pb2.CompleteChatResponse(message=content_pb2.Message(content=calls)))


def said(message: content_pb2.Message) -> list[tuple[str, bool]]:
    """Return the text of each result, and whether it is an error."""
    results = [block.tool_result for block in message.content]
    return [("".join(part.text.text for part in each.content), each.is_error) for each in results]


@pytest.mark.parametrize(
    ("annotation", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (None, {"type": "null"}),
        (Any, {}),
        (CityName, {"type": "string"}),
        (Annotated[int, "how many", {"minimum": 1}], {"type": "integer", "description": "how many", "minimum": 1}),
        (Literal["a", "b"], {"enum": ["a", "b"], "type": "string"}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Unit, {"enum": ["celsius", "fahrenheit"], "type": "string"}),
        (Optional[int], {"anyOf": [{"type": "integer"}, {"type": "null"}]}),  # noqa: UP045 - the old spelling too
        (int | str, {"anyOf": [{"type": "integer"}, {"type": "string"}]}),
        (list, {"type": "array", "items": {}}),
        (Sequence[int], {"type": "array", "items": {"type": "integer"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (set[str], {"type": "array", "items": {"type": "string"}, "uniqueItems": True}),
        (dict, {"type": "object"}),
        (Mapping[str, int], {"type": "object", "additionalProperties": {"type": "integer"}}),
        (dt.datetime, {"type": "string", "format": "date-time"}),
        (uuid.UUID, {"type": "string", "format": "uuid"}),
        (
            tuple[int, str],
            {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "minItems": 2, "maxItems": 2},
        ),
        (
            Options,
            {
                "type": "object",
                "properties": {"unit": {"enum": ["c", "f"], "type": "string"}, "days": {"type": "integer"}},
                "required": ["unit"],
                "additionalProperties": False,
                "description": "How.",
            },
        ),
    ],
    ids=str,
)
def test_types_have_their_schema(annotation: Any, schema: Any) -> None:
    """Each known type gives the JSON schema of its values."""
    assert type_schema(annotation) == schema


@pytest.mark.parametrize(
    ("annotation", "message"),
    [
        (bytes, "no JSON schema"),
        (threading.Lock, "no JSON schema"),
        (dict[int, str], "text keys"),
        (Tree, "contains itself"),
        (Literal[b"x"], "not every value"),
    ],
)
def test_types_without_a_schema_are_refused(annotation: Any, message: str) -> None:
    """A type that JSON cannot say raises TypeError."""
    with pytest.raises(TypeError, match=message):
        type_schema(annotation)


@pytest.mark.parametrize(
    ("annotation", "value", "made"),
    [
        (int, 3.0, 3),
        (float, 3, 3.0),
        (int | str, "5", "5"),
        (Unit, "celsius", Unit.C),
        (Literal[Unit.C], "celsius", Unit.C),
        (set[int], [1, 1], {1}),
        (frozenset[int], [1], frozenset({1})),
        (tuple[int, str], [1, "a"], (1, "a")),
        (tuple[int, ...], [1, 2], (1, 2)),
        (dict[str, list[int]], {"a": [1]}, {"a": [1]}),
        (dt.date, "2026-11-21", dt.date(2026, 11, 21)),
        (Place, {"city": "Bern", "at": [1, 2.5]}, Place("Bern", (1.0, 2.5))),
        (Options, {"unit": "c"}, {"unit": "c"}),
        (Annotated[Any, "anything"], [1], [1]),
        (None, None, None),
    ],
    ids=str,
)
def test_json_becomes_values_of_the_type(annotation: Any, value: Any, made: Any) -> None:
    """Decoded JSON comes as the annotated type, equal in value and in kind."""
    found = from_json(annotation, value)
    assert found == made
    assert type(found) is type(made)


@pytest.mark.parametrize(
    ("annotation", "value", "message"),
    [
        (int, True, "the value is not of type integer"),
        (int, 1.5, "the value is not of type integer"),
        (str, 1, "the value is not of type string"),
        (Literal[1], True, "not one of 1"),
        (Unit, "kelvin", "not one of 'celsius', 'fahrenheit'"),
        (int | bool, "x", "fits none of its types"),
        (list[int], [1, "x"], r"\[1\] is not of type integer"),
        (list[int], "x", "not a list"),
        (tuple[int, int], [1], "has not 2 items"),
        (dt.datetime, "soon", "not of the form date-time"),
        (Place, {}, "city is missing"),
        (Place, {"city": "x", "hm": 1}, "hm is not known; known are: city, at, tags"),
        (dict[str, Place], {"a": {"city": 1}}, r"a\.city is not of type string"),
    ],
    ids=str,
)
def test_json_that_does_not_fit_is_told_where(annotation: Any, value: Any, message: str) -> None:
    """A value of another type raises ValueError with the place and what was expected."""
    with pytest.raises(ValueError, match=message):
        from_json(annotation, value)


def forecast(
    place: Place, unit: Unit = Unit.C, days: Annotated[int, "how many days"] = 3, *, hourly: bool = False
) -> str:
    """Tell the weather.

    Call it for questions about the weather.

    Args:
        place (Place): where,
            exactly.
        unit: which unit.
        days: its annotation says it better.
        hourly: by the hour.

    Returns:
        The weather.
    """
    return f"{place.city} {unit.name} {days} {hourly}"


def test_a_function_describes_itself() -> None:
    """Name, docstring, types, defaults and descriptions become the definition of the tool."""
    made = tool(forecast).definition
    assert made.name == "forecast"
    assert made.description == "Tell the weather.\n\nCall it for questions about the weather."
    schema = json.loads(made.parameters_json)
    assert schema["required"] == ["place"]
    assert schema["properties"]["place"]["properties"]["city"] == {"type": "string", "description": "the city."}
    assert schema["properties"]["days"] == {"type": "integer", "description": "how many days", "default": 3}
    assert schema["properties"]["unit"]["description"] == "which unit."
    assert schema["properties"]["hourly"] == {"type": "boolean", "description": "by the hour.", "default": False}
    assert tool(forecast)(Place("Bern")) == "Bern C 3 False"


def test_docstrings_of_both_styles_are_read() -> None:
    """Google's and Sphinx's ways to describe parameters are understood, on several lines too."""
    google = "X.\n\nArgs:\n    a: one\n        more\n    *b (int, optional): two: three\n\nReturns:\n    c: none."
    sphinx = "X.\n\n:param a: one\n    more\n:param int b: two: three\n:return: none"
    assert described_names(google) == described_names(sphinx) == {"a": "one more", "b": "two: three"}
    assert described_names(None) == {}


def test_functions_that_no_model_can_call_are_refused() -> None:
    """Any number of arguments, and annotations that cannot be found, raise TypeError when the tool is made."""

    def many(*args: int) -> None:
        """Take many."""

    def unknown(x: "Nowhere") -> None:  # type: ignore[name-defined]  # noqa: F821 - wrong on purpose
        """Take what is nowhere."""

    with pytest.raises(TypeError, match="any number"):
        tool(many)
    with pytest.raises(TypeError, match="cannot be resolved"):
        tool(unknown)


def test_calls_are_run_and_answered_in_order() -> None:
    """Each call gives one result with its call_id, with arguments as the annotated types."""
    asked = answer(
        call("forecast", {"place": {"city": "Bern"}, "unit": "fahrenheit", "hourly": True}, "a"),
        call("forecast", {"place": {"city": "Rome"}, "days": 1}, "b"),
    )
    message = run_tool_calls(asked, [forecast])
    assert message.role == content_pb2.ROLE_USER
    assert [block.tool_result.call_id for block in message.content] == ["a", "b"]
    assert [block.tool_result.name for block in message.content] == ["forecast", "forecast"]
    assert said(message) == [("Bern F 3 True", False), ("Rome C 1 False", False)]


def test_what_goes_wrong_is_a_result() -> None:
    """Unknown tools, arguments that do not fit, broken JSON and exceptions are results with is_error."""

    def broken(x: int) -> None:
        """Fail."""
        raise KeyError(f"no {x}")

    asked = answer(call("none"), call("broken", {"x": "1"}), call("broken", '{"x": '), call("broken", {"x": 1}))
    results = said(run_tool_calls(asked, [broken]))
    assert [is_error for _, is_error in results] == [True] * 4
    assert results[0][0] == "There is no tool 'none'. There are: broken."
    assert results[1][0] == "ValueError: x is not of type integer"
    assert results[2][0].startswith("ValueError: the arguments are no JSON")
    assert results[3][0] == "KeyError: 'no 1'"


@pytest.mark.parametrize(
    ("value", "shown", "structured"),
    [
        ("text", "text", ""),
        (None, "", ""),
        (3, "3", ""),
        ({"ä": [1, 2.0]}, "", '{"ä": [1, 2.0]}'),
        (Place("Bern"), "", '{"city": "Bern", "at": null, "tags": []}'),
        ({"unit": Unit.C, "days": {dt.date(2026, 1, 2)}}, "", '{"unit": "celsius", "days": ["2026-01-02"]}'),
        (text("block"), "block", ""),
        ([text("two "), text("blocks")], "two blocks", ""),
        (uuid.UUID(int=1), '"00000000-0000-0000-0000-000000000001"', ""),
    ],
)
def test_what_a_tool_returns_is_told_the_model(value: Any, shown: str, structured: str) -> None:
    """Text and blocks go as they are, an object as structured content, anything else as JSON text."""

    def give() -> Any:
        """Give."""
        return value

    message = run_tool_calls(answer(call("give", "")), [give])
    assert said(message) == [(shown, False)]
    assert message.content[0].tool_result.structured_content_json == structured


def test_only_the_callers_own_calls_are_run() -> None:
    """Calls that the provider ran are left alone, and an answer without calls of the caller's is refused."""
    theirs = call("search")
    theirs.tool_call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    mine = call("search", call_id="2")
    message = run_tool_calls(answer(theirs, mine), [functools.partial(forecast, Place("x")), tool(search)])
    assert [block.tool_result.call_id for block in message.content] == ["2"]
    with pytest.raises(ValueError, match="calls no tool"):
        run_tool_calls(answer(theirs).message, [search])


def search(query: str = "") -> str:
    """Search."""
    return f"found {query}"


def test_a_tool_of_free_text_gets_the_text() -> None:
    """A call with text instead of JSON fills the only parameter."""
    free = content_pb2.ContentBlock(tool_call=content_pb2.ToolCallBlock(name="search", arguments_text="x y"))
    assert said(run_tool_calls(answer(free), [search])) == [("found x y", False)]
    free.tool_call.name = "forecast"
    assert said(run_tool_calls(answer(free), [forecast]))[0][1]


def test_methods_and_callable_objects_are_tools() -> None:
    """A bound method, an object with __call__, and positional-only parameters work."""

    class Counter:
        """Counts."""

        def count(self, step: int, /) -> int:
            """Count on."""
            return step + 1

        def __call__(self, step: int) -> int:
            return step + 2

    assert said(run_tool_calls(answer(call("count", {"step": 1})), [Counter().count])) == [("2", False)]
    assert said(run_tool_calls(answer(call("Counter", {"step": 1})), [Counter()])) == [("3", False)]


async def test_asynchronous_tools_run_at_the_same_time() -> None:
    """Calls of asynchronous and of blocking tools run side by side, and their results keep the calls' order."""
    meeting = threading.Barrier(2, timeout=20)

    def wait(number: int) -> int:
        """Wait for the other."""
        meeting.wait()
        return number

    @tool
    async def hello(name: str) -> str:
        """Say hello."""
        return f"hello {name}"

    asked = answer(
        call("wait", {"number": 1}),
        call("hello", {"name": "you"}),
        call("wait", {"number": 2}),
        call("hello", {}),
        call("none"),
    )
    results = said(await run_tool_calls_async(asked, [wait, hello]))
    assert results[:3] == [("1", False), ("hello you", False), ("2", False)]
    assert [is_error for _, is_error in results[3:]] == [True, True]
    assert hello.is_async
    with pytest.raises(TypeError, match="hello must be awaited"):
        run_tool_calls(asked, [wait, hello])
