"""A whole answer, ready to be read and to be sent back as part of the conversation."""

from __future__ import annotations

from execution_platform.client.enums import short_name
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

__all__ = ["Answer"]


class Answer:
    """A whole answer of a model.

    Attributes:
        raw: the contract's message, with everything that the provider said.
    """

    def __init__(self, raw: chat_pb2.CompleteChatResponse) -> None:
        self.raw = raw

    @classmethod
    def of_message(cls, message: content_pb2.Message) -> Answer:
        """Return an answer of which only the message is known."""
        return cls(chat_pb2.CompleteChatResponse(message=message))

    def __str__(self) -> str:
        """Return the text."""
        return self.text

    def __repr__(self) -> str:
        """Return the start of the text and why it ended."""
        text = self.text
        shown = text if len(text) <= 60 else f"{text[:57]}..."
        return f"Answer({shown!r}, finish_reason={self.finish_reason!r})"

    @property
    def message(self) -> content_pb2.Message:
        """The message, to be appended to the conversation as it is: signatures and identifiers are in it."""
        return self.raw.message

    @property
    def text(self) -> str:
        """The text blocks, joined; refusals are in `refusal`."""
        return "".join(block.text.text for block in self.message.content if block.HasField("text"))

    @property
    def thinking(self) -> str:
        """What the model told of its reasoning, a blank line between blocks."""
        return "\n\n".join(block.thinking.text for block in self.message.content if block.thinking.text)

    @property
    def refusal(self) -> str:
        """The model's refusal in its own words; empty: it did not refuse, or without words."""
        return "".join(block.refusal.text for block in self.message.content if block.HasField("refusal"))

    @property
    def tool_calls(self) -> list[content_pb2.ToolCallBlock]:
        """The calls that the caller shall run; those that the provider ran are in the message only."""
        theirs = content_pb2.TOOL_EXECUTOR_PROVIDER
        blocks = [block.tool_call for block in self.message.content if block.HasField("tool_call")]
        return [call for call in blocks if call.executed_by != theirs]

    @property
    def started(self) -> chat_pb2.Started:
        """Who answered, and the identifiers."""
        return self.raw.started

    @property
    def finished(self) -> chat_pb2.Finished:
        """How it ended: usage, cost, timing, attempts, rate limits."""
        return self.raw.finished

    @property
    def finish_reason(self) -> str:
        """Name of the FinishReason without its prefix, such as ``STOP`` or ``TOOL_CALLS``."""
        return short_name(chat_pb2.FinishReason.DESCRIPTOR, self.finished.reason)

    @property
    def usage(self) -> usage_pb2.Usage:
        """What was used: disjoint items."""
        return self.finished.usage

    @property
    def cost(self) -> usage_pb2.Cost:
        """What it costs, as far as it is known."""
        return self.finished.cost

    @property
    def notices(self) -> list[chat_pb2.Notice]:
        """What the caller should know, such as options that were left out."""
        return list(self.raw.notices)

    @property
    def request_id(self) -> str:
        """The platform's identifier of the request."""
        return self.started.request_id
