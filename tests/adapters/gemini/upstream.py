"""A small real HTTP server that stands where Google's would, for the tests of the adapter's I/O."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

Handler = Callable[["Exchange"], Awaitable[None]]


@dataclass
class Exchange:
    """One request that came, and the way back.

    Attributes:
        method: HTTP method.
        target: path and query.
        headers: of the request, names in lower case.
        body: of the request.
    """

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    writer: asyncio.StreamWriter

    async def answer(self, body: bytes, status: str = "200 OK", headers: str = "") -> None:
        """Send a whole answer."""
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{headers}\r\n"
        self.writer.write(head.encode() + body)
        await self.writer.drain()

    async def begin(self) -> None:
        """Begin a streamed answer."""
        self.writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        await self.writer.drain()

    async def send(self, data: bytes) -> None:
        """Send a piece of a streamed answer."""
        self.writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        await self.writer.drain()

    async def end(self) -> None:
        """End a streamed answer."""
        self.writer.write(b"0\r\n\r\n")
        await self.writer.drain()


@dataclass
class Upstream:
    """The server.

    Attributes:
        url: its address.
        seen: the requests that came.
        open: connections that are open now.
        closed: set whenever the last connection has been closed.
    """

    handler: Handler
    url: str = ""
    seen: list[Exchange] = field(default_factory=list)
    open: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until the caller closes it."""
        self.open += 1
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                exchange = await self._read(reader, writer)
                self.seen.append(exchange)
                handling = asyncio.ensure_future(self.handler(exchange))
                gone = asyncio.ensure_future(reader.read(1))
                done, waiting = await asyncio.wait({handling, gone}, return_when=asyncio.FIRST_COMPLETED)
                for task in waiting:
                    task.cancel()
                await asyncio.gather(*waiting, return_exceptions=True)
                if gone in done or writer.is_closing():
                    break
        writer.close()
        self.open -= 1
        if not self.open:
            self.closed.set()

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Exchange:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:] if line)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Exchange(method, target, headers, body, writer)


@contextlib.asynccontextmanager
async def upstream(handler: Handler) -> AsyncIterator[Upstream]:
    """Run a server on a port of its own."""
    one = Upstream(handler)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield one
    finally:
        server.close()
