"""The rows of an export: one for each attempt of a record and currency, as `usage_entries` has them.

The amounts are those that sums are made of, so adding up a column of a file gives what SummarizeUsage tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Final

from execution_platform.server.ledger.entries import AMOUNTS, Row, entries_of, micros_of
from execution_platform.v1 import chat_pb2, cost_pb2, error_pb2, usage_pb2

__all__ = ["COLUMNS", "Batch", "Kind", "rows_of"]


class Kind(Enum):
    """What a column holds."""

    TEXT = auto()
    NUMBER = auto()  # a whole number, or None
    MONEY = auto()  # whole 1e-9 units
    TIME = auto()  # microseconds since the epoch
    TRUTH = auto()


#: The columns of a file, in order.
COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("record_id", Kind.TEXT),
    ("kind", Kind.TEXT),
    ("corrects", Kind.TEXT),
    ("request_id", Kind.TEXT),
    ("start_time", Kind.TIME),
    ("end_time", Kind.TIME),
    ("tenant", Kind.TEXT),
    ("project", Kind.TEXT),
    ("persona", Kind.TEXT),
    ("end_user_id", Kind.TEXT),
    ("session_id", Kind.TEXT),
    ("labels_json", Kind.TEXT),
    ("outcome", Kind.TEXT),
    ("finish_reason", Kind.TEXT),
    ("error_reason", Kind.TEXT),
    ("usage_estimated", Kind.TRUTH),
    ("note", Kind.TEXT),
    ("attempt", Kind.NUMBER),
    ("provider", Kind.TEXT),
    ("model", Kind.TEXT),
    ("region", Kind.TEXT),
    ("attempt_outcome", Kind.TEXT),
    ("attempt_cause", Kind.TEXT),
    ("attempt_error_reason", Kind.TEXT),
    ("latency_us", Kind.NUMBER),
    ("currency", Kind.TEXT),
    ("cost", Kind.MONEY),
    ("cost_status", Kind.TEXT),
    ("price_version", Kind.TEXT),
    *((name, Kind.NUMBER) for name in AMOUNTS if name != "nanos"),
)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some records, in the order of a file.

    Attributes:
        records: serialized.
        entries: their rows of `usage_entries` that are asked for, in the same order.
    """

    records: Sequence[bytes]
    entries: Sequence[Row]


def rows_of(batch: Batch) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of some records: a value for each of COLUMNS."""
    entries = iter(batch.entries)
    entry = next(entries, None)
    for data in batch.records:
        record = cost_pb2.UsageRecord.FromString(data)
        shared = _of_record(record)
        attempts = _attempts(record)
        while entry is not None and entry["record_id"] == record.id:
            yield (*shared, *_of_entry(record, entry, attempts.get(entry["number"])))
            entry = next(entries, None)


def _attempts(record: cost_pb2.UsageRecord) -> dict[int, int]:
    """Return the index of the attempt that each entry of a record is of, by the entry's number."""
    if record.kind == cost_pb2.USAGE_RECORD_KIND_CORRECTION:
        return {}
    asked = [
        index for index, attempt in enumerate(record.attempts) if attempt.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED
    ]
    # Each attempt is counted in the first of its entries.
    found: dict[int, int] = {}
    position = -1
    for row in entries_of(record):
        position += row["attempts"]
        if position >= 0:
            found[row["number"]] = asked[position]
    return found


def _of_record(record: cost_pb2.UsageRecord) -> tuple[Any, ...]:
    return (
        record.id,
        _word(cost_pb2.UsageRecordKind, "USAGE_RECORD_KIND_", record.kind),
        record.corrects,
        record.request_id,
        micros_of(record.start_time),
        micros_of(record.end_time),
        record.tenant,
        record.project,
        record.persona,
        record.end_user_id,
        record.session_id,
        json.dumps(dict(record.labels), ensure_ascii=False, sort_keys=True) if record.labels else "",
        _word(cost_pb2.UsageOutcome, "USAGE_OUTCOME_", record.outcome),
        _word(chat_pb2.FinishReason, "FINISH_REASON_", record.finish_reason),
        _word(error_pb2.ErrorReason, "ERROR_REASON_", record.error_reason),
        record.usage_estimated,
        record.note,
    )


def _of_entry(record: cost_pb2.UsageRecord, entry: Row, index: int | None) -> tuple[Any, ...]:
    attempt = chat_pb2.Attempt() if index is None else record.attempts[index]
    cost = record.cost if index is None else attempt.cost
    return (
        None if index is None else index + 1,
        entry["provider"],
        entry["model"],
        attempt.region,
        _word(chat_pb2.AttemptOutcome, "ATTEMPT_OUTCOME_", attempt.outcome),
        _word(chat_pb2.AttemptCause, "ATTEMPT_CAUSE_", attempt.cause),
        _word(error_pb2.ErrorReason, "ERROR_REASON_", attempt.error.reason),
        attempt.latency.seconds * 1_000_000 + attempt.latency.nanos // 1000 if attempt.HasField("latency") else None,
        entry["currency"],
        entry["nanos"],
        _word(usage_pb2.CostStatus, "COST_STATUS_", cost.status),
        cost.price_version,
        *(entry[name] for name in AMOUNTS if name != "nanos"),
    )


def _word(enum: Any, prefix: str, value: int) -> str:
    """Return a value's name without what all names of its enum begin with; empty: it is not set."""
    return str(enum.Name(value)).removeprefix(prefix) if value in enum.values() and value else ""
