"""Runs a second attempt beside one that is later than usual with its first output; whoever is first answers.

Source: J. Dean and L. A. Barroso, "The Tail at Scale", Communications of the ACM 56(2), 2013: hedged requests.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from typing import TypeAlias

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.config.personas import Hedging
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.fallback import Route, Steps
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.resilience.retry_budget import RetryBudget
from execution_platform.server.routing.latencies import Latencies
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2

__all__ = ["Hedged"]

#: Seconds that the loser's clean-up may hold up the winner's first output, so that `started` tells its end.
_MOMENT = 0.05

#: Seconds that clean-up may take at the end; what takes longer has been cancelled and is not waited for.
_CLOSE_SECONDS = 2.0

Cause: TypeAlias = chat_pb2.AttemptCause.ValueType


class Hedged:
    """Asks a model, and a second one beside it when the first is late, or in its place when it fails.

    The first output decides; the other one's connection is closed at once. An attempt beside the first is paid for by
    the retry budget of the first's provider, whose request it goes with: however slow that is, hedges add no more
    load than retries may. What the budget does not pay for is not begun, and the first one waited for.

    Each leg runs in a task of its own, because an adapter's generator must be advanced by one task only: timeouts
    belong to the task that entered them. A task is at most two reads ahead of whoever takes what it reads.

    Args:
        first: who is asked first, and how.
        second: who is asked beside it, and what makes the route there, given the cause.
        settings: when.
        budget: pays for attempts beside the first.
        journal: of the chat.
        latencies: tell what is usual.
        metrics: count.
        steps: takes what fails.
    """

    def __init__(
        self,
        first: tuple[Leg, Route],
        second: tuple[Leg, Callable[[Cause], Route]],
        settings: Hedging,
        budget: RetryBudget,
        journal: Journal,
        latencies: Latencies,
        metrics: Metrics,
        steps: Steps,
    ) -> None:
        self._first_leg, self._first = first
        self._second_leg, self._second = second
        self._settings = settings
        self._budget = budget
        self._journal = journal
        self._latencies = latencies
        self._metrics = metrics
        self._steps = steps

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts. Raises AdapterError."""
        runners = [_Runner(self._first_leg, self._first, call)]
        try:
            winner = await self._winner(call, runners)
            await self._leave(call, winner, [runner for runner in runners if runner is not winner])
            while (events := await winner.take()) is not None:
                yield events
        finally:
            await _end(runners, _CLOSE_SECONDS)

    async def aclose(self) -> None:
        """Do nothing: the providers' adapters are shared."""

    async def _winner(self, call: Call, runners: list[_Runner]) -> _Runner:
        """Return the one whose first output is there. Raises what it fails with where there is none."""
        first = runners[0]
        await asyncio.wait([first.decided], timeout=self._patience(call))
        if not first.decided.done() and self._budget.withdraw():
            self._metrics.hedge(self._first_leg.provider, self._second_leg.provider)
            runners.append(self._begin_second(chat_pb2.ATTEMPT_CAUSE_HEDGE, call))
        while True:
            for runner in runners:
                if runner.has_output:
                    return runner
                if runner.fault is not None:
                    raise runner.fault
            failures = [runner.failure for runner in runners if runner.failure is not None]
            if first.failure is not None and not first.failure.decision.fall_back:
                raise first.failure
            if len(failures) < len(runners):
                undecided = [runner.decided for runner in runners if not runner.decided.done()]
                await asyncio.wait(undecided, return_when=asyncio.FIRST_COMPLETED)
            elif len(runners) == 1:
                self._steps.failed(failures[0])
                self._steps.step(self._first_leg, failures[0], self._second_leg)
                runners.append(self._begin_second(chat_pb2.ATTEMPT_CAUSE_FALLBACK, call))
            else:
                if runners[1].cause == chat_pb2.ATTEMPT_CAUSE_HEDGE:
                    self._steps.failed(failures[0])
                raise failures[1]

    def _patience(self, call: Call) -> float | None:
        """Return the seconds after which the first one is late; None: nobody knows what is usual."""
        if self._settings.after is not None:
            return self._settings.after
        who = (self._first_leg.provider, self._first_leg.model)
        if self._latencies.samples(*who, whole=call.unary) < self._settings.least_samples:
            return None
        return self._latencies.percentile(*who, self._settings.percentile, whole=call.unary)

    def _begin_second(self, cause: Cause, call: Call) -> _Runner:
        return _Runner(self._second_leg, self._second(cause), call, cause)

    async def _leave(self, call: Call, winner: _Runner, losers: Sequence[_Runner]) -> None:
        """End the losers at once, and make the winner the one whom the caller sees."""
        for loser in losers:
            entry = self._entry_of(loser)
            if entry.ended is None:
                entry.end(chat_pb2.ATTEMPT_OUTCOME_CANCELLED)
                self._remember(call, loser, entry)
        if winner.cause == chat_pb2.ATTEMPT_CAUSE_HEDGE:
            self._metrics.hedge(self._first_leg.provider, self._second_leg.provider, won=True)
        await _end(losers, _MOMENT)
        self._journal.answering = self._entry_of(winner)

    def _remember(self, call: Call, loser: _Runner, entry: Entry) -> None:
        """Note a late first one as if it had begun to answer now.

        Else slow answers would be missing from what is usual, and each hedge would make the next one come sooner.
        """
        if loser.leg is self._first_leg and entry.ended is not None and entry.first_output is None:
            late = entry.ended - entry.began
            self._latencies.note(entry.leg.provider, entry.leg.model, late, whole=call.unary)

    def _entry_of(self, runner: _Runner) -> Entry:
        return next(entry for entry in reversed(self._journal.entries) if entry.leg is runner.leg)


class _Runner:
    """Makes the attempts of one leg in a task of its own, a little ahead of whoever takes what they read.

    Args:
        leg: who is asked.
        route: makes the attempts.
        call: the chat.
        cause: why.

    Attributes:
        has_output: there was output, or a whole answer without any.
        failure: how its attempts failed; None: they have not.
        fault: what else it ended with; None: nothing.
        decided: done once one of these is so.
    """

    def __init__(self, leg: Leg, route: Route, call: Call, cause: Cause = chat_pb2.ATTEMPT_CAUSE_FIRST) -> None:
        self.leg = leg
        self.cause = cause
        self.has_output = False
        self.failure: AdapterError | None = None
        self.fault: BaseException | None = None
        self.decided: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ending = False
        self._queue: asyncio.Queue[Events | None] = asyncio.Queue(1)
        self.task = asyncio.create_task(self._run(route, call), name=f"hedged {leg.name}")

    async def take(self) -> Events | None:
        """Return the next events; None: the answer is over. Raises what the leg failed with, after all it read."""
        events = await self._queue.get()
        error = self.failure or self.fault
        if events is None and error is not None:
            raise error
        return events

    def cancel(self) -> None:
        """End it. Once only: a second cancel would interrupt what the first one cleans up."""
        if not self._ending:
            self._ending = True
            self.task.cancel()

    async def _run(self, route: Route, call: Call) -> None:
        try:
            async with aclosing(route.stream(call)) as stream:
                async for events in stream:
                    self.has_output = True
                    self._decide()
                    await self._queue.put(events)
            self.has_output = True
        except AdapterError as error:
            self.failure = error
        except asyncio.CancelledError as error:
            if self._ending:
                raise
            self.fault = error
        except Exception as error:  # noqa: BLE001 - whoever takes what this task reads raises it
            self.fault = error
        finally:
            self._decide()
        if not self._ending:
            await self._queue.put(None)

    def _decide(self) -> None:
        if not self.decided.done():
            self.decided.set_result(None)


async def _end(runners: Sequence[_Runner], seconds: float) -> None:
    """Cancel what runs, and wait a while for its end."""
    for runner in runners:
        runner.cancel()
    running = [runner.task for runner in runners if not runner.task.done()]
    if running:
        await asyncio.wait(running, timeout=seconds)
