"""What providers say about their limits, and how long to leave them alone for that.

A provider's answers tell how much is left of each of its limits, its refusals when to come back. Both are believed for
the model that they were told of, in this process: a limit that is used up holds attempts back until it is full again,
one that is nearly used up spreads them evenly over that time. Nothing is believed for longer than `_LONGEST` seconds;
then attempts go through again, and the provider says what is true now.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from execution_platform.v1 import usage_pb2

__all__ = ["Throttles"]

#: Seconds for which a provider's word is believed.
_LONGEST = 300.0

#: Part of a limit below which attempts are spread.
_NEARLY_USED_UP = 0.05

#: Models that are remembered. Callers may name any model, so there has to be an end.
_REMEMBERED = 1_024

#: Seconds by which a timer may come early.
_EARLY = 0.01


@dataclass(frozen=True, slots=True)
class _Limit:
    """One of a provider's limits, as it was told.

    Attributes:
        remaining: what is left of it.
        chats: for how many attempts that is enough; None: nobody knows.
        nearly: less is left than the part below which attempts are spread.
        resets: when it is full again, on the clock.
    """

    remaining: int
    chats: int | None
    nearly: bool
    resets: float

    def distance(self, running: int, now: float) -> float:
        """Return the seconds between attempts while it is nearly used up; 0: it is not."""
        if self.chats is None or now >= self.resets or not (self.nearly or self.chats < running):
            return 0.0
        return (self.resets - now) / max(1, self.chats)


@dataclass(slots=True)
class _Model:
    """What is known of one model. Times are on the clock.

    Attributes:
        closed_until: the provider asked not to come before.
        told_at: when the newest answer began that told of limits.
        limits: as that answer told them.
        next_turn: when the next attempt may begin while they are spread.
        running: attempts.
    """

    closed_until: float = 0.0
    told_at: float = 0.0
    limits: tuple[_Limit, ...] = ()
    next_turn: float = 0.0
    running: int = 0


class Throttles:
    """Remembers what providers said about their limits.

    Args:
        clock: seconds, monotonic.
        wall: seconds since the epoch.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._wall = wall
        self._models: dict[tuple[str, str], _Model] = {}

    def until(self, provider: str, model: str = "") -> float | None:
        """Return until when a provider is asked more slowly or not at all, in seconds since the epoch; None: it is not.

        Args:
            provider: its name.
            model: one of its models; empty: the longest of all.
        """
        now = self._clock()
        times = [
            self._slow_until(known, now)
            for (whose, name), known in self._models.items()
            if whose == provider and model in {"", name}
        ]
        latest = max(times, default=0.0)
        return None if latest <= now else self._wall() + latest - now

    def wait(self, provider: str, model: str) -> float:
        """Return the seconds until the next attempt may begin; 0: at once. Takes no turn."""
        known = self._models.get((provider, model))
        return 0.0 if known is None else self._wait(known, self._clock())

    def take_turn(self, provider: str, model: str) -> float:
        """Take the next turn. Returns the seconds until it comes; 0: it is here."""
        known = self._models.get((provider, model))
        if known is None:
            return 0.0
        now = self._clock()
        wait = self._wait(known, now)
        known.next_turn = now + wait + self._distance(known, now)
        return wait

    def began(self, provider: str, model: str) -> None:
        """Count an attempt that runs."""
        key = (provider, model)
        known = self._models.pop(key, None) or _Model()
        self._models[key] = known
        known.running += 1
        if len(self._models) > _REMEMBERED:
            idle = next((other for other, state in self._models.items() if not state.running), None)
            if idle is not None:
                del self._models[idle]

    def ended(self, provider: str, model: str) -> None:
        """Count an attempt that runs no more."""
        self._models[provider, model].running -= 1

    def told(
        self,
        provider: str,
        model: str,
        snapshots: Iterable[usage_pb2.RateLimitSnapshot],
        *,
        tokens: int,
        answered_at: float,
    ) -> None:
        """Take what an answer said.

        Args:
            provider: who answered.
            model: its model.
            snapshots: of its limits.
            tokens: that the answer used; the next one is taken to use as many.
            answered_at: when the answer began, on the clock: its headers are as old as that.
        """
        known = self._models.get((provider, model))
        if known is None or answered_at < known.told_at:
            return
        known.told_at = answered_at
        known.limits = tuple(
            _Limit(
                snapshot.remaining,
                _chats(snapshot, tokens),
                snapshot.HasField("limit") and snapshot.remaining < snapshot.limit * _NEARLY_USED_UP,
                resets,
            )
            for snapshot in snapshots
            if snapshot.HasField("remaining") and (resets := self._resets(snapshot, answered_at)) is not None
        )

    def refused(self, provider: str, model: str, retry_after: float) -> None:
        """Take what a refusal said: seconds until another attempt makes sense."""
        known = self._models.get((provider, model))
        if known is not None:
            known.closed_until = max(known.closed_until, self._clock() + min(retry_after, _LONGEST))

    def _resets(self, snapshot: usage_pb2.RateLimitSnapshot, answered_at: float) -> float | None:
        """Return when a limit is full again, on the clock; None: not told."""
        if snapshot.HasField("reset_after"):
            resets = answered_at + snapshot.reset_after.ToMilliseconds() / 1000
        elif snapshot.HasField("reset_time"):
            resets = self._clock() + snapshot.reset_time.ToMilliseconds() / 1000 - self._wall()
        else:
            return None
        return min(resets, answered_at + _LONGEST)

    def _wait(self, known: _Model, now: float) -> float:
        times = [known.closed_until, known.next_turn if self._distance(known, now) else 0.0]
        times += [limit.resets for limit in known.limits if limit.remaining <= 0]
        wait = max(times) - now
        return wait if wait > _EARLY else 0.0

    @staticmethod
    def _distance(known: _Model, now: float) -> float:
        """Return the seconds between turns; 0: there is enough left for everybody."""
        return max((limit.distance(known.running, now) for limit in known.limits), default=0.0)

    @staticmethod
    def _slow_until(known: _Model, now: float) -> float:
        limits = [limit for limit in known.limits if limit.remaining <= 0 or limit.distance(known.running, now)]
        return max([known.closed_until, *(limit.resets for limit in limits)])


def _chats(snapshot: usage_pb2.RateLimitSnapshot, tokens: int) -> int | None:
    """Return for how many attempts a limit is enough; None: what it counts is not known."""
    if "request" in snapshot.name:
        return snapshot.remaining
    if "token" in snapshot.name:
        return snapshot.remaining // max(1, tokens)
    return None
