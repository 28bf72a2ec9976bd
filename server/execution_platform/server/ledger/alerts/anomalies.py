"""Looks every few minutes whether a tenant, or all together, spend more than usual, or than was allowed for an hour.

One process at a time does it: whoever moves the row `alerts.watch` of `state` on, which holds when the next look is
due. An hour is judged while it runs, since its sum only grows, and once more when it is over. Topics make each hour of
each spender told once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts import wording
from execution_platform.server.ledger.alerts.baseline import WEEKS, Series
from execution_platform.server.ledger.alerts.outbox import Outbox, topic_of
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import state, usage_entries
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["SpendingWatch", "hourly_sums", "take_turn"]

_SECOND: Final = 1_000_000
_HOUR: Final = 3_600 * _SECOND
_WEEK_HOURS: Final = 168
_TURN: Final = "alerts.watch"

#: Hours that are summed anew at each look: chats count where they began, and may end hours later.
_REREAD_HOURS: Final = 26

#: The name of all tenants together; no tenant has an empty one.
_WHOLE: Final = ""

#: Nanos by the hour's number, by tenant.
Sums = dict[str, dict[int, int]]


def take_turn(connection: Connection, now: int, every: int) -> bool:
    """Return whether it is this process's turn to look, and have the next one come after `every` microseconds."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    row = dialect.insert(state).values(name=_TURN, value=0).on_conflict_do_nothing(index_elements=["name"])
    connection.execute(row)
    moved = update(state).where(state.c.name == _TURN, state.c.value <= now).values(value=now + every)
    return connection.execute(moved).rowcount == 1


def hourly_sums(connection: Connection, start: int, end: int) -> Sums:
    """Return what each tenant spent in US dollars, by hours; times in microseconds since the epoch."""
    hour = (usage_entries.c.started_at // _HOUR).label("hour")
    query = (
        select(usage_entries.c.tenant, hour, func.sum(usage_entries.c.nanos))
        .where(usage_entries.c.started_at >= start, usage_entries.c.started_at < end, usage_entries.c.currency == "USD")
        .group_by(usage_entries.c.tenant, hour)
    )
    found: Sums = {}
    for tenant, number, nanos in connection.execute(query):
        found.setdefault(tenant, {})[int(number)] = int(nanos)
    return found


def _spent_since(connection: Connection, start: int, end: int) -> dict[str, int]:
    query = (
        select(usage_entries.c.tenant, func.sum(usage_entries.c.nanos))
        .where(usage_entries.c.started_at >= start, usage_entries.c.started_at < end, usage_entries.c.currency == "USD")
        .group_by(usage_entries.c.tenant)
    )
    return {tenant: int(nanos) for tenant, nanos in connection.execute(query)}


@dataclass(frozen=True, slots=True)
class _Finding:
    topic: str
    alert: cost_pb2.Alert


class SpendingWatch:
    """Raises ANOMALY and SPEND_RATE.

    Args:
        database: of the ledger.
        outbox: takes alerts.
        settings: gives the settings in force.
        clock: microseconds since the epoch.
        logger: gets faults.
        every_seconds: between two looks.
    """

    def __init__(
        self,
        database: Database,
        outbox: Outbox,
        settings: Callable[[], AlertSettings],
        clock: Callable[[], int],
        logger: Logger,
        *,
        every_seconds: float = 180.0,
    ) -> None:
        self._database = database
        self._outbox = outbox
        self._settings = settings
        self._clock = clock
        self._logger = logger
        self._every = int(every_seconds * _SECOND)
        self._sums: Sums = {}
        self._summed_to: int | None = None

    async def run(self) -> None:
        """Look whenever it is this process's turn, until cancelled."""
        while True:
            try:
                await self.once()
            except LedgerUnavailableError:
                pass  # it looks again when the database is back
            except Exception:
                self._logger.exception("spending_watch_fault")
            await asyncio.sleep(self._wait() / _SECOND)

    def _wait(self) -> int:
        """Return the time to the next look; the hour's end is one, so that it is judged as a whole at once."""
        return min(self._every, _HOUR - self._clock() % _HOUR + _SECOND)

    async def once(self) -> bool:
        """Look, if it is this process's turn; return whether it was."""
        now = self._clock()
        # A moment less than the wait: else a process that is a moment early would skip its turn.
        turn = max(self._wait() - 10 * _SECOND, _SECOND)
        if not await self._database.write(partial(take_turn, now=now, every=turn)):
            return False
        settings = self._settings()
        findings = [*await self._rates(settings, now), *await self._anomalies(settings, now)]
        if findings:
            await self._database.write(partial(self._raise, findings=findings))
        return True

    def _raise(self, connection: Connection, findings: list[_Finding]) -> None:
        for finding in findings:
            self._outbox.put(connection, finding.topic, finding.alert)

    async def _rates(self, settings: AlertSettings, now: int) -> list[_Finding]:
        rates = settings.spend_rate
        if rates.whole is None and rates.each_tenant is None and not rates.tenants:
            return []
        spent: dict[str, int] = await self._database.read(partial(_spent_since, start=now - _HOUR, end=now + _HOUR))
        limits: dict[str, Any] = {tenant: rates.tenants.get(tenant, rates.each_tenant) for tenant in spent}
        spent[_WHOLE], limits[_WHOLE] = sum(spent.values()), rates.whole
        return list(_too_fast(spent, limits, now))

    async def _anomalies(self, settings: AlertSettings, now: int) -> list[_Finding]:
        rules = settings.anomalies
        if not rules.enabled:
            return []
        await self._read(now)
        # In a thread: with many tenants it takes longer than chats should wait.
        return await asyncio.to_thread(lambda: list(self._unusual(settings, now // _HOUR)))

    async def _read(self, now: int) -> None:
        """Bring the sums up to date: all weeks at first, then what may have changed."""
        this = now // _HOUR
        oldest = this - (WEEKS + 1) * _WEEK_HOURS
        start = oldest if self._summed_to is None else max(oldest, self._summed_to - _REREAD_HOURS)
        found = await self._database.read(partial(hourly_sums, start=start * _HOUR, end=(this + 1) * _HOUR))
        whole: dict[int, int] = {}
        for sums in found.values():
            for hour, nanos in sums.items():
                whole[hour] = whole.get(hour, 0) + nanos
        for tenant, sums in {**found, _WHOLE: whole}.items():
            kept = {hour: nanos for hour, nanos in self._sums.get(tenant, {}).items() if oldest <= hour < start}
            self._sums[tenant] = {**kept, **sums}
        self._summed_to = this

    def _unusual(self, settings: AlertSettings, this: int) -> Iterator[_Finding]:
        rules = settings.anomalies
        for tenant, sums in self._sums.items():
            if tenant == _WHOLE and len(self._sums) == 2:
                continue  # a single tenant is the whole: once is enough
            series = Series(
                sums,
                deviations=rules.deviations,
                least_weeks=rules.least_weeks,
                least_amount=_nanos(rules.least_amount),
            )
            for hour in (this - 1, this):
                found = series.judge(hour)
                if found is not None and found.unusual:
                    alert = wording.anomaly(tenant, hour * _HOUR, found.observed, found.usual, found.limit, found.weeks)
                    yield _Finding(topic_of("anomaly", tenant, hour), alert)


def _too_fast(spent: Mapping[str, int], limits: Mapping[str, Decimal | None], now: int) -> Iterator[_Finding]:
    for tenant, nanos in spent.items():
        limit = limits[tenant]
        if limit is not None and nanos > _nanos(limit):
            alert = wording.spend_rate(tenant, now - _HOUR, nanos, _nanos(limit))
            yield _Finding(topic_of("rate", tenant, now // _HOUR), alert)


def _nanos(dollars: Decimal) -> int:
    return int(dollars * 1_000_000_000)
