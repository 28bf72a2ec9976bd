"""Settles chats whose server has ended: their leases expire, and what was known of them last becomes their record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp
from sqlalchemy import Connection

from execution_platform.server.ledger.alerts.observer import Observer
from execution_platform.server.ledger.budgets.budget_set import lock_alone, lock_shared
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.statements import statements_of
from execution_platform.server.ledger.writing.operations import KnownBudgets, Settle, run
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["Reaper"]

#: Chats that one transaction settles.
_MOST = 100

#: Microseconds for which a window is kept after its end. A budget of minutes has half a million of them in a year.
_REMEMBERED = 8 * 24 * 3_600_000_000


class Reaper:
    """Looks for chats whose leases have expired. Any process does it for all.

    Args:
        database: where they are.
        known: the budgets as this process knows them.
        observers: see what is settled.
        running: tells the chats of this process, which are not lost however late their renewal is.
        logger: is told what was lost.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        known: KnownBudgets,
        observers: Sequence[Observer],
        running: Callable[[], set[str]],
        logger: Logger,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
    ) -> None:
        self._database = database
        self._known = known
        self._observers = observers
        self._running = running
        self._logger = logger
        self._clock = clock

    async def reap(self) -> int:
        """Settle all that have expired; return how many.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        total = 0
        while True:
            running = self._running()
            settled = await self._database.write(partial(self._settle, running=running), brief=True)
            for chat in settled:
                self._logger.warning("ledger_chat_lost", record=chat)
            total += len(settled)
            if len(settled) < _MOST - len(running):
                return total

    async def forget(self) -> None:
        """Delete windows that ended long ago: one that is needed once more begins with what the ledger holds for it.

        Raises:
            LedgerUnavailableError: the database is away.
        """
        await self._database.write(self._forget, brief=True)

    def _forget(self, connection: Connection) -> None:
        lock_alone(connection)
        before = {"before": self._clock() - _REMEMBERED}
        connection.execute(statements_of(connection).forget_windows, before)

    def _settle(self, connection: Connection, running: set[str]) -> list[str]:
        now = self._clock()
        lock_shared(connection)
        parameters = {"now": now, "most": _MOST}
        found = connection.execute(statements_of(connection).expired_chats, parameters).all()
        lost = [_lost(row.id, row.expires_at, row.data) for row in found if row.id not in running]
        if lost:
            run(connection, [Settle(each, holds=True) for each in lost], self._known, self._observers, now, again=True)
        return [each.record.id for each in lost]


def _lost(chat_id: str, expired_at: int, data: bytes) -> Posting:
    record = cost_pb2.UsageRecord(kind=cost_pb2.USAGE_RECORD_KIND_CHAT)
    try:
        record.MergeFromString(data)
    except DecodeError:
        record.note = "what was known of it cannot be read"
    record.id = chat_id
    record.outcome = cost_pb2.USAGE_OUTCOME_LOST
    if not record.HasField("end_time"):
        record.end_time.CopyFrom(Timestamp(seconds=expired_at // 1_000_000))
    return Posting.of(record)
