"""The mock upstream: a process of raw sockets that answers at once with pinned bytes.

``python -m tests.bench.upstream`` serves on a free port of the loopback and prints it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from typing import cast

import uvloop
from tests.bench.payloads import Format, Shape, sse_of, whole_of

__all__ = ["Answers", "Connection", "serve"]

#: Seconds between pieces of text.
_PACES = {Shape.PACED: 0.02, Shape.HELD: 0.1}

_PATHS = {
    b"/chat/completions": Format.CHAT,
    b"/responses": Format.RESPONSES,
    b"/messages": Format.MESSAGES,
}
_MODEL = re.compile(rb'"model"\s*:\s*"[^"]*bench-(\w+)"')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)


class Answers:
    """The bytes of every answer, made once: a list of writes for each format and shape."""

    def __init__(self) -> None:
        self._writes = {(api, shape): _writes(api, shape) for api in Format for shape in Shape}

    def to(self, path: bytes, body: bytes) -> tuple[Shape, Sequence[bytes]]:
        """Return what a request is answered with. Raises KeyError, ValueError: the request is not the bench's."""
        api = next((api for end, api in _PATHS.items() if path.endswith(end)), None)
        model = _MODEL.search(body)
        if api is None or model is None:
            raise KeyError(path)
        shape = Shape(model[1].decode())
        return shape, self._writes[api, shape]


class Connection(asyncio.Protocol):
    """One connection, kept alive, that answers one request after the other."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's are not of that class

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop answering."""
        del exc
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            length = _LENGTH.search(head)
            start = end + 4
            stop = start + (int(length[1]) if length else 0)
            if len(self._buffer) < stop:
                return
            body, self._buffer = self._buffer[start:stop], self._buffer[stop:]
            self._answer(head.split(b" ", 2)[1].partition(b"?")[0], body)

    def _answer(self, path: bytes, body: bytes) -> None:
        try:
            shape, writes = self._answers.to(path, body)
        except (KeyError, ValueError):
            self._write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}")
            return
        pace = _PACES.get(shape)
        if pace is not None:
            self._write_paced(writes, 0, pace, asyncio.get_running_loop().time())
            return
        for data in writes:
            self._write(data)

    def _write_paced(self, writes: Sequence[bytes], number: int, pace: float, began: float) -> None:
        self._write(writes[number])
        if number + 1 < len(writes):
            self._timer = asyncio.get_running_loop().call_at(
                began + pace * (number + 1), self._write_paced, writes, number + 1, pace, began
            )

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)


def _writes(api: Format, shape: Shape) -> list[bytes]:
    if shape is Shape.UNARY:
        body = whole_of(api)
        return [_head("application/json", b"content-length: %d" % len(body)) + body]
    # Servers send a chunk of the transfer coding for each event.
    chunks = [b"%x\r\n%s\r\n" % (len(data), data) for data in sse_of(api, shape)]
    chunks[0] = _head("text/event-stream; charset=utf-8", b"transfer-encoding: chunked") + chunks[0]
    chunks[-1] += b"0\r\n\r\n"
    return [b"".join(chunks)] if shape is Shape.READY else chunks


def _head(content_type: str, framing: bytes) -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\ndate: Wed, 19 Nov 2025 00:00:00 GMT\r\ncontent-type: %s\r\nx-request-id: req_bench\r\n"
        b"x-ratelimit-limit-requests: 10000\r\nx-ratelimit-remaining-requests: 9999\r\n%s\r\n\r\n"
        % (content_type.encode(), framing)
    )


async def serve() -> asyncio.Server:
    """Serve on a free port of the loopback."""
    answers = Answers()
    return await asyncio.get_running_loop().create_server(lambda: Connection(answers), "127.0.0.1", 0, backlog=2048)


async def _main() -> None:
    async with await serve() as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_main())
