"""Function call arguments that come value by value, each with its path, put together as JSON text."""

from __future__ import annotations

import re

import msgspec

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, elements_of, text_of, value_of
from execution_platform.adapters.gemini.fields import members

__all__ = ["ArgumentsWriter"]

_Step = str | int

#: One step of a path as RFC 9535 writes it: .name, [0], ['name'] or ["name"].
_STEP = re.compile(r"""\.([^.\[\]]+)|\[(\d+)\]|\['((?:[^'\\]|\\.)*)'\]|\["((?:[^"\\]|\\.)*)"\]""")
_ESCAPE = re.compile(r"\\(.)")


class ArgumentsWriter:
    """Writes the JSON object whose values arrive in the order in which the model wrote them.

    Source: PartialArg of the Vertex AI API: a value with its JSON path; a string may go on in the next one.
    """

    def __init__(self) -> None:
        self._path: list[_Step] = []
        self._string_open = False
        self._begun = False

    def feed(self, partial_args: msgspec.Raw) -> str:
        """Return the text that a list of partial arguments adds.

        Raises:
            ProtocolError: a path is none, or goes back to what was complete.
        """
        return "".join(self._add(members(part)) for part in elements_of(partial_args))

    def end(self) -> str:
        """Return the text that closes the object; empty if nothing came."""
        if not self._begun:
            return ""
        return self._end_string() + "".join(_closing(step) for step in reversed(self._path))

    def _add(self, part: Fields) -> str:
        path = _steps(text_of(part.get("jsonPath")))
        goes_on = value_of(part.get("willContinue")) is True
        if self._string_open and path == self._path:
            piece = _inside(text_of(part.get("stringValue")))
            return piece if goes_on else piece + self._end_string()
        moved = self._end_string() + self._move(path)
        if "stringValue" in part:
            self._string_open = True
            piece = moved + '"' + _inside(text_of(part["stringValue"]))
            return piece if goes_on else piece + self._end_string()
        return moved + _scalar(part)

    def _end_string(self) -> str:
        if not self._string_open:
            return ""
        self._string_open = False
        return '"'

    def _move(self, path: list[_Step]) -> str:
        old = self._path
        self._path = path
        if not self._begun:
            self._begun = True
            return "".join(_opening(step) for step in path)
        shared = 0
        while shared < min(len(old), len(path)) and old[shared] == path[shared]:
            shared += 1
        if shared in {len(old), len(path)} or not _follows(old[shared], path[shared]):
            raise ProtocolError("partial arguments of a function call go back to what was complete")
        closed = "".join(_closing(step) for step in reversed(old[shared + 1 :]))
        opened = "".join(_opening(step) for step in path[shared + 1 :])
        return closed + "," + _name(path[shared]) + opened


def _steps(path: str) -> list[_Step]:
    steps: list[_Step] = []
    at = 1
    while at < len(path):
        found = _STEP.match(path, at)
        if found is None:
            break
        name, number, single, double = found.groups()
        if number is not None:
            steps.append(int(number))
        else:
            steps.append(name or _ESCAPE.sub(r"\1", single if single is not None else double or ""))
        at = found.end()
    if not path.startswith("$") or at < len(path) or not steps or isinstance(steps[0], int):
        raise ProtocolError(f"{path[:80]!r} is no path of a function call's argument")
    return steps


def _follows(old: _Step, new: _Step) -> bool:
    if isinstance(old, int) and isinstance(new, int):
        return new == old + 1
    return isinstance(old, str) and isinstance(new, str)


def _opening(step: _Step) -> str:
    return ("[" if isinstance(step, int) else "{") + _name(step)


def _closing(step: _Step) -> str:
    return "]" if isinstance(step, int) else "}"


def _name(step: _Step) -> str:
    return "" if isinstance(step, int) else msgspec.json.encode(step).decode() + ":"


def _inside(piece: str) -> str:
    return msgspec.json.encode(piece).decode()[1:-1]


def _scalar(part: Fields) -> str:
    for key in ("numberValue", "boolValue"):
        if key in part:
            return bytes(part[key]).decode()
    return "null"
