"""Places for chats that run at once: of this process, or shared through Redis.

A shared place is a lease: it ends by itself unless the process that holds it says now and then that it lives. So the
places of a process that has crashed come back.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from execution_platform.server.shared_state import SharedState, SharedStateUnavailableError

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

__all__ = ["LEASE_SECONDS", "LocalLeases", "SharedLeases"]

#: Life of a lease that nobody renews.
LEASE_SECONDS = 15.0

#: How often within its life a lease is renewed: one or two renewals may fail.
_RENEWALS = 3

#: Members that one script takes: Lua unpacks some thousand at most.
_TOGETHER = 1_000

_TAKE = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('zremrangebyscore', KEYS[1], '-inf', now)
if redis.call('zcard', KEYS[1]) >= tonumber(ARGV[2]) then
    return 0
end
redis.call('zadd', KEYS[1], now + ARGV[1], ARGV[3])
redis.call('pexpire', KEYS[1], ARGV[1])
return 1
"""

_RENEW = """
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
for i = 2, #ARGV do
    redis.call('zadd', KEYS[1], now + ARGV[1], ARGV[i])
end
redis.call('pexpire', KEYS[1], ARGV[1])
"""


class LocalLeases:
    """Places of this process.

    Args:
        on_take: is called when one is taken.

    Attributes:
        held: numbers of the places that are held, by the limit's name.
    """

    def __init__(self, on_take: Callable[[], None] = lambda: None) -> None:
        self.held: dict[str, set[str]] = {}
        self._on_take = on_take
        self._numbers = itertools.count(1)

    async def take(self, name: str, limit: int) -> str | None:
        """Return the number of a place that is now held; None: all are."""
        return None if len(self.held.get(name, ())) >= limit else self.hold(name)

    async def give_back(self, name: str, number: str) -> None:
        """Let a place go. Idempotent."""
        self.let_go(name, number)

    def hold(self, name: str) -> str:
        """Return the number of a place that is now held, however many are."""
        number = str(next(self._numbers))
        self.held.setdefault(name, set()).add(number)
        self._on_take()
        return number

    def let_go(self, name: str, number: str) -> None:
        """Let a place go, at once. Idempotent."""
        held = self.held.get(name, set())
        held.discard(number)
        if not held:
            self.held.pop(name, None)


class SharedLeases:
    """Places that replicas share.

    Args:
        shared: the Redis.
        seconds: life of a lease that nobody renews.

    Attributes:
        local: the places of this process; counts alone while Redis is away.
    """

    def __init__(self, shared: SharedState, seconds: float = LEASE_SECONDS) -> None:
        self._shared = shared
        self._seconds = seconds
        self._take: AsyncScript = shared.client.register_script(_TAKE)
        self._renew: AsyncScript = shared.client.register_script(_RENEW)
        self._timer: asyncio.TimerHandle | None = None
        self._renewal: asyncio.Task[None] | None = None
        self.local = LocalLeases(self._keep)

    async def take(self, name: str, limit: int) -> str | None:
        """Return the number of a place that is now held; None: all are. Use it within ``shared.asking()``."""
        number = self.local.hold(name)
        taken = 0
        try:
            taken = await self._take([self._key(name)], [self._milliseconds, limit, self._member(number)])
        finally:
            if not taken:
                self.local.let_go(name, number)
        return number if taken else None

    async def give_back(self, name: str, number: str) -> None:
        """Let a place go. Idempotent. Use it within ``shared.asking()``; without Redis the lease ends by itself."""
        self.local.let_go(name, number)
        await self._shared.client.zrem(self._key(name), self._member(number))

    def _keep(self) -> None:
        """Renew the leases from now on as long as there are any, also those that Redis has not seen."""
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._seconds / _RENEWALS, self._begin_renewal)

    async def aclose(self) -> None:
        """Renew no more. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._renewal is not None:
            self._renewal.cancel()
            await asyncio.gather(self._renewal, return_exceptions=True)

    def _begin_renewal(self) -> None:
        self._timer = None
        if self.local.held:
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self._renew_all(), name="leases")
            self._keep()

    async def _renew_all(self) -> None:
        for name, numbers in [(name, list(numbers)) for name, numbers in self.local.held.items()]:
            for start in range(0, len(numbers), _TOGETHER):
                try:
                    await self._renew_some(name, numbers[start : start + _TOGETHER])
                except SharedStateUnavailableError:
                    return

    async def _renew_some(self, name: str, numbers: list[str]) -> None:
        async with self._shared.asking() as redis:
            await self._renew([self._key(name)], [self._milliseconds, *self._members(numbers)])
            # Let go while they were renewed: nobody else would.
            gone = set(numbers) - self.local.held.get(name, set())
            if gone:
                await redis.zrem(self._key(name), *self._members(gone))

    @property
    def _milliseconds(self) -> int:
        return int(self._seconds * 1000)

    def _key(self, name: str) -> str:
        return self._shared.key("leases", name)

    def _member(self, number: str) -> str:
        return f"{self._shared.replica}:{number}"

    def _members(self, numbers: Iterable[str]) -> list[str]:
        return [self._member(number) for number in numbers]
