"""Reads what processes use, and the arithmetic of the bench."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
from tests.bench.load import Outcome
from tests.bench.payloads import CHUNKS, HELD_CHUNKS, Format, Shape

__all__ = ["Cell", "Round", "Row", "Summary", "cpu_of", "memory_of", "quantile", "row_of", "summary_of"]


def cpu_of(pid: int) -> float:
    """Return the seconds that a process has used, user and system, all threads (clock_getcpuclockid(3), Linux)."""
    return time.clock_gettime((~pid << 3) | 2)


def memory_of(pid: int) -> int:
    """Return a process's resident memory in KiB."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS:")).split()[1])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed; 0.0 without values (nearest rank)."""
    if not values:
        return 0.0
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


class Cell(msgspec.Struct, frozen=True):
    """One kind of work."""

    api: Format
    shape: Shape
    callers: int

    @property
    def chunks(self) -> int:
        """Pieces of text in one answer; 0: it is not streamed."""
        return {Shape.UNARY: 0, Shape.HELD: HELD_CHUNKS}.get(self.shape, CHUNKS)


class Round(msgspec.Struct, frozen=True):
    """A job's outcome, with the seconds that whatever stood in between used for it; 0.0: nothing did."""

    outcome: Outcome
    proxy_cpu: float = 0.0


class Summary(msgspec.Struct, frozen=True):
    """What one way to ask took: milliseconds a request, seconds for latencies, requests a second."""

    client_ms: float
    proxy_ms: float
    p50: float
    p99: float
    first_p50: float
    rate: float
    requests: int
    errors: list[str]


def summary_of(rounds: Sequence[Round]) -> Summary:
    """Sum up: the median round for CPU and rate, which others on the machine disturb; all requests for latencies."""
    done = [each for each in rounds if each.outcome.latencies]
    latencies = [value for each in done for value in each.outcome.latencies]
    return Summary(
        client_ms=_median([_each_ms(each.outcome.cpu, each.outcome) for each in done]),
        proxy_ms=_median([_each_ms(each.proxy_cpu, each.outcome) for each in done]),
        p50=quantile(latencies, 0.5),
        p99=quantile(latencies, 0.99),
        first_p50=quantile([value for each in done for value in each.outcome.firsts], 0.5),
        rate=_median([len(each.outcome.latencies) / each.outcome.wall for each in done]),
        requests=len(latencies),
        errors=[error for each in rounds for error in each.outcome.errors],
    )


def _each_ms(seconds: float, outcome: Outcome) -> float:
    return 1000 * seconds / len(outcome.latencies)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values) if values else 0.0


class Row(msgspec.Struct, frozen=True):
    """One kind of work done through a proxy, against the same done directly. Milliseconds but where it says."""

    proxy: str
    cell: Cell
    proxy_ms: float
    client_ms: float
    direct_ms: float
    client_and_proxy_to_direct: float
    proxy_us_a_chunk: float | None
    direct_us_a_chunk: float | None
    added_p50: float
    added_p99: float
    added_first: float
    rate: float
    direct_rate: float
    requests: int
    errors: list[str]


def row_of(proxy: str, cell: Cell, through: Summary, direct: Summary) -> Row:
    """Compare."""
    return Row(
        proxy=proxy,
        cell=cell,
        proxy_ms=through.proxy_ms,
        client_ms=through.client_ms,
        direct_ms=direct.client_ms,
        client_and_proxy_to_direct=_ratio(through.client_ms + through.proxy_ms, direct.client_ms),
        proxy_us_a_chunk=1000 * through.proxy_ms / cell.chunks if cell.chunks else None,
        direct_us_a_chunk=1000 * direct.client_ms / cell.chunks if cell.chunks else None,
        added_p50=1000 * (through.p50 - direct.p50),
        added_p99=1000 * (through.p99 - direct.p99),
        added_first=1000 * (through.first_p50 - direct.first_p50),
        rate=through.rate,
        direct_rate=direct.rate,
        requests=through.requests,
        errors=through.errors + direct.errors,
    )


def _ratio(value: float, base: float) -> float:
    return value / base if base else 0.0
