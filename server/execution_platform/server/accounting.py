"""All that a server has for money, in one hand: the ledger, what goes on behind it, and the parts of CostService.

Imported only where the ledger is on: its libraries take their time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial

from execution_platform.server.config.settings import Settings
from execution_platform.server.config.source import PlatformSource
from execution_platform.server.ledger.alerts.desk import AlertDesk
from execution_platform.server.ledger.alerts.observer import Observer
from execution_platform.server.ledger.books import Books
from execution_platform.server.ledger.budgets.configured import ConfiguredBudgets, persona_of
from execution_platform.server.ledger.forecasts.choice import can_smooth
from execution_platform.server.ledger.forecasts.forecaster import Forecaster
from execution_platform.server.ledger.ledger import Ledger
from execution_platform.server.ledger.pricing.behind_prices import BehindPrices
from execution_platform.server.ledger.pricing.repricing import Repricing
from execution_platform.server.ledger.reports.mail import DailyMail
from execution_platform.server.ledger.reports.reporter import Reporter
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.budgeted import Budgeting
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.worst_case import WorstCases
from execution_platform.server.services.costs.alerts import WatchedAlerts
from execution_platform.server.services.costs.budgets import LedgerBudgets
from execution_platform.server.services.costs.forecasts import LedgerForecasts
from execution_platform.server.services.costs.parts import CostParts
from execution_platform.server.services.costs.reports import LedgerReports
from execution_platform.server.services.costs.usage import LedgerUsage
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import usage_pb2

__all__ = ["Accounting", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What accounting needs of the rest of a server.

    Attributes:
        settings: of the server.
        platform: the configuration of personas and routes.
        prices: what things cost.
        planner: whom a request asks.
        limits: know whose a caller is, and estimate.
        metrics: count.
        logger: for everything that happens.
    """

    settings: Settings
    platform: PlatformSource
    prices: Prices
    planner: Planner
    limits: Limits
    metrics: Metrics
    logger: Logger


class Accounting:
    """Keeps account, and answers about it.

    Args:
        of: the server.

    Attributes:
        books: the ledger and what goes on behind it.
        budgeting: what attempts under budgets share.
        parts: of CostService, but prices.
        behind_prices: what prices need of the ledger.

    Raises:
        ConfigurationError: EP_DATABASE_URL cannot be read, or its driver is missing.
    """

    def __init__(self, of: Surroundings) -> None:
        # Who observes needs the database, and the ledger those who observe.
        observers: list[Observer] = []
        self.books = Books(of.settings, of.logger, observers, of.metrics.ledger_batch)
        worst = WorstCases(of.prices, of.planner.facts, lambda: of.platform.current)
        self.budgeting = Budgeting(self.books.ledger, worst, of.limits.estimates, of.metrics)
        database, ledger = self.books.database, self.books.ledger
        configured = ConfiguredBudgets(
            database, lambda: of.platform.current if of.platform.files else None, ledger.refresh, of.logger
        )
        of.platform.on_change(configured.ask)
        self.books.add(configured)
        self._desk = AlertDesk(database, lambda: of.platform.current.alerts, partial(_list_price, of.prices), of.logger)
        observers.append(self._desk.rules)
        self.books.add(self._desk)
        forecaster = Forecaster(database, smooth=can_smooth())
        reporter = Reporter(database, forecaster)
        self.books.add(DailyMail(database, reporter, lambda: of.platform.current.reports.daily, of.logger))
        repricing = Repricing(database, ledger.post, of.prices, _micros)
        self.behind_prices = BehindPrices(database, lambda: ledger.budgets, repricing, _micros)
        self.parts = CostParts(
            usage=LedgerUsage(database, ledger.post, of.prices, of.limits.scopes),
            forecasts=LedgerForecasts(forecaster),
            reports=LedgerReports(reporter),
            budgets=LedgerBudgets(database, ledger.refresh, partial(_place_of_budget, of.platform)),
            alerts=WatchedAlerts(self._desk.feed, of.settings.heartbeat_seconds),
        )

    @property
    def ledger(self) -> Ledger:
        """What chats come through."""
        return self.books.ledger

    async def start(self) -> None:
        """Open the database and begin. Raises ConfigurationError: it refuses, or is newer than this program."""
        try:
            await self.books.start()
        except BaseException:
            await self.books.aclose()
            raise

    async def drain(self) -> None:
        """End streams that have no end of their own, so that the server can. Idempotent."""
        await self._desk.feed.aclose()

    async def aclose(self) -> None:
        """Write what waits, and close. Idempotent."""
        await self.books.aclose()


def _micros() -> int:
    """Return microseconds since the epoch."""
    return time.time_ns() // 1000


def _list_price(prices: Prices, provider: str, model: str, usage: usage_pb2.Usage) -> int | None:
    """Return what a usage costs in nanos; None: no price is known of a part of it."""
    cost = prices.cost(provider, model, usage)
    unknown = cost.status == usage_pb2.COST_STATUS_UNPRICED
    return None if unknown else sum(line.amount.nanos for line in cost.lines)


def _place_of_budget(platform: PlatformSource, budget_id: str) -> str:
    """Return file and line of a configured budget: of its own, or of the persona whose limit it is."""
    persona = persona_of(budget_id, platform.current)
    return platform.place_of(persona) if persona else platform.place_of_budget(budget_id)
