"""What was found, as a table in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.chaos.run import Row

__all__ = ["Report"]

_HEAD = (
    "scenario",
    "chats",
    "answered %",
    "fallbacks",
    "retries",
    "failover p50 s",
    "failover p99 s",
    "failing p99 s",
    "calls to primaries",
    "circuits opened",
    "calls while open",
    "output twice or mixed",
    "tools called twice",
    "verdict",
)


class Report(msgspec.Struct, frozen=True):
    """All that a run has found."""

    machine: dict[str, str]
    seed: int
    seconds: float
    rows: list[Row]

    @property
    def met(self) -> bool:
        """Whether every row meets all of its bars."""
        return all(row.met for row in self.rows)

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")

    def text(self) -> str:
        """Return it for people."""
        parts = [_table(_HEAD, [_cells(row) for row in self.rows])]
        for row in self.rows:
            parts += [f"{row.name}: {problem}" for problem in (*row.problems, *row.late)]
        told = [f"{name} {value}" for name, value in self.machine.items()]
        parts.append(f"{len(self.rows)} scenarios in {self.seconds:.0f} s, seed {self.seed}; {', '.join(told)}")
        return "\n\n".join(parts)


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
        str(row.chats),
        f"{100 * row.answered / max(1, row.chats):.1f}",
        str(row.fallbacks),
        str(row.retries),
        _seconds(row.failover_p50),
        _seconds(row.failover_p99),
        _seconds(row.ended_p99),
        str(row.primary_calls),
        str(row.opened),
        str(row.while_open),
        str(row.wrong_outputs),
        str(row.wrong_tools),
        "met" if row.met else "MISSED",
    )


def _seconds(value: float) -> str:
    return f"{value:.2f}" if value else ""


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cells[at]) for cells in (head, *rows)) for at in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
