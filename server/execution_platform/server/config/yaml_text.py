"""Reads YAML into values that know where they were written.

Plain scalars go by the rules of YAML 1.2: ``no`` is a text, ``012`` is twelve. Source:
https://yaml.org/spec/1.2.2/#103-core-schema
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from execution_platform.server.config.nodes import Kind
from execution_platform.server.config.raw import MOST_LEVELS, Raw, TextError

__all__ = ["read_yaml"]

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")

_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, Kind] = {
    _TAG + "null": "null",
    _TAG + "bool": "bool",
    _TAG + "int": "int",
    _TAG + "float": "float",
    _TAG + "str": "str",
    "!": "str",
}

#: What a plain scalar is, by YAML 1.2's core schema; a number of more digits is a text.
_PATTERNS: tuple[tuple[Kind, re.Pattern[str]], ...] = (
    ("null", re.compile(r"~|null|Null|NULL|")),
    ("bool", re.compile(r"true|True|TRUE|false|False|FALSE")),
    ("int", re.compile(r"[-+]?[0-9]{1,300}|0o[0-7]{1,100}|0x[0-9a-fA-F]{1,100}")),
    ("float", re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]{1,4})?")),
)

#: libyaml's parser where PyYAML was built with it: ten times as fast, with the same events.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WRONG_TAG = "a tag other than those of plain YAML cannot be used here; leave it out"


def read_yaml(text: str) -> Raw:
    """Read YAML. Raises TextError."""
    odd = _CONTROL.search(text)
    if odd is not None:
        line = text.count("\n", 0, odd.start()) + 1
        raise TextError(line, 1, "holds a control character")
    try:
        return _Reader(text).read()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line, column = (mark.line, mark.column) if mark is not None else (0, 0)
        raise TextError(line + 1, column + 1, f"is not valid YAML: {_said(error, text)}") from None
    except yaml.YAMLError:
        raise TextError(1, 1, "is not valid YAML: it holds a character that cannot be written there") from None


def _said(error: yaml.MarkedYAMLError, text: str) -> str:
    """Return what is wrong, without a word of the file."""
    mark, context = error.problem_mark, error.context_mark
    lines = text.splitlines()
    if mark is not None and mark.line < len(lines) and lines[mark.line][mark.column : mark.column + 1] == "\t":
        return "a tab stands where spaces must"
    said = re.sub(r"'[^',\s]{2,}'", "something else", str(error.problem))
    if context is None or mark is None or context.line == mark.line:
        return said
    return f"{said} ({error.context}, begun in line {context.line + 1})"


class _Reader:
    """Makes values of the parser's events, without building anything that a tag may ask for."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._anchors: dict[str, Raw] = {}
        self._open: list[Raw] = []
        self._keys: list[Raw | None] = []
        self._root: Raw | None = None

    def read(self) -> Raw:
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise TextError(*_begin_of(event), "begins a second document; write everything into one")
            elif isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
                self._open.pop()
                self._keys.pop()
            elif isinstance(event, yaml.AliasEvent):
                self._place(self._alias(event))
            elif isinstance(event, yaml.ScalarEvent | yaml.MappingStartEvent | yaml.SequenceStartEvent):
                self._begin(event)
        return self._root or Raw(1, 1, "null")

    def _begin(self, event: Any) -> None:
        raw = self._made(event)
        if event.anchor:
            self._anchors[event.anchor] = raw
        self._place(raw)
        if not isinstance(event, yaml.ScalarEvent):
            if len(self._open) >= MOST_LEVELS:
                raise TextError(raw.line, raw.column, f"has more than {MOST_LEVELS} levels")
            self._open.append(raw)
            self._keys.append(None)

    def _alias(self, event: Any) -> Raw:
        if event.anchor not in self._anchors:
            raise TextError(*_begin_of(event), "is not valid YAML: there is no anchor of this alias before it")
        return self._anchors[event.anchor]

    def _place(self, raw: Raw) -> None:
        """Put a value where it belongs: into the innermost list or mapping that is open."""
        if not self._open:
            self._root = raw
            return
        outer = self._open[-1]
        if outer.kind == "list":
            outer.items.append(raw)
        elif self._keys[-1] is None:
            self._keys[-1] = raw
        else:
            outer.pairs.append((self._keys[-1], raw))
            self._keys[-1] = None

    def _made(self, event: Any) -> Raw:
        line, column = _begin_of(event)
        if isinstance(event, yaml.ScalarEvent):
            if event.tag is not None and event.tag not in _SCALAR_TAGS:
                return Raw(line, column, "wrong", _WRONG_TAG)
            kind = _kind_of(event)
            return Raw(line, column, kind, event.value, merges=event.value == "<<" and event.implicit[0])
        is_map = isinstance(event, yaml.MappingStartEvent)
        if event.tag not in {None, _TAG + ("map" if is_map else "seq")}:
            raise TextError(line, column, _WRONG_TAG)
        return Raw(line, column, "map" if is_map else "list")


def _begin_of(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _kind_of(event: Any) -> Kind:
    """Return what a scalar is: what its tag says if its text fits, what its text says if it is plain, else a text."""
    tagged = _SCALAR_TAGS.get(event.tag)
    if tagged == "str" or (tagged is None and not event.implicit[0]):
        return "str"
    for kind, pattern in _PATTERNS:
        if pattern.fullmatch(event.value) and tagged in {None, kind}:
            return kind
    return "str"
