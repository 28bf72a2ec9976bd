"""All that a server has for money, in one hand: the ledger, what goes on behind it, and the parts of CostService.

Imported only where the ledger is on: its libraries take their time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.config.settings import Settings
from execution_platform.server.ledger.alerts.observer import Observer
from execution_platform.server.ledger.books import Books
from execution_platform.server.ledger.ledger import Ledger
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.budgeted import Budgeting
from execution_platform.server.routing.planner import Planner
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.worst_case import WorstCases
from execution_platform.server.services.costs.parts import CostParts
from execution_platform.server.services.costs.usage import LedgerUsage
from execution_platform.server.telemetry import Logger

__all__ = ["Accounting", "Surroundings"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What accounting needs of the rest of a server.

    Attributes:
        settings: of the server.
        configuration: gives the configuration in force.
        prices: what things cost.
        planner: whom a request asks.
        limits: know whose a caller is, and estimate.
        metrics: count.
        logger: for everything that happens.
    """

    settings: Settings
    configuration: Callable[[], PlatformConfiguration]
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
        parts: of CostService.

    Raises:
        ConfigurationError: EP_DATABASE_URL cannot be read, or its driver is missing.
    """

    def __init__(self, of: Surroundings) -> None:
        # Who observes needs the database, and the ledger those who observe.
        observers: list[Observer] = []
        self.books = Books(of.settings, of.logger, observers, of.metrics.ledger_batch)
        worst = WorstCases(of.prices, of.planner.facts, of.configuration)
        self.budgeting = Budgeting(self.books.ledger, worst, of.limits.estimates, of.metrics)
        database, ledger = self.books.database, self.books.ledger
        self.parts = CostParts(
            usage=LedgerUsage(database, ledger.post, of.prices, of.limits.scopes),
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

    async def aclose(self) -> None:
        """Write what waits, and close. Idempotent."""
        await self.books.aclose()
