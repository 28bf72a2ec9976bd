"""Output items of Responses, written as blocks.

A message becomes a block for each part of its content, a reasoning item one for each summary and each text. They
carry the item's id; the last one carries what else the item says, and the encrypted content. A call becomes a tool
call; where the server ran the tool itself and the item holds the result as well, a tool result with the item
verbatim follows, or a media block for an image. Everything else is an opaque block. ``replay.py`` reads all this back.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    json_of,
    object_json,
    value_of,
)
from execution_platform.adapters.openai_api.responses.citations import citation_of, logprobs_of
from execution_platform.adapters.openai_api.responses.kinds import CALLS, OUTPUTS, is_clients
from execution_platform.adapters.openai_api.responses.media import AudioBlock, image_block
from execution_platform.adapters.openai_api.responses.state import WORDS, Item, Part, arguments_of, missing, rest_of
from execution_platform.v1 import content_pb2

__all__ = ["OutputItems"]

Block = content_pb2.ContentBlock


class OutputItems:
    """Writes the items of one answer, streamed or whole.

    Attributes:
        client_calls: the caller has to run a tool.
        refused: the model refused, in words.
        audio: writes the spoken answer.
        custom_tools: whether the request declared tools that take free text; None: not known. xAI uses the type of
            their calls for tools of its own as well.
    """

    def __init__(self, writer: AnswerWriter, audio_format: str = "") -> None:
        self._writer = writer
        self.audio = AudioBlock(writer, audio_format)
        self._items: dict[int, Item] = {}
        self._finished: list[tuple[str, str]] = []
        self._pending_calls: dict[str, str] = {}
        self.client_calls = False
        self.refused = False
        self.custom_tools: bool | None = None

    # --- what the stream tells ------------------------------------------------------------------------------------

    def added(self, index: int, raw: msgspec.Raw) -> None:
        """Begin an item."""
        before = self._items.get(index)
        if before is not None and not before.done:
            self._abandon(before)
        item = self._new(index, fields_if_any(raw))
        # The call_id of a tool search was seen to change until it is done.
        if item.kind in CALLS and item.kind != "tool_search_call":
            self._open_call(item)
        elif item.kind not in ("message", "reasoning", *CALLS, *OUTPUTS):
            self._open_opaque(item)

    def place_of(self, item_id: str, raw: msgspec.Raw) -> int:
        """Return the index of an item of which the server does not tell it.

        Args:
            item_id: as an event about a part of the item says it.
            raw: the item, if the event holds it: one that is not known yet comes after the others.
        """
        fields = fields_if_any(raw)
        item_id = item_id or clean_text(fields.get("id"))
        found = next((index for index, item in self._items.items() if item_id and item.id == item_id), None)
        if found is None and fields.get("call_id"):
            call_id = bytes(fields["call_id"])
            calls = ((index, item.fields.get("call_id")) for index, item in self._items.items() if not item.done)
            found = next((index for index, told in calls if told is not None and bytes(told) == call_id), None)
        if found is not None:
            return found
        last = max(self._items, default=-1)
        return last + 1 if fields else max(last, 0)

    def part(self, index: int, group: str, position: int, kind: str, item_id: str = "") -> Part:
        """Return a part, begun if need be. ``group`` is content or summary."""
        item = self._items.get(index)
        if item is None or item.done:
            item = self._new(index, {})
            item.id = item_id
            item.kind = "reasoning" if kind in ("reasoning_text", "summary_text") else "message"
        part = item.parts.get((group, position))
        return part or self._open_part(item, group, position, kind)

    def part_added(self, index: int, group: str, position: int, raw: msgspec.Raw) -> None:
        """Begin a part."""
        fields = fields_if_any(raw)
        kind = clean_text(fields.get("type"))
        if kind in WORDS:
            part = self.part(index, group, position, kind)
            self._top_up(part, fields)

    def part_done(self, index: int, group: str, position: int, raw: msgspec.Raw) -> None:
        """Complete a part."""
        fields = fields_if_any(raw)
        kind = clean_text(fields.get("type"))
        if kind in WORDS:
            part = self.part(index, group, position, kind)
            self._fill(part, fields)
            part.complete = True
        elif kind and group == "content":
            self._newer_part(index, position, raw, kind)

    def _newer_part(self, index: int, position: int, raw: msgspec.Raw, kind: str) -> None:
        """Write a part of a kind that is not known, in its place among the others."""
        item = self._items.get(index)
        if item is not None and item.kind == "message" and not item.done and position not in item.newer:
            self._stop_complete(item)
            self._open_newer(item, position, raw, kind)

    def _open_newer(self, item: Item, position: int, raw: msgspec.Raw, kind: str) -> None:
        opaque = content_pb2.OpaqueBlock(type=kind, json=json_of(raw))
        item.newer[position] = self._writer.open(Block(id=item.id, opaque=opaque))

    def words(self, part: Part, text: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append to a part's words."""
        if not self._writer.is_open(part.block):
            return
        part.sent.append(text)
        if part.kind == "output_text":
            part.logprobs = part.logprobs or bool(logprobs)
            self._writer.text(part.block, text, logprobs)
        elif part.kind == "refusal":
            self._writer.refusal(part.block, text, logprobs)
        else:
            self._writer.thinking(part.block, text, logprobs)

    def all_words(self, part: Part, text: str, logprobs: Sequence[content_pb2.TokenLogprob] = ()) -> None:
        """Append what is missing of a part's words."""
        rest = missing(text, part.sent)
        if rest or logprobs:
            self.words(part, rest, logprobs)

    def annotation(self, part: Part, raw: msgspec.Raw) -> None:
        """Add an annotation to a part."""
        if self._writer.is_open(part.block) and fields_if_any(raw):
            part.citations += 1
            self._writer.citation(part.block, citation_of(raw))

    def arguments(self, index: int, text: str) -> None:
        """Append to a call's arguments."""
        item = self._items.get(index)
        if item is not None and item.kind in CALLS and item.block >= 0 and not item.done:
            self._write_arguments(item, text)

    def all_arguments(self, index: int, text: str) -> None:
        """Append what is missing of a call's arguments."""
        item = self._items.get(index)
        if item is not None:
            self.arguments(index, missing(text, item.sent))

    def partial_image(self, index: int, data: str, fields: Fields) -> None:
        """Write a preview of an image."""
        item = self._items.get(index)
        metadata = {"type": msgspec.Raw(b'"image_generation_call"'), **fields}
        block = image_block(item.id if item else "", data, metadata) if data else None
        if block is not None:
            self._writer.whole(block)

    def done(self, index: int, raw: msgspec.Raw) -> None:
        """Complete an item with all that it holds."""
        fields = fields_if_any(raw)
        item = self._items.get(index)
        if item is not None and item.done:
            if item.id == clean_text(fields.get("id")):
                return
            item = None
        if item is None:
            item = self._new(index, fields)
        else:
            item.fields = fields
            item.id = clean_text(fields.get("id")) or item.id
            item.kind = item.kind or clean_text(fields.get("type"))
        self._finish(item, raw)

    def end(self, output: Sequence[msgspec.Raw]) -> None:
        """Take the finished answer's list of items: complete what is open, add what the stream left out."""
        untold = []
        for raw in output:
            fields = fields_if_any(raw)
            key = (clean_text(fields.get("type")), clean_text(fields.get("id")))
            if key not in self._finished:
                untold.append((key, raw))
        for item in self._items.values():
            if not item.done:
                match = next((pair for pair in untold if pair[0] == (item.kind, item.id)), None)
                if match is not None:
                    untold.remove(match)
                    item.fields = fields_if_any(match[1])
                    self._finish(item, match[1])
                else:
                    self._abandon(item)
        # Where a server names its items anew in the final list, counting keeps them from being told twice.
        at = max(self._items, default=-1) + 1
        for _, raw in untold[: max(0, len(output) - len(self._finished))]:
            self.done(at, raw)
            at += 1

    # --- items ----------------------------------------------------------------------------------------------------

    def _new(self, index: int, fields: Fields) -> Item:
        item = Item(clean_text(fields.get("type")), clean_text(fields.get("id")), fields)
        self._items[index] = item
        return item

    def _finish(self, item: Item, raw: msgspec.Raw) -> None:
        item.done = True
        self._finished.append((item.kind, item.id))
        if item.kind == "message":
            self._finish_message(item)
        elif item.kind == "reasoning":
            self._finish_reasoning(item)
        elif item.kind in CALLS:
            self._finish_call(item, raw)
        elif item.kind in OUTPUTS:
            self._write_output(item, raw)
        else:
            if item.block < 0:
                self._open_opaque(item)
            self._writer.opaque(item.block, json_of(raw))
            self._writer.stop(item.block)

    def _open_opaque(self, item: Item) -> None:
        block = Block(id=item.id, opaque=content_pb2.OpaqueBlock(type=item.kind))
        item.block = self._writer.open(block)

    def _abandon(self, item: Item) -> None:
        """Stop the blocks of an item whose end never came."""
        item.done = True
        self._finished.append((item.kind, item.id))
        self._stop_parts(item)
        if item.kind in CALLS:
            self._note_caller(item)
        if item.block >= 0:
            self._writer.stop(item.block)

    # --- messages and reasoning -----------------------------------------------------------------------------------

    def _open_part(self, item: Item, group: str, position: int, kind: str) -> Part:
        self._stop_complete(item)
        place = {f"{group}_index": position}
        early = {key: value for key, value in rest_of(item).items() if key not in ("status", "content")}
        block = Block(id=item.id, provider_metadata_json=object_json({**place, **early}))
        if kind == "output_text":
            block.text.SetInParent()
        elif kind == "refusal":
            block.refusal.SetInParent()
            self.refused = True
        else:
            block.thinking.is_summary = group == "summary"
        part = Part(kind, self._writer.open(block), place)
        item.parts[group, position] = part
        return part

    def _finish_message(self, item: Item) -> None:
        for position, raw in enumerate(elements_if_any(item.fields.get("content"))):
            fields = fields_if_any(raw)
            kind = clean_text(fields.get("type"))
            if kind in WORDS:
                part = item.parts.get(("content", position)) or self._open_part(item, "content", position, kind)
                self._fill(part, fields)
            elif position not in item.newer:
                self._open_newer(item, position, raw, kind)
        if not item.parts and not item.newer and not elements_if_any(item.fields.get("content")):
            metadata = object_json(rest_of(item) | {"content": msgspec.Raw(b"[]")})
            self._writer.whole(Block(id=item.id, text=content_pb2.TextBlock(), provider_metadata_json=metadata))
        self._stop_parts(item)

    def _finish_reasoning(self, item: Item) -> None:
        for group in ("summary", "content"):
            for position, raw in enumerate(elements_if_any(item.fields.get(group))):
                fields = fields_if_any(raw)
                kind = "summary_text" if group == "summary" else "reasoning_text"
                part = item.parts.get((group, position)) or self._open_part(item, group, position, kind)
                self._fill(part, fields, kind)
        if not item.parts:
            block = Block(id=item.id, thinking=content_pb2.ThinkingBlock())
            item.parts["", 0] = Part("reasoning_text", self._writer.open(block), {})
        encrypted = value_of(item.fields.get("encrypted_content"))
        if isinstance(encrypted, str):
            last = list(item.parts.values())[-1]
            self._writer.state(last.block, "encrypted_content", encrypted.encode("utf-8", "replace"))
        self._stop_parts(item)

    def _stop_complete(self, item: Item) -> None:
        for before in item.parts.values():
            if before.complete and self._writer.is_open(before.block):
                self._writer.stop(before.block, object_json(self._part_metadata(before)))

    def _stop_parts(self, item: Item) -> None:
        parts = list(item.parts.values())
        for part in parts:
            if self._writer.is_open(part.block):
                rest = rest_of(item) if part is parts[-1] else {}
                metadata = object_json(self._part_metadata(part) | rest)
                self._writer.stop(part.block, metadata or None)
        for position, block in item.newer.items():
            self._writer.stop(block, object_json({"content_index": position, **rest_of(item)}))

    def _part_metadata(self, part: Part) -> dict[str, object]:
        return {**part.position, **({"part": part.rest} if part.rest else {})}

    def _fill(self, part: Part, fields: Fields, kind: str = "") -> None:
        self._top_up(part, fields)
        own = {"type", WORDS[part.kind]}
        if part.kind == "output_text":
            own |= {"annotations", "logprobs"}
        part.rest = {key: value for key, value in fields.items() if key not in own}
        if kind and clean_text(fields.get("type")) != kind:
            part.rest["type"] = fields.get("type", msgspec.Raw(b"null"))

    def _top_up(self, part: Part, fields: Fields) -> None:
        logprobs = [] if part.logprobs else logprobs_of(value_of(fields.get("logprobs")))
        text = value_of(fields.get(WORDS[part.kind]))
        self.all_words(part, text if isinstance(text, str) else "", logprobs)
        for annotation in elements_if_any(fields.get("annotations"))[part.citations :]:
            self.annotation(part, annotation)

    # --- calls ----------------------------------------------------------------------------------------------------

    def _open_call(self, item: Item) -> None:
        call = CALLS[item.kind]
        call_id = clean_text(item.fields.get("call_id")) or item.id
        tool_call = content_pb2.ToolCallBlock(
            call_id=call_id,
            name=clean_text(item.fields.get("name")) or call.name or item.kind,
            executed_by=self._executor(item),
            provider_type="" if item.kind == "function_call" else item.kind,
        )
        item.free_text = call.form == "text" and (call.arguments in item.fields or "arguments" not in item.fields)
        if item.free_text:
            tool_call.arguments_text = ""
        block = Block(id=item.id, tool_call=tool_call)
        if not call_id:
            tool_call = block.tool_call
            tool_call.call_id, tool_call.call_id_minted = f"call_{self._writer.block_count}", True
        if not call.whole:
            self._pending_calls[item.kind] = block.tool_call.call_id
        item.block = self._writer.open(block)
        initial = value_of(item.fields.get(call.arguments))
        if call.form in ("json", "text") and isinstance(initial, str):
            self._write_arguments(item, initial)

    def _write_arguments(self, item: Item, text: str) -> None:
        item.sent.append(text)
        if item.free_text:
            self._writer.arguments_text(item.block, text)
        else:
            self._writer.arguments(item.block, text)

    def _executor(self, item: Item) -> content_pb2.ToolExecutor.ValueType:
        own = item.kind == "custom_tool_call" and self.custom_tools is False
        values = {key: value_of(item.fields.get(key)) for key in ("execution", "environment")}
        if not own and is_clients(item.kind, values):
            return content_pb2.TOOL_EXECUTOR_CLIENT
        return content_pb2.TOOL_EXECUTOR_PROVIDER

    def _note_caller(self, item: Item) -> None:
        if self._executor(item) == content_pb2.TOOL_EXECUTOR_CLIENT:
            self.client_calls = True

    def _finish_call(self, item: Item, raw: msgspec.Raw) -> None:
        if item.block < 0:
            self._open_call(item)
        self._note_caller(item)
        call = CALLS[item.kind]
        self._write_arguments(item, missing(arguments_of(item), item.sent))
        self._writer.stop(item.block, None if call.whole else object_json(rest_of(item)) or None)
        if call.whole and not (item.kind == "image_generation_call" and self._image(item)):
            self._write_result(item, raw)

    def _write_result(self, item: Item, raw: msgspec.Raw) -> None:
        """Write the result that a call holds itself: the item, verbatim."""
        result = content_pb2.ToolResultBlock(
            call_id=clean_text(item.fields.get("call_id")) or item.id,
            name=clean_text(item.fields.get("name")) or CALLS[item.kind].name,
            structured_content_json=json_of(raw),
            is_error=clean_text(item.fields.get("status")) == "failed" or bool(value_of(item.fields.get("error"))),
            executed_by=content_pb2.TOOL_EXECUTOR_PROVIDER,
            provider_type=item.kind,
        )
        self._writer.whole(Block(id=item.id, tool_result=result))

    def _write_output(self, item: Item, raw: msgspec.Raw) -> None:
        """Write an item that answers an earlier call."""
        answered = OUTPUTS[item.kind]
        result = content_pb2.ToolResultBlock(
            call_id=clean_text(item.fields.get("call_id")) or self._pending_calls.get(answered, "") or item.id,
            name=clean_text(item.fields.get("name")) or (CALLS[answered].name if answered in CALLS else ""),
            structured_content_json=json_of(raw),
            is_error=clean_text(item.fields.get("status")) == "failed",
            executed_by=content_pb2.TOOL_EXECUTOR_PROVIDER,
            provider_type=item.kind,
        )
        self._writer.whole(Block(id=item.id, tool_result=result))

    def _image(self, item: Item) -> bool:
        """Write a generated image as media, if its base64 comes out of the bytes again as it stands."""
        data = value_of(item.fields.get("result"))
        metadata = {key: value for key, value in item.fields.items() if key not in ("id", "result")}
        block = image_block(item.id, data, metadata) if isinstance(data, str) and data else None
        if block is not None:
            self._writer.whole(block)
        return block is not None
