"""Checks of an adapter's life: streams to the end, unary, closed and cancelled in the middle, several at once."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.testing.answers import Answer, ConformanceError, check_stream, require

__all__ = ["check_adapter"]


async def check_adapter(
    make: Callable[[], Adapter],
    call: Call,
    *,
    is_free: Callable[[], bool | Awaitable[bool]] | None = None,
    family: str = "",
    unary: bool = True,
    patience: float = 30.0,
) -> Answer:
    """Run an adapter through the life of its streams, and return its answer to the call.

    Args:
        make: makes a fresh adapter.
        call: a call that succeeds and brings at least two lists of events, better many.
        is_free: tells whether the upstream serves nothing for us any more: no connection, no slot. Asked until it
            says so.
        family: the family that every block must name; default: any.
        unary: also ask for whole answers.
        patience: seconds after which something that must end at once counts as hanging. Generous by default: a slow
            machine is no fault.

    Raises:
        ConformanceError: a promise is broken.
        AdapterError: the call fails; the kit needs one that succeeds.
    """
    tasks = asyncio.all_tasks()
    before = call.request.SerializeToString(deterministic=True)
    life = _Life(make(), call, is_free, patience)
    try:
        answer = await life.run(family, unary=unary)
    finally:
        await life.promptly(life.adapter.aclose(), "the adapter's aclose")
    await life.promptly(life.adapter.aclose(), "the adapter's second aclose, which does nothing,")
    unchanged = call.request.SerializeToString(deterministic=True) == before
    require(unchanged, "the request was changed; it is the caller's")
    await life.no_tasks(tasks)
    return answer


@dataclass(frozen=True, slots=True)
class _Life:
    """One adapter under test."""

    adapter: Adapter
    call: Call
    is_free: Callable[[], bool | Awaitable[bool]] | None
    patience: float

    async def run(self, family: str, *, unary: bool) -> Answer:
        answer = check_stream(await self.collected(self.call), family=family)
        if unary:
            check_stream(await self.collected(replace(self.call, unary=True)), family=family)
        for lists in await asyncio.gather(*(self.collected(self.call) for _ in range(3))):
            check_stream(lists, family=family)
        await self.closed_early()
        await self.free("after aclose in the middle of a stream")
        await self.cancelled(after_first=True)
        await self.cancelled(after_first=False)
        await self.free("after a cancelled stream")
        check_stream(await self.collected(self.call), family=family)
        return answer

    async def collected(self, call: Call, begun: asyncio.Event | None = None) -> list[Events]:
        lists: list[Events] = []
        async with contextlib.aclosing(self.adapter.stream(call)) as stream:
            try:
                async for events in stream:
                    lists.append(events)
                    if begun is not None:
                        begun.set()
            except AdapterError:
                raise
            except Exception as error:
                name = type(error).__name__
                raise ConformanceError(f"stream raised {name}; only AdapterError may escape") from error
        return lists

    async def closed_early(self) -> None:
        unused = self.adapter.stream(self.call)
        await self.promptly(unused.aclose(), "aclose of a stream that was never read")
        stream = self.adapter.stream(self.call)
        first = await anext(stream)
        await self.promptly(stream.aclose(), "aclose in the middle of a stream")
        check_stream([first], complete=False)
        left = [events async for events in stream]
        require(not left, "a closed stream yields nothing more")

    async def cancelled(self, *, after_first: bool) -> None:
        begun = asyncio.Event()
        task = asyncio.create_task(self.collected(self.call, begun))
        if after_first:
            waiting = asyncio.create_task(begun.wait())
            await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
        else:
            await asyncio.sleep(0)
        task.cancel()
        done, _ = await asyncio.wait({task}, timeout=self.patience)
        require(done, "a cancelled stream goes on")
        if task.cancelled():
            return
        error = task.exception()
        require(error is None, f"a cancelled stream raised {type(error).__name__}: {error}")
        # It may have been over before it was cancelled; then it is complete.
        check_stream(task.result())

    async def promptly(self, closing: Awaitable[None], what: str) -> None:
        try:
            await asyncio.wait_for(closing, self.patience)
        except TimeoutError as error:
            raise ConformanceError(f"{what} hangs") from error
        except Exception as error:
            raise ConformanceError(f"{what} raised {type(error).__name__}: {error}") from error

    async def free(self, when: str) -> None:
        if self.is_free is None:
            return
        clock = asyncio.get_running_loop().time
        end = clock() + self.patience
        while True:
            free = self.is_free()
            if await free if inspect.isawaitable(free) else free:
                return
            require(clock() < end, f"the upstream is still busy {when}")
            await asyncio.sleep(0.01)

    async def no_tasks(self, before: set[asyncio.Task[object]]) -> None:
        left = asyncio.all_tasks() - before
        if left:
            _, left = await asyncio.wait(left, timeout=self.patience)
        require(not left, f"tasks are left after aclose: {left}")
