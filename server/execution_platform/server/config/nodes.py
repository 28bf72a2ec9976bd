"""Values of a configuration file that know where they were written, and what is wrong with them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = [
    "Fields",
    "Items",
    "Kind",
    "Node",
    "Place",
    "Problem",
    "Problems",
    "Scalar",
    "joined",
    "named",
    "nearest",
    "one_of",
    "shown",
]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SHOWN = re.compile(r"[A-Za-z0-9_./: -]{1,32}")

#: Characters of a key that a path repeats.
_KEY_CHARACTERS = 64

#: Names that are listed where none is near.
_LISTED = 40


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where something was written: file as it was named, line and column from 1; line 0: the file as a whole."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth a look.

    Attributes:
        place: where.
        path: of the value, for example ``personas.architect.fallback[1].provider``; empty: the file as a whole.
        message: what is wrong and what to write, without values that may be secret.
    """

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: {self.message}" if self.path else f"{self.place}: {self.message}"


class Problems:
    """Gathers what is wrong, to tell it all at once."""

    def __init__(self) -> None:
        self._found: dict[Problem, None] = {}

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, node: Node, message: str) -> None:
        """Tell what is wrong with a value."""
        self.at(node.place, node.path, message)

    def at(self, place: Place, path: str, message: str) -> None:
        """Tell what is wrong at a place. The same at the same place is told once, by whatever path it was reached."""
        self._found.setdefault(Problem(place, path, message))

    def lines(self, files: Sequence[str]) -> tuple[str, ...]:
        """Return a line for each, in the order of the files and of their lines."""
        order = {file: number for number, file in enumerate(files)}
        found = sorted(self._found, key=lambda each: (order.get(each.place.file, len(order)), each.place))
        told: dict[tuple[Place, str], Problem] = {}
        for problem in found:
            told.setdefault((problem.place, problem.message), problem)
        return tuple(str(problem) for problem in told.values())


Kind = Literal["null", "bool", "int", "float", "str"]


@dataclass(frozen=True, slots=True)
class Scalar:
    """A text, number, truth value or null.

    Attributes:
        place: where it was written.
        path: as it was written.
        kind: what it is.
        text: a text's characters; else as it was written.
        json: the value as JSON, digit by digit where it is a number.
    """

    place: Place
    path: str
    kind: Kind
    text: str
    json: str


@dataclass(frozen=True, slots=True)
class Items:
    """A list."""

    place: Place
    path: str
    items: tuple[Node, ...]

    def __iter__(self) -> Iterator[Node]:
        return iter(self.items)


@dataclass(frozen=True, slots=True)
class Fields:
    """A mapping of keys to values.

    Attributes:
        place: where it begins.
        path: as it was written.
        entries: the values by key, in the order in which they were written.
        keys: where the keys were written.
    """

    place: Place
    path: str
    entries: Mapping[str, Node]
    keys: Mapping[str, Place]

    def __contains__(self, key: str) -> bool:
        return key in self.entries

    def get(self, key: str) -> Node | None:
        """Return a value; None: it is not there, or null."""
        node = self.entries.get(key)
        return None if isinstance(node, Scalar) and node.kind == "null" else node

    def text(self, key: str) -> str:
        """Return a value that is a text; empty: it is none, or not there."""
        node = self.entries.get(key)
        return node.text if isinstance(node, Scalar) and node.kind == "str" else ""

    def with_entries(self, entries: Mapping[str, Node], keys: Mapping[str, Place] | None = None) -> Fields:
        """Return the mapping with other values; places of keys that it does not know are those of the values."""
        known = {**self.keys, **(keys or {})}
        return Fields(
            self.place, self.path, entries, {key: known.get(key, node.place) for key, node in entries.items()}
        )

    def without(self, *names: str) -> Fields:
        """Return the mapping without some keys."""
        return self.with_entries({key: node for key, node in self.entries.items() if key not in names})


Node = Scalar | Items | Fields


def joined(path: str, key: str) -> str:
    """Return the path of a mapping's value."""
    if _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key[:_KEY_CHARACTERS]}" if path else key[:_KEY_CHARACTERS]
    printable = "".join(each if each.isprintable() and each != '"' else "?" for each in key[:_KEY_CHARACTERS])
    return f'{path}["{printable}"]'


def shown(text: str) -> str:
    """Return a word of the file in quotes; nothing where it is so long or odd that it may be a key."""
    return f"{text!r}" if _SHOWN.fullmatch(text) else ""


def named(what: str, text: str) -> str:
    """Return ``what`` with the word that was written for it, as far as it may be shown."""
    return f"{what} {shown(text)}" if shown(text) else f"{what} of this name"


def nearest(text: str, names: Iterable[str]) -> str:
    """Return the name that was probably meant; empty: none is near."""
    by_lower = {name.lower(): name for name in sorted(names, reverse=True)}
    found = difflib.get_close_matches(text.lower()[:_KEY_CHARACTERS], by_lower, n=1)
    return by_lower[found[0]] if found else ""


def one_of(text: str, names: Iterable[str]) -> str:
    """Return what to write instead: the nearest name, or all of them."""
    names = sorted(names)
    near = nearest(text, names)
    if near:
        return f"did you mean {near!r}?"
    rest = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return f"there are: {', '.join(names[:_LISTED])}{rest}" if names else "there is none"
