"""``make bench-ledger``: sums and exports of a million records, on SQLite and on PostgreSQL."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from pathlib import Path

import msgspec
from tests.bench.bars import Bar
from tests.bench.ledger_rows import DAYS, START, fill_postgres, fill_sqlite
from tests.e2e.processes import ROOT
from tests.real_postgres import real_postgres

from execution_platform.server.ledger.reading.exports import export, file_of
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

_ROUNDS = 5
_FORMATS = {
    "CSV": cost_pb2.EXPORT_FORMAT_CSV,
    "Parquet": cost_pb2.EXPORT_FORMAT_PARQUET,
    "JSON lines": cost_pb2.EXPORT_FORMAT_JSON_LINES,
}
_DAY = cost_pb2.GRANULARITY_DAY
_SUMS = {
    "by day and persona": ([cost_pb2.USAGE_DIMENSION_PERSONA], _DAY, ""),
    "by day and persona, Berlin": ([cost_pb2.USAGE_DIMENSION_PERSONA], _DAY, "Europe/Berlin"),
    "by hour": ([], cost_pb2.GRANULARITY_HOUR, ""),
    "by tenant, project and model": (
        [cost_pb2.USAGE_DIMENSION_TENANT, cost_pb2.USAGE_DIMENSION_PROJECT, cost_pb2.USAGE_DIMENSION_MODEL],
        cost_pb2.GRANULARITY_UNSPECIFIED,
        "",
    ),
    "by a label": ([cost_pb2.USAGE_DIMENSION_LABEL], cost_pb2.GRANULARITY_UNSPECIFIED, ""),
}


class Measured(msgspec.Struct, frozen=True):
    """What one piece of work took.

    Attributes:
        database: on which.
        what: was done.
        rows: that it gave.
        seconds: from its beginning to its end.
        cpu: seconds of this process; PostgreSQL's own are not in it.
        mib: size of the file, of an export.
        grown_mib: resident memory at its highest, above what it was before.
    """

    database: str
    what: str
    rows: int
    seconds: float
    cpu: float
    mib: float = 0.0
    grown_mib: float = 0.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-ledger", description=__doc__)
    parser.add_argument("--json", type=Path, default=ROOT / "build/bench-ledger.json", help="where the results go")
    parser.add_argument("--records", type=int, default=1_000_000, help="how many, all in one month")
    parser.add_argument("--formats", nargs="*", default=["CSV", "Parquet"], choices=_FORMATS, help="of exports")
    return parser.parse_args()


@contextlib.asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Database]:
    database = Database(DatabaseAddress.parse(url), make_logger("error", "text", sys.stderr))
    await database.start()
    try:
        yield database
    finally:
        await database.aclose()


def _memory(name: str) -> float:
    """Return what /proc says of this process's memory, in MiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith(f"{name}:")).split()[1]) / 1024


def _forget_highest() -> None:
    """Have VmHWM begin anew (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5")


async def _sum(database: Database, name: str, what: str) -> Measured:
    dimensions, granularity, zone = _SUMS[what]
    request = cost_pb2.SummarizeUsageRequest(
        dimensions=dimensions,
        label_keys=["team"] * dimensions.count(cost_pb2.USAGE_DIMENSION_LABEL),
        granularity=granularity,
        time_zone=zone,
    )
    request.filter.time_range.start_time.FromMicroseconds(START)
    request.filter.time_range.end_time.FromMicroseconds(START + DAYS * 86_400_000_000)
    taken: list[tuple[float, float]] = []
    response = cost_pb2.SummarizeUsageResponse()
    for _ in range(_ROUNDS):
        began, cpu = time.perf_counter(), time.process_time()
        response = (await database.read(partial(summarize, plan=plan_of(request)))).message()
        taken.append((time.perf_counter() - began, time.process_time() - cpu))
    seconds, used = (statistics.median(each) for each in zip(*taken, strict=True))
    return Measured(name, f"sums {what}", len(response.rows), seconds, used)


async def _export(database: Database, name: str, what: str) -> Measured:
    # What the libraries take for any file at all is no part of the growth: a day goes before.
    day = cost_pb2.UsageFilter()
    day.time_range.end_time.FromMicroseconds(START + 86_400_000_000)
    await _read_file(database, what, day)
    _forget_highest()
    before, began, cpu = _memory("VmRSS"), time.perf_counter(), time.process_time()
    size, rows = await _read_file(database, what, cost_pb2.UsageFilter())
    return Measured(
        name,
        f"export as {what}",
        rows,
        time.perf_counter() - began,
        time.process_time() - cpu,
        size / 2**20,
        _memory("VmHWM") - before,
    )


async def _read_file(database: Database, what: str, usage_filter: cost_pb2.UsageFilter) -> tuple[int, int]:
    """Export, and keep nothing of it. Returns the bytes and the rows."""
    size = rows = 0
    async with database.snapshot() as snapshot:
        pieces = export(snapshot, Selection.of(usage_filter), file_of(_FORMATS[what]))
        async with contextlib.aclosing(pieces):
            async for piece in pieces:
                size += len(piece.data)
                rows = piece.rows
    return size, rows


async def measure(url: str, name: str, fill: Callable[[], Awaitable[None]], formats: list[str]) -> list[Measured]:
    """Fill an empty database, sum what is in it and export it."""
    async with _opened(url) as database:
        began = time.perf_counter()
        await fill()
        _tell(f"{name}: filled in {time.perf_counter() - began:.0f} s")
        found = [await _sum(database, name, what) for what in _SUMS]
        for what in formats:
            _tell(f"{name}: export as {what}")
            found.append(await _export(database, name, what))
        return found


def _tell(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


async def _bench(records: int, formats: list[str], folder: Path) -> list[Measured]:
    file = folder / "ledger.db"
    fill_file = partial(asyncio.to_thread, fill_sqlite, file, records)
    found = await measure(f"sqlite:///{file}", f"SQLite {sqlite3.sqlite_version}", fill_file, formats)
    with real_postgres() as server:
        url = server.new_database()
        found += await measure(url, "PostgreSQL", partial(fill_postgres, url, records), formats)
    return found


def bars_of(found: list[Measured]) -> list[Bar]:
    """Return the bars with what was found."""
    wanted = f"sums {next(iter(_SUMS))}"
    sums = [Bar(f"{each.database}: {each.what}", each.seconds, 1.0, "s") for each in found if each.what == wanted]
    exports = [Bar(f"{each.database}: {each.what}, memory", each.grown_mib, 64.0, "MiB") for each in found if each.mib]
    return [*sums, *exports]


def text_of(found: list[Measured], bars: list[Bar]) -> str:
    """Return the results for people."""
    text = io.StringIO()
    for each in found:
        size = f", {each.mib:.0f} MiB, memory +{each.grown_mib:.0f} MiB" if each.mib else ""
        print(f"{each.database:14} {each.what:36} {each.seconds:7.2f} s, CPU {each.cpu:.2f} s{size}", file=text)
    for bar in bars:
        print(f"{bar.what}: {bar.value:.2f} of {bar.limit:g} {bar.unit}: {'met' if bar.met else 'NOT MET'}", file=text)
    return text.getvalue()


def main() -> None:
    """Run it, print what was found, write the JSON."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        found = asyncio.run(_bench(arguments.records, arguments.formats, Path(folder)))
    bars = bars_of(found)
    print(text_of(found, bars))
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"python": platform.python_version(), "records": arguments.records, "measured": found, "bars": bars}
    arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(result), indent=2) + b"\n")


if __name__ == "__main__":
    main()
