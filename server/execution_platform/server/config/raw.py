"""What the readers of YAML and JSON find, before paths are given and aliases followed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

__all__ = ["MOST_LEVELS", "Raw", "TextError"]

#: Levels of lists and mappings within each other.
MOST_LEVELS = 64


@dataclass(slots=True)
class Raw:
    """A value with its place; an alias of YAML is the same object as what it stands for.

    Attributes:
        line: from 1.
        column: from 1.
        kind: what it is; "wrong": it cannot be, and `text` says why.
        text: a text's characters, or a scalar as it was written.
        items: of a list.
        pairs: of a mapping, keys and values.
        merges: it is the key ``<<``.
    """

    line: int
    column: int
    kind: Literal["null", "bool", "int", "float", "str", "list", "map", "wrong"]
    text: str = ""
    items: list[Raw] = field(default_factory=list)
    pairs: list[tuple[Raw, Raw]] = field(default_factory=list)
    merges: bool = False


class TextError(Exception):
    """The text is not of its format. Line and column from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column
        self.message = message
