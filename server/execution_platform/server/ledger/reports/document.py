"""What a report says, however it is set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

__all__ = [
    "Bar",
    "Cell",
    "Chart",
    "Document",
    "Facts",
    "Line",
    "Note",
    "Section",
    "Table",
    "Weight",
    "decimal_text",
    "money_text",
]

_NANOS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Cell:
    """What is in a table's cell.

    Attributes:
        text: for people.
        value: for programs; None: the text.
        number: it is an amount, set to the right.
        name: it is a name that somebody has chosen.
        share: of the whole, 0 to 1, drawn as a bar; None: none.
    """

    text: str
    value: str | None = None
    number: bool = False
    name: bool = False
    share: float | None = None


class Weight(Enum):
    """What sort of line it is; the values are for programs."""

    PLAIN = "entry"
    REST = "others"
    TOTAL = "total"


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a table."""

    cells: Sequence[Cell]
    weight: Weight = Weight.PLAIN


@dataclass(frozen=True, slots=True)
class Table:
    """A table.

    Attributes:
        columns: their heads.
        lines: the lines, totals last.
        empty: what is said where there is none.
        shown: columns that people see; programs see all. None: all.
    """

    columns: Sequence[str]
    lines: Sequence[Line]
    empty: str = "Nothing."
    shown: int | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart.

    Attributes:
        label: below it.
        value: how high it is, in nanos.
        text: the amount for people.
        low: of a forecast: what is not likely to be undercut, in nanos.
        high: what is not likely to be exceeded. Above `low` only in a forecast.
    """

    label: str
    value: int
    text: str
    low: int = 0
    high: int = 0
    forecast: bool = False


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars over time; what they show is in a table beside.

    Attributes:
        caption: what they show.
        bars: in the order of time.
    """

    caption: str
    bars: Sequence[Bar]


@dataclass(frozen=True, slots=True)
class Facts:
    """A few amounts that stand out: what, and how much."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Note:
    """A sentence or two."""

    text: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a report under a heading."""

    heading: str
    parts: Sequence[Table | Chart | Facts | Note]


@dataclass(frozen=True, slots=True)
class Document:
    """A report.

    Attributes:
        title: of the whole.
        about: which records, and when it was made: a line each.
        sections: its parts.
    """

    title: str
    about: Sequence[str]
    sections: Sequence[Section] = field(default_factory=tuple)


def money_text(nanos: int, currency: str = "USD") -> str:
    """Return an amount for people, exact, with at least two digits: ``12.50 USD``."""
    return f"{decimal_text(nanos, grouped=True)} {currency}"


def decimal_text(nanos: int, *, grouped: bool = False) -> str:
    """Return an amount of 1e-9 units as a decimal number, exact, with at least two digits."""
    whole, rest = divmod(abs(nanos), _NANOS)
    digits = f"{rest:09d}".rstrip("0").ljust(2, "0")
    return f"{'-' if nanos < 0 else ''}{f'{whole:,}' if grouped else whole}.{digits}"
