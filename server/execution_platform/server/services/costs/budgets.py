"""Budgets: made, read, changed and deleted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Awaitable, Callable
from functools import partial

from sqlalchemy import Connection

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.budgets.changes import (
    create_budget,
    delete_budget,
    get_budget,
    statuses_of,
    stored_budgets,
    update_budget,
)
from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.services.paging import Page
from execution_platform.v1 import cost_pb2

__all__ = ["LedgerBudgets"]


class LedgerBudgets:
    """The part of CostService that keeps budgets.

    Args:
        database: holds them.
        refresh: has this process take note of what was changed; other processes do within a second.
        place_of: tells file and line of a configured budget; empty: the configuration of this server does not have it.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        refresh: Callable[[], Awaitable[None]],
        place_of: Callable[[str], str],
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database = database
        self._refresh = refresh
        self._place_of = place_of
        self._clock = clock

    async def create(self, request: cost_pb2.CreateBudgetRequest) -> cost_pb2.CreateBudgetResponse:
        """Make a budget.

        Raises:
            InvalidRequestError: a field is wrong.
            AlreadyExistsError: there is one of that id.
            LedgerUnavailableError: the ledger cannot be written.
        """
        budget = cost_pb2.Budget()
        budget.CopyFrom(request.budget)
        # Minted here: work is done again if its answer was lost, and shall not make two.
        budget.id = budget.id or mint_id()
        status = await self._database.write(partial(create_budget, budget=budget, clock=self._clock))
        await self._note()
        return cost_pb2.CreateBudgetResponse(status=status)

    async def get(self, request: cost_pb2.GetBudgetRequest) -> cost_pb2.GetBudgetResponse:
        """Return a budget.

        Raises:
            InvalidRequestError: no id is given.
            NotFoundError: there is none of that id.
            LedgerUnavailableError: the ledger cannot be read.
        """
        now = self._clock()
        status = await self._database.read(partial(get_budget, budget_id=request.id, now=now))
        return cost_pb2.GetBudgetResponse(status=status)

    async def page(self, request: cost_pb2.ListBudgetsRequest) -> cost_pb2.ListBudgetsResponse:
        """List budgets.

        Raises:
            InvalidRequestError: the page's size or token is wrong.
            LedgerUnavailableError: the ledger cannot be read.
        """
        page = Page(request.page_size, request.page_token, f"budgets of {request.tenant}")
        page.after()
        return await self._database.read(partial(_page, page=page, tenant=request.tenant, now=self._clock()))

    async def update(self, request: cost_pb2.UpdateBudgetRequest) -> cost_pb2.UpdateBudgetResponse:
        """Change a budget.

        Raises:
            InvalidRequestError: a field is wrong, or the budget is of the configuration.
            NotFoundError: there is none of that id.
            EtagMismatchError: it has been changed meanwhile.
            LedgerUnavailableError: the ledger cannot be written.
        """
        work = partial(update_budget, budget=request.budget, clock=self._clock, configured=self._where)
        status = await self._database.write(work)
        await self._note()
        return cost_pb2.UpdateBudgetResponse(status=status)

    async def delete(self, request: cost_pb2.DeleteBudgetRequest) -> cost_pb2.DeleteBudgetResponse:
        """Delete a budget.

        Raises:
            InvalidRequestError: no id is given, or the budget is of the configuration.
            NotFoundError: there is none of that id.
            EtagMismatchError: it has been changed meanwhile.
            LedgerUnavailableError: the ledger cannot be written.
        """
        work = partial(delete_budget, budget_id=request.id, etag=request.etag, configured=self._where)
        await self._database.write(work)
        await self._note()
        return cost_pb2.DeleteBudgetResponse()

    async def _note(self) -> None:
        # The change is made; should the database have gone since, it is noted when that is back.
        with contextlib.suppress(LedgerUnavailableError):
            await self._refresh()

    def _where(self, budget_id: str) -> str:
        place = self._place_of(budget_id)
        return f"in {place}" if place else "in the file of the servers that have it; this server's does not"


def _page(connection: Connection, page: Page, tenant: str, now: int) -> cost_pb2.ListBudgetsResponse:
    wanted = [each for each in stored_budgets(connection) if not tenant or each.scope.tenant == tenant]
    budgets, token = page.of(wanted, lambda each: each.id)
    return cost_pb2.ListBudgetsResponse(statuses=statuses_of(connection, budgets, now), next_page_token=token)
