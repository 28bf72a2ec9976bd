"""A small HTTP server in the test's own loop, which answers as it is told and counts who is connected."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """A request as it came."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        """Path and query."""
        return self.line.split(" ")[1]

    def json(self) -> Any:
        return json.loads(self.body)


class Reply:
    """Writes the answer to one request."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer

    async def head(self, status: int = 200, content_type: str = "text/event-stream", **headers: str) -> None:
        """Send the head of a chunked answer."""
        lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}", "transfer-encoding: chunked"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self._send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def piece(self, data: bytes) -> None:
        """Send a chunk."""
        await self._send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        """Send the last chunk."""
        await self._send(b"0\r\n\r\n")

    async def json(self, value: Any, status: int = 200, **headers: str) -> None:
        """Send a whole answer; bytes are JSON that stands as it is."""
        await self.head(status, "application/json", **headers)
        await self.piece(value if isinstance(value, bytes) else json.dumps(value).encode())
        await self.end()

    async def stream(self, data: bytes, **headers: str) -> None:
        """Send a whole stream, in a few pieces."""
        await self.head(200, "text/event-stream", **headers)
        for at in range(0, len(data), 100):
            await self.piece(data[at : at + 100])
        await self.end()

    async def cut(self) -> None:
        """Hang up in the middle of the answer."""
        self._writer.close()

    async def hold(self) -> None:
        """Say nothing more until the other side goes away."""
        await asyncio.Event().wait()

    async def _send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()


Handler = Callable[[Received, Reply], Awaitable[None]]


@dataclass
class Upstream:
    """The server: its address, what it received, and how many are connected.

    `quiet` is set while nobody is.
    """

    handler: Handler
    port: int = 0
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    quiet: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.quiet.clear()
        try:
            # Cancelled only by the server's end, when nobody waits for this task.
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._requests(reader, writer)
        finally:
            self.connections -= 1
            if not self.connections:
                self.quiet.set()
            self.tasks.discard(task)
            writer.close()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            line, *rest = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (text.partition(":") for text in rest)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(line, headers, body))
            answering = asyncio.ensure_future(self.handler(self.received[-1], Reply(writer)))
            # Whoever goes away while an answer is under way ends it.
            leaving = asyncio.ensure_future(reader.read(1))
            try:
                await asyncio.wait({answering, leaving}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    return
            finally:
                answering.cancel()
                leaving.cancel()
                await asyncio.gather(answering, leaving, return_exceptions=True)
            answering.result()


@contextlib.asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[Upstream]:
    """Serve on a free port of the loopback until the block ends."""
    served = Upstream(handler)
    server = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.port = server.sockets[0].getsockname()[1]
    try:
        yield served
    finally:
        server.close()
        for task in list(served.tasks):
            task.cancel()
        await asyncio.gather(*served.tasks, return_exceptions=True)
        await server.wait_closed()
