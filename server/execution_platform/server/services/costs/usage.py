"""Records, and sums of them: what is asked of the ledger, and what is told to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from sqlalchemy import Connection, select

from execution_platform.server.chat.accounts import sum_up
from execution_platform.server.errors import LedgerUnavailableError, RequestIdReusedError
from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.reading.exports import export, file_of
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.records import Place, RecordsPage, get_record, page_of
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import usage_records
from execution_platform.server.ledger.writing.entries import micros_of
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.server.limits.scopes import Scopes
from execution_platform.server.routing.prices import Prices
from execution_platform.server.services.costs.usage_checks import check_recorded
from execution_platform.server.services.paging import Page
from execution_platform.v1 import chat_pb2, cost_pb2, usage_pb2

__all__ = ["LedgerUsage", "Post"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Post(Protocol):
    """How records come into the ledger."""

    async def __call__(self, postings: Sequence[Posting]) -> list[bool]:
        """Write records and count what they spent. Durable when this returns. No budget refuses them.

        Returns:
            For each whether it is new: False where its id or its idempotency key is there already.

        Raises:
            LedgerUnavailableError: they cannot be written.
        """
        ...


class LedgerUsage:
    """The part of CostService that tells what was used, and is told.

    Args:
        database: holds the records.
        post: writes them.
        prices: price what is told without a cost.
        scopes: know whose a credential is.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        post: Post,
        prices: Prices,
        scopes: Scopes,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database = database
        self._post = post
        self._prices = prices
        self._scopes = scopes
        self._clock = clock

    async def record(self, request: cost_pb2.RecordUsageRequest, caller: str) -> cost_pb2.RecordUsageResponse:
        """Write down work that was done elsewhere, once for each tenant and request_id.

        Args:
            request: what was done.
            caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.

        Raises:
            InvalidRequestError: a field is wrong.
            RequestIdReusedError: the id is that of other work.
            LedgerUnavailableError: the ledger cannot be written. Asking again does no harm.
        """
        now = self._clock()
        check_recorded(request, now)
        tenant = self._scopes.tenant(caller)
        key = f"{request.request_id}\n{tenant}"
        known = await self._known(key)
        if known is None:
            record = self._record(request, tenant, self._scopes.project(caller), now)
            if all(await self._post([Posting.of(record, idempotency_key=key)])):
                return cost_pb2.RecordUsageResponse(record=record)
            known = await self._known(key)
        if known is None:
            raise LedgerUnavailableError("the ledger cannot tell whether this is there already; ask again")
        if not _is_of(known, request):
            raise RequestIdReusedError(
                "request_id: is that of other work, which is in the ledger; take a new one for each piece of work",
                field="request_id",
            )
        return cost_pb2.RecordUsageResponse(record=known, existed=True)

    async def get(self, request: cost_pb2.GetUsageRecordRequest) -> cost_pb2.GetUsageRecordResponse:
        """Return one record.

        Raises:
            InvalidRequestError: not exactly one of the fields is set.
            NotFoundError: there is no such record.
            LedgerUnavailableError: the ledger cannot be read.
        """
        return await self._database.read(partial(get_record, request=request))

    async def page(self, request: cost_pb2.ListUsageRecordsRequest) -> cost_pb2.ListUsageRecordsResponse:
        """List records, the newest first.

        Raises:
            InvalidRequestError: a field is wrong, or the token is of another list.
            LedgerUnavailableError: the ledger cannot be read.
        """
        selection = Selection.of(request.filter)
        page = Page(request.page_size, request.page_token, selection.key)
        behind = page.after()
        after = Place.parse(behind) if behind else None
        found = await self._database.read(partial(page_of, selection=selection, size=page.most, after=after))
        return await asyncio.to_thread(_told, found, page)

    async def summarize(self, request: cost_pb2.SummarizeUsageRequest) -> cost_pb2.SummarizeUsageResponse:
        """Sum records.

        Raises:
            InvalidRequestError: a field is wrong, or a sum is larger than the contract can tell.
            LedgerUnavailableError: the ledger cannot be read.
        """
        summary = await self._database.read(partial(summarize, plan=plan_of(request)))
        return await asyncio.to_thread(summary.message)

    async def export(self, request: cost_pb2.ExportUsageRequest) -> AsyncGenerator[cost_pb2.ExportUsageResponse, None]:
        """Yield the pieces of a file.

        Raises:
            InvalidRequestError: a field is wrong, or the format cannot be written here.
            ServerOverloadedError: too many exports run.
            LedgerUnavailableError: the ledger cannot be read.
        """
        selection = Selection.of(request.filter)
        file = await asyncio.to_thread(file_of, request.format)
        async with (
            self._database.snapshot() as snapshot,
            contextlib.aclosing(export(snapshot, selection, file)) as pieces,
        ):
            async for piece in pieces:
                yield piece

    async def _known(self, key: str) -> cost_pb2.UsageRecord | None:
        data = await self._database.read(partial(_data_of, key=key))
        return None if data is None else cost_pb2.UsageRecord.FromString(data)

    def _record(
        self, request: cost_pb2.RecordUsageRequest, tenant: str, project: str, now: int
    ) -> cost_pb2.UsageRecord:
        record = cost_pb2.UsageRecord(
            id=mint_id(now // 1000),
            kind=cost_pb2.USAGE_RECORD_KIND_EXTERNAL,
            request_id=request.request_id,
            tenant=tenant,
            project=project,
            persona=request.persona,
            end_user_id=request.end_user_id,
            session_id=request.session_id,
            labels=request.labels,
            outcome=cost_pb2.USAGE_OUTCOME_FINISHED,
            route=chat_pb2.Route(provider=request.provider, model=request.model),
            note=request.note,
        )
        record.start_time.FromMicroseconds(now)
        if request.HasField("start_time"):
            record.start_time.CopyFrom(request.start_time)
        record.end_time.CopyFrom(request.end_time if request.HasField("end_time") else record.start_time)
        attempt = record.attempts.add(
            provider=request.provider,
            model=request.model,
            outcome=chat_pb2.ATTEMPT_OUTCOME_FINISHED,
            cause=chat_pb2.ATTEMPT_CAUSE_FIRST,
            usage=request.usage,
            cost=self._cost(request, micros_of(record.start_time)),
        )
        attempt.latency.FromMicroseconds(micros_of(record.end_time) - micros_of(record.start_time))
        sum_up(record)
        return record

    def _cost(self, request: cost_pb2.RecordUsageRequest, started: int) -> usage_pb2.Cost:
        if request.HasField("cost"):
            return _stated(request.cost)
        at = _EPOCH + timedelta(microseconds=started)
        return self._prices.cost(request.provider, request.model, request.usage, at=at)


def _data_of(connection: Connection, key: str) -> bytes | None:
    return connection.scalar(select(usage_records.c.data).where(usage_records.c.idempotency_key == key))


def _stated(cost: usage_pb2.Cost) -> usage_pb2.Cost:
    """Return a cost as the ledger keeps one that somebody else has told."""
    kept = usage_pb2.Cost()
    kept.CopyFrom(cost)
    kept.status = cost.status or usage_pb2.COST_STATUS_EXACT
    for line in kept.lines:
        line.source = usage_pb2.COST_SOURCE_PROVIDER
    return kept


def _is_of(record: cost_pb2.UsageRecord, request: cost_pb2.RecordUsageRequest) -> bool:
    """Return whether a record is what a request would have written.

    A request without times, or without a cost, got those of its day, so they are not compared.
    """
    names = ("persona", "end_user_id", "session_id", "note")
    attempt = record.attempts[0]
    lines = attempt.cost.lines
    was_stated = bool(lines) and all(line.source == usage_pb2.COST_SOURCE_PROVIDER for line in lines)
    return (
        all(getattr(record, name) == getattr(request, name) for name in names)
        and (attempt.provider, attempt.model) == (request.provider, request.model)
        and dict(record.labels) == dict(request.labels)
        and attempt.usage == request.usage
        and was_stated == request.HasField("cost")
        and (not was_stated or attempt.cost == _stated(request.cost))
        and all(
            not request.HasField(name) or getattr(record, name) == getattr(request, name)
            for name in ("start_time", "end_time")
        )
    )


def _told(found: RecordsPage, page: Page) -> cost_pb2.ListUsageRecordsResponse:
    return cost_pb2.ListUsageRecordsResponse(
        records=[cost_pb2.UsageRecord.FromString(data) for data in found.records],
        next_page_token="" if found.next is None else page.token_behind(str(found.next)),
    )
