"""What CostService is made of: each part answers a few of its RPCs, and knows nothing of gRPC.

All raise AdapterError where they cannot answer.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

from execution_platform.v1 import cost_pb2

__all__ = ["Alerts", "Budgets", "CostParts", "Forecasts", "Prices", "Reports", "Usage"]


class Usage(Protocol):
    """Records, and sums of them."""

    async def record(self, request: cost_pb2.RecordUsageRequest, caller: str) -> cost_pb2.RecordUsageResponse:
        """Write down work that was done elsewhere.

        Args:
            request: what was done.
            caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.
        """
        ...

    async def get(self, request: cost_pb2.GetUsageRecordRequest) -> cost_pb2.GetUsageRecordResponse:
        """Return one record."""
        ...

    async def page(self, request: cost_pb2.ListUsageRecordsRequest) -> cost_pb2.ListUsageRecordsResponse:
        """List records."""
        ...

    async def summarize(self, request: cost_pb2.SummarizeUsageRequest) -> cost_pb2.SummarizeUsageResponse:
        """Sum records."""
        ...

    def export(self, request: cost_pb2.ExportUsageRequest) -> AsyncGenerator[cost_pb2.ExportUsageResponse, None]:
        """Yield the pieces of a file."""
        ...


class Reports(Protocol):
    """Reports for people."""

    async def render(self, request: cost_pb2.RenderReportRequest) -> cost_pb2.RenderReportResponse:
        """Make a report."""
        ...


class Forecasts(Protocol):
    """What it will come to."""

    async def forecast(self, request: cost_pb2.ForecastCostRequest) -> cost_pb2.ForecastCostResponse:
        """Forecast a spending."""
        ...


class Prices(Protocol):
    """What things cost."""

    async def estimate(self, request: cost_pb2.EstimateCostRequest, caller: str) -> cost_pb2.EstimateCostResponse:
        """Tell what a chat would cost.

        Args:
            request: the chat.
            caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.
        """
        ...

    async def page(self, request: cost_pb2.ListPricesRequest) -> cost_pb2.ListPricesResponse:
        """List prices."""
        ...

    async def reprice(self, request: cost_pb2.RepriceUsageRequest) -> cost_pb2.RepriceUsageResponse:
        """Price records anew."""
        ...


class Budgets(Protocol):
    """What may be spent."""

    async def create(self, request: cost_pb2.CreateBudgetRequest) -> cost_pb2.CreateBudgetResponse:
        """Make a budget."""
        ...

    async def get(self, request: cost_pb2.GetBudgetRequest) -> cost_pb2.GetBudgetResponse:
        """Return a budget."""
        ...

    async def page(self, request: cost_pb2.ListBudgetsRequest) -> cost_pb2.ListBudgetsResponse:
        """List budgets."""
        ...

    async def update(self, request: cost_pb2.UpdateBudgetRequest) -> cost_pb2.UpdateBudgetResponse:
        """Change a budget."""
        ...

    async def delete(self, request: cost_pb2.DeleteBudgetRequest) -> cost_pb2.DeleteBudgetResponse:
        """Delete a budget."""
        ...


class Alerts(Protocol):
    """What somebody should know."""

    def watch(
        self, request: cost_pb2.WatchBudgetAlertsRequest
    ) -> AsyncGenerator[cost_pb2.WatchBudgetAlertsResponse, None]:
        """Yield alerts as they are raised, without an end."""
        ...


@dataclass(frozen=True, slots=True)
class CostParts:
    """The parts; None: the server runs without a ledger."""

    usage: Usage | None = None
    reports: Reports | None = None
    forecasts: Forecasts | None = None
    prices: Prices | None = None
    budgets: Budgets | None = None
    alerts: Alerts | None = None
