"""Who may run a chat: not more than fit, a few more in a queue, none while draining; and how running ones are ended."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator

from execution_platform.server.errors import DrainingError, ServerOverloadedError

__all__ = ["Admission"]

#: Seconds after which a refused caller may find another replica, or room here, where nothing better is known.
_RETRY_SECONDS = 1.0

#: Weight of the newest chat in the moving average of their times.
_WEIGHT = 0.1


class Admission:
    """Gives places to chats, first come first served, and ends running ones when draining takes too long.

    Whoever finds no place waits in a queue, unless it is full or the wait would be longer than anybody should wait or
    than the chat has time. A place that becomes free goes to the first in the queue at once, so nobody overtakes.

    Args:
        limit: most chats at once.
        queue: most chats that wait.
        wait: longest wait, in seconds.
        clock: seconds, monotonic.
    """

    def __init__(
        self, limit: int, queue: int = 0, wait: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._limit = limit
        self._most_waiting = queue
        self._longest_wait = wait
        self._clock = clock
        self._queue: deque[asyncio.Future[None]] = deque()
        self._usual_seconds = 0.0
        self._scopes: set[asyncio.Timeout] = set()
        self._running = 0
        self._empty = asyncio.Event()
        self._empty.set()
        self.draining = False
        self.ended = False

    @property
    def running(self) -> int:
        """Chats that run now."""
        return self._running

    @property
    def waiting(self) -> int:
        """Chats that wait for a place."""
        return len(self._queue)

    @contextlib.asynccontextmanager
    async def entered(self, time_left: float) -> AsyncIterator[None]:
        """Hold a place while a chat runs.

        Args:
            time_left: seconds until the chat's deadline.

        Raises:
            DrainingError: the server is about to end.
            ServerOverloadedError: all places are taken, and the queue is full or too slow.
        """
        if self.draining:
            raise _draining()
        if self._running >= self._limit:
            await self._place(time_left)
        else:
            self._running += 1
            self._empty.clear()
        began = self._clock()
        try:
            yield
        finally:
            self._learn(self._clock() - began)
            self._leave()

    @contextlib.contextmanager
    def endable(self, scope: asyncio.Timeout) -> Iterator[None]:
        """Let `scope` expire at once when the server ends."""
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)

    async def drain(self, grace: float) -> bool:
        """Take no more chats, send away those that wait, and wait for the running ones.

        Args:
            grace: seconds after which those that still run are ended.

        Returns:
            Whether all of them finished by themselves.
        """
        self.draining = True
        while (turn := self._next()) is not None:
            turn.set_exception(_draining())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), grace)
        if not self._running:
            return True
        self.ended = True
        for scope in list(self._scopes):
            scope.reschedule(asyncio.get_running_loop().time())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._empty.wait(), 5.0)
        return False

    async def _place(self, time_left: float) -> None:
        """Wait in the queue until a place is handed over."""
        expected = self._usual_seconds * (len(self._queue) + 1) / self._limit
        longest = min(self._longest_wait, time_left)
        if len(self._queue) >= self._most_waiting or expected > longest:
            raise self._overloaded(expected)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(longest):
                await turn
        except BaseException as error:
            if turn in self._queue:
                self._queue.remove(turn)
            elif not turn.cancelled() and turn.exception() is None:
                # The place was handed over in the moment in which the chat went away.
                self._leave()
            if isinstance(error, TimeoutError):
                raise self._overloaded(expected) from None
            raise

    def _leave(self) -> None:
        """Hand a place to the first in the queue, or let it be free."""
        turn = self._next()
        if turn is not None:
            turn.set_result(None)
            return
        self._running -= 1
        if not self._running:
            self._empty.set()

    def _next(self) -> asyncio.Future[None] | None:
        """Take the first out of the queue; None: nobody waits."""
        while self._queue:
            turn = self._queue.popleft()
            # One that was cancelled may still have to leave the queue by itself.
            if not turn.done():
                return turn
        return None

    def _learn(self, seconds: float) -> None:
        known = self._usual_seconds or seconds
        self._usual_seconds = known + (seconds - known) * _WEIGHT

    def _overloaded(self, expected: float) -> ServerOverloadedError:
        waiting = f" and {len(self._queue)} chats wait" if self._queue else ""
        return ServerOverloadedError(
            f"all {self._limit} places for chats are taken (EP_MAX_CONCURRENT_CHATS){waiting}",
            retry_after=max(_RETRY_SECONDS, expected),
        )


def _draining() -> DrainingError:
    return DrainingError("the server is draining; ask another replica", retry_after=_RETRY_SECONDS)
