"""Reads YAML and JSON so that every key and every value knows its line and column.

Both give the same tree. A number keeps its digits: money must not pass through a float.
"""

from __future__ import annotations

import json
import math
import re
from decimal import Decimal
from pathlib import PurePath

from execution_platform.server.config.json_text import read_json
from execution_platform.server.config.nodes import Fields, Items, Kind, Node, Place, Problems, Scalar, joined
from execution_platform.server.config.raw import MOST_LEVELS, Raw, TextError
from execution_platform.server.config.yaml_text import read_yaml

__all__ = ["MOST_BYTES", "parse"]

#: Largest file that is read.
MOST_BYTES = 4 * 1024 * 1024

#: Most values of a file, with what its aliases stand for.
_MOST_VALUES = 100_000

_SURROGATE = re.compile("[\ud800-\udfff]")


def parse(file: str, data: bytes, problems: Problems) -> Node | None:
    """Read a file: JSON if its name ends so or it holds a JSON object, else YAML.

    Args:
        file: its name, as problems tell it.
        data: its bytes.
        problems: takes what is wrong.

    Returns:
        What it says; None: it cannot be read.
    """
    top = Place(file, 0, 0)
    if len(data) > MOST_BYTES:
        problems.at(top, "", f"is larger than {MOST_BYTES // 2**20} MiB")
        return None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.at(Place(file, data[: error.start].count(b"\n") + 1, 1), "", "is not UTF-8")
        return None
    try:
        raw = read_json(text) if _is_json(file, text) else read_yaml(text)
    except TextError as error:
        problems.at(Place(file, error.line, error.column), "", error.message)
        return None
    return _Tree(file, problems).read(raw)


class _TooMuchError(Exception):
    """Aliases stand for more than anybody writes."""


def _is_json(file: str, text: str) -> bool:
    suffix = PurePath(file).suffix.lower()
    if suffix in {".yaml", ".yml"}:
        return False
    # A mapping of YAML may also begin with a brace, but hardly with one and a quote.
    return suffix == ".json" or re.match(r'\s*\{\s*["}]', text) is not None


class _Tree:
    """Makes the tree of a file: gives paths, follows aliases, refuses keys that are there twice."""

    def __init__(self, file: str, problems: Problems) -> None:
        self._file = file
        self._problems = problems
        self._values = 0
        self._within: list[Raw] = []

    def read(self, raw: Raw) -> Node | None:
        try:
            return self._node(raw, "")
        except _TooMuchError:
            message = f"holds more than {_MOST_VALUES} values, or more than {MOST_LEVELS} levels, with its aliases"
            self._problems.at(Place(self._file, 0, 0), "", message)
            return None

    def _place(self, raw: Raw) -> Place:
        return Place(self._file, raw.line, raw.column)

    def _node(self, raw: Raw, path: str) -> Node:
        self._values += 1
        if self._values > _MOST_VALUES or len(self._within) > MOST_LEVELS:
            raise _TooMuchError
        if any(each is raw for each in self._within):
            self._problems.at(self._place(raw), path, "contains itself through an alias")
            return self._null(raw, path)
        self._within.append(raw)
        try:
            match raw.kind:
                case "map":
                    return self._fields(raw, path)
                case "list":
                    items = (self._node(each, f"{path}[{index}]") for index, each in enumerate(raw.items))
                    return Items(self._place(raw), path, tuple(items))
                case "wrong":
                    self._problems.add(found := self._null(raw, path), raw.text)
                    return found
                case kind:
                    return self._scalar(raw, path, kind)
        finally:
            self._within.pop()

    def _fields(self, raw: Raw, path: str) -> Fields:
        entries: dict[str, Node] = {}
        keys: dict[str, Place] = {}
        merged: list[Raw] = []
        for key, value in raw.pairs:
            if key.merges:
                merged += value.items if value.kind == "list" else [value]
                continue
            if key.kind not in {"list", "map", "null", "wrong"} and not key.text:
                self._problems.at(self._place(key), path, "a key must not be empty")
                continue
            if key.kind in {"list", "map", "null", "wrong"} or _SURROGATE.search(key.text):
                self._problems.at(self._place(key), path, "a key must be a text")
                continue
            inner = joined(path, key.text)
            if key.text in entries:
                first = keys[key.text].line
                self._problems.at(self._place(key), inner, f"this key is already in line {first}; keep one of them")
                continue
            keys[key.text] = self._place(key)
            entries[key.text] = self._node(value, inner)
        for source in merged:
            self._merge(source, path, entries, keys)
        return Fields(self._place(raw), path, entries, keys)

    def _merge(self, source: Raw, path: str, entries: dict[str, Node], keys: dict[str, Place]) -> None:
        """Take in what ``<<`` names: keys that the mapping has itself win."""
        node = self._node(source, path)
        if not isinstance(node, Fields):
            self._problems.at(self._place(source), path, "<< takes a mapping, or a list of mappings")
            return
        for key, value in node.entries.items():
            if key not in entries:
                entries[key] = value
                keys[key] = node.keys[key]

    def _null(self, raw: Raw, path: str) -> Scalar:
        return Scalar(self._place(raw), path, "null", "", "null")

    def _scalar(self, raw: Raw, path: str, kind: Kind) -> Scalar:
        place = self._place(raw)
        if kind == "str":
            if _SURROGATE.search(raw.text):
                self._problems.at(place, path, "holds half a character (a lone surrogate)")
                return self._null(raw, path)
            return Scalar(place, path, "str", raw.text, json.dumps(raw.text))
        if kind == "float" and not math.isfinite(float(raw.text)):
            self._problems.at(place, path, "is a number beyond all bounds")
            return self._null(raw, path)
        return Scalar(place, path, kind, raw.text, _json_of(kind, raw.text))


def _json_of(kind: Kind, text: str) -> str:
    """Return a value's JSON without losing a digit."""
    if kind == "null":
        return "null"
    if kind == "bool":
        return text.lower()
    if kind == "int":
        # Not base 0, which refuses the zeros that may lead a number of YAML.
        return str(int(text, {"0o": 8, "0x": 16}.get(text[:2], 10)))
    return str(Decimal(text))
