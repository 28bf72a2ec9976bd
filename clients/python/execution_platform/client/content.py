"""Short ways to write messages and blocks. What they return are the contract's own messages."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import TypeAlias

from execution_platform.v1 import content_pb2

__all__ = ["Content", "assistant", "blocks", "file", "media", "system", "text", "tool_result", "user"]

Content: TypeAlias = str | content_pb2.ContentBlock | Iterable[str | content_pb2.ContentBlock]
"""Text, a block, or several of them."""


def user(content: Content, *, name: str = "") -> content_pb2.Message:
    """Return a message of the caller's side."""
    return content_pb2.Message(role=content_pb2.ROLE_USER, content=blocks(content), name=name)


def assistant(content: Content, *, name: str = "") -> content_pb2.Message:
    """Return a message of the model; an answer that was received is appended as `answer.message` instead."""
    return content_pb2.Message(role=content_pb2.ROLE_ASSISTANT, content=blocks(content), name=name)


def system(content: Content) -> content_pb2.Message:
    """Return instructions in the middle of a conversation; leading ones are the argument `system` of a call."""
    return content_pb2.Message(role=content_pb2.ROLE_SYSTEM, content=blocks(content))


def blocks(content: Content) -> list[content_pb2.ContentBlock]:
    """Return content as blocks."""
    if isinstance(content, str | content_pb2.ContentBlock):
        content = [content]
    return [text(part) if isinstance(part, str) else part for part in content]


def text(text: str, *, cache: bool | timedelta = False) -> content_pb2.ContentBlock:
    """Return a text block.

    Args:
        text: the text.
        cache: whether to ask the provider to cache the prompt up to here, or for how long.
    """
    return _hinted(content_pb2.ContentBlock(text=content_pb2.TextBlock(text=text)), cache)


def media(
    *,
    data: bytes | None = None,
    uri: str | None = None,
    file_id: str | None = None,
    mime_type: str = "",
    filename: str = "",
    detail: str = "",
    citations: bool | None = None,
    cache: bool | timedelta = False,
) -> content_pb2.ContentBlock:
    """Return an image, audio, video or document, given as bytes, as an address or as a file at the provider.

    Args:
        data: the bytes; needs `mime_type`.
        uri: address that the provider fetches.
        file_id: identifier of a file that was uploaded to the provider before.
        mime_type: IANA media type, such as ``image/png``.
        filename: name or title to show to the model.
        detail: how closely to look at an image, in the provider's word.
        citations: whether to cite from this document; None: the provider's default.
        cache: whether to ask the provider to cache the prompt up to here, or for how long.

    Raises:
        ValueError: not exactly one of data, uri and file_id is given, or data comes without mime_type.
    """
    if sum(source is not None for source in (data, uri, file_id)) != 1:
        raise ValueError("media needs exactly one of data, uri and file_id")
    if data is not None and not mime_type:
        raise ValueError("media given as data needs a mime_type")
    block = content_pb2.MediaBlock(
        mime_type=mime_type,
        filename=filename,
        detail=detail,
        citations=citations,
    )
    if data is not None:
        block.data = data
    elif uri is not None:
        block.uri = uri
    elif file_id is not None:
        block.file_id = file_id
    return _hinted(content_pb2.ContentBlock(media=block), cache)


def file(path: str | Path, *, mime_type: str = "", cache: bool | timedelta = False) -> content_pb2.ContentBlock:
    """Return a file of this machine as a media block.

    Args:
        path: the file.
        mime_type: its media type; empty: guessed from the name.
        cache: whether to ask the provider to cache the prompt up to here, or for how long.

    Raises:
        OSError: the file cannot be read.
        ValueError: the name does not tell the media type.
    """
    path = Path(path)
    mime_type = mime_type or mimetypes.guess_type(path.name)[0] or ""
    if not mime_type:
        raise ValueError(f"{path.name}: the name does not tell the media type, give mime_type")
    return media(data=path.read_bytes(), mime_type=mime_type, filename=path.name, cache=cache)


def tool_result(
    call: content_pb2.ToolCallBlock | str,
    content: Content = (),
    *,
    structured_content_json: str = "",
    is_error: bool = False,
) -> content_pb2.ContentBlock:
    """Return the result of a tool call.

    Args:
        call: the call, or its call_id.
        content: what the tool answered.
        structured_content_json: the answer as JSON text.
        is_error: whether the tool failed.
    """
    result = content_pb2.ToolResultBlock(
        call_id=call if isinstance(call, str) else call.call_id,
        name="" if isinstance(call, str) else call.name,
        content=blocks(content),
        structured_content_json=structured_content_json,
        is_error=is_error,
    )
    return content_pb2.ContentBlock(tool_result=result)


def _hinted(block: content_pb2.ContentBlock, cache: bool | timedelta) -> content_pb2.ContentBlock:
    if isinstance(cache, timedelta):
        block.cache_hint.ttl.FromTimedelta(cache)
    elif cache:
        block.cache_hint.SetInParent()
    return block
