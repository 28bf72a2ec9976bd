"""Runs: at most so many at once, the others in a line, each a process tree that ends with its block."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from typing import Any, Protocol

from claude_agent_sdk import ClaudeAgentOptions, query

from execution_platform.adapters.claude_agent.command import command_of
from execution_platform.adapters.claude_agent.link import Link
from execution_platform.adapters.claude_agent.process import Process, uninterrupted
from execution_platform.adapters.claude_agent.sandbox import Cage, Programs, find_programs
from execution_platform.adapters.claude_agent.slots import Slots
from execution_platform.adapters.errors import (
    AdapterError,
    OverloadedError,
    ProviderTimeoutError,
    UnavailableError,
)

__all__ = ["AgentRun", "Running", "Runs"]

#: Seconds that a run with a result gets to write down its session and end by itself.
_PATIENCE = 3.0

#: Seconds that the SDK gets to end once its process has gone.
_DRIVER_SECONDS = 10.0

#: Seconds between two looks for a place while other processes have all: nobody tells when one is free.
_LOOK_SECONDS = 0.1

#: A place where there are no other processes.
_ALONE = -1


class AgentRun(Protocol):
    """What is run: the options, and the messages of the user, of which the last one starts it."""

    @property
    def options(self) -> ClaudeAgentOptions:
        """The run's options; `cwd`, `env` and `cli_path` are the cage's."""
        ...

    @property
    def prompt(self) -> Sequence[dict[str, Any]]:
        """Messages as the SDK's streaming input takes them."""
        ...

    @property
    def fields(self) -> Mapping[str, str]:
        """Fields of the request that the program's options come from."""
        ...


class Running:
    """A run that goes on; :meth:`Runs.begin` makes it."""

    def __init__(self, link: Link) -> None:
        self._link = link

    @property
    def startup_seconds(self) -> float | None:
        """Seconds from the process's start to its first line; None: there was none yet."""
        return self._link.startup_seconds

    async def output(self) -> AsyncGenerator[bytes, None]:
        r"""Yield the program's output, whole lines of JSON, each with its line's end, as they are written.

        A reader that is slow stops the program: some hundred KiB are read ahead. To be iterated once. Ends some
        seconds after the run's result at the latest, whatever the run left in the background.

        Raises:
            NotConfiguredError: the cage cannot be built on this machine.
            UnavailableError: the program ended without a result, before it said anything of an answer.
            StreamBrokenError: the same, after that.
            ProviderTimeoutError: the time is over.
        """
        async with aclosing(self._link.output()) as pieces:
            async for piece in pieces:
                yield piece


class Runs:
    """The runs of one adapter.

    Args:
        most_runs: how many may run at the same time.
        most_waiting: how many may wait for their turn; further ones are refused.
        programs: finds the programs, on each run.
        slots: places that other processes have runs in too; None: there are none.
    """

    def __init__(
        self,
        most_runs: int,
        most_waiting: int,
        *,
        programs: Callable[[], Programs] = find_programs,
        slots: Slots | None = None,
    ) -> None:
        self._most_waiting = most_waiting
        self._places = asyncio.Semaphore(most_runs)
        # Only the first of the line looks: a look opens up to `most_runs` files while nothing else goes on.
        self._line = asyncio.Lock()
        self._programs = programs
        self._slots = slots
        self._open: set[_Open] = set()
        self._closed = False
        self.waiting = 0

    @property
    def running(self) -> int:
        """How many processes run."""
        return len(self._open)

    @asynccontextmanager
    async def begin(
        self,
        run: AgentRun,
        cage: Cage,
        *,
        timeout: float | None = None,
        on_waiting: Callable[[bool], None] = lambda _: None,
    ) -> AsyncIterator[Running]:
        """Start a run when it is its turn, and end its processes with the block, whatever happens in it.

        Args:
            run: what is run.
            cage: what it sees of this machine.
            timeout: seconds that it may take, those in the line included; None: as long as it takes.
            on_waiting: as :attr:`Call.on_waiting`.

        Raises:
            OverloadedError: the line is full.
            ProviderTimeoutError: its turn did not come in time.
            InvalidRequestError: the workspace is not what it was when it was checked.
            NotConfiguredError: a program is missing, or cannot be run.
            UnavailableError: the adapter is being closed.
        """
        deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
        on_waiting(True)
        slot = await self._turn(deadline)
        on_waiting(False)
        try:
            process, started = await self._start(run, cage)
            open_run = _Open(run, process, Link(process, started), deadline)
            self._open.add(open_run)
            try:
                open_run.start()
                if self._stopped():
                    open_run.fail(_stopping())
                yield Running(open_run.link)
            finally:
                try:
                    await open_run.end()
                finally:
                    self._open.discard(open_run)
        finally:
            self._leave(slot)

    async def aclose(self) -> None:
        """End all runs and refuse those that wait. Bounded; idempotent."""
        self._closed = True
        for open_run in list(self._open):
            open_run.fail(_stopping())
        await asyncio.gather(*(open_run.end() for open_run in list(self._open)))

    async def _turn(self, deadline: float | None) -> int:
        """Take a place, or wait for one in the line; returns that among those of all processes."""
        if self._stopped():
            raise _stopping()
        slot = None if self.waiting or self._places.locked() else await self._look()
        if slot is None:
            slot = await self._wait(deadline)
        return slot

    async def _wait(self, deadline: float | None) -> int:
        if self.waiting >= self._most_waiting:
            many = f"{self.waiting} runs wait, as many as EP_CLAUDE_AGENT_MOST_WAITING lets"
            full = OverloadedError(f"all places are taken and {many}")
            full.asked = False
            raise full
        self.waiting += 1
        try:
            async with asyncio.timeout_at(deadline), self._line:
                return await self._first_of_line()
        except TimeoutError:
            late = ProviderTimeoutError("its turn did not come in time: all runs are taken")
            late.asked = False
            raise late from None
        finally:
            self.waiting -= 1

    async def _first_of_line(self) -> int:
        while (slot := await self._look()) is None:  # noqa: ASYNC110 - no event tells of other processes
            await asyncio.sleep(_LOOK_SECONDS)
        return slot

    async def _look(self) -> int | None:
        """Take a place as soon as this process has one; None: other processes have all."""
        await self._places.acquire()
        try:
            if self._stopped():
                raise _stopping()
            slot = _ALONE if self._slots is None else self._slots.take()
        except BaseException:
            self._places.release()
            raise
        if slot is None:
            self._places.release()
        return slot

    def _leave(self, slot: int) -> None:
        if slot != _ALONE:
            os.close(slot)
        self._places.release()

    def _stopped(self) -> bool:
        return self._closed

    async def _start(self, run: AgentRun, cage: Cage) -> tuple[Process, float]:
        command = command_of(run.options, run.fields)
        programs = self._programs()
        started = time.monotonic()
        return await Process.start(cage, command, programs), started


class _Open:
    """A run whose process is there: drives the SDK, and ends both.

    Args:
        run: what is run.
        process: the caged program.
        link: between the SDK and the process.
        deadline: the loop's time at which it has taken too long; None: never.
    """

    def __init__(self, run: AgentRun, process: Process, link: Link, deadline: float | None) -> None:
        self.link = link
        self._run = run
        self._process = process
        self._deadline = deadline
        self._timer: asyncio.TimerHandle | None = None
        self._driver: asyncio.Task[None] | None = None
        self._ending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Let the SDK talk to the program, until it ends or the time is over."""
        loop = asyncio.get_running_loop()
        self._driver = loop.create_task(self._drive())
        if self._deadline is not None:
            self._timer = loop.call_at(self._deadline, self._late)

    async def _drive(self) -> None:
        """Run the SDK's conversation. How it ended is told to the reader of the output."""
        try:
            async with aclosing(self._messages()) as messages:
                async for _ in messages:
                    pass
        except Exception as error:  # noqa: BLE001 - the SDK raises Exception itself
            self.fail(await self._process.failure(str(error)))
        self.link.finish()

    def _messages(self) -> AsyncGenerator[Any, None]:
        async def prompt() -> AsyncIterator[dict[str, Any]]:
            for message in self._run.prompt:
                yield message

        # A generator, though its type says iterator.
        return query(prompt=prompt(), options=self._run.options, transport=self.link)  # type: ignore[return-value]

    def _late(self) -> None:
        self.fail(ProviderTimeoutError("the run took longer than it may"))

    def fail(self, error: AdapterError) -> None:
        """End the output with an error, once what was said before it is taken, and the processes."""
        self.link.fail(error)
        self._process.kill_soon()

    async def end(self) -> None:
        """End the processes, then the SDK's conversation with them. Bounded; not to be cancelled; idempotent."""
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await uninterrupted(self._ending)

    async def _end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self.link.finish()
        await self._process.end(_PATIENCE if self.link.complete and not self.link.lingers else 0.0)
        if self._driver is not None:
            self._driver.cancel()
            with suppress(asyncio.CancelledError):
                await asyncio.wait({self._driver}, timeout=_DRIVER_SECONDS)


def _stopping() -> UnavailableError:
    error = UnavailableError("the server is stopping")
    error.asked = False
    return error
