"""Tells targets of alerts, at least once each: again and again until they take it, for some days.

A delivery is taken for a while by one process (a conditional update), sent, and marked. If the process ends between
sending and marking, the next one sends it again; two processes never send the same at once. Each target has its own
queue, in order, so that one which hangs or is down holds up nobody else.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Final

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts import deliveries
from execution_platform.server.ledger.alerts.deliveries import Taken
from execution_platform.server.ledger.alerts.sending import Sender, SendingError
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import cost_pb2

__all__ = ["Delivery", "wait_after"]

_SECOND: Final = 1_000_000
_DAY: Final = 86_400 * _SECOND
_FIRST_WAIT: Final = 5 * _SECOND
_LONGEST_WAIT: Final = 3_600 * _SECOND

#: Seconds that whoever takes a delivery has for it; longer than any sender waits for a target.
_TURN_SECONDS: Final = 180
#: Seconds that sendings under way are waited for at the end; then they are sent again by somebody else.
_CLOSE_SECONDS: Final = 2.0


def wait_after(attempts: int) -> int:
    """Return the wait after so many attempts, in microseconds: 5 s, doubled each time, up to an hour."""
    return min(_FIRST_WAIT << min(attempts - 1, 30), _LONGEST_WAIT)


class Delivery:
    """Sends what is due.

    Args:
        database: of the ledger.
        settings: gives the settings in force.
        sender: sends.
        clock: microseconds since the epoch.
        logger: is told what could not be sent.
        poll_seconds: between two looks.
    """

    def __init__(
        self,
        database: Database,
        settings: Callable[[], AlertSettings],
        sender: Sender,
        clock: Callable[[], int],
        logger: Logger,
        *,
        poll_seconds: float = 2.0,
    ) -> None:
        self._database = database
        self._settings = settings
        self._sender = sender
        self._clock = clock
        self._logger = logger
        self._poll_seconds = poll_seconds
        self._queues: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        try:
            while True:
                await self._look()
                await asyncio.sleep(self._poll_seconds)
        finally:
            await self._close()

    async def once(self) -> None:
        """Send what is due now, and return when each of it has been tried once or more."""
        await self._look()
        await asyncio.gather(*self._queues.values())

    async def _look(self) -> None:
        """Begin with the queues of targets that something is due for."""
        self._queues = {name: task for name, task in self._queues.items() if not task.done()}
        try:
            due = await self._database.read(partial(deliveries.due_targets, now=self._clock()))
            for name in due:
                if name not in self._settings().targets:
                    await self._expire(name)
                elif name not in self._queues:
                    self._queues[name] = asyncio.create_task(self._work_off(name))
        except LedgerUnavailableError:
            return
        except Exception:
            self._logger.exception("alerts_delivery_fault")

    async def _work_off(self, name: str) -> None:
        """Send what is due for a target, one after the other."""
        try:
            while (taken := await self._take(name)) is not None:
                await self._send(taken)
        except LedgerUnavailableError:
            return  # what was sent and could not be marked is sent again
        except Exception:
            self._logger.exception("alerts_delivery_fault", target=name)

    async def _take(self, name: str) -> Taken | None:
        now = self._clock()
        until = now + _TURN_SECONDS * _SECOND
        return await self._database.write(partial(deliveries.take, target=name, now=now, until=until), brief=True)

    async def _send(self, taken: Taken) -> None:
        target = self._settings().targets.get(taken.target)
        try:
            if target is None:
                raise SendingError("it is no target of the configuration any more")
            await self._sender.send(taken.target, target.url, taken.alert)
        except SendingError as error:
            await self._fail(taken, str(error))
            return
        await self._database.write(partial(deliveries.delivered, taken=taken, now=self._clock()))
        self._logger.info("alert_sent", **_facts(taken))

    async def _fail(self, taken: Taken, why: str) -> None:
        now = self._clock()
        wait = wait_after(taken.attempts)
        next_at: int | None = now + wait
        if now - taken.created >= self._settings().give_up_days * _DAY:
            next_at = None
            self._logger.error("alert_given_up", **_facts(taken), why=why)
        else:
            self._logger.warning("alert_not_sent", **_facts(taken), why=why, wait_seconds=wait // _SECOND)
        await self._database.write(partial(deliveries.failed, taken=taken, next_at=next_at, why=why))

    async def _expire(self, name: str) -> None:
        """Give up what is old for a target that is not configured; another process may know it, or it may come back."""
        now = self._clock()
        before = now - self._settings().give_up_days * _DAY
        expire = partial(deliveries.expire, target=name, now=now, before=before)
        gone = await self._database.write(expire, brief=True)
        if gone:
            self._logger.error("alerts_given_up", target=name, alerts=gone, why="it is no target of the configuration")

    async def _close(self) -> None:
        tasks = list(self._queues.values())
        for task in tasks:
            task.cancel()
        if tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait(tasks, timeout=_CLOSE_SECONDS)


def _facts(taken: Taken) -> dict[str, object]:
    kind = cost_pb2.AlertKind.Name(taken.alert.kind).removeprefix("ALERT_KIND_")
    return {"target": taken.target, "alert_id": taken.alert.id, "kind": kind, "attempt": taken.attempts}
