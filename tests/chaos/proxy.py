"""What stands between the gateway and the providers: passes answers on, does them harm, counts every request.

A process of its own (`python -m tests.chaos.proxy TARGET SEED DOOR...`), told what to do by lines of JSON on its
standard input. Each provider has a door, which is a port of 127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import re
import socket
import struct
import sys
import time

import msgspec
from tests.chaos.faults import Fault, FaultKind

__all__ = ["Command", "Report", "Request"]

_LIMIT = 1 << 24
_MARK = re.compile(rb"chaos-(\d+)")
_STATUS = {401: "Unauthorized", 429: "Too Many Requests", 503: "Service Unavailable"}
_KEYS = ("authorization", "x-api-key", "x-goog-api-key")


class Request(msgspec.Struct, frozen=True):
    """A request that came.

    Attributes:
        door: the provider.
        at: when, in seconds since the epoch.
        chat: number of the chat that it is for; -1: it names none.
        digest: SHA-256 of its body.
        body: itself.
        struck: the fault was done to it.
    """

    door: str
    at: float
    chat: int
    digest: str
    body: str
    struck: bool


class Command(msgspec.Struct, frozen=True):
    """What the proxy shall do: give doors a fault, or tell what came since it was asked last.

    Attributes:
        doors: whose fault is set.
        fault: the fault.
        report: tell the requests, and forget them.
    """

    doors: tuple[str, ...] = ()
    fault: Fault = Fault()
    report: bool = False


class Report(msgspec.Struct, frozen=True):
    """What the proxy tells.

    Attributes:
        ports: by door.
        requests: that came since the last report.
        held: connections on which it is silent now.
    """

    ports: dict[str, int]
    requests: list[Request]
    held: int


class _Head(msgspec.Struct):
    first: str
    headers: dict[str, str]

    def encode(self) -> bytes:
        lines = [self.first, *(f"{name}: {value}" for name, value in self.headers.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class _Answer(msgspec.Struct, frozen=True):
    """A provider's whole answer. Its pieces are its events, or its one body."""

    head: _Head
    pieces: list[bytes]


class _Draws:
    """Decides which requests a fault strikes."""

    def __init__(self, fault: Fault, random_: random.Random) -> None:
        self.fault = fault
        self.random = random_
        self._left = 0
        self._striking = False

    def strikes(self) -> bool:
        if self.fault.kind is FaultKind.NONE:
            return False
        if not self.fault.burst:
            return self.random.random() < self.fault.share
        if not self._left:
            self._striking = not self._striking
            self._left = self.random.randint(1, self.fault.burst)
        self._left -= 1
        return self._striking


class Door:
    """One provider's address.

    Args:
        name: of the provider.
        target: ``host:port`` of the real one.
        seed: of what is drawn here.
    """

    def __init__(self, name: str, target: str, seed: int) -> None:
        self._name = name
        self._host, _, port = target.rpartition(":")
        self._target_port = int(port)
        self._random = random.Random(f"{seed} {name}")  # noqa: S311 - chance that can be repeated
        self._draws = _Draws(Fault(), self._random)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.requests: list[Request] = []
        self.held = 0

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._writers)

    async def set(self, fault: Fault) -> None:
        """Do harm in this way from now on."""
        self._draws = _Draws(fault, self._random)
        if fault.kind is FaultKind.KILLED:
            await self.close()
        else:
            await self.open()

    async def open(self) -> None:
        """Listen, if it does not; always on the same port."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, limit=_LIMIT, backlog=1024)
            self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening, and end every connection."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        for writer in tuple(self._writers):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Take one request and answer it. Returns whether the connection goes on."""
        head = await _read_head(reader)
        body = await reader.readexactly(int(head.headers.get("content-length", "0")))
        draws = self._draws
        struck = draws.strikes()
        self._note(body, struck=struck)
        kind = draws.fault.kind if struck else FaultKind.NONE
        if kind is FaultKind.DROPS:
            _reset(writer)
            return False
        if kind is FaultKind.HANGS:
            return await self._hang(reader)
        refusal = _refusal(draws.fault) if struck else None
        if refusal is not None:
            writer.write(refusal)
            await writer.drain()
            return True
        if kind is FaultKind.WRONG_KEY:
            head.headers.update({name: _other_key(head.headers[name]) for name in _KEYS if name in head.headers})
        answer = await self._ask(head, body)
        return await self._tell(answer, draws.fault if struck else Fault(), reader, writer)

    def _note(self, body: bytes, *, struck: bool) -> None:
        mark = _MARK.search(body)
        number = int(mark[1]) if mark else -1
        digest = hashlib.sha256(body).hexdigest()
        self.requests.append(Request(self._name, time.time(), number, digest, body.decode("utf-8", "replace"), struck))

    async def _hang(self, reader: asyncio.StreamReader) -> bool:
        """Be silent until the other side goes."""
        self.held += 1
        try:
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
        finally:
            self.held -= 1
        return False

    async def _ask(self, head: _Head, body: bytes) -> _Answer:
        reader, writer = await asyncio.open_connection(self._host, self._target_port, limit=_LIMIT)
        try:
            writer.write(_Head(head.first, {**head.headers, "connection": "close"}).encode() + body)
            await writer.drain()
            answered = await _read_head(reader)
            whole = await _read_body(answered, reader)
        finally:
            writer.close()
        for name in ("connection", "keep-alive", "transfer-encoding", "content-length"):
            answered.headers.pop(name, None)
        streamed = answered.headers.get("content-type", "").startswith("text/event-stream")
        pieces = [event + b"\n\n" for event in whole.split(b"\n\n") if event] if streamed else [whole]
        return _Answer(answered, pieces)

    async def _tell(
        self, answer: _Answer, fault: Fault, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Pass an answer on, harmed. Returns whether the connection goes on."""
        head = _Head(answer.head.first, {**answer.head.headers, "transfer-encoding": "chunked"}).encode()
        pieces, middle = answer.pieces, len(answer.pieces) // 2
        match fault.kind:
            case FaultKind.HANGS_MIDWAY:
                writer.write(head + b"".join(map(_chunk, pieces[:middle])))
                await writer.drain()
                return await self._hang(reader)
            case FaultKind.CUT_EARLY:
                await self._cut(writer, self._random.choice([b"", head, head + _torn(pieces[0])]))
                return False
            case FaultKind.CUT_MIDWAY:
                await self._cut(writer, head + b"".join(map(_chunk, pieces[:middle])) + _torn(pieces[middle]))
                return False
            case FaultKind.BAD_JSON_EARLY:
                pieces = [_spoilt(pieces[0]), *pieces[1:]]
            case FaultKind.BAD_JSON_MIDWAY:
                pieces = [*pieces[:middle], _spoilt(pieces[middle]), *pieces[middle + 1 :]]
            case FaultKind.DRIPS:
                await _drip(head, pieces, fault.pause, writer)
                return True
            case _:
                pass
        writer.write(head + b"".join(map(_chunk, pieces)) + b"0\r\n\r\n")
        await writer.drain()
        return True

    async def _cut(self, writer: asyncio.StreamWriter, last_words: bytes) -> None:
        writer.write(last_words)
        await writer.drain()
        if self._random.random() < 0.5:
            # A reset throws away what the other side has not read yet; what was sent shall have been seen.
            await asyncio.sleep(0.05)
            _reset(writer)


async def _read_head(reader: asyncio.StreamReader) -> _Head:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
    return _Head(
        first, {name.strip().lower(): value.strip() for name, _, value in (row.partition(":") for row in lines)}
    )


async def _read_body(head: _Head, reader: asyncio.StreamReader) -> bytes:
    if head.headers.get("transfer-encoding", "").lower() != "chunked":
        length = head.headers.get("content-length")
        return await (reader.read() if length is None else reader.readexactly(int(length)))
    parts: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        parts.append((await reader.readexactly(size + 2))[:-2])
    return b"".join(parts)


def _chunk(piece: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(piece), piece)


def _torn(piece: bytes) -> bytes:
    """Return the first half of a chunk."""
    chunk = _chunk(piece)
    return chunk[: len(chunk) // 2]


def _spoilt(piece: bytes) -> bytes:
    """Return an event or a body whose JSON ends too early, and goes on with what does not belong there."""
    begin, end = piece.index(b"{"), piece.rindex(b"}")
    return piece[: (begin + end) // 2] + b"<oops>" + piece[end + 1 :]


def _other_key(value: str) -> str:
    return value[:-4] + "0000"


def _refusal(fault: Fault) -> bytes | None:
    """Return the answer of a provider that does not take the request; None: it does."""
    statuses = {FaultKind.RATE_LIMITED: 429, FaultKind.OVERLOADED: 503}
    status = statuses.get(fault.kind)
    if status is None:
        return None
    body = b'{"error":{"message":"not now","type":"server_error","code":null}}'
    headers = {"content-type": "application/json", "content-length": str(len(body))}
    if status == 429:
        headers["retry-after"] = str(fault.retry_after)
    return _Head(f"HTTP/1.1 {status} {_STATUS[status]}", headers).encode() + body


async def _drip(head: bytes, pieces: list[bytes], pause: float, writer: asyncio.StreamWriter) -> None:
    writer.write(head)
    for byte in b"".join(pieces):
        writer.write(b"1\r\n%c\r\n" % byte)
        await writer.drain()
        await asyncio.sleep(pause)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    """End a connection by RST."""
    connection = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def _do(command: Command, doors: dict[str, Door]) -> Report:
    for name in command.doors:
        await doors[name].set(command.fault)
    requests: list[Request] = []
    if command.report:
        for door in doors.values():
            requests.extend(door.requests)
            door.requests = []
    ports = {name: door.port for name, door in doors.items()}
    return Report(ports, requests, sum(door.held for door in doors.values()))


async def _main(target: str, seed: int, names: list[str]) -> None:
    doors = {name: Door(name, target, seed) for name in names}
    for door in doors.values():
        await door.open()
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    try:
        while line := await commands.readline():
            report = await _do(msgspec.json.decode(line, type=Command), doors)
            sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
            sys.stdout.buffer.flush()
    finally:
        for door in doors.values():
            await door.close()


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
