"""All of the ledger in one hand: its database, the ledger itself, and what goes on behind.

Made by app.py; None with EP_LEDGER=off. Further parts are added with :meth:`Books.add`: they are started in the order
in which they were added, once the ledger runs, and closed in the opposite one, before it ends.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from execution_platform.server.config.settings import Settings
from execution_platform.server.ledger.alerts.observer import Observer
from execution_platform.server.ledger.store.address import DatabaseAddress, state_folder
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.writing.spool import Spool
from execution_platform.server.ledger.writing.sql_ledger import SqlLedger
from execution_platform.server.ledger.writing.writer import Count
from execution_platform.server.telemetry import Logger

__all__ = ["Background", "Books"]


class Background(Protocol):
    """A part that runs beside the ledger."""

    async def start(self) -> None:
        """Begin. The database may be away."""
        ...

    async def aclose(self) -> None:
        """End, within seconds. Idempotent."""
        ...


class Books:
    """The ledger and all that belongs to it. Nothing is opened before :meth:`start`.

    Args:
        settings: of the server.
        logger: for everything that happens.
        observers: see what is written, within its transaction.
        count: is told of each transaction of chats: how much it did, and how many seconds it took.

    Attributes:
        database: where everything is.
        ledger: what chats come through.

    Raises:
        ConfigurationError: EP_DATABASE_URL cannot be read, or its driver is missing.
    """

    def __init__(
        self,
        settings: Settings,
        logger: Logger,
        observers: Sequence[Observer] = (),
        count: Count = lambda _size, _seconds: None,
    ) -> None:
        address = DatabaseAddress.parse(settings.database_url.get_secret_value())
        self.database = Database(address, logger)
        self.ledger = SqlLedger(
            self.database,
            Spool(spool_folder(settings.ledger_spool, address)),
            logger,
            outage=settings.ledger_outage,
            lease_seconds=settings.ledger_lease_seconds,
            observers=observers,
            count=count,
        )
        self._backgrounds: list[Background] = []

    def add(self, background: Background) -> None:
        """Have a further part started and closed with the ledger. To be called before :meth:`start`."""
        self._backgrounds.append(background)

    async def start(self) -> None:
        """Open the database, bring its tables up to date, and begin.

        Raises:
            ConfigurationError: the database refuses, or is newer than this program. One that is away is waited for.
        """
        await self.database.start()
        await self.ledger.start()
        for each in self._backgrounds:
            await each.start()

    async def aclose(self) -> None:
        """Write what waits, and close. Idempotent."""
        for each in reversed(self._backgrounds):
            await each.aclose()
        await self.ledger.aclose()
        await self.database.aclose()


def spool_folder(setting: str, address: DatabaseAddress) -> Path:
    """Return the folder for what the database cannot take."""
    if setting:
        return Path(setting).expanduser()
    if address.dialect == "sqlite":
        return address.path.with_name(f"{address.path.name}-spool")
    # Of each database another one: records must not be replayed into the wrong one.
    return state_folder() / "spool" / hashlib.sha256(str(address).encode()).hexdigest()[:16]
