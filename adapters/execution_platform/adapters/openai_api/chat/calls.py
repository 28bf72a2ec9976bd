"""Tool calls as servers stream them: in pieces by index, without an index, or whole in one piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from execution_platform.adapters.blocks import AnswerWriter
from execution_platform.adapters.fields import Fields, fields_if_any, fields_of, int_of, is_told, object_json
from execution_platform.adapters.openai_api.chat.pieces import plain, words_of
from execution_platform.adapters.wire import json_text
from execution_platform.v1 import content_pb2

__all__ = ["LEGACY_CALL", "ToolCalls"]

#: provider_type of a call that came as the ``function_call`` of the time before tools.
LEGACY_CALL = "function_call"

_KNOWN = frozenset({"index", "id", "type", "function", "custom"})


@dataclass(slots=True)
class _Call:
    """One call: its block once it has a name, and what came before that."""

    call_id: str = ""
    name: str = ""
    custom: bool = False
    legacy: bool = False
    block: int | None = None
    held: str = ""
    metadata: Fields = field(default_factory=dict)


class ToolCalls:
    """Writes the tool calls of one answer.

    Args:
        writer: where the blocks go.
        mint: beginning of the ids that are made up for calls without one.
    """

    def __init__(self, writer: AnswerWriter, mint: str) -> None:
        self._writer = writer
        self._mint = mint
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}

    def __bool__(self) -> bool:
        return any(call.name for call in self._calls)

    def add(self, raw: msgspec.Raw, *, whole: bool = False) -> None:
        """Take an element of ``tool_calls``.

        Args:
            raw: its JSON.
            whole: it is a call of its own, whatever its index says: the answer is not streamed.
        """
        piece = fields_of(raw)
        call_id = plain(piece.get("id"))
        function, custom = fields_if_any(piece.get("function")), fields_if_any(piece.get("custom"))
        name, custom_name = plain(function.get("name")), plain(custom.get("name"))
        call = self._find(int_of(piece.get("index")), call_id, name or custom_name, whole=whole)
        call.call_id = call.call_id or call_id
        # Some servers send both members, one of them empty.
        call.custom = call.custom or (not name and bool(custom_name)) or plain(piece.get("type")) == "custom"
        call.name = call.name or name or custom_name
        _keep_rest(call.metadata, piece, function)
        self._write(call, words_of(custom.get("input") if call.custom else function.get("arguments")))

    def more(self, index: int, arguments: str) -> bool:
        """Append to the arguments of a call. Returns False, having done nothing, unless its block is open."""
        call = self._by_index.get(index)
        if call is None or call.block is None:
            return False
        self._write(call, arguments)
        return True

    def add_legacy(self, raw: msgspec.Raw) -> None:
        """Take ``function_call``, of which there is at most one, without an id."""
        piece = fields_of(raw)
        name, arguments = plain(piece.get("name")), words_of(piece.get("arguments"))
        call = next((call for call in self._calls if call.legacy), None)
        if call is None:
            if not name and not arguments:
                return
            call = _Call(legacy=True)
            self._calls.append(call)
        call.name = call.name or name
        self._write(call, arguments)

    def close(self) -> None:
        """Complete all calls."""
        for call in self._calls:
            if call.block is not None:
                self._writer.stop(call.block, object_json(call.metadata) or None)
            elif call.call_id or call.held:
                # Nobody can run a call without a name, but it was said.
                said = json_text({"id": call.call_id, "arguments": call.held})
                opaque = content_pb2.OpaqueBlock(type="tool_call", json=said)
                self._writer.whole(content_pb2.ContentBlock(opaque=opaque))

    def _find(self, index: int | None, call_id: str, name: str, *, whole: bool) -> _Call:
        known = None if whole else self._known(index, call_id, name)
        # One index for all calls of a turn: only the id tells them apart.
        if known is not None and name and known.name and call_id not in {"", known.call_id}:
            known = None
        if known is None:
            known = _Call()
            self._calls.append(known)
            if index is not None:
                self._by_index[index] = known
        return known

    def _known(self, index: int | None, call_id: str, name: str) -> _Call | None:
        if index is not None:
            return self._by_index.get(index)
        if call_id:
            return next((call for call in self._calls if call.call_id == call_id), None)
        return None if name or not self._calls else self._calls[-1]

    def _write(self, call: _Call, arguments: str) -> None:
        if call.block is None:
            call.held += arguments
            if call.name:
                self._start(call)
        elif call.custom:
            self._writer.arguments_text(call.block, arguments)
        else:
            self._writer.arguments(call.block, arguments)

    def _start(self, call: _Call) -> None:
        minted = not call.call_id
        if minted:
            call.call_id = f"call_{self._mint}_{self._calls.index(call)}"
        told = content_pb2.ToolCallBlock(
            call_id=call.call_id,
            name=call.name,
            executed_by=content_pb2.TOOL_EXECUTOR_CLIENT,
            provider_type="custom" if call.custom else LEGACY_CALL if call.legacy else "",
            call_id_minted=minted,
        )
        if call.custom:
            told.arguments_text = ""
        call.block = self._writer.open(content_pb2.ContentBlock(tool_call=told))
        held, call.held = call.held, ""
        self._write(call, held)


def _keep_rest(metadata: Fields, piece: Fields, function: Fields) -> None:
    for key, value in piece.items():
        if key not in _KNOWN and is_told(value):
            metadata[key] = msgspec.Raw(bytes(value))
    rest = {key: value for key, value in function.items() if key not in {"name", "arguments"}}
    if rest:
        metadata["function"] = msgspec.Raw(msgspec.json.encode(rest))
