"""Between the SDK and a caged process: control lines go to the SDK, all others, as they are, to the translation."""

from __future__ import annotations

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from claude_agent_sdk import Transport

from execution_platform.adapters.claude_agent.process import Process
from execution_platform.adapters.errors import AdapterError, StreamBrokenError, UnavailableError

__all__ = ["Link"]

#: Pieces of output that wait for their reader; the program waits behind them.
_MOST_WAITING = 4

#: A line is one message: a tool's result may be an image, which nothing needs to hold twice over.
_LONGEST_LINE = 64 << 20

#: Seconds after its result in which the program should end. It waits for what it runs in the background.
_LINGER_SECONDS = 2.0


class _Kind(msgspec.Struct):
    type: str = ""
    status: Any = None


_read_kind = msgspec.json.Decoder(_Kind).decode


class Link(Transport):
    """The SDK's transport over a process that somebody else starts and ends.

    Attributes:
        startup_seconds: from the process's start to its first line; None: there was none yet.
        asked: the model may have been asked.
        answering: a part of an answer has come.
        complete: the program has told its result.
        lingers: it went on for long after that, and is not listened to any more.
        noise: the last line that was no message.
    """

    def __init__(self, process: Process, started: float) -> None:
        self._process = process
        self._started = started
        self._pieces = _Pieces(_MOST_WAITING)
        self.startup_seconds: float | None = None
        self.asked = False
        self.answering = False
        self.complete = False
        self.lingers = False
        self.noise = ""

    async def connect(self) -> None:
        """Do nothing: the process runs."""

    def is_ready(self) -> bool:
        """Tell that it may be written to."""
        return True

    async def write(self, data: str) -> None:
        """Hand the SDK's line to the program. Raises OSError when it has gone."""
        await self._process.write(data.encode())

    async def end_input(self) -> None:
        """Tell the program that no more messages come."""
        self._process.end_input()

    async def close(self) -> None:
        """Do nothing: who started the process ends it."""

    async def read_messages(self) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the control messages; wait while nobody takes the output.

        Fails the output where the program ends before its result. The SDK is not told: it would only log that.
        """
        pending: list[bytes] = []
        while data := await self._next():
            if self.startup_seconds is None:
                self.startup_seconds = time.monotonic() - self._started
            pending.append(data)
            if b"\n" not in data:
                if sum(map(len, pending)) > _LONGEST_LINE:
                    self.fail(UnavailableError("Claude Code wrote a line without an end"))
                    return
                continue
            *lines, rest = b"".join(pending).split(b"\n")
            pending = [rest]
            output: list[bytes] = []
            for line in lines:
                kind = self._read(line)
                if kind.startswith("control_"):
                    yield json.loads(line)
                elif kind:
                    output.append(line + b"\n")
            if output:
                await self._pieces.put(b"".join(output))
        if not self.complete and not self._pieces.closed:
            self.fail(await self._process.failure(self.noise))

    async def _next(self) -> bytes:
        """Return what the program writes next; empty: it is over, or has been for long."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS if self.complete else None):
                return await self._process.read()
        except TimeoutError:
            self.lingers = True
            return b""

    def _read(self, line: bytes) -> str:
        """Return the type of a message; empty: it is none, as where a library prints a warning."""
        try:
            message = _read_kind(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.noise = line[:500].decode(errors="replace").strip() or self.noise
            return ""
        self.answering = self.answering or message.type in {"stream_event", "assistant"}
        self.asked = self.asked or self.answering or message.status == "requesting"
        self.complete = self.complete or message.type == "result"
        return message.type

    async def output(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines as they were written. Raises what :meth:`fail` was told first."""
        while piece := await self._pieces.get():
            yield piece

    def finish(self) -> None:
        """End the output."""
        self._pieces.close(None)

    def fail(self, error: AdapterError) -> None:
        """End the output with an error, placed where it came: after the model was asked, or before. The first counts.

        A run that has told its result has not failed.
        """
        if type(error) is UnavailableError and not self.asked:
            error.asked = False  # the program's failure says nothing of its model
        if type(error) is UnavailableError and self.answering:
            error = StreamBrokenError(error.message, retryable=error.told)
        error.unanswered = self.asked
        self._pieces.close(None if self.complete else error)


class _Pieces:
    """What one writes and another reads, at most some pieces ahead."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._waiting: deque[bytes] = deque()
        self._changed = asyncio.Event()
        self.closed = False
        self._error: AdapterError | None = None

    async def put(self, piece: bytes) -> None:
        """Add a piece; waits while there are too many. Once it is closed, nothing is added."""
        while len(self._waiting) >= self._most and not self.closed:
            await self._change()
        if not self.closed:
            self._waiting.append(piece)
            self._changed.set()

    async def get(self) -> bytes:
        """Take a piece; waits for one. Empty: there will be none. Raises the error that it was closed with."""
        while not self._waiting and not self.closed:
            await self._change()
        if self._waiting:
            piece = self._waiting.popleft()
            self._changed.set()
            return piece
        if self._error is not None:
            raise self._error
        return b""

    def close(self, error: AdapterError | None) -> None:
        if not self.closed:
            self.closed, self._error = True, error
            self._changed.set()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()
