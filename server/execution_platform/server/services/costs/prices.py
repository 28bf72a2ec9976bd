"""What things cost: the list of prices, what a chat would cost, and prices for records that had none."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Protocol

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.chat.validation import check_chat, check_tool_choice
from execution_platform.server.errors import LedgerOffError, ProviderNotFoundError
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.limits.limits import Limits
from execution_platform.server.routing.plan import Leg, Plan
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.price_sheet import PriceRow, PriceSheet
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.prompt_size import prompt_tokens
from execution_platform.server.routing.providers import Providers
from execution_platform.server.routing.worst_case import WorstCase, WorstCases
from execution_platform.server.services.call import request_id_of
from execution_platform.server.services.paging import Page
from execution_platform.v1 import catalog_pb2, chat_pb2, common_pb2, cost_pb2, usage_pb2

__all__ = ["LedgerBehind", "PriceOffice"]

_MOST_TOKENS = 2**31 - 1
_INPUT, _OUTPUT = usage_pb2.USAGE_KIND_INPUT, usage_pb2.USAGE_KIND_OUTPUT


class LedgerBehind(Protocol):
    """What a ledger adds to prices."""

    async def budgets(self, facts: Facts, legs: Sequence[tuple[str, str]]) -> list[list[cost_pb2.BudgetStatus]]:
        """Return how much is left of the budgets that attempts of a chat would count for, for each provider and model.

        Raises:
            LedgerUnavailableError: the ledger cannot be read.
        """
        ...

    async def reprice(self, request: cost_pb2.RepriceUsageRequest) -> cost_pb2.RepriceUsageResponse:
        """Price records anew.

        Raises:
            InvalidRequestError: the filter is wrong.
            LedgerUnavailableError: the ledger cannot be read or written.
        """
        ...


class PriceOffice:
    """The part of CostService that knows prices. Also there without a ledger.

    Args:
        prices: of models.
        sheet: lists them.
        planner: tells whom a chat would ask.
        providers: all that there are.
        limits: know whose a caller is, and how long answers usually are.
        worst: reckons what budgets have to have room for.
        ledger: None: there is none.
        now: the time.
    """

    def __init__(
        self,
        prices: Prices,
        sheet: PriceSheet,
        planner: Planner,
        providers: Providers,
        limits: Limits,
        worst: WorstCases,
        ledger: LedgerBehind | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._prices = prices
        self._sheet = sheet
        self._planner = planner
        self._providers = providers
        self._limits = limits
        self._worst = worst
        self._ledger = ledger
        self._now = now

    async def page(self, request: cost_pb2.ListPricesRequest) -> cost_pb2.ListPricesResponse:
        """List prices.

        Raises:
            InvalidRequestError: the time is none, or the token is of another list.
            ProviderNotFoundError: there is no such provider.
        """
        at = self._time(request)
        unpaged = cost_pb2.ListPricesRequest()
        unpaged.CopyFrom(request)
        unpaged.page_size, unpaged.page_token = 0, ""
        page = Page(request.page_size, request.page_token, unpaged.SerializeToString(deterministic=True).hex())
        page.after()
        providers = self._asked_for(request.provider)

        def made() -> cost_pb2.ListPricesResponse:
            rows = [row for provider in providers for row in self._sheet.rows(provider, request.model, at)]
            found, token = page.of(sorted(rows, key=_name), _name)
            return cost_pb2.ListPricesResponse(prices=[row.message() for row in found], next_page_token=token)

        # There are thousands of prices, and other calls to answer meanwhile.
        return await asyncio.to_thread(made)

    async def estimate(self, request: cost_pb2.EstimateCostRequest, caller: str) -> cost_pb2.EstimateCostResponse:
        """Tell what a chat would cost with each that it may ask.

        Args:
            request: the chat.
            caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.

        Raises:
            AdapterError: the chat could not be run like this, for one of the reasons of :meth:`Planner.plan`.
            LedgerUnavailableError: the ledger cannot be read.
        """
        if not request.HasField("chat"):
            raise InvalidRequestError("chat: must be set, for example with a model and messages", field="chat")
        if request.HasField("output_tokens") and not 0 <= request.output_tokens <= _MOST_TOKENS:
            raise InvalidRequestError(f"output_tokens: must be 0 to {_MOST_TOKENS}", field="output_tokens")
        check_chat(request.chat, needs_messages=False)
        request_id = request_id_of(request.chat.request_id)
        plan = self._planner.considered(request.chat, request_id)
        check_tool_choice(plan.request)
        legs = [*plan.legs, *_without_keys(plan)]
        if not legs and plan.error is not None:
            raise plan.error
        told = request.output_tokens if request.HasField("output_tokens") else None
        routes = [self._route(leg, leg.request or plan.request, told) for leg in legs]
        if self._ledger is not None:
            facts = self._facts(plan, request_id, caller)
            budgets = await self._ledger.budgets(facts, [(leg.provider, leg.model) for leg in legs])
            for route, statuses in zip(routes, budgets, strict=True):
                route.budgets.extend(statuses)
        return cost_pb2.EstimateCostResponse(routes=routes, input_tokens=prompt_tokens(plan.request))

    async def reprice(self, request: cost_pb2.RepriceUsageRequest) -> cost_pb2.RepriceUsageResponse:
        """Price records anew.

        Raises:
            LedgerOffError: there is no ledger.
            InvalidRequestError: the filter is wrong.
            LedgerUnavailableError: the ledger cannot be read or written. What was corrected before stays.
        """
        if self._ledger is None:
            raise LedgerOffError("this server runs without a ledger (EP_LEDGER=off)")
        return await self._ledger.reprice(request)

    def _time(self, request: cost_pb2.ListPricesRequest) -> datetime:
        if not request.HasField("at"):
            # A page and the next one are of the same list, also past midnight: prices change by the day or the hour.
            return self._now()
        try:
            return request.at.ToDatetime(UTC)
        except (ValueError, OverflowError):
            raise InvalidRequestError("at: must be a time of the years 1 to 9999", field="at") from None

    def _asked_for(self, provider: str) -> list[str]:
        """Return the providers whose prices are listed. Raises ProviderNotFoundError."""
        declared = self._sheet.providers()
        if not provider:
            ready = [name for name in self._providers.names() if not self._providers.missing(name)]
            return sorted({*ready, *declared})
        if not self._providers.knows(provider):
            raise ProviderNotFoundError(f"provider: there is no provider {provider!r:.100}", field="provider")
        return [provider]

    def _facts(self, plan: Plan, request_id: str, caller: str) -> Facts:
        """Return whose the chat would be."""
        context = plan.request.context
        return Facts(
            id="",
            request_id=request_id,
            started=int(self._now().timestamp() * 1_000_000),
            tenant=self._limits.scopes.tenant(caller),
            project=self._limits.scopes.project(caller),
            persona=plan.persona,
            end_user_id=context.end_user_id,
            session_id=context.session_id,
            labels=dict(context.labels),
        )

    def _route(self, leg: Leg, request: chat_pb2.ChatRequest, told: int | None) -> cost_pb2.RouteEstimate:
        usual = self._limits.estimates.usual_output(leg.provider, leg.model, request) if told is None else told
        usage = usage_pb2.Usage(service_tier=request.service_tier)
        for kind, tokens in ((_INPUT, prompt_tokens(request)), (_OUTPUT, usual)):
            usage.items.add(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=tokens)
        expected = self._prices.cost(leg.provider, leg.model, usage, at=self._now())
        worst = self._worst.of(leg.provider, leg.model, request)
        longest = worst.output_tokens if told is None else told
        return cost_pb2.RouteEstimate(
            route=chat_pb2.Route(provider=leg.provider, model=leg.model, region=leg.region),
            expected=expected,
            expected_output_tokens=usual,
            most=_most(worst, longest, expected),
            most_output_tokens=longest,
            missing=self._providers.missing(leg.provider),
        )


def _without_keys(plan: Plan) -> list[Leg]:
    """Return whom a plan would ask as well if only their keys were there: their prices are known all the same."""
    unready = catalog_pb2.ROUTE_VERDICT_NOT_CONFIGURED
    return [each.leg for each in plan.candidates if each.verdict == unready and each.leg.model]


def _most(worst: WorstCase, output: int, expected: usage_pb2.Cost) -> usage_pb2.Cost:
    """Return the worst case as a cost, whose prices are from where those of the expected one are."""
    nanos = worst.cost(worst.prompt_tokens, output)
    if nanos is None:
        return usage_pb2.Cost(status=usage_pb2.COST_STATUS_UNPRICED)
    cost = usage_pb2.Cost(status=usage_pb2.COST_STATUS_ESTIMATED, price_version=expected.price_version)
    sources = {line.item.kind: line.source for line in expected.lines}
    for kind, tokens, price in (
        (_INPUT, worst.prompt_tokens, worst.prompt_price or 0),
        (_OUTPUT, output, worst.output_price or 0),
    ):
        line = cost.lines.add(description="at most", quantity=tokens, per_quantity=1_000_000)
        line.source = sources.get(kind, usage_pb2.COST_SOURCE_LIST_PRICE)
        line.item.CopyFrom(usage_pb2.UsageItem(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=tokens))
        line.price.CopyFrom(common_pb2.Money(currency_code="USD", nanos=price))
        line.amount.CopyFrom(common_pb2.Money(currency_code="USD", nanos=-(-tokens * price // 1_000_000)))
    if worst.fee:
        line = cost.lines.add(description="request", quantity=1, per_quantity=1)
        line.source = sources.get(usage_pb2.USAGE_KIND_UNSPECIFIED, usage_pb2.COST_SOURCE_LIST_PRICE)
        line.price.CopyFrom(common_pb2.Money(currency_code="USD", nanos=worst.fee))
        line.amount.CopyFrom(line.price)
    return cost


def _name(row: PriceRow) -> str:
    return row.name
