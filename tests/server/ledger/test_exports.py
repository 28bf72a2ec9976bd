"""Exports: what is in a file, and how little of it is held while it is made."""

from __future__ import annotations

import contextlib
import csv
import io
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from google.protobuf import json_format
from tests.server.ledger.made_up import BEGIN, DAY, Try, Work, fill, id_of, moment

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.errors import LedgerUnavailableError, ServerOverloadedError
from execution_platform.server.ledger.reading.export_files import (
    MOST_PIECE,
    CsvFile,
    ExportFile,
    JsonLinesFile,
    ParquetFile,
)
from execution_platform.server.ledger.reading.export_rows import COLUMNS
from execution_platform.server.ledger.reading.exports import export, file_of
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import cost_pb2

_PRICED = Try(costs=(("USD", 1_234_567_891), ("EUR", 1)), tokens=(1, 2, 3, 4, 5))
_WORKS = [
    Work(id_of(1, BEGIN), BEGIN, persona="a", labels=(("team", 'x,"y"'), ("b", "ü"))),
    Work(id_of(2, BEGIN + 1), BEGIN + 1, tries=(Try("groq", "llama", failed=True, costs=(("USD", 7),)), _PRICED)),
    Work(id_of(3, BEGIN + 2), BEGIN + 2, tries=()),
    Work(id_of(4, BEGIN + DAY), BEGIN + DAY, tries=(Try(costs=None),), corrected=(Try(costs=(("USD", 9),)),)),
]


@contextlib.asynccontextmanager
async def _pieces(
    database: Database, file: ExportFile, **usage_filter: Any
) -> AsyncIterator[AsyncIterator[cost_pb2.ExportUsageResponse]]:
    selection = Selection.of(cost_pb2.UsageFilter(**usage_filter))
    async with (
        database.snapshot() as snapshot,
        contextlib.aclosing(export(snapshot, selection, file)) as pieces,
    ):
        yield pieces


async def _whole(database: Database, file: ExportFile, **usage_filter: Any) -> tuple[bytes, int]:
    """A file, and the rows that it is told to have."""
    async with _pieces(database, file, **usage_filter) as pieces:
        answers = [answer async for answer in pieces]
    assert all(len(answer.data) <= MOST_PIECE for answer in answers)
    assert not any(answer.rows for answer in answers[:-1])
    return b"".join(answer.data for answer in answers), answers[-1].rows


def _cells(data: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


async def test_a_file_sums_to_what_is_summed(database: Database) -> None:
    """Each amount of a CSV file adds up to what SummarizeUsage tells, corrections included."""
    await fill(database, _WORKS)
    data, rows = await _whole(database, CsvFile())
    cells = _cells(data)
    total = (await database.read(lambda on: summarize(on, plan_of(cost_pb2.SummarizeUsageRequest())))).message().total
    assert rows == len(cells) == 7
    costs: Counter[str] = Counter()
    for row in cells:
        costs[row["currency"]] += int(Decimal(row["cost"]).scaleb(9))
    assert costs == {money.currency_code: money.nanos for money in total.costs}
    for name, _ in COLUMNS[-9:]:
        assert sum(int(row[name]) for row in cells) == getattr(total, name)


async def test_a_row_says_what_its_attempt_was(database: Database) -> None:
    """A row has the record's words, its attempt's, and exact numbers; what no attempt has is empty."""
    await fill(database, _WORKS)
    cells = _cells((await _whole(database, CsvFile()))[0])
    first, failed, priced, euros, nobody, unpriced, correction = cells
    assert (first["start_time"], first["end_time"]) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:01.500000Z")
    assert (first["persona"], first["labels_json"]) == ("a", '{"b": "ü", "team": "x,\\"y\\""}')
    assert (failed["attempt"], failed["provider"], failed["attempt_outcome"]) == ("1", "groq", "FAILED")
    assert (priced["attempt"], priced["cost"], priced["cost_status"]) == ("2", "1.234567891", "ESTIMATED")
    assert (priced["latency_us"], priced["reasoning_tokens"], priced["records"]) == ("1250000", "5", "0")
    assert (euros["attempt"], euros["currency"], euros["cost"], euros["attempts"]) == ("2", "EUR", "0.000000001", "0")
    assert (nobody["attempt"], nobody["provider"], nobody["records"]) == ("", "", "1")
    assert (unpriced["cost_status"], unpriced["unpriced"]) == ("UNPRICED", "1")
    assert (correction["kind"], correction["corrects"], correction["cost"]) == (
        "CORRECTION",
        _WORKS[3].id,
        "0.000000009",
    )
    assert (correction["attempt"], correction["unpriced"], correction["records"]) == ("", "-1", "0")


async def test_a_file_holds_what_a_list_does(database: Database) -> None:
    """JSON lines are the records, the oldest first; a filter lets the same through as it does elsewhere."""
    await fill(database, _WORKS)
    data, rows = await _whole(database, JsonLinesFile())
    read = [json_format.Parse(line, cost_pb2.UsageRecord()) for line in data.splitlines()]
    assert read == [*(work.record() for work in _WORKS), _WORKS[3].correction()]
    assert rows == 5
    data, rows = await _whole(database, JsonLinesFile(), provider="groq")
    assert json_format.Parse(data, cost_pb2.UsageRecord()) == _WORKS[1].record()
    cells = _cells((await _whole(database, CsvFile(), provider="groq"))[0])
    assert [row["provider"] for row in cells] == ["groq"]


async def test_parquet_says_the_same_as_csv(database: Database) -> None:
    """A Parquet file has the rows of the CSV file, money as decimal numbers and times with their zone."""
    parquet = pytest.importorskip("pyarrow.parquet")
    await fill(database, _WORKS)
    data, rows = await _whole(database, ParquetFile())
    file = parquet.ParquetFile(io.BytesIO(data))
    assert file.metadata.num_rows == rows == 7
    table = file.read().to_pylist()
    cells = _cells((await _whole(database, CsvFile()))[0])
    for row, same in zip(table, cells, strict=True):
        assert {name: "" if value is None else value for name, value in row.items()} == {
            name: _read(name, value) for name, value in same.items()
        }
    assert table[0]["start_time"] == moment(BEGIN)
    assert str(file.schema_arrow.field("cost").type) == "decimal128(28, 9)"


def _read(name: str, text: str) -> Any:
    kind = {name: kind.name for name, kind in COLUMNS}[name]
    if kind == "TIME":
        return datetime.fromisoformat(text).astimezone(UTC)
    if kind == "TRUTH":
        return text == "true"
    if kind == "MONEY":
        return Decimal(text)
    return int(text) if kind == "NUMBER" and text else text


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1"])
async def test_a_spreadsheet_runs_no_formula_of_a_caller(database: Database, text: str) -> None:
    """What a caller named like a formula has an apostrophe before it in CSV, and stands as it is in JSON lines."""
    await fill(database, [replace(_WORKS[0], end_user_id=text, tries=(Try(costs=(("USD", -5),)),))])
    (row,) = _cells((await _whole(database, CsvFile()))[0])
    assert (row["end_user_id"], row["cost"]) == (f"'{text}", "-0.000000005")
    line = (await _whole(database, JsonLinesFile()))[0]
    assert json_format.Parse(line, cost_pb2.UsageRecord()).end_user_id == text


async def test_an_empty_file_is_a_file(database: Database) -> None:
    """Without a record CSV is its head, Parquet its schema, and JSON lines nothing."""
    pytest.importorskip("pyarrow")
    assert await _whole(database, JsonLinesFile()) == (b"", 0)
    assert await _whole(database, CsvFile()) == (",".join(name for name, _ in COLUMNS).encode() + b"\r\n", 0)
    data, rows = await _whole(database, ParquetFile())
    assert (data[:4], data[-4:], rows) == (b"PAR1", b"PAR1", 0)


def _many(first: int, count: int) -> list[Work]:
    """Works of which a few hundred fill a piece."""
    long = "x" * 500
    return [
        Work(
            id_of(number, BEGIN + number),
            BEGIN + number,
            project=long,
            persona=long,
            end_user_id=long,
            session_id=f"{long}{number}",
        )
        for number in range(first, first + count)
    ]


async def test_a_file_is_of_one_moment(database: Database) -> None:
    """What is written while a file is made is not in it, wherever it would stand."""
    await fill(database, _many(0, 1_500))
    async with _pieces(database, JsonLinesFile()) as pieces:
        lines = (await anext(pieces)).data
        await fill(database, _many(10_000, 5))
        async for piece in pieces:
            lines += piece.data
    assert len(lines.splitlines()) == 1_500
    assert (await _whole(database, JsonLinesFile()))[1] == 1_505


@pytest.mark.parametrize("make", [CsvFile, JsonLinesFile, lambda: ParquetFile(group_rows=500)])
async def test_memory_does_not_grow_with_the_file(database: Database, make: Any) -> None:
    """More than twice as many records take no more memory, because only some are held at a time."""
    pytest.importorskip("pyarrow")
    peaks = []
    for first, count in ((0, 1_200), (1_200, 1_800)):
        await fill(database, _many(first, count))
        await _whole(database, make())  # what is remembered once is remembered
        tracemalloc.start()
        try:
            async with _pieces(database, make()) as pieces:
                async for _ in pieces:
                    pass
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.5 * peaks[0]


async def test_more_exports_than_fit_are_turned_away(database: Database) -> None:
    """Beside two exports a third is told to come later; it is let in when one has ended, and others read all along."""
    await fill(database, _WORKS)
    async with _pieces(database, CsvFile()) as first:
        async with _pieces(database, CsvFile()) as second:
            assert (await anext(first)).data
            assert (await anext(second)).data
            with pytest.raises(ServerOverloadedError, match="exports run already"):
                await _whole(database, CsvFile())
            summary = await database.read(lambda on: summarize(on, plan_of(cost_pb2.SummarizeUsageRequest())))
            assert summary.message().total.records == 4
        assert (await _whole(database, CsvFile()))[1] == 7


async def test_an_export_needs_the_database(database: Database) -> None:
    """While the ledger cannot be read an export fails at once."""
    away = Database(database.address, make_logger("info", "json", io.StringIO()))
    with pytest.raises(LedgerUnavailableError):
        await _whole(away, CsvFile())


def test_a_format_that_is_not_known_is_refused() -> None:
    """A format that this server does not know is refused with those that it does."""
    with pytest.raises(InvalidRequestError, match="must be one of EXPORT_FORMAT_CSV") as refused:
        file_of(17)  # type: ignore[arg-type]  # from newer callers
    assert refused.value.field == "format"


def test_parquet_says_what_it_lacks() -> None:
    """Without pyarrow Parquet is refused with the package that is missing, and the others are written."""
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from execution_platform.server.ledger.reading.exports import file_of\n"
        "file_of(1); file_of(3)\n"
        "try: file_of(2)\n"
        "except Exception as error: print(type(error).__name__, error.field, error)\n"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert told.startswith("UnsupportedOptionError format format: PARQUET needs the package pyarrow")
    assert "pip install 'execution-platform[parquet]'" in told
