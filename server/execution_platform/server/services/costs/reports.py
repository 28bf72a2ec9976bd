"""Reports for people."""

from __future__ import annotations

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.windows import UnknownTimeZoneError, time_zone
from execution_platform.server.ledger.reports.reporter import Reporter
from execution_platform.v1 import cost_pb2

__all__ = ["LedgerReports"]


class LedgerReports:
    """The part of CostService that makes reports.

    Args:
        reporter: makes them.
    """

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    async def render(self, request: cost_pb2.RenderReportRequest) -> cost_pb2.RenderReportResponse:
        """Make a report.

        Raises:
            InvalidRequestError: a field is wrong.
            LedgerUnavailableError: the ledger cannot be read.
        """
        _check(request)
        kind = request.kind or cost_pb2.REPORT_KIND_OVERVIEW
        file_format = request.format or cost_pb2.REPORT_FORMAT_HTML
        return await self._reporter.render(kind, file_format, request.filter, request.time_zone)


def _check(request: cost_pb2.RenderReportRequest) -> None:
    for name, value, enum in (
        ("kind", request.kind, cost_pb2.ReportKind),
        ("format", request.format, cost_pb2.ReportFormat),
    ):
        if value not in enum.values():
            raise InvalidRequestError(f"{name}: must be one of {', '.join(enum.keys()[1:])}", field=name)
    try:
        time_zone(request.time_zone)
    except UnknownTimeZoneError as error:
        raise InvalidRequestError(
            f'time_zone: {error}: write an IANA name such as "Europe/Berlin", or leave it empty for UTC',
            field="time_zone",
        ) from error
