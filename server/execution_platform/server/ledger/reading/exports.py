"""Writes records into a file, piece by piece: CSV, JSON lines or Parquet.

However many records there are, only a few are held: they are read in batches by their place in the order of time, all
from one state of the database, and what they become is handed on in pieces of at most 1 MiB.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Final

from sqlalchemy import Connection, select, tuple_

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.reading.export_files import CsvFile, ExportFile, JsonLinesFile, ParquetFile
from execution_platform.server.ledger.reading.export_rows import Batch
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.records import Place, read_records
from execution_platform.server.ledger.store.engines import Snapshot
from execution_platform.server.ledger.store.tables import usage_entries
from execution_platform.v1 import cost_pb2

__all__ = ["batches", "export", "file_of"]

#: Records that are read at once.
_BATCH: Final = 400

_FILES: Final[dict[int, Callable[[], ExportFile]]] = {
    cost_pb2.EXPORT_FORMAT_UNSPECIFIED: CsvFile,
    cost_pb2.EXPORT_FORMAT_CSV: CsvFile,
    cost_pb2.EXPORT_FORMAT_JSON_LINES: JsonLinesFile,
    cost_pb2.EXPORT_FORMAT_PARQUET: ParquetFile,
}


def file_of(export_format: cost_pb2.ExportFormat.ValueType) -> ExportFile:
    """Return an empty file of a format.

    Raises:
        InvalidRequestError: there is no such format.
        UnsupportedOptionError: the package that writes it is not installed.
    """
    make = _FILES.get(export_format)
    if make is None:
        raise InvalidRequestError(
            f"format: must be one of {', '.join(cost_pb2.ExportFormat.keys()[1:])}", field="format"
        )
    return make()


async def export(
    snapshot: Snapshot, selection: Selection, file: ExportFile
) -> AsyncGenerator[cost_pb2.ExportUsageResponse, None]:
    """Yield the pieces of a file.

    Args:
        snapshot: the state of the database that is written.
        selection: which records.
        file: an empty one.

    Raises:
        LedgerUnavailableError: the database has gone.
    """
    after: Place | None = None
    while True:
        batch, after = await snapshot(partial(batches, selection=selection, after=after))
        # Writing takes longer than reading, and would hold up everybody else's chats.
        for piece in await asyncio.to_thread(file.add, batch):
            yield cost_pb2.ExportUsageResponse(data=piece)
        if after is None:
            break
    pieces = await asyncio.to_thread(file.end)
    for piece in pieces[:-1]:
        yield cost_pb2.ExportUsageResponse(data=piece)
    yield cost_pb2.ExportUsageResponse(data=pieces[-1] if pieces else b"", rows=file.rows)


def batches(
    connection: Connection, selection: Selection, after: Place | None, size: int = _BATCH
) -> tuple[Batch, Place | None]:
    """Return the next records, the oldest first, and where those after them begin behind; None: there are no more.

    Args:
        connection: within a transaction.
        selection: which records.
        after: the last one of those before; None: the first are asked for.
        size: most records.
    """
    columns = usage_entries.c
    place = (columns.started_at, columns.record_id)
    query = select(*place).where(*selection.conditions()).distinct()
    if after is not None:
        query = query.where(tuple_(*place) > (after.started, after.id))
    found = [Place(started, record_id) for started, record_id in connection.execute(query.order_by(*place).limit(size))]
    if not found:
        return Batch([], []), None
    ids = [each.id for each in found]
    entries = connection.execute(
        select(usage_entries)
        .where(
            columns.started_at >= found[0].started,
            columns.started_at <= found[-1].started,
            columns.record_id.in_(ids),
            *selection.matching(),
        )
        .order_by(*place, columns.number)
    )
    batch = Batch(read_records(connection, ids), [dict(row) for row in entries.mappings()])
    return batch, found[-1] if len(found) == size else None
