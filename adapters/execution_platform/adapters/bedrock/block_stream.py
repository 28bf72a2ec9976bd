"""The blocks of a streamed answer. They begin with their first event: only calls, results and images have a start.

Source: ContentBlockStart and ContentBlockDelta in `bedrock-runtime/2023-09-30/service-2.json` of botocore 1.44.5.
"""

from __future__ import annotations

import base64
import functools
from dataclasses import dataclass, field
from typing import Any

import msgspec

from execution_platform.adapters.bedrock.answer_blocks import (
    BlockContext,
    call_block,
    media_block,
    opaque_block,
    read_blocks,
    read_citation,
    result_block,
)
from execution_platform.adapters.bedrock.media import media_type
from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    inner_fields,
    int_of,
    is_told,
    json_of,
    object_json,
    rest_of,
    text_of,
)
from execution_platform.adapters.wire import decode_json, json_text
from execution_platform.v1 import content_pb2

__all__ = ["PADDING", "BlockStream"]

PADDING = "p"
"""Random letters that hide the length of a frame; they say nothing."""

_KNOWN_OF_EVENT = frozenset({"contentBlockIndex", "start", "delta", PADDING})


class _Input(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input: str


class _Reasoning(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    text: str


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename="camel"):
    text: str | None = None
    tool_use: _Input | None = None
    reasoning_content: _Reasoning | None = None


class _FrequentEvent(msgspec.Struct, forbid_unknown_fields=True, gc=False, rename="camel"):
    """The three deltas that make up nearly all of a stream, in the shape that they nearly always have."""

    content_block_index: int
    delta: _Delta
    p: str = ""


_decode_frequent = msgspec.json.Decoder(_FrequentEvent).decode


@dataclass(slots=True)
class _OpenBlock:
    """A block between its first event and its stop.

    Attributes:
        kind: the contract's word.
        index: its place in the answer; -1: it is told whole at its stop.
        pieces: what is told at the stop.
        began: start and media type of a block that is told later.
        later: metadata from deltas.
    """

    kind: str
    index: int = -1
    pieces: list[str] = field(default_factory=list)
    began: msgspec.Raw | None = None
    mime_type: str = ""
    has_arguments: bool = False
    later: Fields = field(default_factory=dict)


class BlockStream:
    """Follows the blocks of one answer and writes them.

    Args:
        writer: takes the blocks.
        answer_id: makes identifiers for calls that have none.
        summarized: what the model shows of its thinking is a summary.
    """

    def __init__(self, writer: AnswerWriter, answer_id: str, summarized: bool) -> None:
        self._writer = writer
        self._answer_id = answer_id
        self._summarized = summarized
        self._open: dict[int, _OpenBlock] = {}

    def frequent(self, data: bytes) -> bool:
        """Take an event if it continues an open block in the usual way. Returns whether it did."""
        try:
            event = _decode_frequent(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        block = self._open.get(event.content_block_index)
        if block is None:
            return False
        delta = event.delta
        if delta.text is not None:
            if block.kind != "text" or delta.tool_use is not None or delta.reasoning_content is not None:
                return False
            self._writer.text(block.index, delta.text)
        elif delta.tool_use is not None:
            if block.kind != "tool_call" or delta.reasoning_content is not None:
                return False
            self._add_arguments(block, delta.tool_use.input)
        elif delta.reasoning_content is not None and block.kind == "thinking":
            self._writer.thinking(block.index, delta.reasoning_content.text)
        else:
            return False
        return True

    def start(self, event: Fields) -> None:
        """Take a contentBlockStart. Raises ProtocolError for a block that is begun twice, or a call without a name."""
        position = _position(event)
        if position in self._open:
            raise ProtocolError("the provider began a block twice", provider_status=200)
        start = rest_of(inner_fields(event, "start"))
        kind = next(iter(start), "")
        if not kind:
            return  # servers like Bedrock begin a text so
        if kind == "text":
            self._take(position, kind, start[kind])
            return
        inner = fields_if_any(start[kind])
        if kind == "toolUse":
            block = self._opened("tool_call", call_block(inner, self._minted()))
        elif kind == "toolResult":
            block = self._opened("tool_result", result_block(inner))
        elif kind == "image":
            block = _OpenBlock("media", mime_type=media_type("image", clean_text(inner.get("format"))))
            block.later.update(rest_of(inner, {"format"}))
        else:
            block = _OpenBlock("opaque", began=event["start"])
        block.later.update(rest_of(event, _KNOWN_OF_EVENT))
        self._open[position] = block

    def delta(self, event: Fields) -> None:
        """Take a contentBlockDelta. Raises ProtocolError for the arguments of a call that was not begun."""
        position = _position(event)
        for key, raw in rest_of(inner_fields(event, "delta")).items():
            self._take(position, key, raw)
        block = self._open.get(position)
        if block is not None:
            block.later.update(rest_of(event, _KNOWN_OF_EVENT))

    def stop(self, event: Fields) -> None:
        """Take a contentBlockStop; one of a block that nothing was said of says nothing."""
        block = self._open.pop(_position(event), None)
        if block is not None:
            block.later.update(rest_of(event, _KNOWN_OF_EVENT))
            self._complete(block)

    def whole(self, raw: msgspec.Raw) -> None:
        """Take a block that came whole. Raises ProtocolError where it is none."""
        for block in read_blocks(raw, BlockContext(self._summarized, self._minted())):
            self._writer.whole(block)

    def stop_all(self) -> None:
        """Complete what is still open."""
        for position in sorted(self._open):
            self._complete(self._open.pop(position))

    # -- deltas

    def _take(self, position: int, key: str, raw: msgspec.Raw) -> None:
        if key == "text":
            self._writer.text(self._at(position, "text").index, text_of(raw))
        elif key == "citation":
            self._writer.citation(self._at(position, "text").index, read_citation(raw))
        elif key == "reasoningContent":
            self._take_reasoning(position, fields_if_any(raw))
        elif key == "toolUse":
            self._take_call(self._at(position, "tool_call"), fields_if_any(raw))
        elif key == "toolResult":
            _add_elements(self._at(position, "tool_result"), elements_if_any(raw))
        elif key == "image":
            self._take_image(self._at(position, "media"), fields_if_any(raw))
        else:
            self._take_unknown(position, key, raw)

    def _take_reasoning(self, position: int, delta: Fields) -> None:
        for key, raw in rest_of(delta).items():
            if key == "text":
                self._writer.thinking(self._at(position, "thinking").index, text_of(raw))
            elif key == "signature":
                self._at(position, "thinking").pieces.append(clean_text(raw))
            elif key == "redactedContent":
                self._at(position, "redacted_thinking").pieces.append(clean_text(raw))
            else:
                block = self._open.get(position) or self._at(position, "thinking")
                block.later[key] = _joined(block.later.get(key), raw)

    def _take_call(self, block: _OpenBlock, delta: Fields) -> None:
        given = delta.get("input")
        if is_told(given):
            # Bedrock sends pieces of text; servers like it send the object.
            self._add_arguments(block, text_of(given) if bytes(given).startswith(b'"') else json_of(given))
        _keep(block, rest_of(delta, {"input"}))

    def _add_arguments(self, block: _OpenBlock, piece: str) -> None:
        block.has_arguments = block.has_arguments or bool(piece)
        self._writer.arguments(block.index, piece)

    def _take_image(self, block: _OpenBlock, delta: Fields) -> None:
        source = rest_of(fields_if_any(delta.get("source")))
        told = media_block(block.mime_type, source)
        if told is not None and block.index < 0:
            block.index = self._writer.open(told)
            if told.provider_metadata_json:
                _keep(block, fields_of(told.provider_metadata_json.encode()))
        elif told is not None and told.media.data:
            self._writer.media(block.index, told.media.data)
        elif source:
            _keep(block, {"source": delta["source"]})
        _keep(block, rest_of(delta, {"source"}))

    def _take_unknown(self, position: int, key: str, raw: msgspec.Raw) -> None:
        block = self._open.setdefault(position, _OpenBlock("opaque"))
        if block.kind == "opaque":
            block.pieces.append(object_json({key: raw}))
        else:
            _keep(block, {key: raw})

    # -- blocks

    def _at(self, position: int, kind: str) -> _OpenBlock:
        """Return the open block of a kind at a position, begun if need be. A block of another kind there is over."""
        block = self._open.get(position)
        if block is not None and block.kind == kind:
            return block
        if kind == "tool_call":
            raise ProtocolError("the provider continued a tool call that it had not begun", provider_status=200)
        if block is not None:
            self._complete(self._open.pop(position))
        if kind == "text":
            block = self._opened(kind, content_pb2.ContentBlock(text=content_pb2.TextBlock()))
        elif kind == "thinking":
            thinking = content_pb2.ThinkingBlock(is_summary=self._summarized)
            block = self._opened(kind, content_pb2.ContentBlock(thinking=thinking))
        elif kind == "tool_result":
            block = self._opened(kind, result_block({}))
        else:
            block = _OpenBlock(kind)
        self._open[position] = block
        return block

    def _opened(self, kind: str, content: content_pb2.ContentBlock) -> _OpenBlock:
        block = _OpenBlock(kind)
        if content.provider_metadata_json:
            block.later.update(fields_of(content.provider_metadata_json.encode()))
        block.index = self._writer.open(content)
        return block

    def _complete(self, block: _OpenBlock) -> None:
        if block.kind == "redacted_thinking":
            block.index = self._writer.open(_redacted(block.pieces))
        elif block.kind == "opaque":
            block.index = self._writer.open(_opaque(block))
        elif block.kind == "media" and block.index < 0:
            empty = content_pb2.MediaBlock(mime_type=block.mime_type, data=b"")
            block.index = self._writer.open(content_pb2.ContentBlock(media=empty))
        elif block.kind == "tool_call" and not block.has_arguments:
            self._writer.arguments(block.index, "{}")
        elif block.kind == "tool_result":
            self._writer.structured_content(block.index, f"[{','.join(block.pieces)}]")
        elif block.kind == "thinking" and any(block.pieces):
            self._writer.state(block.index, "signature", "".join(block.pieces).encode())
        self._writer.stop(block.index, object_json(block.later) or None)

    def _minted(self) -> str:
        return f"call_{self._answer_id}_{self._writer.block_count}"


def _position(event: Fields) -> int:
    index = int_of(event.get("contentBlockIndex"))
    if index is None:
        raise ProtocolError("the provider sent an event of a block without its index", provider_status=200)
    return index


def _redacted(pieces: list[str]) -> content_pb2.ContentBlock:
    """Return encrypted thinking as it stands; several pieces, each base64 for itself, as base64 of all."""
    text = "".join(pieces)
    if any(piece.endswith("=") for piece in pieces[:-1]):
        try:
            text = base64.b64encode(b"".join(map(base64.b64decode, pieces))).decode()
        except ValueError as error:
            raise ProtocolError("the provider sent bytes that are not base64", provider_status=200) from error
    return content_pb2.ContentBlock(redacted_thinking=content_pb2.RedactedThinkingBlock(data=text.encode()))


def _opaque(block: _OpenBlock) -> content_pb2.ContentBlock:
    """Return a block of an unknown kind: what one event told as it stands, else its start and deltas joined."""
    told = [*([] if block.began is None else [json_of(block.began)]), *block.pieces]
    kind = next(iter(fields_of(told[0].encode())), "")
    if len(told) == 1:
        return opaque_block(kind, told[0])
    return opaque_block(kind, json_text(functools.reduce(_folded, [decode_json(each) for each in told])))


def _folded(value: Any, more: Any) -> Any:
    """Join two pieces of a block: members side by side, texts and lists one behind the other."""
    if isinstance(value, dict) and isinstance(more, dict):
        return {**value, **{key: _folded(value[key], each) if key in value else each for key, each in more.items()}}
    if isinstance(value, str) and isinstance(more, str):
        return value + more
    if isinstance(value, list) and isinstance(more, list):
        return [*value, *more]
    return more


def _add_elements(block: _OpenBlock, elements: list[msgspec.Raw]) -> None:
    """Add the content of a tool's result. A text goes on where the delta before ended in one."""
    for number, element in enumerate(elements):
        before = fields_if_any(block.pieces[-1].encode()) if block.pieces and not number else {}
        fields = fields_if_any(element)
        if before.keys() == fields.keys() == {"text"}:
            joined = text_of(before["text"]) + text_of(fields["text"])
            block.pieces[-1] = json_text({"text": joined})
        else:
            block.pieces.append(json_of(element))


def _keep(block: _OpenBlock, members: Fields) -> None:
    for key, raw in members.items():
        block.later[key] = _joined(block.later.get(key), raw)


def _joined(before: msgspec.Raw | None, raw: msgspec.Raw) -> msgspec.Raw:
    """Join what deltas without a field say: texts append, objects and lists that differ gather, the rest replaces."""
    if before is None:
        return raw
    value, more = decode_json(bytes(before)), decode_json(bytes(raw))
    if isinstance(value, str) and isinstance(more, str):
        return msgspec.Raw(json_text(value + more).encode())
    if isinstance(more, dict | list) and more != value:
        return msgspec.Raw(json_text([*_listed(value), *_listed(more)]).encode())
    return raw


def _listed(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]
