"""Folds a stream of events into the message that it tells."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["Fold"]


class Fold:
    """Takes the events of one chat in order and keeps what they add up to.

    The rule is the contract's: a block is what `block_started` held with its deltas appended, and blocks that
    `route_changed` declares void are gone. Unknown events and deltas are passed over, so that an older client reads
    a newer server.

    Taking an event costs the same however long the answer is; `response` and `text` join what has come since they
    were last read.

    Attributes:
        failed: the failure, once one has come.
    """

    def __init__(self) -> None:
        self.failed: chat_pb2.Failed | None = None
        self._response = chat_pb2.CompleteChatResponse()
        self._response.message.role = content_pb2.ROLE_ASSISTANT
        self._last_usage: chat_pb2.UsageUpdated | None = None
        self._logprobs: dict[int, chat_pb2.BlockLogprobs] = {}
        # A protobuf field is copied whole by every +=, so pieces wait here, by block and field, until they are read.
        self._growing: dict[tuple[int, str], _Growing] = {}
        # Pieces of metadata, by block; None: the answer's.
        self._metadata: dict[int | None, list[str]] = {}
        # Indexes of the blocks that are gone, in order: the others have moved up.
        self._void: list[int] = []

    @property
    def response(self) -> chat_pb2.CompleteChatResponse:
        """The answer so far, in the shape of CompleteChatResponse."""
        self._join()
        return self._response

    @property
    def done(self) -> bool:
        """Whether a terminal event has come."""
        return self.failed is not None or self._response.HasField("finished")

    @property
    def usage(self) -> usage_pb2.Usage | None:
        """The last usage told, final or not; None: none yet."""
        if self._response.HasField("finished"):
            return self._response.finished.usage
        if self.failed is not None:
            return self.failed.usage
        return self._last_usage.usage if self._last_usage is not None else None

    @property
    def text(self) -> str:
        """The text blocks so far, joined."""
        blocks = self.response.message.content
        return "".join(block.text.text for block in blocks if block.HasField("text"))

    def add_all(self, events: Iterable[chat_pb2.ChatEvent]) -> None:
        """Take events, in order."""
        for event in events:
            self.add(event)

    def add(self, event: chat_pb2.ChatEvent) -> None:
        """Take the next event.

        Raises:
            IndexError: a delta names a block that has not been started.
        """
        match event.WhichOneof("event"):
            case "block_delta":
                self._append(event.block_delta)
            case "block_started":
                self._response.message.content.append(event.block_started.block)
            case "block_stopped":
                self._stop(event.block_stopped)
            case "started":
                self._response.started.CopyFrom(event.started)
            case "usage_updated":
                self._last_usage = event.usage_updated
            case "route_changed":
                self._change(event.route_changed)
            case "notice":
                self._response.notices.append(event.notice)
            case "provider_event":
                self._add_provider_event(event.provider_event)
            case "finished":
                self._response.finished.CopyFrom(event.finished)
                if pieces := self._metadata.pop(None, None):
                    self._response.finished.provider_metadata_json = "".join(pieces)
            case "metadata_delta":
                delta = event.metadata_delta
                index = delta.index if delta.HasField("index") else None
                self._metadata.setdefault(index, []).append(delta.provider_metadata_json)
            case "failed":
                self.failed = event.failed
            case _:
                pass

    def _block(self, index: int) -> content_pb2.ContentBlock:
        return self._response.message.content[index - bisect_left(self._void, index)]

    def _change(self, change: chat_pb2.RouteChanged) -> None:
        self._response.route_changes.append(change)
        if change.kind != chat_pb2.ROUTE_CHANGE_KIND_UNSPECIFIED:
            # Of an answer that broke off; whoever goes on tells its own.
            self._metadata.pop(None, None)
        self._take_out(change.void_blocks)

    def _take_out(self, void: Iterable[int]) -> None:
        gone = set(void).difference(self._void)
        self._join()
        content, logprobs = self._response.message.content, self._response.logprobs
        for index in sorted(gone, reverse=True):
            del content[index - bisect_left(self._void, index)]
            self._logprobs.pop(index, None)
        for at in reversed([at for at, each in enumerate(logprobs) if each.index in gone]):
            del logprobs[at]
        self._void = sorted({*self._void, *gone})

    def _append(self, delta: chat_pb2.BlockDelta) -> None:
        block = self._block(delta.index)
        match delta.WhichOneof("delta"):
            case "text":
                self._grow(delta.index, block.text, "text", delta.text)
            case "thinking":
                self._grow(delta.index, block.thinking, "text", delta.thinking)
            case "arguments_json":
                self._grow(delta.index, block.tool_call, "arguments_json", delta.arguments_json)
            case "arguments_text":
                self._grow(delta.index, block.tool_call, "arguments_text", delta.arguments_text)
            case "media":
                self._grow(delta.index, block.media, "data", delta.media.data)
                self._grow(delta.index, block.media, "transcript", delta.media.transcript)
            case "citation":
                block.citations.append(delta.citation)
            case "state":
                self._add_state(delta.index, block, delta.state)
            case "state_data":
                self._grow(delta.index, block.states[-1], "state_data", delta.state_data, "data")
            case "refusal":
                self._grow(delta.index, block.refusal, "text", delta.refusal)
            case "redacted_thinking":
                self._grow(delta.index, block.redacted_thinking, "data", delta.redacted_thinking)
            case "structured_content_json":
                pieces = delta.structured_content_json
                self._grow(delta.index, block.tool_result, "structured_content_json", pieces)
            case "opaque_json":
                self._grow(delta.index, block.opaque, "json", delta.opaque_json)
            case _:
                pass
        if delta.logprobs:
            self._add_logprobs(delta)

    def _grow(self, index: int, message: Message, key: str, piece: str | bytes, field: str = "") -> None:
        growing = self._growing.get((index, key))
        if growing is None:
            growing = self._growing[index, key] = _Growing(message, field or key)
        growing.pieces.append(piece)

    def _join(self) -> None:
        for growing in self._growing.values():
            growing.join()
        self._growing.clear()

    def _add_state(self, index: int, block: content_pb2.ContentBlock, state: content_pb2.OpaqueState) -> None:
        before = self._growing.pop((index, "state_data"), None)
        if before is not None:
            before.join()
        block.states.append(state)

    def _stop(self, stopped: chat_pb2.BlockStopped) -> None:
        pieces = self._metadata.pop(stopped.index, None)
        if stopped.HasField("provider_metadata_json"):
            pieces = [stopped.provider_metadata_json]
        if pieces is not None:
            self._block(stopped.index).provider_metadata_json = "".join(pieces)

    def _add_logprobs(self, delta: chat_pb2.BlockDelta) -> None:
        tokens = self._logprobs.get(delta.index)
        if tokens is None:
            tokens = self._response.logprobs.add(index=delta.index)
            self._logprobs[delta.index] = tokens
        tokens.tokens.extend(delta.logprobs)

    def _add_provider_event(self, event: chat_pb2.ProviderEvent) -> None:
        events = self._response.provider_events
        if not (events and events[-1].continues):
            events.append(event)
            return
        self._grow(len(events) - 1, events[-1], "raw_json", event.raw_json)
        events[-1].continues = event.continues


class _Growing:
    """A string or bytes field of a message with what shall be appended to it."""

    __slots__ = ("_field", "_message", "pieces")

    def __init__(self, message: Message, field: str) -> None:
        self._message = message
        self._field = field
        self.pieces: list[Any] = []

    def join(self) -> None:
        """Append the pieces, in order."""
        before = getattr(self._message, self._field)
        setattr(self._message, self._field, before[:0].join([before, *self.pieces]))
