"""Makes reports: reads the ledger in one transaction, forecasts where it is wanted, and sets it all in a thread."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from functools import partial
from typing import Final, TypeAlias

from sqlalchemy import Connection

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.changes import statuses_of, stored_budgets
from execution_platform.server.ledger.budgets.windows import Calendar
from execution_platform.server.ledger.forecasts.forecaster import Forecaster, Wanted
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reports.chargeback import chargeback, gather_owed
from execution_platform.server.ledger.reports.comma import as_csv
from execution_platform.server.ledger.reports.daily import daily, gather_day
from execution_platform.server.ledger.reports.document import Document
from execution_platform.server.ledger.reports.overview import gather, overview
from execution_platform.server.ledger.reports.page import as_html
from execution_platform.server.ledger.reports.sums import Scope, day_of
from execution_platform.server.ledger.reports.text import as_text
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import cost_pb2

__all__ = ["Reporter", "scope_of"]

Kind: TypeAlias = cost_pb2.ReportKind.ValueType

_SET: Final = {
    cost_pb2.REPORT_FORMAT_HTML: (as_html, "text/html; charset=utf-8", "html"),
    cost_pb2.REPORT_FORMAT_CSV: (as_csv, "text/csv; charset=utf-8", "csv"),
    cost_pb2.REPORT_FORMAT_TEXT: (as_text, "text/plain; charset=utf-8", "txt"),
}
_NAMES: Final = {
    cost_pb2.REPORT_KIND_OVERVIEW: "overview",
    cost_pb2.REPORT_KIND_CHARGEBACK: "chargeback",
    cost_pb2.REPORT_KIND_DAILY: "daily",
}


class Reporter:
    """Makes reports.

    Args:
        database: of the ledger.
        forecaster: looks ahead.
        clock: microseconds since the epoch.
    """

    def __init__(
        self, database: Database, forecaster: Forecaster, clock: Callable[[], int] = lambda: time.time_ns() // 1000
    ) -> None:
        self._database = database
        self._forecaster = forecaster
        self._clock = clock

    async def render(
        self, kind: Kind, file_format: cost_pb2.ReportFormat.ValueType, usage_filter: cost_pb2.UsageFilter, zone: str
    ) -> cost_pb2.RenderReportResponse:
        """Make a report as a file.

        Args:
            kind: which; set.
            file_format: as what; set.
            usage_filter: which records.
            zone: IANA name of a time zone; empty: UTC.

        Raises:
            InvalidRequestError: the time of the filter cannot be reported on.
            LedgerUnavailableError: the ledger cannot be read.
        """
        scope = scope_of(kind, usage_filter, zone, self._clock())
        document = await self.document(kind, scope)
        write, mime_type, ending = _SET[file_format]
        data = await asyncio.to_thread(write, document)
        return cost_pb2.RenderReportResponse(
            data=data, mime_type=mime_type, file_name=f"{_NAMES[kind]}-{_span(scope)}.{ending}"
        )

    async def document(self, kind: Kind, scope: Scope) -> Document:
        """Make a report, however it will be set. Raises LedgerUnavailableError."""
        if kind == cost_pb2.REPORT_KIND_CHARGEBACK:
            owed = await self._database.read(partial(gather_owed, scope=scope))
            return await asyncio.to_thread(chargeback, owed)
        forecast = await self._forecaster.forecast(Wanted(scope.anywhere(), scope.zone))
        ids = {each.budget_id for each in forecast.budgets}
        statuses = await self._database.read(partial(_statuses, ids=ids, now=scope.now))
        if kind == cost_pb2.REPORT_KIND_DAILY:
            day = await self._database.read(partial(gather_day, scope=scope))
            return await asyncio.to_thread(daily, day, forecast, statuses)
        found = await self._database.read(partial(gather, scope=scope))
        return await asyncio.to_thread(overview, found, forecast, statuses)


def scope_of(kind: Kind, usage_filter: cost_pb2.UsageFilter, zone: str, now: int) -> Scope:
    """Return what a report is of: with no time, that which its kind is usually of.

    Raises:
        InvalidRequestError: the filter cannot be, or its time has an end but no beginning.
    """
    selection = Selection.of(usage_filter)
    if selection.start is None and selection.end is None:
        start, end = _usual(kind, zone, now)
    elif selection.start is None:
        raise InvalidRequestError(
            "filter.time_range.start_time: a report begins somewhere: set it, or leave the whole time out",
            field="filter.time_range.start_time",
        )
    else:
        start, end = selection.start, max(now, selection.start + 1) if selection.end is None else selection.end
    return Scope(selection.filter, zone, start, end, now).during(start, end)


def _usual(kind: Kind, zone: str, now: int) -> tuple[int, int]:
    if kind == cost_pb2.REPORT_KIND_DAILY:
        calendar = Calendar(cost_pb2.BUDGET_PERIOD_DAY, zone)
    else:
        calendar = Calendar(cost_pb2.BUDGET_PERIOD_MONTH, zone)
    window = calendar.window(now)
    return window if kind == cost_pb2.REPORT_KIND_OVERVIEW else calendar.window(window[0] - 1)


def _span(scope: Scope) -> str:
    first, last = day_of(scope.start, scope.zone), day_of(scope.end - 1, scope.zone)
    month = Calendar(cost_pb2.BUDGET_PERIOD_MONTH, scope.zone).window(scope.start)
    if month == (scope.start, scope.end):
        return first[:7]
    return first if first == last else f"{first}-{last}"


def _statuses(connection: Connection, ids: Collection[str], now: int) -> dict[str, cost_pb2.BudgetStatus]:
    wanted = [budget for budget in stored_budgets(connection) if budget.id in ids]
    return {status.budget.id: status for status in statuses_of(connection, wanted, now)}
