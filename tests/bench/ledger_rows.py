"""A million records for the bench of the ledger, made from a seed and put into the tables as fast as they take them."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import asyncpg

from execution_platform.server.ledger.store.tables import usage_entries, usage_labels, usage_records
from execution_platform.server.ledger.writing.entries import entries_of, labels_of, record_row
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

__all__ = ["DAYS", "START", "fill_postgres", "fill_sqlite"]

#: 2026-10-01T00:00:00Z, in microseconds since the epoch, and the days that all records lie in.
START: Final = 1_790_812_800_000_000
DAYS: Final = 31

_TABLES: Final = (usage_records, usage_entries, usage_labels)
_BATCH: Final = 20_000
#: Records that the others are copies of, but for their ids and times.
_PATTERNS: Final = 2_000

_MODELS: Final = (
    ("anthropic", "claude-sonnet-5"),
    ("openai", "gpt-5.1"),
    ("openai", "gpt-5.1-mini"),
    ("gemini", "gemini-3-pro"),
    ("groq", "llama-4"),
)

Rows = tuple[list[tuple[Any, ...]], ...]


def _pattern(source: random.Random) -> cost_pb2.UsageRecord:
    record = cost_pb2.UsageRecord(
        kind=cost_pb2.USAGE_RECORD_KIND_CHAT,
        tenant=f"tenant-{source.randrange(20)}",
        project=f"project-{source.randrange(5)}",
        persona=f"persona-{source.randrange(10)}",
        end_user_id=f"user-{source.randrange(5_000)}",
        session_id=f"session-{source.getrandbits(40):x}",
        labels={"team": f"team-{source.randrange(8)}"} if source.random() < 0.3 else {},
        outcome=cost_pb2.USAGE_OUTCOME_FINISHED,
        finish_reason=chat_pb2.FINISH_REASON_STOP,
    )
    for left in reversed(range(2 if source.random() < 0.1 else 1)):
        provider, model = source.choice(_MODELS)
        attempt = record.attempts.add(provider=provider, model=model)
        attempt.outcome = chat_pb2.ATTEMPT_OUTCOME_FAILED if left else chat_pb2.ATTEMPT_OUTCOME_FINISHED
        attempt.latency.FromMilliseconds(source.randrange(200, 20_000))
        attempt.cost.status = usage_pb2.COST_STATUS_ESTIMATED
        attempt.cost.price_version = "genai-prices 0.2.3"
        for kind in (usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_CACHE_READ, usage_pb2.USAGE_KIND_OUTPUT):
            item = attempt.usage.items.add(
                kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=source.randrange(1, 8_000)
            )
            attempt.cost.lines.add(
                amount=common_pb2.Money(currency_code="USD", nanos=source.randrange(10**8)),
                source=usage_pb2.COST_SOURCE_LIST_PRICE,
                description="input",
                quantity=item.quantity,
                item=item,
            )
    record.cost.status = usage_pb2.COST_STATUS_ESTIMATED
    return record


def batches(records: int, seed: int = 1) -> Iterator[Rows]:
    """Yield the rows of all three tables, batch by batch: as many records as are asked for, in the order of time."""
    source = random.Random(seed)  # noqa: S311 - no secret
    patterns = [_pattern(source) for _ in range(_PATTERNS)]
    found = [_values_of(each) for each in patterns]
    for first in range(0, records, _BATCH):
        made: Rows = ([], [], [])
        for number in range(first, min(first + _BATCH, records)):
            started = START + number * DAYS * 86_400_000_000 // records
            record_id = f"{(started // 1000 << 80 | 0x7 << 76 | 0x2 << 62 | number):032x}"
            at = source.randrange(_PATTERNS)
            record = patterns[at]
            record.id = record.request_id = record_id
            record.start_time.FromMicroseconds(started)
            record.end_time.FromMicroseconds(started + 2_000_000)
            known = {
                "id": record_id,
                "record_id": record_id,
                "request_id": record_id,
                "started_at": started,
                "ended_at": started + 2_000_000,
                "data": record.SerializeToString(),
            }
            for rows, (table, patched) in zip(made, zip(_TABLES, found[at], strict=True), strict=True):
                columns = table.c.keys()
                rows += [tuple(map(known.get, columns, values)) for values in patched]
        yield made


def _values_of(record: cost_pb2.UsageRecord) -> list[list[list[Any]]]:
    """Return the values of a record's rows of each table, in the order of columns."""
    made = ([record_row(record)], entries_of(record), labels_of(record))
    return [
        [[row[column.name] for column in table.c] for row in rows] for rows, table in zip(made, _TABLES, strict=True)
    ]


def fill_sqlite(path: Path, records: int) -> None:
    """Put records into a SQLite file with all tables."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA synchronous=OFF")
    for made in batches(records):
        for rows, table in zip(made, _TABLES, strict=True):
            names, marks = ",".join(table.c.keys()), ",".join("?" * len(table.c))
            connection.executemany(f"INSERT INTO {table.name} ({names}) VALUES ({marks})", rows)  # noqa: S608 - ours
        connection.commit()
    connection.close()


async def fill_postgres(url: str, records: int) -> None:
    """Put records into a PostgreSQL database with all tables."""
    connection = await asyncpg.connect(url)
    for made in batches(records):
        for rows, table in zip(made, _TABLES, strict=True):
            await connection.copy_records_to_table(table.name, records=rows, columns=[each.name for each in table.c])
    await connection.execute("ANALYZE")
    await connection.close()
