"""Earlier answers as input items of Responses: what ``items.py`` wrote, read back.

Blocks that this family minted become the items that they came from, with the same ids, phase, status and encrypted
content. Of blocks of other families, words and calls go through, what is opaque does not.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from execution_platform.adapters.fields import Fields, clean_text, fields_if_any, value_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.openai_api.responses.kinds import CALLS
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import content_pb2

__all__ = ["assistant_items"]

Block = content_pb2.ContentBlock

_CLIENT = (content_pb2.TOOL_EXECUTOR_UNSPECIFIED, content_pb2.TOOL_EXECUTOR_CLIENT)

_PLACES = ("summary_index", "content_index")


def assistant_items(
    blocks: Sequence[Block], path: str, dialect: Dialect, notices: Notices, *, stateless: bool
) -> list[Any]:
    """Return the items of one earlier answer.

    Args:
        blocks: the answer.
        path: of the blocks, for notices.
        dialect: as spoken to the model.
        notices: where to tell what is left out.
        stateless: the server does not keep answers, so that only encrypted reasoning can be replayed.
    """
    replay = _Replay(path, dialect, notices, stateless=stateless)
    replay.results = {block.id for block in blocks if block.HasField("tool_result") or block.HasField("media")}
    for position, block in enumerate(blocks):
        replay.add(block, f"{path}[{position}]")
    return replay.items()


class _Replay:
    def __init__(self, path: str, dialect: Dialect, notices: Notices, *, stateless: bool) -> None:
        self._path = path
        self._dialect = dialect
        self._notices = notices
        self._stateless = stateless
        self._items: list[Any] = []
        self._group: tuple[str, str, str] | None = None
        self._place = (-1, -1)
        self.results: set[str] = set()

    def items(self) -> list[Any]:
        """Return the items. Without its reasoning no item keeps its id: the server would look for the pair."""
        kept = [item for item in self._items if not self._is_empty_reasoning(item)]
        if len(kept) < len(self._items):
            why = "the reasoning was not encrypted, and the server does not keep it"
            if "reasoning" in self._dialect.unsupported:
                why = "the model takes no reasoning"
            self._notices.state_dropped(self._path, why)
            for item in kept:
                if isinstance(item, dict):
                    item.pop("id", None)
        return kept

    def _is_empty_reasoning(self, item: Any) -> bool:
        if not isinstance(item, dict) or item.get("type") != "reasoning":
            return False
        if "reasoning" in self._dialect.unsupported:
            return True
        return self._stateless and not isinstance(item.get("encrypted_content"), str) and not item.get("content")

    def add(self, block: Block, path: str) -> None:
        """Take the next block."""
        own = block.family == self._dialect.family
        foreign = bool(block.family) and not own
        if foreign and block.states:
            self._notices.state_dropped(path, f"state of {block.family} is left out")
        if block.HasField("cache_hint"):
            self._notices.param_dropped(f"{path}.cache_hint", "earlier answers take no cache breakpoint")
        metadata: Fields = {}
        if own and block.provider_metadata_json:
            field = f"{path}.provider_metadata_json"
            metadata = fields_if_any(raw_json(block.provider_metadata_json, field, must_be_object=True))
        kind = block.WhichOneof("content")
        if kind in ("text", "refusal"):
            self._words(block, metadata, path, own=own)
        elif kind == "thinking" and own:
            self._reasoning(block, metadata)
        elif kind == "tool_call" and (own or block.tool_call.executed_by in _CLIENT):
            self._call(block, metadata, path, own=own)
        elif kind == "tool_result" and not foreign:
            self._result(block, path)
        elif kind == "media" and own and clean_text(metadata.get("type")) == "image_generation_call":
            self._image(block, metadata)
        elif kind == "opaque" and not foreign:
            self._opaque(block, metadata, path)
        elif kind in ("thinking", "redacted_thinking") and foreign:
            self._notices.state_dropped(path, f"reasoning of {block.family} is left out")
        else:
            self._notices.block_dropped(path, f"the provider takes no {kind} block in an answer")

    def _joins(self, group: str, block: Block, metadata: Fields) -> bool:
        """Tell whether a block belongs to the item before it: same id, and further on in it."""
        key = (group, block.id, block.family)
        # In a reasoning item the summary comes before the text.
        place = max(
            (rank, _number(metadata, name)) for rank, name in enumerate(_PLACES) if name in metadata or not rank
        )
        joins = self._group == key and place > self._place and min(place[1], self._place[1]) >= 0
        self._group, self._place = key, place
        return joins

    def _leave(self) -> None:
        self._group = None

    # --- messages and reasoning -----------------------------------------------------------------------------------

    def _words(self, block: Block, metadata: Fields, path: str, *, own: bool) -> None:
        if not own:
            self._plain_words(block)
            return
        if not self._joins("message", block, metadata):
            item = {"type": "message", "id": block.id, "role": "assistant", "content": []}
            self._items.append(item if block.id else {key: item[key] for key in item if key != "id"})
        item = self._items[-1]
        if "content" not in metadata:
            part = fields_if_any(metadata.get("part"))
            if block.HasField("text"):
                annotations = [
                    raw_json(citation.raw_json, f"{path}.citations[{position}].raw_json")
                    for position, citation in enumerate(block.citations)
                    if citation.raw_json
                ]
                said: dict[str, Any] = {"type": "output_text", "text": block.text.text, "annotations": annotations}
            else:
                said = {"type": "refusal", "refusal": block.refusal.text}
            item["content"].append(said | part)
        self._rest(item, metadata)
        item.setdefault("status", "completed")

    def _plain_words(self, block: Block) -> None:
        """Write words that this family did not mint: a message without id and status."""
        if block.HasField("text"):
            part = {"type": "output_text", "text": block.text.text}
        else:
            part = {"type": "refusal", "refusal": block.refusal.text}
        if self._group == ("plain", "", ""):
            self._items[-1]["content"].append(part)
        else:
            self._items.append({"role": "assistant", "content": [part]})
        self._group = ("plain", "", "")

    def _reasoning(self, block: Block, metadata: Fields) -> None:
        if not self._joins("reasoning", block, metadata):
            self._items.append({"type": "reasoning", **({"id": block.id} if block.id else {}), "summary": []})
        item = self._items[-1]
        part = fields_if_any(metadata.get("part"))
        if block.thinking.is_summary:
            item["summary"].append({"type": "summary_text", "text": block.thinking.text} | part)
        elif block.thinking.text or "content_index" in metadata:
            item.setdefault("content", []).append({"type": "reasoning_text", "text": block.thinking.text} | part)
        for state in block.states:
            item[state.kind] = state.data.decode("utf-8", "replace")
        self._rest(item, metadata)

    def _rest(self, item: dict[str, Any], metadata: Fields) -> None:
        for key, value in metadata.items():
            if key not in (*_PLACES, "part") and not (key == "content" and item.get("content")):
                item[key] = value

    # --- calls ----------------------------------------------------------------------------------------------------

    def _call(self, block: Block, metadata: Fields, path: str, *, own: bool) -> None:
        self._leave()
        call = block.tool_call
        kind = call.provider_type if own else ""
        if not kind:
            kind = "custom_tool_call" if call.HasField("arguments_text") else "function_call"
        if kind not in CALLS:
            self._notices.block_dropped(path, f"the provider has no {kind}")
            return
        if CALLS[kind].whole:
            # The result that follows is the item.
            if block.id not in self.results:
                self._notices.block_dropped(path, "a call of the provider's own without its result is left out")
            return
        item: dict[str, Any] = {"type": kind}
        if own and block.id:
            item["id"] = block.id
        if kind != "mcp_approval_request":
            item["call_id"] = call.call_id
        if not CALLS[kind].name:
            item["name"] = call.name
        item |= self._arguments(call, kind, metadata, path)
        self._items.append(item | metadata)

    def _arguments(self, call: content_pb2.ToolCallBlock, kind: str, metadata: Fields, path: str) -> dict[str, Any]:
        key = CALLS[kind].arguments
        if CALLS[kind].form == "text":
            return {key: call.arguments_text if call.HasField("arguments_text") else call.arguments_json}
        if CALLS[kind].form == "json":
            return {key: call.arguments_json or "{}"}
        if "actions" in metadata or not call.arguments_json:
            return {}
        return {key: raw_json(call.arguments_json, f"{path}.tool_call.arguments_json")}

    def _result(self, block: Block, path: str) -> None:
        self._leave()
        if not block.tool_result.structured_content_json:
            self._notices.block_dropped(path, "a result of the provider's own without its JSON is left out")
            return
        field = f"{path}.tool_result.structured_content_json"
        self._items.append(raw_json(block.tool_result.structured_content_json, field, must_be_object=True))

    def _image(self, block: Block, metadata: Fields) -> None:
        if "partial_image_index" in metadata:
            return
        self._leave()
        encoded = base64.b64encode(block.media.data).decode()
        self._items.append({"id": block.id, **metadata, "result": encoded})

    def _opaque(self, block: Block, metadata: Fields, path: str) -> None:
        raw = raw_json(block.opaque.json, f"{path}.opaque.json", must_be_object=True)
        if "content_index" not in metadata:
            self._leave()
            self._items.append(raw)
            return
        if not self._joins("message", block, metadata):
            self._items.append({"type": "message", "id": block.id, "role": "assistant", "content": []})
        self._items[-1]["content"].append(raw)
        self._rest(self._items[-1], metadata)


def _number(metadata: Fields, key: str) -> int:
    value = value_of(metadata.get(key))
    return value if isinstance(value, int) else -1
