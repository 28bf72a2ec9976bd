"""What was used in the last minute: counters that slide, of this process or in Redis.

The strategy is the sliding window counter of `limits`. Time is cut into minutes; of the minute before the running one
so much counts as it has in common with the last 60 seconds, evenly spread. So a counter takes two numbers however
large the amounts are, and a minute's end does not open the door twice (docs/decisions/2026-11-21-sliding-limits.md).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import ceil
from typing import TYPE_CHECKING, Protocol

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter

from execution_platform.server.shared_state import SharedState

if TYPE_CHECKING:
    from redis.commands.core import AsyncScript

__all__ = ["WINDOW_SECONDS", "MemoryWindows", "SharedWindows", "WindowStorage", "Windows", "wait_for_room"]

#: Length of a window.
WINDOW_SECONDS = 60

#: Seconds beyond the computed moment: Redis tells times in milliseconds.
_SLACK = 0.002

#: Counters from which on those that are over are looked for.
_SWEEP_AT = 1_024


class _PerMinute(RateLimitItemPerMinute):
    """A limit whose counter does not depend on how high it is, so that a reload of the configuration keeps it."""

    def key_for(self, *identifiers: bytes | str | float) -> str:
        """Return the counter's name."""
        return "/".join(map(str, identifiers))


class WindowStorage(Protocol):
    """Counters of amounts, by name."""

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count an amount if it fits. Returns whether it did."""
        ...

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the previous minute's amount, its seconds left, the running one's amount, its seconds left."""
        ...

    async def adjust(self, key: str, expiry: int, amount: int, age: float) -> None:
        """Change what was counted `age` seconds ago. More counts from now; less only where it still counts."""
        ...


class Windows:
    """Takes amounts from limits per minute.

    Args:
        storage: holds the counters.
    """

    def __init__(self, storage: MemoryWindows | SharedWindows) -> None:
        self._storage: WindowStorage = storage
        self._strategy = SlidingWindowCounterRateLimiter(storage)

    async def take(self, name: str, limit: int, amount: int) -> float | None:
        """Count an amount if it fits.

        Args:
            name: of the counter.
            limit: most in a minute.
            amount: from 1 to `limit`.

        Returns:
            None: it is counted. Else the seconds until it would fit if nobody else came.
        """
        item = _PerMinute(limit)
        if await self._strategy.hit(item, name, cost=amount):
            return None
        window = await self._storage.get_sliding_window(name, WINDOW_SECONDS)
        return wait_for_room(limit, amount, *window)

    async def correct(self, name: str, amount: int, age: float) -> None:
        """Change what was taken.

        Args:
            name: of the counter.
            amount: what it was too little; negative: too much.
            age: seconds since it was taken.
        """
        await self._storage.adjust(name, WINDOW_SECONDS, amount, age)


def wait_for_room(
    limit: int, amount: int, previous: int, previous_left: float, current: int, current_left: float
) -> float:
    """Return the seconds until an amount fits, if nobody else comes.

    Args:
        limit: most in a window.
        amount: at most `limit`.
        previous: counted in the previous window.
        previous_left: seconds until nothing of it counts any more.
        current: counted in the running window.
        current_left: seconds until nothing of it counts any more: its own end and a window's length.
    """
    ends = max(0.0, current_left - WINDOW_SECONDS)
    room = limit - amount - current
    if room >= 0:
        # Until the running window ends the previous one counts less and less.
        return max(0.0, _fades(previous, previous_left, room)) + _SLACK
    return ends + max(0.0, _fades(current, WINDOW_SECONDS, limit - amount)) + _SLACK


def _fades(counted: int, left: float, room: int) -> float:
    """Return the seconds until at most `room` of an amount counts, which fades evenly over a window's length."""
    return left - (room + 1) * WINDOW_SECONDS / counted if counted else 0.0


class MemoryWindows(MemoryStorage):
    """Counters of this process.

    The library's own look at every counter at each hit, in a task of its own, and read the wall clock.

    Args:
        clock: seconds, monotonic.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        # The first minute is whole: whoever has just started is not at the end of one.
        began = clock()
        self._clock: Callable[[], float] = lambda: clock() - began
        #: The number of a window, and what was counted in it and in the one before.
        self._counters: dict[str, tuple[int, int, int]] = {}
        self._sweep_at = _SWEEP_AT

    async def acquire_sliding_window_entry(self, key: str, limit: int, expiry: int, amount: int = 1) -> bool:
        """Count an amount if it fits. Returns whether it did."""
        now = self._clock()
        previous, left, current, _ = self._window(key, expiry, now)
        if int(previous * left / expiry) + current + amount > limit:
            return False
        self._put(key, int(now // expiry), previous, current + amount)
        return True

    async def get_sliding_window(self, key: str, expiry: int) -> tuple[int, float, int, float]:
        """Return the previous minute's amount, its seconds left, the running one's amount, its seconds left."""
        return self._window(key, expiry, self._clock())

    async def adjust(self, key: str, expiry: int, amount: int, age: float) -> None:
        """Change what was counted `age` seconds ago. More counts from now; less only where it still counts."""
        now = self._clock()
        number = int(now // expiry)
        previous, _, current, _ = self._window(key, expiry, now)
        windows_ago = number - int((now - age) // expiry)
        if amount > 0 or windows_ago == 0:
            self._put(key, number, previous, max(0, current + amount))
        elif windows_ago == 1:
            self._put(key, number, max(0, previous + amount), current)

    def counted(self, name: str) -> int:
        """Return what counts now, rounded up; for a counter that does not exist 0."""
        previous, left, current, _ = self._window(name, WINDOW_SECONDS, self._clock())
        return ceil(previous * left / WINDOW_SECONDS) + current

    def _window(self, key: str, expiry: int, now: float) -> tuple[int, float, int, float]:
        number = int(now // expiry)
        left = (number + 1) * expiry - now
        then, previous, current = self._counters.get(key, (number, 0, 0))
        if then == number - 1:
            previous, current = current, 0
        elif then != number:
            previous, current = 0, 0
        return previous, left, current, left + expiry

    def _put(self, key: str, number: int, previous: int, current: int) -> None:
        if key not in self._counters and len(self._counters) >= self._sweep_at:
            self._counters = {name: counter for name, counter in self._counters.items() if counter[0] >= number - 1}
            self._sweep_at = max(_SWEEP_AT, 2 * len(self._counters))
        if previous or current:
            self._counters[key] = (number, previous, current)
        else:
            self._counters.pop(key, None)


#: As the library's script shifts windows; then changes the one in which the amount was counted. Times in milliseconds.
_ADJUST = """
local expiry = tonumber(ARGV[1]) * 1000
local amount = tonumber(ARGV[2])
local age = tonumber(ARGV[3])
local ttl = redis.call('pttl', KEYS[2])
if ttl > 0 and ttl < expiry then
    redis.call('rename', KEYS[2], KEYS[1])
    ttl = ttl + expiry
    redis.call('set', KEYS[2], 0, 'PX', ttl)
end
if amount > 0 then
    if ttl > 0 then
        redis.call('incrby', KEYS[2], ARGV[2])
    else
        redis.call('set', KEYS[2], ARGV[2], 'PX', expiry * 2)
    end
    return
end
local began = expiry * 2 - ttl
local key = KEYS[2]
if ttl <= 0 or age > began then
    key = KEYS[1]
end
if age <= began + expiry and redis.call('pttl', key) > 0 then
    if redis.call('incrby', key, ARGV[2]) < 0 then
        redis.call('set', key, 0, 'KEEPTTL')
    end
end
"""


class SharedWindows(RedisStorage):
    """Counters that replicas share. Use it within ``shared.asking()``.

    Args:
        shared: the Redis.
    """

    def __init__(self, shared: SharedState) -> None:
        super().__init__(
            "redis://",
            implementation="redispy",
            key_prefix=shared.key("limits"),
            connection_pool=shared.client.connection_pool,  # type: ignore[arg-type]  # its options are typed as texts
        )
        self._adjust: AsyncScript = shared.client.register_script(_ADJUST)

    async def adjust(self, key: str, expiry: int, amount: int, age: float) -> None:
        """Change what was counted `age` seconds ago. More counts from now; less only where it still counts."""
        names = (self._previous_window_key(key), self._current_window_key(key))
        await self._adjust([self.bridge.prefixed_key(name) for name in names], [expiry, amount, int(age * 1000)])
