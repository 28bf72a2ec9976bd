"""Those who are told of alerts, on loopback: a webhook's receiver and a mail server, which may come late."""

from __future__ import annotations

import asyncio
import email.policy
import json
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, Envelope, Session
from tests.ports import lasting_port


class Webhook:
    """Takes POSTs of JSON.

    Attributes:
        port: that it listens on, once it does.
        taken: path, headers in lower case, and body of each.
        answers: while it is set.
    """

    def __init__(self, status: int = 204) -> None:
        self.port = lasting_port()
        self.status = status
        self.taken: list[tuple[str, dict[str, str], dict[str, Any]]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self._news = asyncio.Condition()
        self._server: asyncio.Server | None = None

    async def has_taken(self, count: int) -> None:
        """Wait until it has taken so many."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.taken) >= count)

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in head[1:] if line)
        body = await reader.readexactly(int(headers["content-length"]))
        async with self._news:
            self.taken.append((head[0].split()[1], headers, json.loads(body)))
            self._news.notify_all()
        await self.answers.wait()
        writer.write(f"HTTP/1.1 {self.status} Done\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()


class HangingWebhook:
    """Takes a request and answers it with a byte now and then, for ever.

    Attributes:
        asked: how often it was.
        reached: whether it was.
    """

    def __init__(self) -> None:
        self.port = lasting_port()
        self.asked = 0
        self.reached = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._served: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Let go of everybody."""
        for task in self._served:
            task.cancel()
        await asyncio.gather(*self._served, return_exceptions=True)
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._served.add(asyncio.create_task(self._serve(reader, writer)))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.reached.set()
            writer.write(b"HTTP/1.1 200 OK\r\nx-wait: ")
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.1)
        finally:
            writer.close()


class Mailbox:
    """A mail server that keeps what it is given.

    Attributes:
        port: that it listens on, once it does.
        letters: in the order in which they came.
        to: who they are for.
    """

    def __init__(self) -> None:
        self.port = lasting_port()
        self.letters: list[EmailMessage] = []
        self.to: list[list[str]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname="mail.example.test", enable_SMTPUTF8=True), "127.0.0.1", self.port
        )

    async def stop(self) -> None:
        """Listen no more."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            await server.wait_closed()

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802 - the name aiosmtpd calls
        """Keep a letter."""
        assert isinstance(envelope.content, bytes)
        self.letters.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.to.append(list(envelope.rcpt_tos))
        return "250 OK"
