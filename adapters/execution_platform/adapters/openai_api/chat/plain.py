"""The ordinary chunks of a Chat Completions stream, decoded in one step: the hot path.

A member that is not named here makes a chunk extraordinary, so that nothing is passed over.
"""

from __future__ import annotations

import msgspec

__all__ = ["Delta", "Piece", "PlainChunk", "plain_chunk"]


class _Function(msgspec.Struct, forbid_unknown_fields=True):
    arguments: str


class Piece(msgspec.Struct, forbid_unknown_fields=True):
    """More of a tool call's arguments."""

    index: int
    function: _Function


class Delta(msgspec.Struct, forbid_unknown_fields=True):
    """What is new in the message."""

    role: str | None = None
    content: str | None = None
    reasoning_content: str | None = None
    refusal: None = None
    tool_calls: list[Piece] | None = None


class _Choice(msgspec.Struct, forbid_unknown_fields=True):
    delta: Delta
    index: int = 0
    logprobs: None = None
    finish_reason: None = None
    content_filter_results: msgspec.Raw = msgspec.Raw(b"null")


class PlainChunk(msgspec.Struct, forbid_unknown_fields=True):
    """The chunk that nearly all are: a piece of text, reasoning or arguments, and nothing else."""

    choices: list[_Choice]
    id: str = ""
    object: str = ""
    created: int = 0
    model: str = ""
    service_tier: str | None = None
    system_fingerprint: str | None = None
    usage: None = None
    obfuscation: str = ""
    p: str = ""


_decoder = msgspec.json.Decoder(PlainChunk)


def plain_chunk(data: bytes) -> PlainChunk | None:
    """Return a chunk of the ordinary kind; None: it is of another, or of no kind at all."""
    try:
        return _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
