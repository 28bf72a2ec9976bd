"""The rows of an export: one for each attempt of a record and currency, as `usage_entries` has them.

The amounts are those that sums are made of, so adding up a column of a file gives what SummarizeUsage tells.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

from execution_platform.server.ledger.writing.entries import AMOUNTS, Row, entries_of, micros_of
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


def _words(enum: Any, prefix: str) -> dict[int, str]:
    """Return the names of an enum's values without what all of them begin with. What is not set has none."""
    return {value: name.removeprefix(prefix) for name, value in enum.items() if value}


_KINDS: Final = _words(cost_pb2.UsageRecordKind, "USAGE_RECORD_KIND_")
_OUTCOMES: Final = _words(cost_pb2.UsageOutcome, "USAGE_OUTCOME_")
_FINISH_REASONS: Final = _words(chat_pb2.FinishReason, "FINISH_REASON_")
_ERROR_REASONS: Final = _words(error_pb2.ErrorReason, "ERROR_REASON_")
_ATTEMPT_OUTCOMES: Final = _words(chat_pb2.AttemptOutcome, "ATTEMPT_OUTCOME_")
_CAUSES: Final = _words(chat_pb2.AttemptCause, "ATTEMPT_CAUSE_")
_STATUSES: Final = _words(usage_pb2.CostStatus, "COST_STATUS_")

_AMOUNTS: Final = tuple(name for name in AMOUNTS if name != "nanos")


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
    entries = {key: list(rows) for key, rows in groupby(batch.entries, key=itemgetter("record_id"))}
    for data in batch.records:
        record = cost_pb2.UsageRecord.FromString(data)
        its = entries.get(record.id, [])
        shared = _of_record(record)
        attempts = _attempts(record, max((entry["number"] for entry in its), default=0))
        for entry in its:
            yield (*shared, *_of_entry(record, entry, attempts.get(entry["number"])))


def _attempts(record: cost_pb2.UsageRecord, most: int) -> dict[int, int]:
    """Return the index of the attempt that each entry of a record is of, by the entry's number.

    Args:
        record: the record.
        most: the highest number.
    """
    if record.kind == cost_pb2.USAGE_RECORD_KIND_CORRECTION:
        return {}
    skipped = chat_pb2.ATTEMPT_OUTCOME_SKIPPED
    asked = [index for index, attempt in enumerate(record.attempts) if attempt.outcome != skipped]
    if len(asked) == 1:
        return dict.fromkeys(range(most + 1), asked[0])
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
        _KINDS.get(record.kind, ""),
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
        _OUTCOMES.get(record.outcome, ""),
        _FINISH_REASONS.get(record.finish_reason, ""),
        _ERROR_REASONS.get(record.error_reason, ""),
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
        _ATTEMPT_OUTCOMES.get(attempt.outcome, ""),
        _CAUSES.get(attempt.cause, ""),
        _ERROR_REASONS.get(attempt.error.reason, ""),
        attempt.latency.seconds * 1_000_000 + attempt.latency.nanos // 1000 if attempt.HasField("latency") else None,
        entry["currency"],
        entry["nanos"],
        _STATUSES.get(cost.status, ""),
        cost.price_version,
        *[entry[name] for name in _AMOUNTS],
    )
