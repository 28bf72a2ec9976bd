"""A process in its cage: pipes with bounded buffers, and an end that leaves nobody behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from execution_platform.adapters.claude_agent.command import PROGRAM, Command
from execution_platform.adapters.claude_agent.environment import CREDENTIALS
from execution_platform.adapters.claude_agent.sandbox import (
    CONFIG,
    Cage,
    Programs,
    account_files,
    cage_arguments,
    open_workspace,
)
from execution_platform.adapters.errors import AdapterError, NotConfiguredError, UnavailableError

__all__ = ["Process", "uninterrupted"]

_READ_BYTES = 65_536
_TAIL_BYTES = 4_096

#: Seconds that a process gets to end by itself after SIGTERM, and the kernel to clear away what SIGKILL hit.
_TERM_SECONDS = 1.0
_KILL_SECONDS = 5.0


class Process:
    """One program in one cage, begun by :meth:`start`."""

    def __init__(self, popen: subprocess.Popen[bytes], secrets: Sequence[str] = ()) -> None:
        self._popen = popen
        self._secrets = secrets
        self._ending: asyncio.Task[None] | None = None
        self._status = _Status()
        self._errors = _Tail(_TAIL_BYTES)
        self._reader = asyncio.StreamReader(limit=_READ_BYTES)
        self._outer = _Watched(popen.pid)
        self._transports: list[asyncio.BaseTransport] = []
        self._input = _Input()

    @classmethod
    async def start(cls, cage: Cage, command: Command, programs: Programs) -> Process:
        """Start the command in the cage.

        Raises:
            InvalidRequestError: the workspace is not what it was when it was checked.
            NotConfiguredError: bubblewrap is missing or cannot be run.
            UnavailableError: the program is missing or may not be executed.
        """
        _check_program(programs.cli)
        with contextlib.ExitStack() as ours:
            theirs = _Descriptors(ours)
            stdin, stdout, stderr, status = (theirs.pipe(writes=name != "stdin") for name in _PIPES)
            environment = _environment(cage.environment, theirs)
            workspace = None if cage.workspace is None else theirs.keep(open_workspace(cage.workspace))
            data = {path: theirs.content(text) for path, text in {**account_files(), **command.files}.items()}
            arguments = cage_arguments(
                cage, programs, workspace=workspace, data=data, status=status.theirs, program=PROGRAM
            )
            try:
                popen = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns once bubblewrap runs, some milliseconds
                    [*arguments, *command.arguments],
                    stdin=stdin.theirs,
                    stdout=stdout.theirs,
                    stderr=stderr.theirs,
                    env=environment,
                    pass_fds=theirs.passed,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                raise NotConfiguredError(f"bubblewrap cannot be run: {error.strerror}") from error
            process = cls(popen, _secrets(cage.environment))
            try:
                await process._connect(*(pipe.take() for pipe in (stdin, stdout, stderr, status)))
            except BaseException:
                await process.end()
                raise
        return process

    async def _connect(self, stdin: int, stdout: int, stderr: int, status: int) -> None:
        loop = asyncio.get_running_loop()
        files = [os.fdopen(descriptor, mode) for descriptor, mode in ((stdin, "wb"), (stdout, "rb"))]
        files += [os.fdopen(descriptor, "rb") for descriptor in (stderr, status)]
        await loop.connect_write_pipe(lambda: self._input, files[0])
        protocols = (lambda: asyncio.StreamReaderProtocol(self._reader), lambda: self._errors, lambda: self._status)
        for make, file in zip(protocols, files[1:], strict=True):
            transport, _ = await loop.connect_read_pipe(make, file)
            self._transports.append(transport)

    async def write(self, data: bytes) -> None:
        """Write to its standard input; waits while it does not read. Raises OSError when it has gone."""
        await self._input.write(data)

    def end_input(self) -> None:
        """Close its standard input, once what was written has gone out."""
        self._input.end()

    async def read(self) -> bytes:
        """Return the next bytes of its standard output; empty: it is over. Nothing is read ahead but some KiB."""
        return await self._reader.read(_READ_BYTES)

    async def exited(self, seconds: float) -> bool:
        """Wait for the program's end, at most so long, and tell whether it came."""
        return await self._outer.gone(seconds) and await self._status.over(seconds)

    async def end(self, patience: float = 0.0) -> None:
        """End every process of the cage: by itself, by SIGTERM, by SIGKILL. Bounded; idempotent; not to be cancelled.

        Args:
            patience: seconds that it gets to end by itself.
        """
        if self._ending is None:
            self._ending = asyncio.get_running_loop().create_task(self._end(patience))
        await uninterrupted(self._ending)

    async def _end(self, patience: float) -> None:
        try:
            # Killed before it tells of the cage's first process, bubblewrap would leave that one waiting for ever.
            await self._status.begun(_KILL_SECONDS)
            if not await self._outer.gone(patience) and self._terminate():
                await self._outer.gone(_TERM_SECONDS)
            self.kill_soon()
            await self._outer.gone(_KILL_SECONDS)
        finally:
            self._outer.signal(signal.SIGKILL)
            self._input.drop()
            for transport in self._transports:
                transport.close()
            await self._cleared()

    def kill_soon(self) -> None:
        """Kill the cage, if it stands; :meth:`end` does it otherwise, and waits."""
        self._status.cage.signal(signal.SIGKILL)

    def failure(self, said: str = "") -> AdapterError:
        """Return what it means that the program ended, or stands, without a result.

        Args:
            said: what else there is to say.
        """
        words = self._errors.text or said
        for secret in self._secrets:
            words = words.replace(secret, "[key]")
        told = f": {words}" if words else ""
        code = self._status.exit_code
        if code is None and self._popen.poll() not in {None, -signal.SIGKILL}:
            return NotConfiguredError(f"the cage of a run cannot be built on this machine{told}")
        if code is None:
            return UnavailableError(f"Claude Code has stopped answering{told}")
        how = f"was ended by signal {code - 128}" if code > 128 else f"ended with exit code {code}"
        return UnavailableError(f"Claude Code {how} without a result{told}")

    async def _cleared(self) -> None:
        """Wait until the kernel has cleared away the cage: its first process ends last."""
        try:
            await self._outer.gone(_KILL_SECONDS)
            await self._status.cage.gone(_KILL_SECONDS)
        finally:
            self._popen.poll()
            self._outer.close()
            self._status.cage.close()

    def _terminate(self) -> bool:
        """Ask the program to end; the cage's first process would not pass it on."""
        first = self._status.cage.pid
        if not first:
            return False
        with contextlib.suppress(OSError, ValueError):
            children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            return True
        return False


_PIPES = ("stdin", "stdout", "stderr", "status")


async def uninterrupted(ending: Coroutine[Any, Any, None] | asyncio.Task[None]) -> None:
    """Wait for an end that is bounded, also when whoever waits is cancelled meanwhile; raise that afterwards."""
    task = asyncio.ensure_future(ending)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    task.result()
    if cancelled is not None:
        raise cancelled


def _secrets(environment: Mapping[str, str]) -> list[str]:
    return [value for name in CREDENTIALS if (value := environment.get(name))]


def _check_program(path: Path) -> None:
    if not path.is_file():
        raise UnavailableError("Claude Code is missing: its file is not there", retryable=False)
    if not os.access(path, os.X_OK):
        raise UnavailableError("Claude Code cannot be run: its file may not be executed", retryable=False)


def _environment(given: Mapping[str, str], theirs: _Descriptors) -> dict[str, str]:
    """Return the variables, with credentials in pipes: whatever the run starts finds those empty."""
    environment = {**given, "CLAUDE_CONFIG_DIR": CONFIG}
    for name, by_descriptor in CREDENTIALS.items():
        credential = environment.pop(name, "")
        if credential:
            environment[by_descriptor] = str(theirs.message(credential.encode()))
    return environment


class _Pipe:
    """One end for the child, one for us."""

    def __init__(self, theirs: int, ours: int) -> None:
        self.theirs = theirs
        self._ours = ours

    def take(self) -> int:
        """Return our end; who takes it closes it."""
        taken, self._ours = self._ours, -1
        return taken

    def close(self) -> None:
        if self._ours >= 0:
            os.close(self.take())


class _Descriptors:
    """Descriptors that a child gets; ours of them are closed when the stack is."""

    def __init__(self, stack: contextlib.ExitStack) -> None:
        self._stack = stack
        self.passed: list[int] = []

    def keep(self, descriptor: int) -> int:
        """Pass a descriptor on."""
        self._stack.callback(os.close, descriptor)
        self.passed.append(descriptor)
        return descriptor

    def pipe(self, *, writes: bool) -> _Pipe:
        """Make a pipe that the child writes to, or reads from."""
        read, write = os.pipe()
        pipe = _Pipe(write, read) if writes else _Pipe(read, write)
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


class _Watched:
    """A process that is watched and signalled by a descriptor: its number may become somebody else's."""

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
        return await _happens(self._ended, seconds)

    def close(self) -> None:
        """Watch no longer."""
        if self._descriptor >= 0:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1


async def _happens(event: asyncio.Event, seconds: float) -> bool:
    """Wait for an event, at most so long, and tell whether it came."""
    if not event.is_set() and seconds > 0:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
    return event.is_set()


class _Status(asyncio.Protocol):
    """What bubblewrap tells: the cage's first process, then the program's exit code."""

    def __init__(self) -> None:
        self._received = b""
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self.cage = _Watched()
        self.exit_code: int | None = None

    def data_received(self, data: bytes) -> None:
        *lines, self._received = (self._received + data).split(b"\n")
        for told in map(json.loads, filter(None, lines)):
            if "child-pid" in told:
                self.cage.watch(told["child-pid"])
                self._begun.set()
            self.exit_code = told.get("exit-code", self.exit_code)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
        self._begun.set()
        self._over.set()

    async def begun(self, seconds: float) -> bool:
        """Wait until the cage's first process is known, or will never be."""
        return await _happens(self._begun, seconds)

    async def over(self, seconds: float) -> bool:
        """Wait until nothing more will be told."""
        return await _happens(self._over, seconds)


class _Tail(asyncio.Protocol):
    """Keeps the last bytes of a pipe."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept = b""

    def data_received(self, data: bytes) -> None:
        self._kept = (self._kept + data)[-self._most :]

    @property
    def text(self) -> str:
        return self._kept.decode(errors="replace").strip()


class _Input(asyncio.Protocol):
    """A pipe to write to, which makes its writer wait while it is full."""

    def __init__(self) -> None:
        self._pipe: asyncio.WriteTransport | None = None
        self._room = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._pipe = cast("asyncio.WriteTransport", transport)
        self._room.set()

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's name
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
