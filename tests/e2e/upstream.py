"""What stands between the server and a provider: passes bytes on, writes requests down, sees who hangs up.

It can also answer by itself, with bytes that were recorded elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_HEAD_LIMIT = 1 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer to give instead of asking somebody.

    Attributes:
        pieces: the body, as it goes to the wire, one write each.
        status: HTTP status.
        content_type: of the body.
        headers: further ones.
        cut: break the connection after the pieces, without the end of the body; without pieces, before any answer.
    """

    pieces: Sequence[bytes]
    status: int = 200
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()
    cut: bool = False


@dataclass(slots=True)
class Exchange:
    """One request that came, and how its connection ended.

    Attributes:
        hung_up: the server closed the connection before the answer was over.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    hung_up: bool = False
    over: threading.Event = field(default_factory=threading.Event)

    def json(self) -> Any:
        return json.loads(self.body)


class Upstream:
    """A provider's address that passes requests on to the real one.

    Args:
        target: ``host:port`` of the real one; empty: there is none, every answer is scripted.
        headers: what to add to requests that are passed on, for clients that cannot send it.
    """

    def __init__(self, target: str = "", headers: Mapping[str, str] | None = None) -> None:
        self._target = target
        self._headers = dict(headers or {})
        self.exchanges: list[Exchange] = []
        self.answers: deque[Answer] = deque()
        self.address = ""
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="upstream")

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    @property
    def last(self) -> Exchange:
        """The last request for an answer."""
        return [exchange for exchange in self.exchanges if exchange.method == "POST"][-1]

    def start(self) -> None:
        self._thread.start()
        self._ready.wait()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        tasks: set[asyncio.Task[None]] = set()

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._handle(reader, writer))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        self.address = "{}:{}".format(*server.sockets[0].getsockname())
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            exchange = await _read_request(reader)
            if exchange is None:
                return
            self.exchanges.append(exchange)
            try:
                if self.answers:
                    await _answer(self.answers.popleft(), writer)
                else:
                    await self._pass_on(exchange, reader, writer)
            finally:
                exchange.over.set()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _pass_on(self, exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, _, port = self._target.rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(host, int(port))
        try:
            far_writer.write(_request_bytes(exchange, self._headers))
            await far_writer.drain()
            answer = asyncio.ensure_future(_relay(far_reader, writer))
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
            exchange.hung_up = not answer.done()
            for task in (answer, gone):
                task.cancel()
            await asyncio.gather(answer, gone, return_exceptions=True)
        finally:
            far_writer.transport.abort()


async def _read_request(reader: asyncio.StreamReader) -> Exchange | None:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Exchange(method, path, headers, body)


def _request_bytes(exchange: Exchange, added: Mapping[str, str]) -> bytes:
    # One request for each connection: then the end of the answer is the end of the connection.
    headers = {**exchange.headers, **added, "connection": "close"}
    lines = [f"{exchange.method} {exchange.path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + exchange.body


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass one answer on, then say that the connection is over, whatever the provider says."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        first, *lines = (await source.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        kept = [line for line in lines if not line.lower().startswith(("connection:", "keep-alive:"))]
        sink.write("\r\n".join([first, *kept, "connection: close", "", ""]).encode("latin-1"))
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in kept)}
        if headers.get("transfer-encoding", "").lower() == "chunked":
            await _relay_chunks(source, sink)
        else:
            sink.write(await source.readexactly(int(headers.get("content-length", "0"))))
        await sink.drain()


async def _relay_chunks(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    size = 1
    while size:
        line = await source.readuntil(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        sink.write(line + await source.readexactly(size + 2))
        await sink.drain()


async def _answer(answer: Answer, writer: asyncio.StreamWriter) -> None:
    if answer.cut and not answer.pieces:
        return
    headers = [("content-type", answer.content_type), ("connection", "close"), ("transfer-encoding", "chunked")]
    lines = [f"{name}: {value}" for name, value in (*headers, *answer.headers)]
    writer.write("\r\n".join([f"HTTP/1.1 {answer.status} Recorded", *lines, "", ""]).encode("latin-1"))
    for piece in answer.pieces:
        writer.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        await writer.drain()
    if not answer.cut:
        writer.write(b"0\r\n\r\n")
        await writer.drain()


@contextlib.contextmanager
def upstream(target: str = "", headers: Mapping[str, str] | None = None) -> Iterator[Upstream]:
    """Run an upstream while the context is entered."""
    running = Upstream(target, headers)
    running.start()
    try:
        yield running
    finally:
        running.close()
