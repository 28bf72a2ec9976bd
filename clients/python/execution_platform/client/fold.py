"""Folds a stream of events into the message that it tells."""

from __future__ import annotations

from collections.abc import Iterable

from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["Fold"]


class Fold:
    """Takes the events of one chat in order and keeps what they add up to.

    The rule is the contract's: a block is what `block_started` held with its deltas appended. Unknown events
    and deltas are passed over, so that an older client reads a newer server.

    Attributes:
        response: the answer so far, in the shape of CompleteChatResponse.
        failed: the failure, once one has come.
    """

    def __init__(self) -> None:
        self.response = chat_pb2.CompleteChatResponse()
        self.response.message.role = content_pb2.ROLE_ASSISTANT
        self.failed: chat_pb2.Failed | None = None
        self._last_usage: chat_pb2.UsageUpdated | None = None
        self._logprobs: dict[int, chat_pb2.BlockLogprobs] = {}

    @property
    def done(self) -> bool:
        """Whether a terminal event has come."""
        return self.failed is not None or self.response.HasField("finished")

    @property
    def usage(self) -> usage_pb2.Usage | None:
        """The last usage told, final or not; None: none yet."""
        if self.response.HasField("finished"):
            return self.response.finished.usage
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
        """Take the next event."""
        match event.WhichOneof("event"):
            case "block_delta":
                self._append(event.block_delta)
            case "block_started":
                self.response.message.content.append(event.block_started.block)
            case "block_stopped":
                if event.block_stopped.HasField("provider_metadata_json"):
                    block = self.response.message.content[event.block_stopped.index]
                    block.provider_metadata_json = event.block_stopped.provider_metadata_json
            case "started":
                self.response.started.CopyFrom(event.started)
            case "usage_updated":
                self._last_usage = event.usage_updated
            case "route_changed":
                self.response.route_changes.append(event.route_changed)
            case "notice":
                self.response.notices.append(event.notice)
            case "provider_event":
                self._add_provider_event(event.provider_event)
            case "finished":
                self.response.finished.CopyFrom(event.finished)
            case "failed":
                self.failed = event.failed
            case _:
                pass

    def _append(self, delta: chat_pb2.BlockDelta) -> None:
        block = self.response.message.content[delta.index]
        match delta.WhichOneof("delta"):
            case "text":
                block.text.text += delta.text
            case "thinking":
                block.thinking.text += delta.thinking
            case "arguments_json":
                block.tool_call.arguments_json += delta.arguments_json
            case "arguments_text":
                block.tool_call.arguments_text += delta.arguments_text
            case "media":
                _append_media(block.media, delta.media)
            case "citation":
                block.citations.append(delta.citation)
            case "state":
                block.states.append(delta.state)
            case "state_data":
                block.states[-1].data += delta.state_data
            case "refusal":
                block.refusal.text += delta.refusal
            case "redacted_thinking":
                block.redacted_thinking.data += delta.redacted_thinking
            case "structured_content_json":
                block.tool_result.structured_content_json += delta.structured_content_json
            case "opaque_json":
                block.opaque.json += delta.opaque_json
            case _:
                pass
        if delta.logprobs:
            self._add_logprobs(delta)

    def _add_logprobs(self, delta: chat_pb2.BlockDelta) -> None:
        tokens = self._logprobs.get(delta.index)
        if tokens is None:
            tokens = self.response.logprobs.add(index=delta.index)
            self._logprobs[delta.index] = tokens
        tokens.tokens.extend(delta.logprobs)

    def _add_provider_event(self, event: chat_pb2.ProviderEvent) -> None:
        events = self.response.provider_events
        if events and events[-1].continues:
            events[-1].raw_json += event.raw_json
            events[-1].continues = event.continues
        else:
            events.append(event)


def _append_media(media: content_pb2.MediaBlock, delta: chat_pb2.MediaDelta) -> None:
    media.data += delta.data
    media.transcript += delta.transcript
