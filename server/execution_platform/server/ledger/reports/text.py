"""A report as plain text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence

from execution_platform.server.ledger.reports.document import Cell, Chart, Document, Facts, Note, Table, Weight

__all__ = ["as_text"]

#: Columns of a name, at most.
_WIDEST = 40


def as_text(document: Document) -> bytes:
    """Set a report."""
    return ("\n".join(_lines(document)) + "\n").encode()


def _lines(document: Document) -> Iterator[str]:
    yield document.title
    yield "=" * len(document.title)
    yield from map(_plain, document.about)
    for section in document.sections:
        body = [line for part in section.parts for line in _part(part)]
        if body:
            yield ""
            yield section.heading
            yield "-" * len(section.heading)
            yield from body


def _part(part: Table | Chart | Facts | Note) -> Iterator[str]:
    if isinstance(part, Note):
        yield _plain(part.text)
    elif isinstance(part, Facts):
        widest = max((len(what) for what, _ in part.pairs), default=0)
        for what, amount in part.pairs:
            yield f"{what + ':':<{widest + 1}} {_plain(amount)}"
    elif isinstance(part, Table):
        yield from _table(part)


def _table(table: Table) -> Iterator[str]:
    if not table.lines:
        yield table.empty
        return
    rows = [[_short(cell) for cell in line.cells[: table.shown]] for line in table.lines]
    heads = table.columns[: table.shown]
    widths = [max(map(_width, column)) for column in zip(heads, *rows, strict=True)]
    right = [cell.number for cell in table.lines[0].cells[: table.shown]]
    yield _set(heads, widths, right)
    for line, row in zip(table.lines, rows, strict=True):
        if line.weight is Weight.TOTAL and len(table.lines) > 1:
            yield "  ".join("-" * width for width in widths)
        yield _set(row, widths, right)


def _set(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    padded = []
    for cell, width, flush in zip(cells, widths, right, strict=True):
        space = " " * (width - _width(cell))
        padded.append(space + cell if flush else cell + space)
    return "  ".join(padded).rstrip()


def _short(cell: Cell) -> str:
    text = _plain(cell.text)
    return text if _width(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"


def _plain(text: str) -> str:
    """Return a text without what would break lines or turn them round."""
    return "".join("?" if unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} else char for char in text)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
