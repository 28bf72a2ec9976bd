"""Reads records: one with all that corrects it, and pages of them.

A page is a stretch of `usage_entries`, which lie in the order of time: the records that began last come first. A token
names the record that the page before ended with, so a page is the same whatever has been added in front of it, and no
record is on two pages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, select, tuple_

from execution_platform.adapters.errors import InvalidRequestError, NotFoundError
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.store.tables import usage_entries, usage_records
from execution_platform.server.ledger.writing.entries import micros_of
from execution_platform.v1 import common_pb2, cost_pb2, usage_pb2

__all__ = ["Place", "RecordsPage", "get_record", "page_of", "read_records"]

#: Most ids in one statement.
_IDS: Final = 500


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where a record stands in the order of all: by the time at which it began, then by its id.

    Attributes:
        started: in microseconds since the epoch.
        id: of the record.
    """

    started: int
    id: str

    def __str__(self) -> str:
        """Return it as a page token tells it."""
        return f"{self.started}.{self.id}"

    @classmethod
    def parse(cls, text: str) -> Place:
        """Read what :meth:`__str__` has written.

        Raises:
            InvalidRequestError: it is something else.
        """
        started, _, record_id = text.partition(".")
        try:
            return cls(int(started), record_id)
        except ValueError:
            raise InvalidRequestError(
                "page_token: is not of this list; hand back next_page_token with the same request", field="page_token"
            ) from None


@dataclass(frozen=True, slots=True)
class RecordsPage:
    """A page of records.

    Attributes:
        records: serialized, the newest first.
        next: where the next page begins behind; None: this is the last.
    """

    records: list[bytes]
    next: Place | None


def page_of(connection: Connection, selection: Selection, size: int, after: Place | None) -> RecordsPage:
    """Return a page.

    Args:
        connection: within a transaction.
        selection: which records.
        size: most records on it.
        after: the last one of the page before; None: the first page.
    """
    place = (usage_entries.c.started_at, usage_entries.c.record_id)
    query = select(*place).where(*selection.conditions()).distinct()
    if after is not None:
        query = query.where(tuple_(*place) < (after.started, after.id))
    query = query.order_by(*(column.desc() for column in place)).limit(size + 1)
    found = [Place(started, record_id) for started, record_id in connection.execute(query)]
    on_it = found[:size]
    return RecordsPage(
        read_records(connection, [each.id for each in on_it]),
        on_it[-1] if len(found) > size else None,
    )


def read_records(connection: Connection, ids: Sequence[str]) -> list[bytes]:
    """Return records by their ids, serialized, in the order of the ids. Those that are not there are left out."""
    found: dict[str, bytes] = {}
    columns = usage_records.c
    for first in range(0, len(ids), _IDS):
        query = select(columns.id, columns.data).where(columns.id.in_(ids[first : first + _IDS]))
        found.update((record_id, data) for record_id, data in connection.execute(query))
    return [found[record_id] for record_id in ids if record_id in found]


def get_record(connection: Connection, request: cost_pb2.GetUsageRecordRequest) -> cost_pb2.GetUsageRecordResponse:
    """Return one record and all that corrects it.

    Args:
        connection: within a transaction.
        request: which: exactly one of its fields is set.

    Raises:
        InvalidRequestError: none of the fields is set, or both.
        NotFoundError: there is no such record.
    """
    data = connection.scalar(select(usage_records.c.data).where(_asked(request)).order_by(*_newest()).limit(1))
    if data is None:
        field = "id" if request.id else "request_id"
        raise NotFoundError(f"{field}: the ledger has no record of {getattr(request, field)!r:.200}", field=field)
    record = cost_pb2.UsageRecord.FromString(data)
    corrections = [
        cost_pb2.UsageRecord.FromString(correction)
        for correction in connection.scalars(
            select(usage_records.c.data).where(usage_records.c.corrects == record.id).order_by(usage_records.c.id)
        )
    ]
    return cost_pb2.GetUsageRecordResponse(
        record=record,
        corrections=corrections,
        totals=_totals([record, *corrections]),
        cost_status=_status(connection, record, corrections),
    )


def _asked(request: cost_pb2.GetUsageRecordRequest) -> ColumnElement[bool]:
    if bool(request.id) == bool(request.request_id):
        raise InvalidRequestError("id: set either id or request_id, and not both", field="id")
    columns = usage_records.c
    if request.id:
        return columns.id == request.id.replace("\0", "")
    return (columns.request_id == request.request_id.replace("\0", "")) & (
        columns.kind != cost_pb2.USAGE_RECORD_KIND_CORRECTION
    )


def _newest() -> tuple[ColumnElement[int], ColumnElement[str]]:
    return usage_records.c.started_at.desc(), usage_records.c.id.desc()


def _totals(records: Iterable[cost_pb2.UsageRecord]) -> list[common_pb2.Money]:
    sums: dict[str, int] = {}
    for record in records:
        for money in record.totals:
            sums[money.currency_code] = sums.get(money.currency_code, 0) + money.nanos
    return [common_pb2.Money(currency_code=currency, nanos=nanos) for currency, nanos in sorted(sums.items())]


def _status(
    connection: Connection, record: cost_pb2.UsageRecord, corrections: Sequence[cost_pb2.UsageRecord]
) -> usage_pb2.CostStatus.ValueType:
    """Return how well it is known by now what a record cost: what no correction has priced is unpriced still."""
    if not corrections:
        return record.cost.status
    ids = [record.id, *(correction.id for correction in corrections)]
    columns = usage_entries.c
    # All of them began when the record did, which is what their entries are found by.
    began = micros_of(record.start_time)
    unpriced = connection.scalars(
        select(columns.unpriced).where(columns.started_at == began, columns.record_id.in_(ids))
    )
    if sum(unpriced) > 0:
        return usage_pb2.COST_STATUS_UNPRICED
    costs = [*(attempt.cost for attempt in record.attempts), *(correction.cost for correction in corrections)]
    estimated = any(cost.status == usage_pb2.COST_STATUS_ESTIMATED for cost in costs)
    return usage_pb2.COST_STATUS_ESTIMATED if estimated else usage_pb2.COST_STATUS_EXACT
