"""What becomes of a record that comes after its chat was given up for lost.

Its server was held up for longer than a lease lasts, or the database was away from it: the chat is in the ledger as
LOST, with what was known by then. Records are never changed, so the truth is a correction of that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy import Connection, select

from execution_platform.server.ledger.store.tables import usage_entries, usage_records
from execution_platform.server.ledger.writing.entries import AMOUNTS, correction_entries, entries_of
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["lost_corrected"]


def lost_corrected(connection: Connection, late: Sequence[Posting]) -> list[Posting]:
    """Return corrections for records whose place a LOST one has.

    Args:
        connection: within a transaction.
        late: records of which one with the same id is there.
    """
    chats = {
        each.record.id: each
        for each in late
        if each.record.kind == cost_pb2.USAGE_RECORD_KIND_CHAT and each.record.outcome != cost_pb2.USAGE_OUTCOME_LOST
    }
    lost = select(usage_records.c.id).where(
        usage_records.c.id.in_(list(chats)), usage_records.c.outcome == cost_pb2.USAGE_OUTCOME_LOST
    )
    return [_corrected(connection, chats[each].record) for each in connection.scalars(lost).all()]


def _corrected(connection: Connection, record: cost_pb2.UsageRecord) -> Posting:
    columns = [usage_entries.c[name] for name in ("provider", "model", "currency", *AMOUNTS)]
    # What was given up for lost may have been priced anew meanwhile.
    corrections = select(usage_records.c.id).where(usage_records.c.corrects == record.id)
    ids = [record.id, *connection.scalars(corrections)]
    held = select(*columns).where(usage_entries.c.record_id.in_(ids))
    before = [dict(row) for row in connection.execute(held).mappings()]
    correction = cost_pb2.UsageRecord()
    correction.CopyFrom(record)
    # The same each time that it is tried.
    digest = hashlib.sha256(f"late {record.id}".encode()).hexdigest()
    correction.id = record.id[:12] + digest[:20]
    correction.kind = cost_pb2.USAGE_RECORD_KIND_CORRECTION
    correction.corrects = record.id
    correction.note = "heard of after the chat was given up for lost"
    entries = correction_entries(correction, before, entries_of(record))
    # What a correction tells is added to what it corrects: differences only.
    del correction.attempts[:], correction.totals[:], correction.cost.lines[:]
    sums: dict[str, int] = {}
    for row in entries:
        sums[row["currency"]] = sums.get(row["currency"], 0) + row["nanos"]
    correction.totals.extend(
        common_pb2.Money(currency_code=currency, nanos=nanos) for currency, nanos in sums.items() if nanos
    )
    correction.input_tokens = sum(
        row["input_tokens"] + row["cache_read_tokens"] + row["cache_write_tokens"] for row in entries
    )
    correction.output_tokens = sum(row["output_tokens"] + row["reasoning_tokens"] for row in entries)
    return Posting.of(correction, entries=entries)
