"""Reads JSON into values that know where they were written."""

from __future__ import annotations

import bisect
import json
import re
from typing import Any

from execution_platform.server.config.raw import MOST_LEVELS, Raw, TextError

__all__ = ["read_json"]

_SPACES = tuple(" \t\n\r")


def read_json(text: str) -> Raw:
    """Read JSON. Raises TextError."""

    def refuse(constant: str) -> Any:
        raise TextError(1, 1, f"is not valid JSON: there is no number {constant}")

    try:
        json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        if text[: error.pos].rstrip().endswith(",") and text[error.pos : error.pos + 1] in {"}", "]"}:
            reason = "a comma stands before the end; leave it out"
        raise TextError(error.lineno, error.colno, f"is not valid JSON: {reason}") from None
    except (RecursionError, ValueError) as error:
        raise TextError(1, 1, "is not valid JSON: too deep, or a number too long") from error
    return _Reader(text).read()


class _Reader:
    """Finds the places of what is known to be valid JSON."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self._decoder = json.JSONDecoder(parse_float=str, parse_int=str)
        self._levels = 0

    def read(self) -> Raw:
        return self._value(self._skip(0))[0]

    def _skip(self, at: int) -> int:
        while self._text[at : at + 1] in _SPACES:
            at += 1
        return at

    def _made(self, at: int, kind: Any, text: str = "") -> Raw:
        line = bisect.bisect_right(self._lines, at)
        return Raw(line, at - self._lines[line - 1] + 1, kind, text)

    def _value(self, at: int) -> tuple[Raw, int]:
        """Return the value that begins at a character, and where it ends."""
        if self._text[at] in "{[":
            self._levels += 1
            if self._levels > MOST_LEVELS:
                raise TextError(1, 1, f"has more than {MOST_LEVELS} levels")
            try:
                return self._object(at) if self._text[at] == "{" else self._array(at)
            finally:
                self._levels -= 1
        value, end = self._decoder.raw_decode(self._text, at)
        written = self._text[at:end]
        if self._text[at] == '"':
            return self._made(at, "str", value), end
        kinds = {"true": "bool", "false": "bool", "null": "null"}
        kind = kinds.get(written) or ("int" if re.fullmatch(r"-?\d+", written) else "float")
        return self._made(at, kind, written), end

    def _array(self, at: int) -> tuple[Raw, int]:
        raw = self._made(at, "list")
        at = self._skip(at + 1)
        while self._text[at] != "]":
            value, end = self._value(at)
            raw.items.append(value)
            at = self._after(end)
        return raw, at + 1

    def _object(self, at: int) -> tuple[Raw, int]:
        raw = self._made(at, "map")
        at = self._skip(at + 1)
        while self._text[at] != "}":
            key, end = self._value(at)
            value, end = self._value(self._skip(self._skip(end) + 1))
            raw.pairs.append((key, value))
            at = self._after(end)
        return raw, at + 1

    def _after(self, at: int) -> int:
        at = self._skip(at)
        return self._skip(at + 1) if self._text[at] == "," else at
