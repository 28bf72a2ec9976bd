"""Waits only so long for an attempt's first output, and for each one after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace

from execution_platform.adapters.errors import ProviderTimeoutError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter

__all__ = ["Patient"]


class Patient(WrappingAdapter):
    """Ends an attempt that is silent for too long.

    The time that its reader takes between two reads does not count, nor does that in a line of the adapter's own.

    Only a stream shows silence, so a whole answer is asked for as a stream too, and kept until it is whole.

    Args:
        inner: an adapter that yields nothing before its first output, and nothing after `finished`.
        first_token: seconds to the first output; None: no limit.
        idle: seconds of silence after it; None: no limit.
    """

    def __init__(self, inner: Adapter, first_token: float | None, idle: float | None) -> None:
        super().__init__(inner)
        self._first_token = first_token
        self._idle = idle

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises ProviderTimeoutError when it is silent for too long, and AdapterError."""
        whole: Events | None = [] if call.unary else None
        limit, what = self._first_token, "no output"
        alarm = _Alarm()

        def waiting(waits: bool) -> None:
            if waits:
                alarm.unset()
            else:
                alarm.set(limit)
            call.on_waiting(waits)

        async with aclosing(self.inner.stream(replace(call, unary=False, on_waiting=waiting))) as stream:
            try:
                while True:
                    alarm.set(limit)
                    events = await anext(stream)
                    alarm.unset()
                    # How long a connection takes to end behind `finished` is no silence of the answer.
                    complete = events[-1].WhichOneof("event") == "finished"
                    limit, what = None if complete else self._idle, "the answer stood still"
                    if whole is None:
                        yield events
                    elif complete:
                        yield [*whole, *events]
                    else:
                        whole += events
            except StopAsyncIteration:
                return
            except asyncio.CancelledError as error:
                if not alarm.explains_cancel():
                    raise
                late = ProviderTimeoutError(f"{what} for {limit:g} s")
                late.unanswered = True
                raise late from error
            finally:
                alarm.stop()


class _Alarm:
    """Cancels the task that made it once that waits for too long.

    What :func:`asyncio.timeout` does, at a fraction of its cost for a wait that begins again with each piece of an
    answer: the timer is left as it is, and sees late whether anything is due.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._cancels = 0 if self._task is None else self._task.cancelling()
        self._due: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._rang = False

    def set(self, seconds: float | None) -> None:
        """Ring after so many seconds; None: not at all."""
        if seconds is None:
            return
        self._due = self._loop.time() + seconds
        if self._timer is None:
            self._timer = self._loop.call_at(self._due, self._check)
        elif self._timer.when() > self._due:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._due, self._check)

    def unset(self) -> None:
        """Do not ring."""
        self._due = None

    def stop(self) -> None:
        """Take the timer away."""
        self.unset()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.explains_cancel()

    def explains_cancel(self) -> bool:
        """Return whether the task was cancelled by this alarm, and by nobody else. Takes the cancel back, once."""
        rang, self._rang = self._rang, False
        return rang and self._task is not None and self._task.uncancel() <= self._cancels

    def _check(self) -> None:
        self._timer = None
        if self._due is None or self._task is None:
            return
        if self._loop.time() < self._due:
            self._timer = self._loop.call_at(self._due, self._check)
        else:
            self._rang = True
            self._task.cancel()
