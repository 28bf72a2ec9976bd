"""About how many tokens a prompt has, and how many at most, before anybody is asked.

Rough on purpose: four bytes are taken for a token, two where it must not be less than the truth. A provider's own count
costs a request, a tokenizer of our own milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["most_prompt_tokens", "prompt_media", "prompt_tokens"]

_BYTES_A_TOKEN = 4

#: Tokens of an image, an audio or a document, whose bytes tell nothing of them.
_TOKENS_A_MEDIUM = 1_000

#: The same where it must not be less than the truth. English prose has four bytes a token, code and other languages
#: rarely fewer than two.
_FEWEST_BYTES_A_TOKEN = 2
_MOST_TOKENS_A_MEDIUM = 3_000
#: A page of a document is some 50 KB and 3,000 tokens; a second of sound 16 KB and 32.
_FEWEST_BYTES_A_TOKEN_OF_MEDIA = 16

#: What providers put around a prompt: about it all, about each message, and about tools, where there are any.
_AROUND_A_PROMPT, _AROUND_A_MESSAGE, _AROUND_TOOLS = 16, 8, 600


def prompt_tokens(request: chat_pb2.ChatRequest) -> int:
    """Return about how many tokens instructions, messages and tools of a chat have."""
    size, media = _sizes(request)
    return size // _BYTES_A_TOKEN + len(media) * _TOKENS_A_MEDIUM


def most_prompt_tokens(request: chat_pb2.ChatRequest) -> int:
    """Return how many tokens instructions, messages and tools of a chat hardly exceed.

    Media that are named by an address or a file's name count as one of a usual size: nobody here has seen them.
    """
    size, media = _sizes(request)
    around = _AROUND_A_PROMPT + _AROUND_A_MESSAGE * len(request.messages) + (_AROUND_TOOLS if request.tools else 0)
    images = sum(max(_MOST_TOKENS_A_MEDIUM, each // _FEWEST_BYTES_A_TOKEN_OF_MEDIA) for each in media)
    return -(-size // _FEWEST_BYTES_A_TOKEN) + images + around


def prompt_media(request: chat_pb2.ChatRequest) -> Iterator[content_pb2.MediaBlock]:
    """Yield the media of instructions, messages and results of tools."""
    for content in (request.system, *(message.content for message in request.messages)):
        for block in content:
            yield from _media(block)


def _sizes(request: chat_pb2.ChatRequest) -> tuple[int, list[int]]:
    """Return the bytes of all but media, and those of each medium; an image's count as none."""
    size = sum(tool.ByteSize() for tool in request.tools)
    media: list[int] = []
    contents: list[Sequence[content_pb2.ContentBlock]] = [request.system]
    contents += [message.content for message in request.messages]
    for content in contents:
        for block in content:
            size += block.ByteSize()
            for medium in _media(block):
                size -= len(medium.data)
                media.append(0 if medium.mime_type.startswith("image/") else len(medium.data))
    return size, media


def _media(block: content_pb2.ContentBlock) -> list[content_pb2.MediaBlock]:
    if block.HasField("media"):
        return [block.media]
    if block.HasField("tool_result"):
        return [part.media for part in block.tool_result.content if part.HasField("media")]
    return []
