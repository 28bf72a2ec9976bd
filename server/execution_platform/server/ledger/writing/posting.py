"""A record on its way into the ledger, with the rows that it becomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.writing.entries import Row, entries_of, facts_of, labels_of, record_row
from execution_platform.v1 import cost_pb2

__all__ = ["Posting", "tokens_of"]


@dataclass(slots=True)
class Posting:
    """A record.

    Attributes:
        record: as the contract tells it.
        facts: whose it is.
        row: of `usage_records`.
        entries: rows of `usage_entries`.
        labels: rows of `usage_labels`.
    """

    record: cost_pb2.UsageRecord
    facts: Facts
    row: Row
    entries: Sequence[Row]
    labels: Sequence[Row]

    @classmethod
    def of(
        cls,
        record: cost_pb2.UsageRecord,
        *,
        facts: Facts | None = None,
        entries: Sequence[Row] | None = None,
        idempotency_key: str | None = None,
    ) -> Posting:
        """Make the rows of a record.

        Args:
            record: the record. It must not be changed afterwards.
            facts: whose it is; None: as it says itself.
            entries: of a correction: what it changes; None: what the record's attempts come to.
            idempotency_key: of which there is one record at most; None: of which there may be any number.
        """
        return cls(
            record,
            facts_of(record) if facts is None else facts,
            record_row(record, idempotency_key),
            entries_of(record) if entries is None else entries,
            labels_of(record),
        )

    def spending(self) -> Iterator[Row]:
        """Yield the entries that budgets count."""
        for row in self.entries:
            if row["nanos"] or row["unpriced"] or tokens_of(row):
                yield row


def tokens_of(row: Row) -> int:
    """Return the tokens of an entry: prompt and answer."""
    return int(
        row["input_tokens"]
        + row["cache_read_tokens"]
        + row["cache_write_tokens"]
        + row["output_tokens"]
        + row["reasoning_tokens"]
    )
