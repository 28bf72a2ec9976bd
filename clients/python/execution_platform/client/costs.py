"""The ledger, from the synchronous client: records, prices, budgets, forecasts, reports and alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Generic, Protocol, Self, TypeVar, Unpack, cast

import grpc

from execution_platform.client.base import CallArguments, Metadata
from execution_platform.client.errors import error_from_rpc, raising_ours
from execution_platform.client.requests import ChatFields, Prompt
from execution_platform.v1 import chat_pb2, cost_pb2, cost_pb2_grpc

__all__ = ["Costs", "MessageStream"]

_PAGE = 1_000

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class _Call(Protocol[T_co]):
    """What a stream needs of a gRPC call."""

    def __next__(self) -> T_co:
        """Wait for the next message."""

    def cancel(self) -> object:
        """End the call."""


class MessageStream(Generic[T]):
    """Messages as the server sends them. Leaving the `with` block, or `close`, ends the call.

    Iterating raises ExecutionPlatformError where the call fails.
    """

    def __init__(self, call: _Call[T]) -> None:
        self._call = call
        self._over = False

    def __enter__(self) -> Self:
        """Return the stream."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the stream."""
        self.close()

    def __iter__(self) -> Self:
        """Return the stream, which is its own iterator."""
        return self

    def __next__(self) -> T:
        """Return the next message."""
        if self._over:
            raise StopIteration
        try:
            return next(self._call)
        except StopIteration:
            self._over = True
            raise
        except grpc.RpcError as error:
            self._over = True
            raise error_from_rpc(error) from error

    def close(self) -> None:
        """End the call unless it has ended; may be called again."""
        if not self._over:
            self._over = True
            self._call.cancel()


class Costs:
    """The ledger of a server. Requests and answers are the contract's messages (`execution_platform.v1.cost_pb2`).

    Every call takes `timeout` in seconds, which stands for the client's own, and more `metadata`; every call raises
    ExecutionPlatformError. It is made by the client: `client.costs`.

    Args:
        channel: to the server.
        call: makes the arguments of a call from its timeout and metadata.
        chat_request: makes a chat's request, with the client's defaults.
    """

    def __init__(
        self,
        channel: grpc.Channel,
        call: Callable[[float | None, Metadata], CallArguments],
        chat_request: Callable[[Prompt, ChatFields], chat_pb2.ChatRequest],
    ) -> None:
        self._stub = cost_pb2_grpc.CostServiceStub(channel)
        self._call = call
        self._chat_request = chat_request

    def record(
        self, request: cost_pb2.RecordUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RecordUsageResponse:
        """Write down work that was done elsewhere. Idempotent by request_id."""
        with raising_ours():
            return self._stub.RecordUsage(request, **self._call(timeout, metadata))

    def get(
        self,
        record_id: str = "",
        *,
        request_id: str = "",
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> cost_pb2.GetUsageRecordResponse:
        """Return one record with all that corrects it, by its id or its request's."""
        request = cost_pb2.GetUsageRecordRequest(id=record_id, request_id=request_id)
        with raising_ours():
            return self._stub.GetUsageRecord(request, **self._call(timeout, metadata))

    def records(
        self,
        which: cost_pb2.UsageFilter | None = None,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> Iterator[cost_pb2.UsageRecord]:
        """Yield records, the newest first, reading a page when it is needed. `timeout` is of each page."""
        token = ""
        while True:
            request = cost_pb2.ListUsageRecordsRequest(filter=which, page_size=_PAGE, page_token=token)
            with raising_ours():
                page = self._stub.ListUsageRecords(request, **self._call(timeout, metadata))
            yield from page.records
            token = page.next_page_token
            if not token:
                return

    def summarize(
        self, request: cost_pb2.SummarizeUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.SummarizeUsageResponse:
        """Sum records by any dimensions and spans of time."""
        with raising_ours():
            return self._stub.SummarizeUsage(request, **self._call(timeout, metadata))

    def export(
        self, request: cost_pb2.ExportUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> MessageStream[cost_pb2.ExportUsageResponse]:
        """Return the pieces of a file of records; use it in a `with` block."""
        with raising_ours():
            call = self._stub.ExportUsage(request, **self._call(timeout, metadata))
        return MessageStream(cast("_Call[cost_pb2.ExportUsageResponse]", call))

    def report(
        self, request: cost_pb2.RenderReportRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RenderReportResponse:
        """Make a report for people."""
        with raising_ours():
            return self._stub.RenderReport(request, **self._call(timeout, metadata))

    def forecast(
        self, request: cost_pb2.ForecastCostRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.ForecastCostResponse:
        """Tell what will have been spent, and whether budgets will hold."""
        with raising_ours():
            return self._stub.ForecastCost(request, **self._call(timeout, metadata))

    def estimate(
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
        with raising_ours():
            return self._stub.EstimateCost(request, **self._call(timeout, metadata))

    def prices(
        self, provider: str = "", model: str = "", *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Iterator[cost_pb2.ModelPrice]:
        """Yield the prices that hold now, reading a page when it is needed."""
        token = ""
        while True:
            request = cost_pb2.ListPricesRequest(provider=provider, model=model, page_size=_PAGE, page_token=token)
            with raising_ours():
                page = self._stub.ListPrices(request, **self._call(timeout, metadata))
            yield from page.prices
            token = page.next_page_token
            if not token:
                return

    def reprice(
        self, request: cost_pb2.RepriceUsageRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.RepriceUsageResponse:
        """Price records anew, with records that correct the old ones."""
        with raising_ours():
            return self._stub.RepriceUsage(request, **self._call(timeout, metadata))

    def create_budget(
        self, budget: cost_pb2.Budget, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.BudgetStatus:
        """Make a budget."""
        request = cost_pb2.CreateBudgetRequest(budget=budget)
        with raising_ours():
            return self._stub.CreateBudget(request, **self._call(timeout, metadata)).status

    def get_budget(
        self,
        budget_id: str,
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> cost_pb2.BudgetStatus:
        """Return a budget and how much of it is left."""
        with raising_ours():
            return self._stub.GetBudget(cost_pb2.GetBudgetRequest(id=budget_id), **self._call(timeout, metadata)).status

    def budgets(
        self, tenant: str = "", *, timeout: float | None = None, metadata: Metadata = ()
    ) -> Iterator[cost_pb2.BudgetStatus]:
        """Yield budgets and how much of them is left, by id."""
        token = ""
        while True:
            request = cost_pb2.ListBudgetsRequest(tenant=tenant, page_size=_PAGE, page_token=token)
            with raising_ours():
                page = self._stub.ListBudgets(request, **self._call(timeout, metadata))
            yield from page.statuses
            token = page.next_page_token
            if not token:
                return

    def update_budget(
        self, budget: cost_pb2.Budget, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> cost_pb2.BudgetStatus:
        """Change a budget, which holds the etag that was read."""
        request = cost_pb2.UpdateBudgetRequest(budget=budget)
        with raising_ours():
            return self._stub.UpdateBudget(request, **self._call(timeout, metadata)).status

    def delete_budget(
        self,
        budget_id: str,
        etag: str = "",
        *,
        timeout: float | None = None,
        metadata: Metadata = (),
    ) -> None:
        """Delete a budget; with an etag only if it is still the newest."""
        with raising_ours():
            self._stub.DeleteBudget(
                cost_pb2.DeleteBudgetRequest(id=budget_id, etag=etag), **self._call(timeout, metadata)
            )

    def alerts(
        self, request: cost_pb2.WatchBudgetAlertsRequest, *, timeout: float | None = None, metadata: Metadata = ()
    ) -> MessageStream[cost_pb2.WatchBudgetAlertsResponse]:
        """Return alerts as they are raised, without an end unless `timeout` is given; use it in a `with` block."""
        arguments = self._call(timeout, metadata)
        arguments["timeout"] = timeout  # the client's own is for calls that end
        with raising_ours():
            call = self._stub.WatchBudgetAlerts(request, **arguments)
        return MessageStream(cast("_Call[cost_pb2.WatchBudgetAlertsResponse]", call))
