"""CostService: wire in, one part asked, wire out."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable
from typing import TypeVar

import grpc.aio
from google.protobuf.message import Message

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.errors import InternalError, LedgerOffError
from execution_platform.server.services.call import Context, abort, begin, caller_of, request_id_of
from execution_platform.server.services.costs.parts import CostParts
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2, cost_pb2_grpc

__all__ = ["CostService"]

_Response = TypeVar("_Response", bound=Message)
_Part = TypeVar("_Part")


class CostService(cost_pb2_grpc.CostServiceServicer):
    """Keeps account.

    Args:
        parts: answer.
        logger: gets faults.
    """

    def __init__(self, parts: CostParts, logger: Logger) -> None:
        self._parts = parts
        self._logger = logger

    async def _answer(self, context: Context, answer: Awaitable[_Response]) -> _Response:
        try:
            return await answer
        except AdapterError as error:
            await abort(context, error)
        except Exception:
            self._logger.exception("costs_fault")
            await abort(context, InternalError())

    async def _stream(self, context: Context, pieces: AsyncGenerator[_Response, None]) -> None:
        """Write what a part yields. A coroutine that writes: its clean-up runs in the task that is cancelled."""
        await begin(context, request_id_of(""))
        try:
            async with contextlib.aclosing(pieces):
                async for piece in pieces:
                    await context.write(piece)
        except AdapterError as error:
            await abort(context, error)
        except Exception:
            self._logger.exception("costs_fault")
            await abort(context, InternalError())

    async def _there(self, context: Context, part: _Part | None) -> _Part:
        if part is None:
            await abort(context, LedgerOffError("this server runs without a ledger (EP_LEDGER=off)"))
        return part

    async def RecordUsage(
        self,
        request: cost_pb2.RecordUsageRequest,
        context: grpc.aio.ServicerContext[cost_pb2.RecordUsageRequest, cost_pb2.RecordUsageResponse],
    ) -> cost_pb2.RecordUsageResponse:
        """Write down work that was done elsewhere."""
        part = await self._there(context, self._parts.usage)
        return await self._answer(context, part.record(request, caller_of(context)))

    async def GetUsageRecord(
        self,
        request: cost_pb2.GetUsageRecordRequest,
        context: grpc.aio.ServicerContext[cost_pb2.GetUsageRecordRequest, cost_pb2.GetUsageRecordResponse],
    ) -> cost_pb2.GetUsageRecordResponse:
        """Return one record."""
        part = await self._there(context, self._parts.usage)
        return await self._answer(context, part.get(request))

    async def ListUsageRecords(
        self,
        request: cost_pb2.ListUsageRecordsRequest,
        context: grpc.aio.ServicerContext[cost_pb2.ListUsageRecordsRequest, cost_pb2.ListUsageRecordsResponse],
    ) -> cost_pb2.ListUsageRecordsResponse:
        """List records."""
        part = await self._there(context, self._parts.usage)
        return await self._answer(context, part.page(request))

    async def SummarizeUsage(
        self,
        request: cost_pb2.SummarizeUsageRequest,
        context: grpc.aio.ServicerContext[cost_pb2.SummarizeUsageRequest, cost_pb2.SummarizeUsageResponse],
    ) -> cost_pb2.SummarizeUsageResponse:
        """Sum records."""
        part = await self._there(context, self._parts.usage)
        return await self._answer(context, part.summarize(request))

    async def RenderReport(
        self,
        request: cost_pb2.RenderReportRequest,
        context: grpc.aio.ServicerContext[cost_pb2.RenderReportRequest, cost_pb2.RenderReportResponse],
    ) -> cost_pb2.RenderReportResponse:
        """Make a report."""
        part = await self._there(context, self._parts.reports)
        return await self._answer(context, part.render(request))

    async def ForecastCost(
        self,
        request: cost_pb2.ForecastCostRequest,
        context: grpc.aio.ServicerContext[cost_pb2.ForecastCostRequest, cost_pb2.ForecastCostResponse],
    ) -> cost_pb2.ForecastCostResponse:
        """Forecast a spending."""
        part = await self._there(context, self._parts.forecasts)
        return await self._answer(context, part.forecast(request))

    async def EstimateCost(
        self,
        request: cost_pb2.EstimateCostRequest,
        context: grpc.aio.ServicerContext[cost_pb2.EstimateCostRequest, cost_pb2.EstimateCostResponse],
    ) -> cost_pb2.EstimateCostResponse:
        """Tell what a chat would cost."""
        part = await self._there(context, self._parts.prices)
        return await self._answer(context, part.estimate(request, caller_of(context)))

    async def ListPrices(
        self,
        request: cost_pb2.ListPricesRequest,
        context: grpc.aio.ServicerContext[cost_pb2.ListPricesRequest, cost_pb2.ListPricesResponse],
    ) -> cost_pb2.ListPricesResponse:
        """List prices."""
        part = await self._there(context, self._parts.prices)
        return await self._answer(context, part.page(request))

    async def RepriceUsage(
        self,
        request: cost_pb2.RepriceUsageRequest,
        context: grpc.aio.ServicerContext[cost_pb2.RepriceUsageRequest, cost_pb2.RepriceUsageResponse],
    ) -> cost_pb2.RepriceUsageResponse:
        """Price records anew."""
        part = await self._there(context, self._parts.prices)
        return await self._answer(context, part.reprice(request))

    async def CreateBudget(
        self,
        request: cost_pb2.CreateBudgetRequest,
        context: grpc.aio.ServicerContext[cost_pb2.CreateBudgetRequest, cost_pb2.CreateBudgetResponse],
    ) -> cost_pb2.CreateBudgetResponse:
        """Make a budget."""
        part = await self._there(context, self._parts.budgets)
        return await self._answer(context, part.create(request))

    async def GetBudget(
        self,
        request: cost_pb2.GetBudgetRequest,
        context: grpc.aio.ServicerContext[cost_pb2.GetBudgetRequest, cost_pb2.GetBudgetResponse],
    ) -> cost_pb2.GetBudgetResponse:
        """Return a budget."""
        part = await self._there(context, self._parts.budgets)
        return await self._answer(context, part.get(request))

    async def ListBudgets(
        self,
        request: cost_pb2.ListBudgetsRequest,
        context: grpc.aio.ServicerContext[cost_pb2.ListBudgetsRequest, cost_pb2.ListBudgetsResponse],
    ) -> cost_pb2.ListBudgetsResponse:
        """List budgets."""
        part = await self._there(context, self._parts.budgets)
        return await self._answer(context, part.page(request))

    async def UpdateBudget(
        self,
        request: cost_pb2.UpdateBudgetRequest,
        context: grpc.aio.ServicerContext[cost_pb2.UpdateBudgetRequest, cost_pb2.UpdateBudgetResponse],
    ) -> cost_pb2.UpdateBudgetResponse:
        """Change a budget."""
        part = await self._there(context, self._parts.budgets)
        return await self._answer(context, part.update(request))

    async def DeleteBudget(
        self,
        request: cost_pb2.DeleteBudgetRequest,
        context: grpc.aio.ServicerContext[cost_pb2.DeleteBudgetRequest, cost_pb2.DeleteBudgetResponse],
    ) -> cost_pb2.DeleteBudgetResponse:
        """Delete a budget."""
        part = await self._there(context, self._parts.budgets)
        return await self._answer(context, part.delete(request))

    async def ExportUsage(  # type: ignore[override]  # a coroutine that writes; the stub's type knows generators only
        self,
        request: cost_pb2.ExportUsageRequest,
        context: grpc.aio.ServicerContext[cost_pb2.ExportUsageRequest, cost_pb2.ExportUsageResponse],
    ) -> None:
        """Stream a file."""
        part = await self._there(context, self._parts.usage)
        await self._stream(context, part.export(request))

    async def WatchBudgetAlerts(  # type: ignore[override]  # a coroutine that writes; the stub's type knows generators only
        self,
        request: cost_pb2.WatchBudgetAlertsRequest,
        context: grpc.aio.ServicerContext[cost_pb2.WatchBudgetAlertsRequest, cost_pb2.WatchBudgetAlertsResponse],
    ) -> None:
        """Stream alerts."""
        part = await self._there(context, self._parts.alerts)
        await self._stream(context, part.watch(request))
