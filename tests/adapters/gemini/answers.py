"""Runs the translation over bytes and finds recordings, for the tests of the Gemini adapter."""

from collections.abc import Iterator
from typing import Any

from execution_platform.adapters.gemini.stream import GeminiTranslation
from execution_platform.adapters.spi import Events
from execution_platform.adapters.testing import Answer, check_stream
from execution_platform.v1 import content_pb2

APIS = ("generateContent", "streamGenerateContent")
FAMILY = "gemini"


def translation(**options: Any) -> GeminiTranslation:
    """Make a translation."""
    return GeminiTranslation("some-model", request_id="chat-1", **options)


def whole(body: bytes, **options: Any) -> Answer:
    """Translate an unstreamed answer."""
    return check_stream([translation(**options).whole(body)], family=FAMILY)


def streamed(pieces: Iterator[bytes] | list[bytes], **options: Any) -> Answer:
    """Translate a streamed answer that comes in pieces."""
    one = translation(**options)
    lists: list[Events] = [events for piece in pieces if (events := one.feed(piece))]
    return check_stream([*lists, one.end()], family=FAMILY)


def sse(*chunks: str) -> bytes:
    """Frame chunks as Google does."""
    return "".join(f"data: {chunk}\r\n\r\n" for chunk in chunks).encode()


def kinds(answer: Answer) -> list[str]:
    """Return the kinds of an answer's blocks."""
    return [str(block.WhichOneof("content")) for block in answer.blocks]


def calls(answer: Answer) -> list[content_pb2.ToolCallBlock]:
    """Return the calls that the caller shall run."""
    return [
        block.tool_call
        for block in answer.blocks
        if block.WhichOneof("content") == "tool_call"
        and block.tool_call.executed_by == content_pb2.TOOL_EXECUTOR_CLIENT
    ]
