"""Group commit: one task takes all operations that wait and does them in one transaction.

What comes alone does not wait. While a transaction runs, the next operations gather; and where transactions serve
several, a pause between them lets more gather, so that under load many chats share what a transaction costs.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import Connection

from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.alerts.observer import Observer
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.writing.operations import (
    KnownBudgets,
    Operation,
    RunAgainError,
    Settle,
    run,
)
from execution_platform.server.telemetry import Logger

__all__ = ["Count", "Writer"]

#: Operations of one transaction. More would keep other processes waiting for the windows that it has locked.
_MOST = 256
#: Operations that wait. Each belongs to a chat, which waits for it, so this is only a guard.
_WAITING = 16_384
#: Seconds that what waits gets to be written when the server ends.
_CLOSE_SECONDS = 10.0

#: Of the time this is the part in which transactions run that serve several, as long as that keeps nobody waiting for
#: more than so many seconds. A transaction costs a millisecond of CPU and a flush of the disk, whoever shares it.
_BUSY = 1 / 3
_LONGEST_PAUSE = 0.03
#: Weight of the newest transaction in the moving average of their times.
_WEIGHT = 0.2

#: Keeps settlements that the database cannot take; raises LedgerUnavailableError where it cannot either.
Keep = Callable[[Sequence[Settle]], Awaitable[None]]

#: Is told of a transaction: how much it did, and how many seconds it took.
Count = Callable[[int, float], None]


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    result: asyncio.Future[object] = field(repr=False)


class Writer:
    """Does operations.

    Args:
        database: where.
        known: the budgets as this process knows them.
        observers: see what is done, within the transaction.
        keep: takes settlements while the database is away.
        logger: gets faults.
        clock: microseconds since the epoch.
        count: is told of each transaction: how much it did, and how many seconds it took.
        longest_pause: most seconds from the beginning of a transaction that served several to that of the next one.
    """

    def __init__(
        self,
        database: Database,
        known: KnownBudgets,
        observers: Sequence[Observer],
        keep: Keep,
        logger: Logger,
        clock: Callable[[], int] = lambda: time.time_ns() // 1000,
        count: Count = lambda _size, _seconds: None,
        longest_pause: float = _LONGEST_PAUSE,
    ) -> None:
        self._database = database
        self._known = known
        self._observers = observers
        self._keep = keep
        self._logger = logger
        self._clock = clock
        self._count = count
        self._waiting: deque[_Waiting] = deque()
        self._arrived = asyncio.Event()
        self._closing = False
        self._longest_pause = longest_pause
        self._usual = 0.0
        self._began = 0.0
        self._several = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._work(), name="ledger-writer")

    async def aclose(self) -> None:
        """Do what waits, and end. What cannot be written in time is kept. Idempotent."""
        self._closing = True
        self._arrived.set()
        task, self._task = self._task, None
        if task is None:
            return
        await asyncio.wait([task], timeout=_CLOSE_SECONDS)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        left = [each for each in self._waiting if not each.result.done() or isinstance(each.operation, Settle)]
        self._waiting.clear()
        await self._turn_away(left, LedgerUnavailableError("the server ends"))

    async def do(self, operation: Operation) -> object:
        """Do one operation, together with others.

        A settlement is carried to its end also if the caller is cancelled; a reservation only if it has begun.

        Returns:
            Its result; see :mod:`.operations`.

        Raises:
            LedgerUnavailableError: the database is away. A settlement has been kept, unless this is raised for it.
        """
        return await self.submit(operation)

    def submit(self, operation: Operation) -> asyncio.Future[object]:
        """Have one operation done; return its result to come.

        Raises:
            LedgerUnavailableError: too many wait.
        """
        result: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self._task is None or len(self._waiting) >= _WAITING:
            raise LedgerUnavailableError("the ledger cannot keep up")
        self._waiting.append(_Waiting(operation, result))
        self._arrived.set()
        return result

    async def _work(self) -> None:
        while self._waiting or not self._closing:
            if not self._waiting:
                self._arrived.clear()
                await self._arrived.wait()
                continue
            await self._gather()
            if batch := self._take():
                self._began, self._several = time.monotonic(), len(batch) > 1
                try:
                    await self._do(batch)
                except asyncio.CancelledError:
                    self._waiting.extendleft(reversed(batch))
                    raise

    async def _gather(self) -> None:
        """Let others come along, where lately some did: what a transaction costs, they share."""
        pause = min(self._usual / _BUSY, self._longest_pause)
        left = self._began + pause - time.monotonic()
        if left > 0 and (self._several or len(self._waiting) > 1) and not self._closing:
            await asyncio.sleep(left)

    def _take(self) -> list[_Waiting]:
        """Return the next operations, without reservations for which nobody waits any more."""
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < _MOST:
            each = self._waiting.popleft()
            if isinstance(each.operation, Settle) or not each.result.done():
                taken.append(each)
        return taken

    async def _do(self, batch: Sequence[_Waiting]) -> None:
        try:
            results = await self._run([each.operation for each in batch])
        except LedgerUnavailableError as error:
            await self._turn_away(batch, error)
        except Exception as error:
            if len(batch) > 1:
                # One of them is at fault; the others shall not suffer.
                self._logger.exception("ledger_batch_fault", operations=len(batch))
                for each in batch:
                    await self._do([each])
                return
            self._logger.exception("ledger_operation_fault", operation=type(batch[0].operation).__name__)
            _fail(batch, error)
        else:
            for each, result in zip(batch, results, strict=True):
                if not each.result.done():
                    if isinstance(result, Exception):
                        each.result.set_exception(result)
                    else:
                        each.result.set_result(result)

    async def _run(self, operations: Sequence[Operation]) -> list[object]:
        again = False
        while True:
            try:
                began = time.perf_counter()
                results = await self._database.write(_Work(self, operations, again=again))
                seconds = time.perf_counter() - began
                self._usual += (seconds - self._usual) * _WEIGHT
                self._count(len(operations), seconds)
                return results  # noqa: TRY300 - what follows is for another try
            except RunAgainError:
                if again:
                    raise
                again = True

    async def _turn_away(self, batch: Sequence[_Waiting], error: LedgerUnavailableError) -> None:
        """Keep settlements; tell all others that the ledger cannot be written."""
        settles = [each for each in batch if isinstance(each.operation, Settle)]
        others = [each for each in batch if not isinstance(each.operation, Settle)]
        _fail(others, error)
        if not settles:
            return
        try:
            await self._keep([each.operation for each in settles if isinstance(each.operation, Settle)])
        except Exception as failure:  # noqa: BLE001 - told to each caller
            _fail(settles, failure)
            return
        for each in settles:
            if not each.result.done():
                each.result.set_result(True)

    def run(self, connection: Connection, operations: Sequence[Operation], *, again: bool) -> list[object]:
        """Do operations in the transaction of a connection."""
        return run(connection, operations, self._known, self._observers, self._clock(), again=again)


class _Work:
    """Operations as a piece of work for the database, which may run it several times."""

    def __init__(self, writer: Writer, operations: Sequence[Operation], *, again: bool) -> None:
        self._run = partial(writer.run, operations=operations)
        self._again = again

    def __call__(self, connection: Connection) -> list[object]:
        again, self._again = self._again, True
        return self._run(connection, again=again)


def _fail(batch: Sequence[_Waiting], error: Exception) -> None:
    for each in batch:
        if not each.result.done():
            each.result.set_exception(error)
