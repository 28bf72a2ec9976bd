"""Reserves what a chat will probably use, and corrects that once it is known.

A chat is held against several scopes at once: all of them take it, or none does. What a minute allows is counted by
:mod:`.windows`, what runs at once by :mod:`.leases`; with a shared Redis both are there, else in this process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, TypeVar

from execution_platform.server.config.personas import LimitSettings
from execution_platform.server.errors import LimitReachedError
from execution_platform.server.limits.leases import LocalLeases, SharedLeases
from execution_platform.server.limits.windows import MemoryWindows, SharedWindows, Windows
from execution_platform.server.metrics import Metrics
from execution_platform.server.shared_state import SharedState, SharedStateUnavailableError

__all__ = ["SHOWN_OF_KEYS", "Limiter", "Reservation", "Scope"]

_T = TypeVar("_T")

#: Characters of a key's digest that an error and the log may show.
SHOWN_OF_KEYS = 8

_NO_HEIGHTS = (None, None, None, None)

_CONCURRENT = "concurrent"

_NANOS = 1_000_000_000

#: Seconds that the last corrections get when the server ends.
_CLOSE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose limits.

    Attributes:
        kind: ``persona``, ``tenant``, ``key`` or ``provider``.
        name: whose; of a key a part of its digest.
        limits: what may be used.
    """

    kind: str
    name: str
    limits: LimitSettings

    @property
    def limited(self) -> bool:
        """Whether there is any limit."""
        limits = self.limits
        heights = (limits.requests_per_min, limits.tokens_per_min, limits.cost_per_min, limits.concurrent)
        return heights != _NO_HEIGHTS

    @property
    def subject(self) -> str:
        """``persona:reviewer``, ``tenant:acme``, ``key:1f3a...``, ``provider:openai``."""
        return f"{self.kind}:{self.name[:SHOWN_OF_KEYS]}" if self.kind == "key" else f"{self.kind}:{self.name}"


@dataclass(slots=True)
class Reservation:
    """What one chat or attempt is believed to use; corrected before its limits are let go.

    Attributes:
        tokens: of prompt and answer.
        cost_nanos: in 1e-9 US dollars; 0: not known.
        requests: 1, or 0 where it turns out that nobody was asked.
    """

    tokens: int
    cost_nanos: int = 0
    requests: int = 1


@dataclass(frozen=True, slots=True)
class _Demand:
    """What is taken from one limit.

    Attributes:
        scope: whose limit.
        limit: its name.
        most: its height.
        amount: what is taken.
    """

    scope: Scope
    limit: str
    most: int
    amount: int

    @property
    def name(self) -> str:
        """Of the counter."""
        return f"{self.scope.kind}/{self.scope.name}/{self.limit}"


@dataclass(slots=True)
class _Grant:
    """What was taken.

    Attributes:
        shared: from the counters in Redis.
        demands: from the limits of a minute, and when they were counted at the latest.
        places: of limits of what runs at once: the limit's name and the place's number.
    """

    shared: bool
    demands: list[tuple[_Demand, float]] = field(default_factory=list)
    places: list[tuple[str, str]] = field(default_factory=list)


class Limiter:
    """Holds limits while chats run.

    While Redis is away this process counts alone, from zero, and chats that run keep their places.

    Args:
        metrics: count refusals.
        shared: the Redis that replicas share; None: there is none.
        clock: seconds, monotonic.

    Attributes:
        places: those that are held in this process.
        windows: what was counted in this process.
    """

    def __init__(
        self, metrics: Metrics, shared: SharedState | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._metrics = metrics
        self._clock = clock
        self._shared = None if shared is None else _Shared(shared, SharedLeases(shared), Windows(SharedWindows(shared)))
        self.places = LocalLeases() if self._shared is None else self._shared.leases.local
        self.windows = MemoryWindows(clock)
        self._windows = Windows(self.windows)
        self._pending: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def held(self, scopes: Sequence[Scope], reservation: Reservation) -> AsyncIterator[None]:
        """Hold what a chat uses of some limits, all or none.

        The reservation is changed by whoever learns better; what it holds at the end is what is counted.

        Raises:
            LimitReachedError: one of them is reached; nothing is held.
        """
        demands = [demand for scope in scopes for demand in _demands(scope, reservation)]
        if not demands:
            yield
            return
        try:
            grant = await self._take_whole(demands)
        except LimitReachedError as error:
            self._metrics.limited(error.scope.partition(":")[0], error.limit)
            raise
        try:
            yield
        finally:
            await self._settle_whole(grant, reservation)

    async def aclose(self) -> None:
        """Wait a moment for what is still being corrected, and renew no lease any more. Idempotent."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=_CLOSE_SECONDS)
        if self._shared is not None:
            await self._shared.leases.aclose()

    async def _take_whole(self, demands: Sequence[_Demand]) -> _Grant:
        if self._shared is None:
            # In memory nothing waits, so nothing can be cancelled half-way.
            return await self._take(demands)
        taking = self._begin(self._take(demands))
        try:
            return await asyncio.shield(taking)
        except asyncio.CancelledError:
            _ = self._begin(self._undo(taking))
            raise

    async def _settle_whole(self, grant: _Grant, used: Reservation | None) -> None:
        if self._shared is None:
            await self._settle(grant, used)
        else:
            await asyncio.shield(self._begin(self._settle(grant, used)))

    def _begin(self, work: Coroutine[Any, Any, _T]) -> asyncio.Task[_T]:
        """Do work to its end, also when who waits for it is cancelled."""
        task = asyncio.create_task(work, name="limits")
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)
        return task

    async def _undo(self, taking: asyncio.Task[_Grant]) -> None:
        with suppress(LimitReachedError):
            await self._settle(await taking, None)

    async def _take(self, demands: Sequence[_Demand]) -> _Grant:
        for demand in demands:
            if demand.amount > demand.most:
                raise _never_fits(demand)
        if self._shared is not None:
            with suppress(SharedStateUnavailableError):
                async with self._shared.state.asking():
                    return await self._take_all(_Grant(shared=True), demands)
        return await self._take_all(_Grant(shared=False), demands)

    async def _take_all(self, grant: _Grant, demands: Sequence[_Demand]) -> _Grant:
        for demand in demands:
            error = await self._take_one(grant, demand)
            if error is not None:
                await self._give_back(grant, None)
                raise error
        return grant

    async def _take_one(self, grant: _Grant, demand: _Demand) -> LimitReachedError | None:
        shared = self._shared if grant.shared else None
        if demand.limit == _CONCURRENT:
            places = self.places if shared is None else shared.leases
            number = await places.take(demand.name, demand.most)
            if number is None:
                return _full(demand)
            grant.places.append((demand.name, number))
            return None
        windows = self._windows if shared is None else shared.windows
        wait = await windows.take(demand.name, demand.most, demand.amount)
        if wait is not None:
            return _reached(demand, wait)
        grant.demands.append((demand, self._clock()))
        return None

    async def _settle(self, grant: _Grant, used: Reservation | None) -> None:
        """Count what was really used; None: nothing."""
        if self._shared is None:
            await self._give_back(grant, used)
            return
        for name, number in grant.places:
            self.places.let_go(name, number)
        with suppress(SharedStateUnavailableError):
            async with self._shared.state.asking():
                await self._give_back(grant, used)
                return
        if not grant.shared:
            await self._correct(self._windows, grant, used)

    async def _give_back(self, grant: _Grant, used: Reservation | None) -> None:
        shared = self._shared
        for name, number in grant.places:
            await (self.places if shared is None else shared.leases).give_back(name, number)
        await self._correct(shared.windows if shared is not None and grant.shared else self._windows, grant, used)

    async def _correct(self, windows: Windows, grant: _Grant, used: Reservation | None) -> None:
        for demand, counted_at in grant.demands:
            amount = (0 if used is None else _amount(demand.limit, used)) - demand.amount
            if amount:
                await windows.correct(demand.name, amount, self._clock() - counted_at)


@dataclass(frozen=True, slots=True)
class _Shared:
    state: SharedState
    leases: SharedLeases
    windows: Windows


def _demands(scope: Scope, reservation: Reservation) -> Iterator[_Demand]:
    """Return what a chat takes from a scope's limits. At least 1 of each: a limit that is reached refuses all."""
    limits = scope.limits
    heights: dict[str, int | None] = {
        "requests_per_min": limits.requests_per_min,
        "tokens_per_min": limits.tokens_per_min,
        "cost_per_min": None if limits.cost_per_min is None else int(limits.cost_per_min * _NANOS),
        _CONCURRENT: limits.concurrent,
    }
    for limit, most in heights.items():
        if most is not None:
            yield _Demand(scope, limit, most, max(1, _amount(limit, reservation)))


def _amount(limit: str, reservation: Reservation) -> int:
    match limit:
        case "tokens_per_min":
            return reservation.tokens
        case "cost_per_min":
            return reservation.cost_nanos
        case _:
            return reservation.requests


def _told(demand: _Demand, amount: int) -> str:
    """Return an amount in the unit of its limit."""
    return f"{Decimal(amount) / _NANOS:f} US dollars" if demand.limit == "cost_per_min" else str(amount)


def _never_fits(demand: _Demand) -> LimitReachedError:
    return LimitReachedError(
        f"{demand.scope.subject}: this chat may take {_told(demand, demand.amount)}, more than all that "
        f"{demand.limit} allows ({_told(demand, demand.most)}), so it can never pass; "
        "shorten it, or lower sampling.max_output_tokens",
        scope=demand.scope.subject,
        limit=demand.limit,
        retryable=False,
    )


def _reached(demand: _Demand, wait: float) -> LimitReachedError:
    return LimitReachedError(
        f"{demand.scope.subject}: {demand.limit} is reached ({_told(demand, demand.most)}); "
        f"there is room for this chat in {wait:.3f} s",
        retry_after=wait,
        scope=demand.scope.subject,
        limit=demand.limit,
    )


def _full(demand: _Demand) -> LimitReachedError:
    return LimitReachedError(
        f"{demand.scope.subject}: {demand.most} chats run, the most at once ({_CONCURRENT})",
        scope=demand.scope.subject,
        limit=demand.limit,
    )
