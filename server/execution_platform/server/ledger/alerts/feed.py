"""Alerts in the order in which they were raised, for all who watch in this process: one poller for everybody.

Ids tell the time at which they were minted, to the millisecond, but a transaction may be committed later than one that
minted after it, and clocks of servers differ. So whoever reads on from an id begins a little before it, for
:data:`OVERLAP_SECONDS`, and leaves out what has been seen: nothing is missed that is committed within that time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from functools import partial
from typing import Final

from sqlalchemy import Connection, select

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import alerts
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["OVERLAP_SECONDS", "Feed", "alerts_from"]

#: Longer than a transaction may take (10 s) and clocks of servers may differ.
OVERLAP_SECONDS: Final = 15

_PAGE: Final = 500
_MILLISECONDS: Final = slice(0, 12)


def _floor(milliseconds: int) -> str:
    """Return what all ids sort after that were minted from a time on, in milliseconds since the epoch."""
    return f"{max(milliseconds, 0):012x}"


def alerts_from(connection: Connection, floor: str, limit: int = _PAGE) -> list[cost_pb2.Alert]:
    """Return the alerts whose ids sort after `floor`, the oldest first, at most so many."""
    rows = connection.scalars(select(alerts.c.data).where(alerts.c.id > floor).order_by(alerts.c.id).limit(limit))
    return [cost_pb2.Alert.FromString(row) for row in rows]


class Feed:
    """Follows the alerts while somebody watches.

    Args:
        database: of the ledger.
        clock: microseconds since the epoch.
        logger: gets faults.
        poll_seconds: between two looks.
    """

    def __init__(
        self, database: Database, clock: Callable[[], int], logger: Logger, *, poll_seconds: float = 1.0
    ) -> None:
        self._database = database
        self._clock = clock
        self._logger = logger
        self._poll_seconds = poll_seconds
        self._watching = 0
        self._poller: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._news = asyncio.Condition()
        self._version = 0
        # What the last look found: all after `_since`. Empty: nothing is known.
        self._since = ""
        self._recent: tuple[cost_pb2.Alert, ...] = ()

    @property
    def watching(self) -> int:
        """How many watch."""
        return self._watching

    async def watch(self, after_id: str, heartbeat: float) -> AsyncGenerator[Sequence[cost_pb2.Alert], None]:
        """Yield alerts as they are raised, each once; nothing after each `heartbeat` seconds without any.

        Ends when the feed is closed.

        Args:
            after_id: where to begin; what was raised shortly before comes again. Empty: with what is raised from now.
            heartbeat: seconds.

        Raises:
            LedgerUnavailableError: the database is away as watching for what is new begins.
        """
        reader = _Reader(self._database, _before(after_id) if after_id else self._present)
        reader.seen.add(after_id)
        if not after_id:
            while await reader.catch_up():
                pass  # what is there already is not new
        self._join()
        try:
            while not self._ended.is_set():
                version = self._version
                if fresh := await self._fresh(reader):
                    yield fresh
                elif not await self._await_news(version, heartbeat) and not self._ended.is_set():
                    yield ()
        finally:
            await self._leave()

    async def aclose(self) -> None:
        """End all watching. Idempotent."""
        self._ended.set()
        await self._tell()
        await self._stop()

    @property
    def _present(self) -> str:
        return _floor(self._clock() // 1000 - OVERLAP_SECONDS * 1000)

    async def _fresh(self, reader: _Reader) -> list[cost_pb2.Alert]:
        """Return what a watcher has not seen: of what the last look found, if it had seen all before that."""
        version = self._version
        if self._since and reader.version >= version - 1:
            fresh = reader.unseen(self._recent)
            reader.rise(self._since)
        else:
            try:
                fresh = await reader.catch_up()
            except LedgerUnavailableError:
                return []  # it goes on when the database is back
        if not fresh:
            reader.version = version
        return fresh

    async def _await_news(self, version: int, seconds: float) -> bool:
        """Wait until there is something new; return whether there is."""
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: self._version != version or self._ended.is_set())
        except TimeoutError:
            return False
        return True

    async def _tell(self) -> None:
        async with self._news:
            self._version += 1
            self._news.notify_all()

    def _join(self) -> None:
        self._watching += 1
        if self._poller is None:
            self._poller = asyncio.create_task(self._poll(), name="alerts-feed")

    async def _leave(self) -> None:
        self._watching -= 1
        if not self._watching:
            await self._stop()

    async def _stop(self) -> None:
        poller, self._poller = self._poller, None
        self._since, self._recent = "", ()
        if poller is not None:
            poller.cancel()
            await asyncio.wait([poller])

    async def _poll(self) -> None:
        while True:
            try:
                await self._look()
            except LedgerUnavailableError:
                pass  # whoever watches waits
            except Exception:
                self._logger.exception("alerts_feed_fault")
            await asyncio.sleep(self._poll_seconds)

    async def _look(self) -> None:
        floor = self._present
        found = await self._database.read(partial(alerts_from, floor=floor))
        if len(found) == _PAGE:
            # So many that there may be more: whoever watches reads for himself.
            self._since, self._recent = "", ()
            await self._tell()
            return
        known = {alert.id for alert in self._recent}
        is_new = any(alert.id not in known for alert in found) or not self._since
        self._since, self._recent = floor, tuple(found)
        if is_new:
            await self._tell()


def _before(after_id: str) -> str:
    """Return where to begin to read so that nothing is missed that was minted before an id and committed after it."""
    try:
        return _floor(int(after_id[_MILLISECONDS], 16) - OVERLAP_SECONDS * 1000)
    except ValueError:
        return _floor(0)


class _Reader:
    """Where one watcher is.

    Attributes:
        floor: everything up to here is seen.
        seen: ids after that which are.
        version: of the feed, up to which everything is seen; -1: nobody knows.
    """

    def __init__(self, database: Database, floor: str) -> None:
        self._database = database
        self.floor = floor
        self.seen: set[str] = set()
        self.version = -1

    async def catch_up(self) -> list[cost_pb2.Alert]:
        """Return a page of what has not been seen, from the database; empty: there is nothing."""
        after = self.floor
        while True:
            page = await self._database.read(partial(alerts_from, floor=after))
            if fresh := self.unseen(page):
                return fresh
            if len(page) < _PAGE:
                return []
            after = page[-1].id

    def unseen(self, found: Sequence[cost_pb2.Alert]) -> list[cost_pb2.Alert]:
        """Return what has not been seen of some, and take it for seen."""
        fresh = [alert for alert in found if alert.id > self.floor and alert.id not in self.seen]
        if fresh:
            self.seen.update(alert.id for alert in fresh)
            self.rise(_before(fresh[-1].id))
        return fresh

    def rise(self, floor: str) -> None:
        """Take everything up to here for seen."""
        if floor > self.floor:
            self.floor = floor
            self.seen = {known for known in self.seen if known > floor}
