"""Sends the report of each day: through the outbox of alerts, so that it arrives once whichever processes run.

All processes look; the first whose transaction writes the day's topic has raised it, and the alerts' delivery takes it
from there, again and again until the target takes it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection, select

from execution_platform.server.config.reports import DailyReport
from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts.outbox import Outbox, Recipient, topic_of
from execution_platform.server.ledger.budgets.windows import time_zone
from execution_platform.server.ledger.reports.page import as_html
from execution_platform.server.ledger.reports.reporter import Reporter, scope_of
from execution_platform.server.ledger.reports.text import as_text
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import alerts
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["DailyMail", "due_day"]

_CLOSE_SECONDS: Final = 5.0


def due_day(settings: DailyReport, now: int) -> date:
    """Return the day whose report was to be sent last.

    Args:
        settings: when it is sent.
        now: microseconds since the epoch.
    """
    local = datetime.fromtimestamp(now / 1_000_000, UTC).astimezone(time_zone(settings.time_zone))
    # Compared by the clock on the wall, which a shift may set beyond the time itself.
    sent = local.date() if local.time() >= settings.time else local.date() - timedelta(days=1)
    return sent - timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Target:
    """A target that the configuration names for the report."""

    name: str

    def wants(self, kind: int, tenant: str) -> bool:
        """Return that it is told: it was named for this."""
        return kind == cost_pb2.ALERT_KIND_DAILY_REPORT and not tenant


class DailyMail:
    """Raises the report of each day when it is due.

    Args:
        database: of the ledger.
        reporter: makes it.
        settings: gives the settings in force; None: none is sent.
        logger: gets faults.
        clock: microseconds since the epoch.
        poll_seconds: between two looks.
    """

    def __init__(
        self,
        database: Database,
        reporter: Reporter,
        settings: Callable[[], DailyReport | None],
        logger: Logger,
        *,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        poll_seconds: float = 20.0,
    ) -> None:
        self._database = database
        self._reporter = reporter
        self._settings = settings
        self._logger = logger
        self._clock = clock
        self._poll_seconds = poll_seconds
        self._raised: date | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to look."""
        self._task = asyncio.create_task(self._run())

    async def aclose(self) -> None:
        """End. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task], timeout=_CLOSE_SECONDS)

    async def _run(self) -> None:
        while True:
            try:
                await self.once()
            except LedgerUnavailableError:
                pass  # it is still due when the database is back
            except Exception:
                self._logger.exception("daily_report_fault")
            await asyncio.sleep(self._poll_seconds)

    async def once(self) -> bool:
        """Raise the report that is due, if nobody has; return whether this did."""
        settings = self._settings()
        if settings is None:
            return False
        now = self._clock()
        day = due_day(settings, now)
        topic = topic_of("daily-report", day.isoformat())
        if self._raised == day or await self._database.read(partial(_is_there, topic=topic)):
            self._raised = day
            return False
        alert = await self._alert(settings, day, now)
        outbox = Outbox(lambda: _targets(settings), self._clock)
        made = await self._database.write(partial(outbox.put, topic=topic, alert=alert))
        self._raised = day
        if made:
            self._logger.info("daily_report_raised", day=day.isoformat(), alert_id=alert.id)
        return made

    async def _alert(self, settings: DailyReport, day: date, now: int) -> cost_pb2.Alert:
        zone = settings.time_zone
        # Any moment of the day after it: what a DAILY report is usually of, is the day before.
        noon = datetime.combine(day + timedelta(days=1), datetime.min.time(), time_zone(zone)) + timedelta(hours=12)
        kind = cost_pb2.REPORT_KIND_DAILY
        usual = scope_of(kind, cost_pb2.UsageFilter(), zone, int(noon.timestamp()) * 1_000_000)
        scope = scope_of(kind, usual.filter, zone, now)
        document = await self._reporter.document(kind, scope)
        text, page = await asyncio.gather(asyncio.to_thread(as_text, document), asyncio.to_thread(as_html, document))
        return cost_pb2.Alert(
            kind=cost_pb2.ALERT_KIND_DAILY_REPORT,
            title=document.title,
            message=text.decode(),
            message_html=page.decode(),
        )


def _targets(settings: DailyReport) -> Sequence[Recipient]:
    return [_Target(name) for name in dict.fromkeys(settings.targets)]


def _is_there(connection: Connection, topic: str) -> bool:
    return connection.scalar(select(alerts.c.id).where(alerts.c.topic == topic)) is not None
