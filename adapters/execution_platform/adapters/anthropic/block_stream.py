"""The blocks of a streamed answer between their start and their stop.

Source: `types/beta/beta_raw_content_block_*.py` of the anthropic SDK 2.11.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from execution_platform.adapters.anthropic.answer_blocks import CALL_TYPES, is_opaque, read_block, read_citation
from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    fields_of,
    inner_fields,
    int_of,
    json_of,
    object_json,
    rest_of,
    text_of,
)
from execution_platform.adapters.wire import decode_json, json_text
from execution_platform.v1 import content_pb2

__all__ = ["KNOWN_OF_EVENT", "BlockStream"]

KNOWN_OF_EVENT = frozenset({"type", "index", "message", "content_block", "delta", "usage"})
"""Members of an event that are read; the rest is metadata."""


class _Text(msgspec.Struct, tag_field="type", tag="text_delta", forbid_unknown_fields=True, gc=False):
    text: str


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking_delta", forbid_unknown_fields=True, gc=False):
    thinking: str


class _Input(msgspec.Struct, tag_field="type", tag="input_json_delta", forbid_unknown_fields=True, gc=False):
    partial_json: str


class _FrequentEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The three deltas that make up nearly all of a stream, in the shape that they nearly always have."""

    type: Literal["content_block_delta"]
    index: int
    delta: _Text | _Thinking | _Input


_decode_frequent = msgspec.json.Decoder(_FrequentEvent).decode


@dataclass(slots=True)
class _OpenBlock:
    """A block between its start and its stop."""

    kind: str
    raw: msgspec.Raw
    fields: Fields
    index: int = -1
    signature: str = ""
    has_arguments: bool = False
    later: Fields = field(default_factory=dict)


class BlockStream:
    """Follows the blocks of one answer and writes them.

    Args:
        writer: takes the blocks.
        on_fallback: told the members of a block that says that another model goes on.

    Attributes:
        message_id: the answer's identifier.
        summarized: what the model shows of its thinking is a summary.
    """

    def __init__(self, writer: AnswerWriter, on_fallback: Callable[[Fields], None]) -> None:
        self._writer = writer
        self._on_fallback = on_fallback
        self._open: dict[int, _OpenBlock] = {}
        self.message_id = ""
        self.summarized = False

    @property
    def begun(self) -> bool:
        """Whether there has been a block."""
        return bool(self._open) or self._writer.block_count > 0

    def frequent(self, data: bytes) -> bool:
        """Take an event if it is one of the frequent deltas. Returns whether it was. Raises like delta."""
        try:
            event = _decode_frequent(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        block = self._open_at(event.index)
        delta = event.delta
        if type(delta) is _Text and block.kind == "text":
            self._writer.text(block.index, delta.text)
        elif type(delta) is _Input and block.kind in CALL_TYPES:
            block.has_arguments = block.has_arguments or bool(delta.partial_json)
            self._writer.arguments(block.index, delta.partial_json)
        elif type(delta) is _Thinking and block.kind == "thinking":
            self._writer.thinking(block.index, delta.thinking)
        else:
            return False
        return True

    def start(self, event: Fields) -> None:
        """Take a content_block_start. Raises ProtocolError for a block that is begun twice."""
        position = _position(event)
        if position in self._open:
            raise ProtocolError("the provider began a block twice")
        if "content_block" not in event:
            raise ProtocolError("the provider began a block without saying what it is")
        block = self._begin(event["content_block"])
        block.later.update(rest_of(event, KNOWN_OF_EVENT))
        self._open[position] = block

    def delta(self, event: Fields) -> None:
        """Take a content_block_delta. Raises ProtocolError for a block that was not begun."""
        block = self._open_at(_position(event))
        delta = inner_fields(event, "delta")
        read = self._read_delta(block, text_of(delta.get("type")), delta)
        block.later.update(rest_of(event, KNOWN_OF_EVENT))
        for key, raw in rest_of(delta, {"type", *read}).items():
            block.later[key] = _joined(block.later.get(key), raw)

    def stop(self, event: Fields) -> None:
        """Take a content_block_stop; one too many says nothing."""
        block = self._open.pop(_position(event), None)
        if block is not None:
            block.later.update(rest_of(event, KNOWN_OF_EVENT))
            self._complete(block)

    def whole(self, raw: msgspec.Raw) -> None:
        """Take a block that came whole."""
        self._complete(self._begin(raw))

    def stop_all(self) -> None:
        """Complete what is still open."""
        for position in sorted(self._open):
            self._complete(self._open.pop(position))

    def _open_at(self, position: int) -> _OpenBlock:
        block = self._open.get(position)
        if block is None:
            raise ProtocolError("the provider continued a block that it had not begun")
        return block

    def _begin(self, raw: msgspec.Raw) -> _OpenBlock:
        fields = fields_of(raw)
        block = _OpenBlock(text_of(fields.get("type")), raw, fields)
        if is_opaque(fields):
            return block  # told whole at its stop, when its deltas are in
        minted = f"call_{self.message_id}_{self._writer.block_count}"
        block.index = self._writer.open(read_block(block.fields, self.summarized, minted))
        if block.kind == "text":
            self._writer.text(block.index, text_of(fields.get("text")))
        elif block.kind == "thinking":
            self._writer.thinking(block.index, text_of(fields.get("thinking")))
            block.signature = clean_text(fields.get("signature"))
        return block

    def _read_delta(self, block: _OpenBlock, kind: str, delta: Fields) -> tuple[str, ...]:
        """Take what the block has a place for; return the members that were taken."""
        if block.index < 0:
            return ()
        match kind, block.kind:
            case "text_delta", "text":
                self._writer.text(block.index, text_of(delta.get("text")))
                return ("text",)
            case "thinking_delta", "thinking":
                self._writer.thinking(block.index, text_of(delta.get("thinking")))
                return ("thinking",)
            case "signature_delta", "thinking":
                block.signature = clean_text(delta.get("signature"))
                return ("signature",)
            case "citations_delta", "text" if "citation" in delta:
                self._writer.citation(block.index, read_citation(delta["citation"]))
                return ("citation",)
            case "input_json_delta", _ if block.kind in CALL_TYPES:
                piece = text_of(delta.get("partial_json"))
                block.has_arguments = block.has_arguments or bool(piece)
                self._writer.arguments(block.index, piece)
                return ("partial_json",)
            case _:
                return ()

    def _complete(self, block: _OpenBlock) -> None:
        if block.index < 0:
            self._tell_opaque(block)
            return
        if block.kind in CALL_TYPES and not block.has_arguments:
            # No piece came, or only empty ones: what stood in the block itself are the arguments.
            self._writer.arguments(block.index, json_of(block.fields.get("input", msgspec.Raw(b"{}"))))
        if block.signature:
            self._writer.state(block.index, "signature", block.signature.encode())
        self._writer.stop(block.index, self._later_metadata(block))

    def _later_metadata(self, block: _OpenBlock) -> str | None:
        """Return the block's metadata if deltas have added to it."""
        if not block.later:
            return None
        before = read_block(block.fields, self.summarized, "").provider_metadata_json
        return object_json({**(fields_of(before.encode()) if before else {}), **block.later})

    def _tell_opaque(self, block: _OpenBlock) -> None:
        members = {**block.fields, **block.later}
        opaque = content_pb2.OpaqueBlock(
            type=clean_text(block.fields.get("type")),
            json=object_json(members) if block.later else json_of(block.raw),
        )
        self._writer.whole(content_pb2.ContentBlock(opaque=opaque))
        if block.kind == "fallback":
            self._on_fallback(members)


def _position(event: Fields) -> int:
    index = int_of(event.get("index"))
    if index is None:
        raise ProtocolError("the provider sent an event of a block without its index")
    return index


def _joined(before: msgspec.Raw | None, raw: msgspec.Raw) -> msgspec.Raw:
    """Join what deltas without a field say.

    Texts append, counts (`estimated_tokens`) add up, objects and lists that differ gather in a list, the rest replaces.
    """
    if before is None:
        return raw
    value, more = decode_json(bytes(before)), decode_json(bytes(raw))
    for kind in (str, int):
        if type(value) is kind and type(more) is kind:
            return msgspec.Raw(json_text(value + more).encode())
    if isinstance(more, dict | list) and more != value:
        return msgspec.Raw(json_text([*_listed(value), *_listed(more)]).encode())
    return raw


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
