"""Reads the messages of a stream as single events, and holds the server to the stream's promises. Does no I/O."""

from __future__ import annotations

from collections import deque

from execution_platform.client.answer import Answer
from execution_platform.client.errors import CallCancelledError, ProtocolViolationError
from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2

__all__ = ["EventReader", "checked_answer", "text_in", "thinking_in"]


class EventReader:
    """Turns messages into events, one by one, and folds those that were handed out.

    Attributes:
        fold: what the events handed out so far add up to.
    """

    def __init__(self) -> None:
        self.fold = Fold()
        self._waiting: deque[chat_pb2.ChatEvent] = deque()
        self._sequence = 0

    def feed(self, response: chat_pb2.ChatResponse) -> None:
        """Take a message."""
        self._waiting.extend(response.events)

    def next_event(self) -> chat_pb2.ChatEvent | None:
        """Return the next event of a known kind; None: another message is needed.

        Raises:
            ProtocolViolationError: a sequence number is missing or comes again, a delta names a block that was not
                started, or an event follows the terminal one.
        """
        while self._waiting:
            event = self._waiting.popleft()
            self._check(event)
            try:
                self.fold.add(event)
            except IndexError as error:
                raise self._violation(f"event {event.sequence} names a block that was not started") from error
            if event.WhichOneof("event") is not None:
                return event
        return None

    def end(self) -> None:
        """Take the end of the stream with status OK.

        Raises:
            ProtocolViolationError: the stream was not complete.
        """
        if self.fold.failed is not None:
            raise self._violation("the stream ended with status OK after `failed`")
        if not self.fold.done:
            raise self._violation(f"the stream ended with status OK after event {self._sequence}, without `finished`")

    def answer(self) -> Answer:
        """Return the whole answer.

        Raises:
            CallCancelledError: the stream was closed before its end.
        """
        if not self.fold.done:
            raise self.closed_early()
        return Answer(self.fold.response)

    def closed_early(self) -> CallCancelledError:
        """Return the error for reading on after the stream was closed."""
        return CallCancelledError("the stream was closed before its end", partial=self.fold)

    def _check(self, event: chat_pb2.ChatEvent) -> None:
        if self.fold.done:
            raise self._violation(f"event {event.sequence} follows the terminal event")
        if event.sequence != self._sequence + 1:
            raise self._violation(f"event {event.sequence} follows event {self._sequence}")
        self._sequence = event.sequence

    def _violation(self, message: str) -> ProtocolViolationError:
        return ProtocolViolationError(message, partial=self.fold)


def checked_answer(response: chat_pb2.CompleteChatResponse) -> Answer:
    """Return the answer that a call without a stream brought.

    Raises:
        ProtocolViolationError: it does not say how it ended.
    """
    if not response.HasField("finished"):
        raise ProtocolViolationError("the answer came without `finished`")
    return Answer(response)


def text_in(event: chat_pb2.ChatEvent) -> str:
    """Return the answer's text that an event brings; empty: none."""
    if event.HasField("block_delta"):
        return event.block_delta.text
    return event.block_started.block.text.text


def thinking_in(event: chat_pb2.ChatEvent) -> str:
    """Return the reasoning that an event brings; empty: none."""
    if event.HasField("block_delta"):
        return event.block_delta.thinking
    return event.block_started.block.thinking.text
