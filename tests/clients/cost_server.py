# ruff: noqa: N802 - RPC names are the contract's
"""The contract's CostService whose answers a test writes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TypeVar

from google.protobuf.message import Message

from execution_platform.v1 import cost_pb2, cost_pb2_grpc

_Response = TypeVar("_Response", bound=Message)


class CostBook(cost_pb2_grpc.CostServiceServicer):
    """Answers each RPC with the next of its answers, and keeps the requests."""

    def __init__(self) -> None:
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str | bytes]] = []
        self.failing: Callable[[Any], NoReturn] | None = None
        self.answers: dict[type[Message], list[Message]] = {}

    def will_answer(self, *answers: Message) -> None:
        """Answer with these, each to its own RPC, in order; the last of a kind again and again."""
        for answer in answers:
            self.answers.setdefault(type(answer), []).append(answer)

    def _next(self, request: Message, context: Any, kind: type[_Response]) -> _Response:
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        if self.failing is not None:
            self.failing(context)
        waiting = self.answers.get(kind) or [kind()]
        pieces = kind in {cost_pb2.ExportUsageResponse, cost_pb2.WatchBudgetAlertsResponse}
        answer = waiting.pop(0) if len(waiting) > 1 and not pieces else waiting[0]
        assert isinstance(answer, kind)
        return answer

    def RecordUsage(self, request: cost_pb2.RecordUsageRequest, context: Any) -> cost_pb2.RecordUsageResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.RecordUsageResponse)

    def GetUsageRecord(self, request: cost_pb2.GetUsageRecordRequest, context: Any) -> cost_pb2.GetUsageRecordResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.GetUsageRecordResponse)

    def ListUsageRecords(
        self, request: cost_pb2.ListUsageRecordsRequest, context: Any
    ) -> cost_pb2.ListUsageRecordsResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.ListUsageRecordsResponse)

    def SummarizeUsage(self, request: cost_pb2.SummarizeUsageRequest, context: Any) -> cost_pb2.SummarizeUsageResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.SummarizeUsageResponse)

    def RenderReport(self, request: cost_pb2.RenderReportRequest, context: Any) -> cost_pb2.RenderReportResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.RenderReportResponse)

    def ForecastCost(self, request: cost_pb2.ForecastCostRequest, context: Any) -> cost_pb2.ForecastCostResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.ForecastCostResponse)

    def EstimateCost(self, request: cost_pb2.EstimateCostRequest, context: Any) -> cost_pb2.EstimateCostResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.EstimateCostResponse)

    def ListPrices(self, request: cost_pb2.ListPricesRequest, context: Any) -> cost_pb2.ListPricesResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.ListPricesResponse)

    def RepriceUsage(self, request: cost_pb2.RepriceUsageRequest, context: Any) -> cost_pb2.RepriceUsageResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.RepriceUsageResponse)

    def CreateBudget(self, request: cost_pb2.CreateBudgetRequest, context: Any) -> cost_pb2.CreateBudgetResponse:
        """Answer with the budget."""
        self._next(request, context, cost_pb2.CreateBudgetResponse)
        return cost_pb2.CreateBudgetResponse(status=cost_pb2.BudgetStatus(budget=request.budget))

    def GetBudget(self, request: cost_pb2.GetBudgetRequest, context: Any) -> cost_pb2.GetBudgetResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.GetBudgetResponse)

    def ListBudgets(self, request: cost_pb2.ListBudgetsRequest, context: Any) -> cost_pb2.ListBudgetsResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.ListBudgetsResponse)

    def UpdateBudget(self, request: cost_pb2.UpdateBudgetRequest, context: Any) -> cost_pb2.UpdateBudgetResponse:
        """Answer with the budget."""
        self._next(request, context, cost_pb2.UpdateBudgetResponse)
        return cost_pb2.UpdateBudgetResponse(status=cost_pb2.BudgetStatus(budget=request.budget))

    def DeleteBudget(self, request: cost_pb2.DeleteBudgetRequest, context: Any) -> cost_pb2.DeleteBudgetResponse:
        """Answer."""
        return self._next(request, context, cost_pb2.DeleteBudgetResponse)

    def ExportUsage(self, request: cost_pb2.ExportUsageRequest, context: Any) -> Iterator[cost_pb2.ExportUsageResponse]:
        """Answer with all pieces."""
        self._next(request, context, cost_pb2.ExportUsageResponse)
        for piece in self.answers.get(cost_pb2.ExportUsageResponse, ()):
            assert isinstance(piece, cost_pb2.ExportUsageResponse)
            yield piece

    def WatchBudgetAlerts(
        self, request: cost_pb2.WatchBudgetAlertsRequest, context: Any
    ) -> Iterator[cost_pb2.WatchBudgetAlertsResponse]:
        """Answer with all alerts."""
        self._next(request, context, cost_pb2.WatchBudgetAlertsResponse)
        for piece in self.answers.get(cost_pb2.WatchBudgetAlertsResponse, ()):
            assert isinstance(piece, cost_pb2.WatchBudgetAlertsResponse)
            yield piece
