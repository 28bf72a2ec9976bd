"""Writes one stream of ChatResponses: numbers events, keeps messages small, and tells that the stream lives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator

from execution_platform.server.chat.pipeline import CallerGoneError
from execution_platform.v1 import chat_pb2

__all__ = ["ResponseStream"]

#: Largest message, in bytes: other languages' clients take 4 MiB by default.
_MAX_MESSAGE_BYTES = 1_048_576

#: Seconds between two tries, and for all of them, to write behind a message whose write was interrupted.
_RETRY_SECONDS, _BEHIND_SECONDS = 0.01, 1.0

Write = Callable[[chat_pb2.ChatResponse], Awaitable[None]]


class ResponseStream:
    """The caller's end of one chat.

    Events that come together travel together; nothing waits to fill a message. While a write is blocked nothing
    is read from the provider, so what piles up there travels together as well.

    Args:
        write: writes a message to the caller; it may raise anything once the caller is gone.
        heartbeat: seconds of silence after which a heartbeat is sent.
    """

    def __init__(self, write: Write, heartbeat: float) -> None:
        self._write = write
        self._heartbeat = heartbeat
        self._loop = asyncio.get_running_loop()
        self._lock = asyncio.Lock()
        self._sequence = 0
        self._interrupted = False
        self._last = self._loop.time()
        self._beat: asyncio.Task[None] | None = None
        self._timer = self._loop.call_later(heartbeat, self._check)

    async def send(self, events: list[chat_pb2.ChatEvent]) -> None:
        """Send events. Raises CallerGoneError when nobody takes them."""
        async with self._lock:
            sequence = self._sequence
            for event in events:
                sequence += 1
                event.sequence = sequence
            response = chat_pb2.ChatResponse(events=events)
            messages = [response] if response.ByteSize() <= _MAX_MESSAGE_BYTES else _split(events)
            for message in messages:
                # Counted before it is written: an interrupted write goes on within grpc.
                self._sequence = message.events[-1].sequence
                await self._put(message)
            self._last = self._loop.time()

    async def aclose(self) -> None:
        """Stop the heartbeat. Idempotent."""
        self._timer.cancel()
        if self._beat is not None and not self._beat.done():
            self._beat.cancel()
            await asyncio.gather(self._beat, return_exceptions=True)

    async def _put(self, message: chat_pb2.ChatResponse) -> None:
        until = self._loop.time() + _BEHIND_SECONDS
        while True:
            try:
                await self._write(message)
            except asyncio.CancelledError:
                self._interrupted = True
                raise
            except Exception as error:
                # grpc raises errors of its own from a write whose call was cancelled; and, since it takes one message
                # at a time, from one behind a write that was interrupted while its caller did not read.
                if not self._interrupted or self._loop.time() > until:
                    raise CallerGoneError from error
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    def _check(self) -> None:
        silent = self._loop.time() - self._last
        if silent >= self._heartbeat and not self._lock.locked():
            self._beat = self._loop.create_task(self._send_heartbeat())
            silent = 0.0
        self._timer = self._loop.call_later(max(0.001, self._heartbeat - silent), self._check)

    async def _send_heartbeat(self) -> None:
        try:
            await self.send([chat_pb2.ChatEvent(heartbeat=chat_pb2.Heartbeat())])
        except CallerGoneError:
            # The chat itself is being cancelled by the same cause.
            self._timer.cancel()


def _split(events: list[chat_pb2.ChatEvent]) -> Iterator[chat_pb2.ChatResponse]:
    message = chat_pb2.ChatResponse()
    size = 0
    for event in events:
        event_size = event.ByteSize()
        if message.events and size + event_size > _MAX_MESSAGE_BYTES:
            yield message
            message = chat_pb2.ChatResponse()
            size = 0
        message.events.append(event)
        size += event_size
    yield message
