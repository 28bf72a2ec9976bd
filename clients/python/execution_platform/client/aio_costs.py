"""The ledger, from the asynchronous client: records, prices, budgets, forecasts, reports and alerts."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, Unpack, cast

import grpc

from execution_platform.client.aio_response import response
from execution_platform.client.base import CallArguments, Metadata
from execution_platform.client.errors import ExecutionPlatformError
from execution_platform.client.requests import ChatFields, Prompt
from execution_platform.v1 import chat_pb2, cost_pb2, cost_pb2_grpc

__all__ = ["AsyncCosts", "AsyncMessageStream"]

_PAGE = 1_000

T = TypeVar("T")


class AsyncMessageStream(Generic[T]):
    """Messages as the server sends them. Leaving the `async with` block, or `aclose`, ends the call.

    Iterating raises ExecutionPlatformError where the call fails.
    """

    def __init__(self, call: grpc.aio.UnaryStreamCall[Any, T]) -> None:
        self._call = call
        self._over = False

    async def __aenter__(self) -> Self:
        """Return the stream."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        """Close the stream."""
        await self.aclose()

    def __aiter__(self) -> Self:
        """Return the stream, which is its own iterator."""
        return self

    async def __anext__(self) -> T:
        """Return the next message."""
        if self._over:
            raise StopAsyncIteration
        try:
            message = await response(self._call.read())
        except ExecutionPlatformError:
            self._over = True
            raise
        if message is grpc.aio.EOF:
            self._over = True
            raise StopAsyncIteration
        return cast("T", message)

    async def aclose(self) -> None:
        """End the call unless it has ended; may be called again."""
        if not self._over:
            self._over = True
            self._call.cancel()


class AsyncCosts:
    """The ledger of a server. Requests and answers are the contract's messages (`execution_platform.v1.cost_pb2`).

    Every call takes `timeout` in seconds, which stands for the client's own, and more `metadata`; every call raises
    ExecutionPlatformError. It is made by the client: `client.costs`.

    Args:
        stub: gives the stub, in whose event loop the calls are made.
        call: makes the arguments of a call from its timeout and metadata.
        chat_request: makes a chat's request, with the client's defaults.
    """

    def __init__(
        self,
        stub: Callable[[], cost_pb2_grpc.CostServiceAsyncStub],
        call: Callable[[float | None, Metadata], CallArguments],
        chat_request: Callable[[Prompt, ChatFields], chat_pb2.ChatRequest],
    ) -> None:
        self._stub = stub
        self._call = call
        self._chat_request = chat_request

    async def record(
        self, request: cost_pb2.RecordUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RecordUsageResponse:
        """Write down work that was done elsewhere. Idempotent by request_id."""
        return await response(self._stub().RecordUsage(request, **self._call(timeout, metadata)))

    async def get(
        self,
        record_id: str = "",
        *,
        request_id: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> cost_pb2.GetUsageRecordResponse:
        """Return one record with all that corrects it, by its id or its request's."""
        request = cost_pb2.GetUsageRecordRequest(id=record_id, request_id=request_id)
        return await response(self._stub().GetUsageRecord(request, **self._call(timeout, metadata)))

    async def records(
        self,
        which: cost_pb2.UsageFilter | None = None,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> AsyncGenerator[cost_pb2.UsageRecord, None]:
        """Yield records, the newest first, reading a page when it is needed. `timeout` is of each page."""
        token = ""
        while True:
            request = cost_pb2.ListUsageRecordsRequest(filter=which, page_size=_PAGE, page_token=token)
            page = await response(self._stub().ListUsageRecords(request, **self._call(timeout, metadata)))
            for each in page.records:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def summarize(
        self, request: cost_pb2.SummarizeUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.SummarizeUsageResponse:
        """Sum records by any dimensions and spans of time."""
        return await response(self._stub().SummarizeUsage(request, **self._call(timeout, metadata)))

    def export(
        self, request: cost_pb2.ExportUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncMessageStream[cost_pb2.ExportUsageResponse]:
        """Return the pieces of a file of records; use it in an `async with` block."""
        return AsyncMessageStream(self._stub().ExportUsage(request, **self._call(timeout, metadata)))

    async def report(
        self, request: cost_pb2.RenderReportRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RenderReportResponse:
        """Make a report for people."""
        return await response(self._stub().RenderReport(request, **self._call(timeout, metadata)))

    async def forecast(
        self, request: cost_pb2.ForecastCostRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.ForecastCostResponse:
        """Tell what will have been spent, and whether budgets will hold."""
        return await response(self._stub().ForecastCost(request, **self._call(timeout, metadata)))

    async def estimate(
        self,
        prompt: Prompt = (),
        *,
        output_tokens: int | None = None,
        timeout: float | None = None,
        metadata: Metadata = (),
        **fields: Unpack[ChatFields],
    ) -> cost_pb2.EstimateCostResponse:
        """Tell what a chat would cost; asks no provider. Arguments as of `chat`.

        Args:
            prompt: what would be asked.
            output_tokens: of the answer to reckon with.
            timeout: seconds that this call may take.
            metadata: more metadata of this call.
            **fields: the request's fields; see `ChatFields`.
        """
        request = cost_pb2.EstimateCostRequest(chat=self._chat_request(prompt, fields), output_tokens=output_tokens)
        return await response(self._stub().EstimateCost(request, **self._call(timeout, metadata)))

    async def prices(
        self, provider: str = "", model: str = "", *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncGenerator[cost_pb2.ModelPrice, None]:
        """Yield the prices that hold now, reading a page when it is needed."""
        token = ""
        while True:
            request = cost_pb2.ListPricesRequest(provider=provider, model=model, page_size=_PAGE, page_token=token)
            page = await response(self._stub().ListPrices(request, **self._call(timeout, metadata)))
            for each in page.prices:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def reprice(
        self, request: cost_pb2.RepriceUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RepriceUsageResponse:
        """Price records anew, with records that correct the old ones."""
        return await response(self._stub().RepriceUsage(request, **self._call(timeout, metadata)))

    async def create_budget(
        self, budget: cost_pb2.Budget, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.BudgetStatus:
        """Make a budget."""
        request = cost_pb2.CreateBudgetRequest(budget=budget)
        return (await response(self._stub().CreateBudget(request, **self._call(timeout, metadata)))).status

    async def get_budget(
        self,
        budget_id: str,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> cost_pb2.BudgetStatus:
        """Return a budget and how much of it is left."""
        return (
            await response(
                self._stub().GetBudget(cost_pb2.GetBudgetRequest(id=budget_id), **self._call(timeout, metadata))
            )
        ).status

    async def budgets(
        self, tenant: str = "", *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncGenerator[cost_pb2.BudgetStatus, None]:
        """Yield budgets and how much of them is left, by id."""
        token = ""
        while True:
            request = cost_pb2.ListBudgetsRequest(tenant=tenant, page_size=_PAGE, page_token=token)
            page = await response(self._stub().ListBudgets(request, **self._call(timeout, metadata)))
            for each in page.statuses:
                yield each
            token = page.next_page_token
            if not token:
                return

    async def update_budget(
        self, budget: cost_pb2.Budget, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.BudgetStatus:
        """Change a budget, which holds the etag that was read."""
        request = cost_pb2.UpdateBudgetRequest(budget=budget)
        return (await response(self._stub().UpdateBudget(request, **self._call(timeout, metadata)))).status

    async def delete_budget(
        self,
        budget_id: str,
        etag: str = "",
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        """Delete a budget; with an etag only if it is still the newest."""
        await response(
            self._stub().DeleteBudget(
                cost_pb2.DeleteBudgetRequest(id=budget_id, etag=etag), **self._call(timeout, metadata)
            )
        )

    def alerts(
        self, request: cost_pb2.WatchBudgetAlertsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> AsyncMessageStream[cost_pb2.WatchBudgetAlertsResponse]:
        """Return alerts as they are raised, without an end unless `timeout` is given, for an `async with` block."""
        arguments = self._call(timeout, metadata)
        arguments["timeout"] = timeout  # the client's own is for calls that end
        return AsyncMessageStream(self._stub().WatchBudgetAlerts(request, **arguments))
