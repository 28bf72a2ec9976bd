"""The bars that the gateway is held to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
from tests.bench.children import Books
from tests.bench.measure import Row
from tests.bench.payloads import Format, Shape
from tests.bench.plan import Growth, Held, Kept

__all__ = ["Bar", "bars_of"]

#: What may be added to memory by requests that have ended: allocators keep some. KiB a request.
_FLAT_KIB = 0.1
#: CPU of a chunk among many streams, against among few.
_FLAT_RATIO = 1.25
#: CPU of a chat with ledger and budgets, against without.
_KEPT_RATIO = 1.3


class Bar(msgspec.Struct, frozen=True):
    """One bar.

    Attributes:
        what: is measured.
        value: what was found; None: not tried.
        limit: the most that it may be.
        unit: of both.
    """

    what: str
    value: float | None
    limit: float
    unit: str

    @property
    def met(self) -> bool | None:
        """Whether it is met; None: it was not tried."""
        return None if self.value is None else self.value <= self.limit


def bars_of(rows: Sequence[Row], held: Sequence[Held], growth: Growth, kept: Sequence[Kept] = ()) -> list[Bar]:
    """Return the bars with what was found: by Chat Completions and one caller, unless they say more."""
    ours = [row for row in rows if row.proxy == "gateway"]
    ratios = [row.client_and_proxy_to_direct for row in ours if row.cell.shape is not Shape.UNARY]
    return [
        Bar("unary chat, gateway CPU", _chat(ours, Shape.UNARY, lambda row: row.proxy_ms), 1.6, "ms"),
        Bar("unary chat, gateway CPU, second bar", _chat(ours, Shape.UNARY, lambda row: row.proxy_ms), 1.0, "ms"),
        Bar("stream of 50 ready chunks, gateway CPU", _chat(ours, Shape.READY, lambda row: row.proxy_ms), 2.0, "ms"),
        Bar("unary chat, gateway CPU to LiteLLM's", _to_litellm(rows, Shape.UNARY), 1 / 10, "x"),
        Bar("stream of 50 ready chunks, gateway CPU to LiteLLM's", _to_litellm(rows, Shape.READY), 1 / 20, "x"),
        Bar(
            "paced stream, gateway CPU a chunk",
            _chat(ours, Shape.PACED, lambda row: row.proxy_us_a_chunk or 0.0),
            90.0,
            "us",
        ),
        Bar(
            "added time to first text, one caller, median",
            _chat(ours, Shape.PACED, lambda row: row.added_first),
            1.5,
            "ms",
        ),
        Bar(
            "client + gateway CPU to the direct SDK, stream of 50 ready chunks",
            _chat(ours, Shape.READY, lambda row: row.client_and_proxy_to_direct),
            1.0,
            "x",
        ),
        Bar("client + gateway CPU to the direct SDK, worst of the streams", max(ratios, default=None), 1.0, "x"),
        *_held_bars(held),
        *_kept_bars(kept),
        Bar("memory added a request that has ended", _kib_a_request(growth), _FLAT_KIB, "KiB"),
    ]


def _chat(rows: Sequence[Row], shape: Shape, value: Callable[[Row], float]) -> float | None:
    found = [row for row in rows if (row.cell.api, row.cell.shape, row.cell.callers) == (Format.CHAT, shape, 1)]
    return value(found[0]) if found else None


def _to_litellm(rows: Sequence[Row], shape: Shape) -> float | None:
    ours = _chat([row for row in rows if row.proxy == "gateway"], shape, lambda row: row.proxy_ms)
    theirs = _chat([row for row in rows if row.proxy == "litellm"], shape, lambda row: row.proxy_ms)
    return ours / theirs if ours and theirs else None


def _held_bars(held: Sequence[Held]) -> list[Bar]:
    if not held:
        return []
    few, many = held[0], held[-1]
    return [
        Bar(f"{many.streams} open streams, errors", float(len(many.errors)), 0.0, ""),
        Bar(f"{many.streams} open streams, memory each", many.kib_a_stream, 60.0, "KiB"),
        Bar(
            f"CPU a chunk at {many.streams} streams to {few.streams}",
            many.us_a_chunk / few.us_a_chunk if few.us_a_chunk else None,
            _FLAT_RATIO,
            "x",
        ),
    ]


def _kept_bars(kept: Sequence[Kept]) -> list[Bar]:
    return [
        Bar(f"{books}, gateway CPU to without a ledger, {each.shape}", each.ratio(books), _KEPT_RATIO, "x")
        for each in kept
        for books in (Books.ON, Books.BUDGET)
    ]


def _kib_a_request(growth: Growth) -> float | None:
    return (growth.after_kib - growth.before_kib) / growth.requests if growth.requests else None
