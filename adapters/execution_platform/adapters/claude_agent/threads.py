"""The blocks of a run: those of its own model calls, which stream, and those of sub-agents, which come whole.

A run makes several model calls. Each one's blocks follow those of the one before, so that their numbers rise over the
whole run. The CLI tells a streamed block twice: as it grows, and complete, just before its end; the second telling
brings only the place in the session's record that the block ends at.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.claude_agent.answer_blocks import (
    CALL_TYPES,
    is_opaque,
    object_if_any,
    read_block,
    read_citation,
    read_tool_result,
)
from execution_platform.adapters.claude_agent.sessions import SESSION_STATE, Place
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    inner_fields,
    int_of,
    json_of,
    object_json,
    rest_of,
    text_of,
)
from execution_platform.v1 import content_pb2

__all__ = ["Origin", "Threads"]


class _Text(msgspec.Struct, tag_field="type", tag="text_delta", forbid_unknown_fields=True, gc=False):
    text: str


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking_delta", forbid_unknown_fields=True, gc=False):
    thinking: str


class _Input(msgspec.Struct, tag_field="type", tag="input_json_delta", forbid_unknown_fields=True, gc=False):
    partial_json: str


class _Delta(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    type: Literal["content_block_delta"]
    index: int
    delta: _Text | _Thinking | _Input


class _FrequentLine(msgspec.Struct, gc=False):
    """The three deltas that make up nearly all of a run, as they nearly always come."""

    type: Literal["stream_event"]
    event: _Delta
    parent_tool_use_id: str | None = None


_decode_frequent = msgspec.json.Decoder(_FrequentLine).decode


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a message of the CLI comes from.

    Attributes:
        parent: the call that a sub-agent works for; empty: it is the run's own.
        place: where the session's record stands after it.
        metadata: what is told of the blocks of a sub-agent.
    """

    parent: str
    place: Place
    metadata: Fields


@dataclass(slots=True)
class _Block:
    """A block that streams."""

    kind: str
    raw: msgspec.Raw
    fields: Fields
    index: int = -1
    signature: str = ""
    has_arguments: bool = False
    place: Place | None = None
    metadata: Fields = field(default_factory=dict)
    later: Fields = field(default_factory=dict)


@dataclass(slots=True)
class _Thread:
    """The model call of a run, or of a sub-agent, that streams now or streamed last."""

    message_id: str = ""
    open: dict[int, _Block] = field(default_factory=dict)
    streamed: list[_Block] = field(default_factory=list)
    confirmed: int = 0


class Threads:
    """Follows the messages of one run and writes their blocks.

    Args:
        writer: takes the blocks.
        begin: called before the first block is written.
    """

    def __init__(self, writer: AnswerWriter, begin: Callable[[], None]) -> None:
        self._writer = writer
        self._begin_answer = begin
        self._threads: dict[str, _Thread] = {}
        self._last_texts: list[str] = []

    @property
    def last_text(self) -> str:
        """The run's own text in its last message, as far as it came."""
        return "".join(self._last_texts)

    def message_id(self, parent: str) -> str:
        """Return which model call streams, or streamed last."""
        thread = self._threads.get(parent)
        return thread.message_id if thread else ""

    # -- what streams

    def frequent(self, line: bytes) -> bool:
        """Take a line if it is one of the frequent deltas. Returns whether it was. Raises ProtocolError."""
        try:
            event = _decode_frequent(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        parent = event.parent_tool_use_id or ""
        block = self._open_at(parent, event.event.index)
        delta = event.event.delta
        if type(delta) is _Text and block.kind == "text":
            self._add_text(parent, block, delta.text)
        elif type(delta) is _Input and block.kind in CALL_TYPES:
            block.has_arguments = block.has_arguments or bool(delta.partial_json)
            self._writer.arguments(block.index, delta.partial_json)
        elif type(delta) is _Thinking and block.kind == "thinking":
            self._writer.thinking(block.index, delta.thinking)
        else:
            return False
        return True

    def start_message(self, message_id: str, origin: Origin) -> None:
        """Tell that a model call begins to stream; blocks of the one before that are open end here."""
        self.stop_message(origin.parent)
        self._threads[origin.parent] = _Thread(message_id)
        if not origin.parent:
            self._last_texts = []

    def start(self, event: Fields, origin: Origin) -> None:
        """Take a content_block_start. Raises ProtocolError for a block that is begun twice."""
        thread = self._threads.setdefault(origin.parent, _Thread())
        position = _position(event)
        if position in thread.open:
            raise ProtocolError("the provider began a block twice")
        if "content_block" not in event:
            raise ProtocolError("the provider began a block without saying what it is")
        block = self._begin(event["content_block"], thread.message_id, origin)
        block.later.update(rest_of(event, {"type", "index", "content_block"}))
        thread.open[position] = block
        thread.streamed.append(block)

    def delta(self, event: Fields, origin: Origin) -> None:
        """Take a content_block_delta. Raises ProtocolError for a block that was not begun."""
        block = self._open_at(origin.parent, _position(event))
        delta = inner_fields(event, "delta")
        read = self._read_delta(block, delta, origin.parent)
        block.later.update(rest_of(event, {"type", "index", "delta"}))
        block.later.update(rest_of(delta, {"type", *read}))

    def stop(self, event: Fields, origin: Origin) -> None:
        """Take a content_block_stop; one too many says nothing."""
        thread = self._threads.get(origin.parent)
        block = thread.open.pop(_position(event), None) if thread else None
        if block is not None:
            block.later.update(rest_of(event, {"type", "index"}))
            if block.place is None and not origin.parent:
                block.place = Place(origin.place.session_id)
            self._complete(block)

    def stop_message(self, parent: str) -> None:
        """Complete what is still open of a model call."""
        thread = self._threads.get(parent) or _Thread()
        for position in sorted(thread.open):
            self._complete(thread.open.pop(position))

    def stop_all(self) -> None:
        """Complete what is still open."""
        for parent in list(self._threads):
            self.stop_message(parent)

    # -- what comes whole

    def assistant(self, message: Fields, origin: Origin) -> None:
        """Take a complete message of a model: what has streamed is not told again."""
        message_id = clean_text(message.get("id"))
        for element in elements_if_any(message.get("content")):
            block = self._streamed(message_id, text_of(fields_if_any(element).get("type")), origin.parent)
            if block is not None:
                block.place = None if origin.parent else origin.place
            else:
                self._whole(element, message_id, origin)

    def tool_results(self, line: Fields, message: Fields, origin: Origin) -> Fields:
        """Take the results of tools in a message to the model. Returns the message's members without them."""
        structured = object_if_any(line.get("tool_use_result"))
        rest: list[msgspec.Raw] = []
        raw = message.get("content")
        elements = elements_if_any(raw)
        for element in elements:
            fields = fields_if_any(element)
            if text_of(fields.get("type")) != "tool_result":
                rest.append(element)
                continue
            metadata = {**origin.metadata, **rest_of({"tool_result_meta": line.get("tool_result_meta", _NULL)})}
            self._write(read_tool_result(fields, structured, metadata), origin)
            structured = None
        if len(rest) == len(elements):
            return message
        return {**message, "content": msgspec.Raw(b"[" + b",".join(map(bytes, rest)) + b"]")} if rest else {}

    def structured_output(self, json: msgspec.Raw, place: Place) -> None:
        """Write the answer that was asked for in a form of the caller's, as text."""
        self._begin_answer()
        index = self._writer.open(content_pb2.ContentBlock(text=content_pb2.TextBlock()))
        self._writer.text(index, json_of(json))
        self._writer.state(index, SESSION_STATE, place.encoded())
        self._writer.stop(index)

    # -- blocks

    def _streamed(self, message_id: str, kind: str, parent: str) -> _Block | None:
        """Return the streamed block that a complete one repeats; None: it has not streamed."""
        thread = self._threads.get(parent)
        if thread is None or thread.message_id != message_id or thread.confirmed >= len(thread.streamed):
            return None
        block = thread.streamed[thread.confirmed]
        if block.kind != kind:
            return None
        thread.confirmed += 1
        return block

    def _whole(self, raw: msgspec.Raw, message_id: str, origin: Origin) -> None:
        block = self._begin(raw, message_id, origin)
        if not origin.parent:
            block.place = origin.place
        self._complete(block)

    def _write(self, block: content_pb2.ContentBlock, origin: Origin) -> None:
        self._begin_answer()
        if not origin.parent:
            block.states.add(kind=SESSION_STATE, data=origin.place.encoded())
        self._writer.whole(block)

    def _open_at(self, parent: str, position: int) -> _Block:
        thread = self._threads.get(parent)
        block = thread.open.get(position) if thread else None
        if block is None:
            raise ProtocolError("the provider continued a block that it had not begun")
        return block

    def _begin(self, raw: msgspec.Raw, message_id: str, origin: Origin) -> _Block:
        fields = fields_of(raw)
        block = _Block(text_of(fields.get("type")), raw, fields, metadata=origin.metadata)
        if is_opaque(fields):
            return block  # told whole at its stop, when its deltas are in
        self._begin_answer()
        minted = f"call_{message_id}_{self._writer.block_count}"
        block.index = self._writer.open(read_block(fields, minted, origin.metadata))
        if block.kind == "text":
            self._add_text(origin.parent, block, text_of(fields.get("text")))
        elif block.kind == "thinking":
            self._writer.thinking(block.index, text_of(fields.get("thinking")))
            block.signature = clean_text(fields.get("signature"))
        return block

    def _add_text(self, parent: str, block: _Block, text: str) -> None:
        self._writer.text(block.index, text)
        if not parent:
            self._last_texts.append(text)

    def _read_delta(self, block: _Block, delta: Fields, parent: str) -> tuple[str, ...]:
        """Take what the block has a place for; return the members that were taken."""
        if block.index < 0:
            return ()
        match text_of(delta.get("type")), block.kind:
            case "text_delta", "text":
                self._add_text(parent, block, text_of(delta.get("text")))
                return ("text",)
            case "thinking_delta", "thinking":
                self._writer.thinking(block.index, text_of(delta.get("thinking")))
                # An estimate that grows with each piece; the usage has the number.
                return ("thinking", "estimated_tokens")
            case "signature_delta", "thinking":
                block.signature = clean_text(delta.get("signature"))
                return ("signature",)
            case "citations_delta", "text" if "citation" in delta:
                self._writer.citation(block.index, read_citation(delta["citation"]))
                return ("citation",)
            case "input_json_delta", kind if kind in CALL_TYPES:
                piece = text_of(delta.get("partial_json"))
                block.has_arguments = block.has_arguments or bool(piece)
                self._writer.arguments(block.index, piece)
                return ("partial_json",)
            case _:
                return ()

    def _complete(self, block: _Block) -> None:
        if block.index < 0:
            self._tell_opaque(block)
            return
        if block.kind in CALL_TYPES and not block.has_arguments:
            # No piece came, or only empty ones: what stood in the block itself are the arguments.
            self._writer.arguments(block.index, json_of(block.fields.get("input", msgspec.Raw(b"{}"))))
        if block.signature:
            self._writer.state(block.index, "signature", block.signature.encode())
        if block.place is not None:
            self._writer.state(block.index, SESSION_STATE, block.place.encoded())
        self._writer.stop(block.index, _later_metadata(block))

    def _tell_opaque(self, block: _Block) -> None:
        self._begin_answer()
        opaque = content_pb2.OpaqueBlock(
            type=clean_text(block.fields.get("type")),
            json=object_json({**block.fields, **block.later}) if block.later else json_of(block.raw),
        )
        told = content_pb2.ContentBlock(opaque=opaque, provider_metadata_json=object_json(block.metadata))
        if block.place is not None:
            told.states.add(kind=SESSION_STATE, data=block.place.encoded())
        self._writer.whole(told)


_NULL = msgspec.Raw(b"null")


def _later_metadata(block: _Block) -> str | None:
    """Return the block's metadata if its deltas have added to it."""
    if not block.later:
        return None
    before = read_block(block.fields, "", block.metadata).provider_metadata_json
    return object_json({**(fields_of(before.encode()) if before else {}), **block.later})


def _position(event: Fields) -> int:
    index = int_of(event.get("index"))
    if index is None:
        raise ProtocolError("the provider sent an event of a block without its index")
    return index
