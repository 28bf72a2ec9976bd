"""Pipes to a child process, and descriptors that watch one: bounded, and closed by whoever opened them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import cast

__all__ = ["Descriptors", "Input", "Pipe", "Tail", "Watched", "happens"]


async def happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long, and tell whether it came."""
    if not event.is_set() and seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


class Pipe:
    """One end for the child, one for us.

    Attributes:
        theirs: the child's end.
    """

    def __init__(self, theirs: int, ours: int) -> None:
        self.theirs = theirs
        self._ours = ours

    def take(self) -> int:
        """Return our end; who takes it closes it."""
        taken, self._ours = self._ours, -1
        return taken

    def close(self) -> None:
        """Close our end, unless somebody took it."""
        if self._ours >= 0:
            os.close(self.take())


class Descriptors:
    """Descriptors that a child gets. All that is ours of them is closed with the stack.

    Attributes:
        passed: what the child gets.
    """

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.passed: list[int] = []

    def keep(self, descriptor: int) -> int:
        """Pass a descriptor on."""
        self._stack.callback(os.close, descriptor)
        self.passed.append(descriptor)
        return descriptor

    def pipe(self, *, writes: bool) -> Pipe:
        """Make a pipe that the child writes to, or reads from."""
        read, write = os.pipe()
        pipe = Pipe(write, read) if writes else Pipe(read, write)
        self.keep(pipe.theirs)
        self._stack.callback(pipe.close)
        return pipe

    def content(self, data: bytes) -> int:
        """Pass on bytes of any size, as a file without a name."""
        descriptor = self.keep(os.memfd_create("content", os.MFD_CLOEXEC))
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(descriptor, 0, os.SEEK_SET)
        return descriptor

    def message(self, data: bytes) -> int:
        """Pass on some bytes that can be read once."""
        read, write = os.pipe()
        self.keep(read)
        with os.fdopen(write, "wb") as file:
            file.write(data)
        return read


class Watched:
    """A process that is watched and signalled by a descriptor: its number may become somebody else's.

    Attributes:
        pid: the number; 0: no process is watched yet.
    """

    def __init__(self, pid: int = 0) -> None:
        self.pid = pid
        self._descriptor = -1
        self._ended = asyncio.Event()
        if pid:
            self.watch(pid)
        else:
            self._ended.set()

    def watch(self, pid: int) -> None:
        """Watch a process from now on."""
        self.pid = pid
        self._ended.clear()
        try:
            self._descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            self._ended.set()
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self._over)

    def _over(self) -> None:
        asyncio.get_running_loop().remove_reader(self._descriptor)
        self._ended.set()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if the process is there."""
        if self._descriptor >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._descriptor, number)

    async def gone(self, seconds: float) -> bool:
        """Wait for its end, at most so long."""
        return await happens(self._ended, seconds)

    def reap(self) -> None:
        """Clear away a process that has ended and whose parent has: it is this process's child where that is init."""
        if self._descriptor >= 0:
            with contextlib.suppress(ChildProcessError):
                os.waitid(os.P_PIDFD, self._descriptor, os.WEXITED | os.WNOHANG)

    def close(self) -> None:
        """Watch no longer."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


class Tail(asyncio.Protocol):
    """Keeps the last bytes of a pipe.

    Args:
        most: how many.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = b""

    def data_received(self, data: bytes) -> None:
        """Keep the end of what was there and came."""
        self._kept = (self._kept + data)[-self._most :]

    @property
    def text(self) -> str:
        """What was kept."""
        return self._kept.decode(errors="replace").strip()


class Input(asyncio.Protocol):
    """A pipe to write to, which makes its writer wait while it is full."""

    def __init__(self) -> None:
        self._pipe: asyncio.WriteTransport | None = None
        self._room = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the pipe."""
        self._pipe = cast("asyncio.WriteTransport", transport)
        self._room.set()

    def pause_writing(self) -> None:
        """Let writers wait."""
        self._room.clear()

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        """Let writers find that the pipe has gone."""
        self._pipe = None
        self._room.set()

    async def write(self, data: bytes) -> None:
        """Write, and wait until there is room for more. Raises BrokenPipeError when nobody reads any more."""
        if self._pipe is None or self._pipe.is_closing():
            raise BrokenPipeError("the standard input is closed")
        self._pipe.write(data)
        await self._room.wait()

    def end(self) -> None:
        """Close once all has gone out."""
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.close()

    def drop(self) -> None:
        """Close now."""
        if self._pipe is not None:
            self._pipe.abort()
