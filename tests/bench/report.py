"""What was found, as tables in Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.bench.bars import Bar
from tests.bench.children import Books
from tests.bench.measure import Row
from tests.bench.plan import Growth, Held, Kept, Plan

__all__ = ["Report"]

_HEAD = (
    "through",
    "upstream",
    "answer",
    "callers",
    "proxy CPU ms",
    "client CPU ms",
    "direct CPU ms",
    "both / direct",
    "proxy us a chunk",
    "direct us a chunk",
    "added p50 ms",
    "added p99 ms",
    "added first ms",
    "requests/s",
    "direct/s",
)


class Report(msgspec.Struct, frozen=True):
    """All that a bench has found."""

    machine: dict[str, str]
    versions: dict[str, str]
    plan: Plan
    bars: list[Bar]
    rows: list[Row]
    held: list[Held]
    growth: Growth
    memory_kib: dict[str, int]
    kept: list[Kept] = []

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")

    def text(self) -> str:
        """Return it for people."""
        parts = [
            _table(("bar", "found", "at most", ""), [_bar(bar) for bar in self.bars]),
            _table(_HEAD, [_row(row) for row in self.rows]),
            _table(
                ("open streams", "gateway us a chunk", "KiB a stream", "errors"),
                [
                    (str(held.streams), f"{held.us_a_chunk:.0f}", f"{held.kib_a_stream:.0f}", str(len(held.errors)))
                    for held in self.held
                ],
            ),
            _table(
                ("gateway CPU ms", "callers", *(str(books) for books in Books)),
                [(each.shape, str(each.callers), *_kept(each)) for each in self.kept],
            ),
            _table(("memory", "MiB"), [(name, f"{kib / 1024:.0f}") for name, kib in self._memory()]),
        ]
        failed = [f"{row.cell.api} {row.cell.shape}: {error}" for row in self.rows for error in row.errors[:3]]
        return "\n\n".join([*parts, *failed])

    def _memory(self) -> list[tuple[str, int]]:
        growth = self.growth
        return [
            ("gateway, idle", growth.idle_kib),
            ("gateway, after the comparison", growth.before_kib),
            (f"gateway, after {growth.requests} requests more", growth.after_kib),
            *((f"{name}, after the comparison", kib) for name, kib in self.memory_kib.items() if name != "gateway"),
        ]


def _bar(bar: Bar) -> tuple[str, ...]:
    value = "-" if bar.value is None else f"{bar.value:.3g} {bar.unit}".strip()
    verdict = {True: "met", False: "NOT MET", None: "not tried"}[bar.met]
    return bar.what, value, f"{bar.limit:.3g} {bar.unit}".strip(), verdict


def _row(row: Row) -> tuple[str, ...]:
    cell = row.cell
    return (
        row.proxy,
        cell.api,
        cell.shape,
        str(cell.callers),
        f"{row.proxy_ms:.2f}",
        f"{row.client_ms:.2f}",
        f"{row.direct_ms:.2f}",
        f"{row.client_and_proxy_to_direct:.2f}",
        _optional(row.proxy_us_a_chunk),
        _optional(row.direct_us_a_chunk),
        f"{row.added_p50:+.2f}",
        f"{row.added_p99:+.2f}",
        f"{row.added_first:+.2f}",
        f"{row.rate:.0f}",
        f"{row.direct_rate:.0f}",
    )


def _kept(kept: Kept) -> list[str]:
    return [f"{ms:.2f} ({kept.ratio(Books(books)) or 0.0:.2f})" for books, ms in kept.ms.items()]


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(cells[at]) for cells in (head, *rows)) for at in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )
