"""A process in its cage: pipes with bounded buffers, and an end that leaves nobody behind."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import subprocess
from collections.abc import Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from execution_platform.adapters.claude_agent.command import PROGRAM, Command
from execution_platform.adapters.claude_agent.environment import CREDENTIALS
from execution_platform.adapters.claude_agent.errors import OPTION_FIELDS, error_from_refusal
from execution_platform.adapters.claude_agent.guard import guard_files
from execution_platform.adapters.claude_agent.pipes import Descriptors, Input, Tail, Watched, happens
from execution_platform.adapters.claude_agent.sandbox import (
    CONFIG,
    Cage,
    Programs,
    account_files,
    cage_arguments,
    open_workspace,
)
from execution_platform.adapters.errors import (
    AdapterError,
    InvalidRequestError,
    NotConfiguredError,
    UnavailableError,
)

__all__ = ["Process", "uninterrupted"]

_READ_BYTES = 65_536
_TAIL_BYTES = 4_096

#: Seconds that a process gets to end by itself after SIGTERM, and the kernel to clear away what SIGKILL hit.
_TERM_SECONDS = 1.0
_KILL_SECONDS = 5.0

#: Seconds from the end of its output to its own.
_EXIT_SECONDS = 5.0


_REMEDY = " (it needs user namespaces; in a container also the right to make them, and a /proc without masks)"


class _Status(asyncio.Protocol):
    """What bubblewrap tells: the cage's first process, then the program's exit code."""

    def __init__(self) -> None:
        self._received = b""
        self._begun = asyncio.Event()
        self._over = asyncio.Event()
        self.cage = Watched()
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
        return await happens(self._begun, seconds)

    async def over(self, seconds: float) -> bool:
        """Wait until nothing more will be told."""
        return await happens(self._over, seconds)


class Process:
    """One program in one cage, begun by :meth:`start`."""

    def __init__(
        self, popen: subprocess.Popen[bytes], secrets: Sequence[str] = (), fields: Mapping[str, str] = OPTION_FIELDS
    ) -> None:
        self._popen = popen
        self._secrets = secrets
        self._fields = fields
        self._spoke = False
        self._ending: asyncio.Task[None] | None = None
        self._status = _Status()
        self._errors = Tail(_TAIL_BYTES)
        self._reader = asyncio.StreamReader(limit=_READ_BYTES)
        self._outer = Watched(popen.pid)
        self._transports: list[asyncio.BaseTransport] = []
        self._input = Input()

    @classmethod
    async def start(cls, cage: Cage, command: Command, programs: Programs) -> Process:
        """Start the command in the cage.

        Raises:
            InvalidRequestError: the workspace is not what it was when it was checked, or the options are too long.
            NotConfiguredError: bubblewrap is missing or cannot be run.
            UnavailableError: the program is missing or may not be executed.
        """
        _check_program(programs.cli)
        with contextlib.ExitStack() as ours:
            theirs = Descriptors(ours)
            stdin, stdout, stderr, status = (theirs.pipe(writes=name != "stdin") for name in _PIPES)
            environment = _environment(cage.environment, theirs)
            workspace = None if cage.workspace is None else theirs.keep(open_workspace(cage.workspace))
            files = {**account_files(), **guard_files(), **command.files}
            data = {path: theirs.content(text) for path, text in files.items()}
            arguments = cage_arguments(
                cage, programs, workspace=workspace, data=data, status=status.theirs, program=PROGRAM
            )
            # What the folders of this machine are called is nothing that a run, which reads command lines, shall know.
            told = theirs.content(b"".join(os.fsencode(argument) + b"\0" for argument in arguments))
            try:
                popen = subprocess.Popen(  # noqa: ASYNC220, S603 - it returns once bubblewrap runs, some milliseconds
                    [str(programs.bwrap), "--args", str(told), "--", *command.arguments],
                    stdin=stdin.theirs,
                    stdout=stdout.theirs,
                    stderr=stderr.theirs,
                    env=environment,
                    pass_fds=theirs.passed,
                    cwd="/",
                    start_new_session=True,
                )
            except OSError as error:
                if error.errno == errno.E2BIG:
                    raise InvalidRequestError("the run's options are too long for a command line") from error
                raise NotConfiguredError(f"bubblewrap cannot be run: {error.strerror}") from error
            process = cls(popen, _secrets(cage.environment), command.fields)
            try:
                await uninterrupted(process._connect(*(pipe.take() for pipe in (stdin, stdout, stderr, status))))
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
        data = await self._reader.read(_READ_BYTES)
        self._spoke = self._spoke or bool(data)
        return data

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

    async def failure(self, said: str = "") -> AdapterError:
        """Return what it means that the program has ended, or stands still, without a result.

        Args:
            said: what else there is to say, where it has complained of nothing.
        """
        await self._outer.gone(_EXIT_SECONDS) and await self._status.over(_EXIT_SECONDS)
        words = self._errors.text or said
        for secret in self._secrets:
            words = words.replace(secret, "[key]")
        told = f": {words}" if words else ""
        code = self._status.exit_code
        if code is None and self._popen.poll() not in {None, -signal.SIGKILL}:
            return NotConfiguredError(f"the cage of a run cannot be built here{told}{_REMEDY}")
        if code is None:
            return UnavailableError(f"Claude Code has stopped answering{told}")
        # Once it has said anything, its options were good: what it complains of is a run's affair.
        refusal = error_from_refusal(words, self._fields) if code == 1 and not self._spoke else None
        if refusal is not None:
            return refusal
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
            self._status.cage.reap()
            self._status.cage.close()

    def _terminate(self) -> bool:
        """Ask the program to end; the cage's first process would not pass it on."""
        first = self._status.cage.pid
        with contextlib.suppress(OSError, IndexError):
            program = _children(first)[0]
            descriptor = os.pidfd_open(program)
            try:
                # It is still that one: the number was not given to another process meanwhile.
                if program in _children(first):
                    signal.pidfd_send_signal(descriptor, signal.SIGTERM)
                    return True
            finally:
                os.close(descriptor)
        return False


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


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


def _environment(given: Mapping[str, str], theirs: Descriptors) -> dict[str, str]:
    """Return the variables, with credentials in pipes: whatever the run starts finds those empty."""
    environment = {**given, "CLAUDE_CONFIG_DIR": CONFIG}
    for name, by_descriptor in CREDENTIALS.items():
        credential = environment.pop(name, "")
        if credential:
            environment[by_descriptor] = str(theirs.message(credential.encode()))
    return environment
