"""A report as comma-separated values (RFC 4180): all tables one below the other, each with its head.

The first column says whether a line is an entry, the others together, or the total, so that nobody adds them up.

Texts that a spreadsheet would take for a formula have an apostrophe before them, as in exports.
"""

from __future__ import annotations

import csv
import io

from execution_platform.server.ledger.reading.export_files import safe_text
from execution_platform.server.ledger.reports.document import Cell, Document, Table

__all__ = ["as_csv"]


def as_csv(document: Document) -> bytes:
    """Set a report. The heading of a table stands in the first column of its lines, if there are several tables."""
    tables = [
        (section.heading, part) for section in document.sections for part in section.parts if isinstance(part, Table)
    ]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\r\n")
    for heading, table in tables:
        first = [heading] if len(tables) > 1 else []
        writer.writerow([*(["table"] if first else []), "line", *table.columns])
        for line in table.lines:
            writer.writerow([*first, line.weight.value, *map(_cell, line.cells)])
    return text.getvalue().encode()


def _cell(cell: Cell) -> str:
    text = cell.text if cell.value is None else cell.value
    return text if cell.number else safe_text(text)
