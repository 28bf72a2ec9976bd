"""Markdown tables, as the generated parts of the pages have them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

__all__ = ["ROOT", "Row", "code", "table"]

ROOT = Path(__file__).resolve().parent.parent

Row = Sequence[str]


def table(head: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return (
        "\n" + "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines) + "\n"
    )


def code(text: str) -> str:
    """Return a text as code; nothing stays nothing."""
    return f"`{text}`" if text else ""
