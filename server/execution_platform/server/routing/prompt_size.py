"""About how many tokens a prompt has, before anybody is asked.

Rough on purpose: four bytes are taken for a token. A provider's own count costs a request, a tokenizer of our own
milliseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["prompt_tokens"]

_BYTES_A_TOKEN = 4

#: Tokens of an image, an audio or a document, whose bytes tell nothing of them.
_TOKENS_A_MEDIUM = 1_000


def prompt_tokens(request: chat_pb2.ChatRequest) -> int:
    """Return about how many tokens instructions, messages and tools of a chat have."""
    size = sum(tool.ByteSize() for tool in request.tools)
    media = 0
    contents: list[Sequence[content_pb2.ContentBlock]] = [request.system]
    contents += [message.content for message in request.messages]
    for content in contents:
        for block in content:
            size += block.ByteSize()
            for medium in _media(block):
                size -= len(medium.data)
                media += 1
    return size // _BYTES_A_TOKEN + media * _TOKENS_A_MEDIUM


def _media(block: content_pb2.ContentBlock) -> list[content_pb2.MediaBlock]:
    if block.HasField("media"):
        return [block.media]
    if block.HasField("tool_result"):
        return [part.media for part in block.tool_result.content if part.HasField("media")]
    return []
