"""The formats of an export: each takes records in batches and gives back bytes as they come to be.

Parquet is written by pyarrow, an extra. Nobody here reads a database.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Final, Protocol

from google.protobuf import json_format

from execution_platform.adapters.errors import UnsupportedOptionError
from execution_platform.server.ledger.reading.export_rows import COLUMNS, Batch, Kind, rows_of
from execution_platform.v1 import cost_pb2

__all__ = ["MOST_PIECE", "CsvFile", "ExportFile", "JsonLinesFile", "ParquetFile", "safe_text"]

#: Most bytes of a piece.
MOST_PIECE: Final = 1024 * 1024

#: What a group of rows of a Parquet file holds at most; until it is full its rows are kept.
_GROUP_ROWS: Final = 10_000
_GROUP_BYTES: Final = 8 * 1024 * 1024

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

#: What a spreadsheet takes for the beginning of a formula. Source: owasp.org, "CSV Injection".
_FORMULAS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


class ExportFile(Protocol):
    """A file that comes to be.

    Attributes:
        rows: how many it holds.
    """

    rows: int

    def add(self, batch: Batch) -> list[bytes]:
        """Take records in; return the pieces that are ready."""
        ...

    def end(self) -> list[bytes]:
        """Return what is left."""
        ...


class _Pieces:
    """Bytes that are written in any portions, and taken in pieces of MOST_PIECE."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def write(self, data: Any) -> None:
        self._buffer += data

    def ready(self) -> list[bytes]:
        whole = len(self._buffer) // MOST_PIECE * MOST_PIECE
        return self._take(whole)

    def rest(self) -> list[bytes]:
        return self._take(len(self._buffer))

    def _take(self, size: int) -> list[bytes]:
        taken = [bytes(self._buffer[start : min(start + MOST_PIECE, size)]) for start in range(0, size, MOST_PIECE)]
        del self._buffer[:size]
        return taken


class CsvFile:
    """Comma-separated values: UTF-8, a head, lines that end in CR LF (RFC 4180).

    A text that a spreadsheet would take for a formula has an apostrophe before it. Numbers have none: they cannot hold
    a formula.
    """

    def __init__(self) -> None:
        self.rows = 0
        self._pieces = _Pieces()
        self._write([[name for name, _ in COLUMNS]])

    def add(self, batch: Batch) -> list[bytes]:
        """Take records in; return the pieces that are ready."""
        rows = list(rows_of(batch))
        self.rows += len(rows)
        self._write([[write(value) for write, value in zip(_WRITERS, row, strict=True)] for row in rows])
        return self._pieces.ready()

    def end(self) -> list[bytes]:
        """Return what is left."""
        return self._pieces.rest()

    def _write(self, rows: Sequence[Sequence[str]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, lineterminator="\r\n").writerows(rows)
        self._pieces.write(text.getvalue().encode())


def safe_text(text: str) -> str:
    """Return a text with an apostrophe before it, if a spreadsheet would take it for a formula."""
    return f"'{text}" if text.startswith(_FORMULAS) else text


def _money_cell(nanos: int) -> str:
    whole, rest = divmod(abs(nanos), 1_000_000_000)
    return f"{'-' if nanos < 0 else ''}{whole}.{rest:09d}"


def _time_cell(micros: int) -> str:
    moment = _EPOCH + timedelta(microseconds=micros)
    return f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _number_cell(number: int | None) -> str:
    return "" if number is None else str(number)


def _truth_cell(truth: bool) -> str:
    return "true" if truth else "false"


_CELLS: Final[dict[Kind, Callable[[Any], str]]] = {
    Kind.TEXT: safe_text,
    Kind.NUMBER: _number_cell,
    Kind.MONEY: _money_cell,
    Kind.TIME: _time_cell,
    Kind.TRUTH: _truth_cell,
}
_WRITERS: Final = tuple(_CELLS[kind] for _, kind in COLUMNS)


class JsonLinesFile:
    """Each record in a line, as JSON has it (protobuf.dev/programming-guides/json), with the contract's field names."""

    def __init__(self) -> None:
        self.rows = 0
        self._pieces = _Pieces()

    def add(self, batch: Batch) -> list[bytes]:
        """Take records in; return the pieces that are ready."""
        for data in batch.records:
            record = cost_pb2.UsageRecord.FromString(data)
            line = json_format.MessageToJson(record, preserving_proto_field_name=True, indent=None, ensure_ascii=False)
            self._pieces.write(line.encode())
            self._pieces.write(b"\n")
        self.rows += len(batch.records)
        return self._pieces.ready()

    def end(self) -> list[bytes]:
        """Return what is left."""
        return self._pieces.rest()


class ParquetFile:
    """Apache Parquet: money as decimal numbers of nine places, times with their zone, UTC.

    Args:
        group_rows: rows of a group, which are held until there are so many.

    Raises:
        UnsupportedOptionError: pyarrow is not installed.
    """

    def __init__(self, group_rows: int = _GROUP_ROWS) -> None:
        try:
            import pyarrow as pa  # noqa: PLC0415 - an extra, and a quarter of a second
            from pyarrow import parquet  # noqa: PLC0415 - as above
        except ImportError:
            raise UnsupportedOptionError(
                "format: PARQUET needs the package pyarrow where the server runs: "
                "pip install 'execution-platform[parquet]', or ask for CSV or JSON_LINES",
                field="format",
            ) from None
        self.rows = 0
        self._group_rows = group_rows
        self._pyarrow = pa
        self._pieces = _ParquetSink()
        self._schema = pa.schema([(name, _arrow_type(pa, kind)) for name, kind in COLUMNS])
        self._writer = parquet.ParquetWriter(self._pieces, self._schema, compression="zstd")
        # As columns: rows of Python objects would take ten times as much.
        self._kept: list[Any] = []
        self._kept_rows = self._kept_bytes = 0

    def add(self, batch: Batch) -> list[bytes]:
        """Take records in; return the pieces that are ready."""
        rows = list(rows_of(batch))
        if rows:
            self._kept.append(self._columns(rows))
        self._kept_rows += len(rows)
        self._kept_bytes += sum(map(len, batch.records))
        if self._kept_rows >= self._group_rows or self._kept_bytes >= _GROUP_BYTES:
            self._flush()
        return self._pieces.ready()

    def end(self) -> list[bytes]:
        """Return what is left."""
        self._flush()
        self._writer.close()
        return self._pieces.rest()

    def _columns(self, rows: Sequence[tuple[Any, ...]]) -> Any:
        columns = [
            self._pyarrow.array(_arrow_values(values, kind), type=self._schema.field(name).type)
            for values, (name, kind) in zip(zip(*rows, strict=True), COLUMNS, strict=True)
        ]
        return self._pyarrow.RecordBatch.from_arrays(columns, schema=self._schema)

    def _flush(self) -> None:
        """Write what is kept, as one group."""
        if self._kept:
            self._writer.write_table(self._pyarrow.Table.from_batches(self._kept, self._schema))
        self.rows += self._kept_rows
        self._kept.clear()
        self._kept_rows = self._kept_bytes = 0


class _ParquetSink(_Pieces):
    """What pyarrow writes a file into."""

    closed = False

    def __init__(self) -> None:
        super().__init__()
        self._written = 0

    def write(self, data: Any) -> None:
        super().write(data)
        self._written += len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Do nothing: what is written is taken."""

    def close(self) -> None:
        """Do nothing: what is left is taken."""

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def _arrow_type(arrow: Any, kind: Kind) -> Any:
    return {
        Kind.TEXT: arrow.string(),
        Kind.NUMBER: arrow.int64(),
        Kind.MONEY: arrow.decimal128(28, 9),
        Kind.TIME: arrow.timestamp("us", tz="UTC"),
        Kind.TRUTH: arrow.bool_(),
    }[kind]


def _arrow_values(values: Sequence[Any], kind: Kind) -> Sequence[Any]:
    return [Decimal(nanos).scaleb(-9) for nanos in values] if kind is Kind.MONEY else values
