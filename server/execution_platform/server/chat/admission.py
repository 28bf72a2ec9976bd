"""Who may run a chat: not more than fit, none while draining; and how running ones are ended at the end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

from execution_platform.server.errors import DrainingError, ServerOverloadedError

__all__ = ["Admission"]

#: Seconds after which a refused caller may find another replica, or room here.
_RETRY_SECONDS = 1.0


class Admission:
    """Counts running chats and ends them when draining takes too long.

    Args:
        limit: most chats at once.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
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

    @contextlib.contextmanager
    def enter(self) -> Iterator[None]:
        """Hold a place while a chat runs.

        Raises:
            DrainingError: the server is about to end.
            ServerOverloadedError: all places are taken.
        """
        if self.draining:
            raise DrainingError("the server is draining; ask another replica", retry_after=_RETRY_SECONDS)
        if self._running >= self._limit:
            raise ServerOverloadedError(
                f"all {self._limit} places for chats are taken (EP_MAX_CONCURRENT_CHATS)", retry_after=_RETRY_SECONDS
            )
        self._running += 1
        self._empty.clear()
        try:
            yield
        finally:
            self._running -= 1
            if not self._running:
                self._empty.set()

    @contextlib.contextmanager
    def endable(self, scope: asyncio.Timeout) -> Iterator[None]:
        """Let `scope` expire at once when the server ends."""
        self._scopes.add(scope)
        try:
            yield
        finally:
            self._scopes.discard(scope)

    async def drain(self, grace: float) -> bool:
        """Take no more chats and wait for the running ones.

        Args:
            grace: seconds after which those that still run are ended.

        Returns:
            Whether all of them finished by themselves.
        """
        self.draining = True
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
