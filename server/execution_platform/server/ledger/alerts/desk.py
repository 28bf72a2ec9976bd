"""Everything about alerts that a process has: made, started and ended as one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.anomalies import SpendingWatch
from execution_platform.server.ledger.alerts.delivery import Delivery
from execution_platform.server.ledger.alerts.feed import Feed
from execution_platform.server.ledger.alerts.outbox import Outbox, Recipient
from execution_platform.server.ledger.alerts.rules import PriceOf, Rules
from execution_platform.server.ledger.alerts.sending import AppriseSender, Sender
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.telemetry import Logger

__all__ = ["AlertDesk"]

_CLOSE_SECONDS = 5.0


def _now() -> int:
    return time.time_ns() // 1000


class AlertDesk:
    """Raises alerts, tells them, and lets them be watched.

    Args:
        database: of the ledger.
        settings: gives the settings in force.
        price_of: gives list prices.
        logger: of the server.
        clock: microseconds since the epoch.
        sender: sends; None: apprise does.

    Attributes:
        rules: the observer of the ledger's transactions.
        outbox: takes alerts.
        feed: of all alerts.
    """

    def __init__(
        self,
        database: Database,
        settings: Callable[[], AlertSettings],
        price_of: PriceOf,
        logger: Logger,
        *,
        clock: Callable[[], int] = _now,
        sender: Sender | None = None,
    ) -> None:
        self.outbox = Outbox(lambda: _recipients(settings()), clock)
        self.rules = Rules(self.outbox, price_of, clock, logger)
        self.feed = Feed(database, clock, logger)
        self._delivery = Delivery(database, settings, sender or AppriseSender(), clock, logger)
        self._watch = SpendingWatch(database, self.outbox, settings, clock, logger)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin to deliver, and to look at what is spent."""
        self._tasks = [asyncio.create_task(self._delivery.run()), asyncio.create_task(self._watch.run())]

    async def aclose(self) -> None:
        """End all of it. Idempotent. What is not delivered yet is delivered later, by whoever runs then."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)
        await self.feed.aclose()


class _Recipient:
    """A target with its name."""

    def __init__(self, name: str, wants: Callable[[int, str], bool]) -> None:
        self.name = name
        self.wants = wants


def _recipients(settings: AlertSettings) -> list[Recipient]:
    return [_Recipient(name, target.wants) for name, target in settings.targets.items()]
