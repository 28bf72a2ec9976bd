"""The rows that a record becomes.

`usage_entries` is what sums are made of: a row for each attempt that asked somebody and each currency of its cost. A
record that asked nobody has one empty row, so that it is counted.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from execution_platform.server.ledger.facts import Facts
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

__all__ = ["AMOUNTS", "Row", "correction_entries", "entries_of", "facts_of", "labels_of", "micros_of", "record_row"]

#: A row of a table, by column.
Row = dict[str, Any]

#: What is added up.
AMOUNTS: Final = (
    "nanos",
    "unpriced",
    "records",
    "attempts",
    "failed_attempts",
    "input_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
)

_TOKENS: Final = {
    usage_pb2.USAGE_KIND_INPUT: "input_tokens",
    usage_pb2.USAGE_KIND_TOOL_INPUT: "input_tokens",
    usage_pb2.USAGE_KIND_CACHE_READ: "cache_read_tokens",
    usage_pb2.USAGE_KIND_CACHE_WRITE: "cache_write_tokens",
    usage_pb2.USAGE_KIND_OUTPUT: "output_tokens",
    usage_pb2.USAGE_KIND_PREDICTION_ACCEPTED: "output_tokens",
    usage_pb2.USAGE_KIND_PREDICTION_REJECTED: "output_tokens",
    usage_pb2.USAGE_KIND_REASONING: "reasoning_tokens",
}

#: Widths of the columns, as in tables.py. `data` has the whole.
_NAME: Final = 512


def entries_of(record: cost_pb2.UsageRecord) -> list[Row]:
    """Return the rows of `usage_entries` for a record that is no correction.

    Attempts that asked nobody have none. An attempt is unpriced where its cost says so, or where it used something and
    has no cost.
    """
    shared = _shared(record)
    rows: list[Row] = []
    for attempt in record.attempts:
        if attempt.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED:
            rows += _entries_of_attempt(shared, attempt)
    if not rows:
        rows.append(_empty(shared, record.route.provider, record.route.model, "USD"))
    rows[0]["records"] = 1
    for number, row in enumerate(rows):
        row["number"] = number
    return rows


def correction_entries(correction: cost_pb2.UsageRecord, before: Sequence[Row], after: Sequence[Row]) -> list[Row]:
    """Return the rows of `usage_entries` for a correction: what it takes to come from some rows to others.

    Args:
        correction: the record; `start_time` is that of the corrected one.
        before: what the ledger holds for the corrected record, earlier corrections included.
        after: what it should hold.
    """
    shared = _shared(correction)
    sums: dict[tuple[str, str, str], Row] = {}
    for rows, sign in ((before, -1), (after, 1)):
        for row in rows:
            key = (row["provider"], row["model"], row["currency"])
            entry = sums.get(key)
            if entry is None:
                entry = sums[key] = _empty(shared, *key)
            for name in AMOUNTS:
                entry[name] += sign * row[name]
    entries = [entry for entry in sums.values() if any(entry[name] for name in AMOUNTS)]
    for number, entry in enumerate(entries):
        entry["number"] = number
    return entries


def record_row(record: cost_pb2.UsageRecord, idempotency_key: str | None = None) -> Row:
    """Return the row of `usage_records`."""
    return {
        "id": record.id,
        "kind": record.kind,
        "corrects": record.corrects or None,
        "request_id": _name(record.request_id),
        "idempotency_key": idempotency_key,
        "tenant": _name(record.tenant),
        "started_at": micros_of(record.start_time),
        "ended_at": micros_of(record.end_time),
        "outcome": record.outcome,
        "cost_status": record.cost.status,
        "price_version": _name(record.cost.price_version),
        "data": record.SerializeToString(),
    }


def labels_of(record: cost_pb2.UsageRecord) -> list[Row]:
    """Return the rows of `usage_labels`."""
    if not record.labels:
        return []
    named = {_name(key): _name(value) for key, value in record.labels.items()}
    return [{"record_id": record.id, "key": key, "value": value} for key, value in named.items()]


def facts_of(record: cost_pb2.UsageRecord) -> Facts:
    """Return whose a record is."""
    return Facts(
        id=record.id,
        request_id=record.request_id,
        started=micros_of(record.start_time),
        tenant=record.tenant,
        project=record.project,
        persona=record.persona,
        end_user_id=record.end_user_id,
        session_id=record.session_id,
        labels=dict(record.labels),
    )


def micros_of(timestamp: Any) -> int:
    """Return a protobuf Timestamp in microseconds since the epoch."""
    return int(timestamp.seconds * 1_000_000 + timestamp.nanos // 1000)


def _entries_of_attempt(shared: Row, attempt: chat_pb2.Attempt) -> Iterator[Row]:
    sums: dict[str, int] = {}
    for line in attempt.cost.lines:
        currency = line.amount.currency_code or "USD"
        sums[currency] = sums.get(currency, 0) + line.amount.nanos
    first = True
    for currency, nanos in (sums or {"USD": 0}).items():
        row = _empty(shared, attempt.provider, attempt.model, currency)
        row["nanos"] = nanos
        if first:
            first = False
            _count(row, attempt)
        yield row


def _count(row: Row, attempt: chat_pb2.Attempt) -> None:
    row["attempts"] = 1
    row["failed_attempts"] = int(attempt.outcome == chat_pb2.ATTEMPT_OUTCOME_FAILED)
    used = False
    for item in attempt.usage.items:
        used = used or item.quantity > 0
        column = _TOKENS.get(item.kind)
        if column is not None and item.unit == usage_pb2.USAGE_UNIT_TOKEN:
            row[column] += item.quantity
    status = attempt.cost.status
    row["unpriced"] = int(
        status == usage_pb2.COST_STATUS_UNPRICED or (used and status == usage_pb2.COST_STATUS_UNSPECIFIED)
    )


def _shared(record: cost_pb2.UsageRecord) -> Row:
    return {
        "record_id": record.id,
        "started_at": micros_of(record.start_time),
        "tenant": _name(record.tenant),
        "project": _name(record.project),
        "persona": _name(record.persona),
        "end_user_id": _name(record.end_user_id),
        "session_id": _name(record.session_id),
        "outcome": record.outcome,
    }


def _empty(shared: Row, provider: str, model: str, currency: str) -> Row:
    return {
        **shared,
        "number": 0,
        "provider": _name(provider),
        "model": _name(model),
        "currency": currency,
        **dict.fromkeys(AMOUNTS, 0),
    }


def _name(text: str) -> str:
    """Return a text as a column can hold it: PostgreSQL takes no zero character, and no more than was declared."""
    return text.replace("\0", "")[:_NAME]
