"""Content blocks of a request, from the contract to Converse. Pure.

Source of the shapes: ContentBlock, SystemContentBlock and ToolResultContentBlock of botocore's service model.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from google.protobuf import duration_pb2

from execution_platform.adapters.bedrock.families import ModelFacts
from execution_platform.adapters.bedrock.media import DocumentNames, write_media
from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, elements_of, fields_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["PromptBlocks", "WireBlock", "is_wire_name", "wire_name"]

#: A block as it goes out: an object, or JSON that stands as it is.
WireBlock = dict[str, Any] | msgspec.Raw

_FIVE_MINUTES = 300
_ONE_HOUR = 3600
_LONGEST_ID = 64

_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_.:-]")
_NOT_IN_TOOL_NAMES = re.compile(r"[^a-zA-Z0-9_-]")
_GUARDED_FORMATS = frozenset({"png", "jpeg"})
_CITED, _GUARDED = "citationsContent", "guardContent"
#: Blocks around a text or an image that are taken in each place.
_IN_MESSAGES, _IN_SYSTEM, _IN_RESULTS = frozenset({_CITED, _GUARDED}), frozenset({_GUARDED}), frozenset[str]()
_BESIDE_DOCUMENTS = "The document is attached."


class PromptBlocks:
    """Writes the blocks of one request.

    Args:
        family: family of the provider that is asked.
        facts: what the model takes.
        notices: where to tell what is left out.
        default_ttl: time to live of hints that name none; None: the provider's.

    Attributes:
        tools_used: names of the tools that blocks tell of, in order.
        cache_points: how many have been written.
    """

    def __init__(
        self, family: str, facts: ModelFacts, notices: Notices, default_ttl: duration_pb2.Duration | None = None
    ) -> None:
        self._family = family
        self._facts = facts
        self._notices = notices
        self._default_ttl = default_ttl
        self._names = DocumentNames()
        self.tools_used: dict[str, None] = {}
        self.cache_points = 0

    def write_system(self, blocks: Sequence[content_pb2.ContentBlock]) -> list[WireBlock]:
        """Return the instructions that the provider takes, in order. Raises like write_message."""
        written: list[WireBlock] = []
        for position, block in enumerate(blocks):
            path = f"system[{position}]"
            if block.WhichOneof("content") not in {"text", "opaque"}:
                self._notices.block_dropped(path, "the provider takes only text before the conversation")
                continue
            self._append(written, block, path, _IN_SYSTEM)
        return written

    def write_message(
        self, blocks: Sequence[content_pb2.ContentBlock], path: str, *, by_model: bool = False
    ) -> list[WireBlock]:
        """Return the blocks of a message that the provider takes, in order.

        Args:
            blocks: the message's content.
            path: of the content, for notices.
            by_model: the message is the model's.

        Raises:
            InvalidRequestError: JSON in a block is none.
            UnsupportedOptionError: a block must be left out and the request wants that refused.
        """
        written: list[WireBlock] = []
        for position, block in enumerate(blocks):
            at = f"{path}[{position}]"
            if by_model and block.HasField("media"):
                self._notices.block_dropped(at, "the provider takes media only from the user")
                continue
            self._append(written, block, at, _IN_MESSAGES)
        if _needs_text(written):
            self._notices.param_defaulted(path, "a text is put behind: the provider takes no document without one")
            written.append({"text": _BESIDE_DOCUMENTS})
        return written

    def cache_point(self, hint: content_pb2.CacheHint, field: str) -> dict[str, Any]:
        """Return the cache point that a hint asks for. Raises like param_adjusted."""
        ttl = hint.ttl if hint.HasField("ttl") else self._default_ttl
        point = {"type": "default"}
        self.cache_points += 1
        if ttl is None:
            return {"cachePoint": point}
        short = ttl.seconds <= _FIVE_MINUTES
        told = f"{field}.ttl"
        if not short and self._facts.caches_an_hour is False:
            self._notices.param_adjusted(told, "the model's caches live 5 minutes")
        elif ttl.seconds not in {_FIVE_MINUTES, _ONE_HOUR} or ttl.nanos:
            what = "5 minutes" if short else "1 hour"
            self._notices.param_adjusted(told, f"caches live 5 minutes or 1 hour; {what} it is")
        if self._facts.caches_an_hour is not False:
            point["ttl"] = "5m" if short else "1h"
        return {"cachePoint": point}

    def _append(
        self, written: list[WireBlock], block: content_pb2.ContentBlock, path: str, wrappers: frozenset[str]
    ) -> None:
        part = self._write(block, path, wrappers)
        if part is None:
            return
        written.append(part)
        if not block.HasField("cache_hint"):
            return
        field = f"{path}.cache_hint"
        if block.WhichOneof("content") in {"thinking", "redacted_thinking"}:
            self._notices.param_dropped(field, "thinking cannot end a cached prompt")
        elif self._facts.caches is False:
            self._notices.param_dropped(field, "the model caches no prompts")
        else:
            written.append(self.cache_point(block.cache_hint, field))

    def _write(self, block: content_pb2.ContentBlock, path: str, wrappers: frozenset[str]) -> WireBlock | None:
        """Return a block, within another one where it is to be cited or guarded and these wrappers are taken there."""
        foreign = bool(block.family) and block.family != self._family
        match block.WhichOneof("content"):
            case "text":
                return self._text(block, foreign, path, wrappers)
            case "media":
                metadata = {} if foreign else _metadata(block)
                part = write_media(block, metadata, self._names, self._facts, path, self._notices)
                return _guarded(part, metadata, wrappers) if part else None
            case "thinking":
                return self._thinking(block, foreign, path)
            case "redacted_thinking":
                return self._redacted(block, foreign, path)
            case "tool_call":
                return self._call(block, foreign, path)
            case "tool_result":
                return self._result(block, foreign, path)
            case "refusal":
                return self._refusal(block, path)
            case "opaque":
                return self._opaque(block, foreign, path)
            case _:
                return None

    def _text(
        self, block: content_pb2.ContentBlock, foreign: bool, path: str, wrappers: frozenset[str]
    ) -> WireBlock | None:
        if foreign:
            self._tell_lost_state(block, path)
        text = block.text.text
        said = [{"text": text}] if text.strip() else []
        citations = [] if foreign else [citation.raw_json for citation in block.citations if citation.raw_json]
        if citations and _CITED in wrappers:
            told = [raw_json(one, f"{path}.citations", must_be_object=True) for one in citations]
            return {_CITED: {**({"content": said} if said else {}), "citations": told}}
        if not said:
            # Refused by the provider. It says nothing, so leaving it out is never a reason to refuse.
            self._notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "the provider takes no blank text")
            return None
        return said[0] if foreign else _guarded(said[0], _metadata(block), wrappers)

    def _thinking(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        signature = _state(block, "signature")
        if not self._takes_reasoning(block, foreign, path, signed=signature is not None):
            return None
        told = {"text": block.thinking.text}
        if signature is not None:
            told["signature"] = signature
        return {"reasoningContent": {"reasoningText": told}}

    def _redacted(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        if not self._takes_reasoning(block, foreign, path, signed=True):
            return None
        data = block.redacted_thinking.data
        try:
            base64.b64decode(data, validate=True)
        except binascii.Error:
            self._notices.state_dropped(path, "it is not the base64 that the provider gives")
            return None
        return {"reasoningContent": {"redactedContent": data.decode("ascii")}}

    def _takes_reasoning(self, block: content_pb2.ContentBlock, foreign: bool, path: str, *, signed: bool) -> bool:
        if foreign:
            self._notices.state_dropped(path, f"reasoning of family {block.family!r} means nothing to this provider")
        elif not signed and (self._facts.signs or not block.family):
            self._notices.state_dropped(path, "the model takes only reasoning that it signed")
        elif signed and self._facts.signs is False:
            self._notices.state_dropped(path, "the model takes no reasoning that another one signed")
        else:
            return True
        return False

    def _refusal(self, block: content_pb2.ContentBlock, path: str) -> WireBlock | None:
        if not block.refusal.text.strip():
            return None
        self._notices.add(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "a refusal is sent as text")
        return {"text": block.refusal.text}

    def _opaque(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        if foreign:
            self._notices.block_dropped(path, f"an opaque block of family {block.family!r} means nothing here")
            return None
        return raw_json(block.opaque.json, f"{path}.opaque.json", must_be_object=True)

    # -- tools

    def _call(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        call = block.tool_call
        by_provider = call.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
        if foreign and by_provider:
            self._notices.block_dropped(path, f"a call that family {block.family!r} ran itself means nothing here")
            return None
        if self._facts.tools is False:
            self._notices.block_dropped(path, "the model calls no tools")
            return None
        if foreign:
            self._tell_lost_state(block, path)
        name = wire_name(call.name)
        told: dict[str, Any] = {
            "toolUseId": _wire_id(call.call_id),
            "name": name,
            "input": self._arguments(call, path),
        }
        if by_provider:
            told["type"] = call.provider_type or "server_tool_use"
        else:
            self.tools_used[name] = None
        return {"toolUse": told}

    def _arguments(self, call: content_pb2.ToolCallBlock, path: str) -> Any:
        if call.HasField("arguments_text"):
            field = f"{path}.tool_call.arguments_text"
            self._notices.add(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, field, "sent as an object")
            return {"input": call.arguments_text}
        if not call.arguments_json.strip():
            return {}
        return raw_json(call.arguments_json, f"{path}.tool_call.arguments_json", must_be_object=True)

    def _result(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        result = block.tool_result
        by_provider = result.executed_by == content_pb2.TOOL_EXECUTOR_PROVIDER
        if foreign and by_provider:
            self._notices.block_dropped(path, f"a result that family {block.family!r} made itself means nothing here")
            return None
        if self._facts.tools is False:
            self._notices.block_dropped(path, "the model calls no tools")
            return None
        told: dict[str, Any] = {"toolUseId": _wire_id(result.call_id)}
        if by_provider:
            told["content"] = self._provider_result(result, path)
            if result.provider_type:
                told["type"] = result.provider_type
        else:
            told["content"] = self._client_result(result, path)
        told |= {key: raw for key, raw in ({} if foreign else _metadata(block)).items() if key == "status"}
        if result.is_error:
            told["status"] = "error"
        return {"toolResult": told}

    def _provider_result(self, result: content_pb2.ToolResultBlock, path: str) -> Any:
        field = f"{path}.tool_result"
        if not result.structured_content_json:
            return self._result_content(result, field)
        raw = raw_json(result.structured_content_json, f"{field}.structured_content_json")
        # What the provider gave is its list of blocks, and goes back digit by digit.
        is_list = bytes(raw).lstrip().startswith(b"[")
        is_blocks = is_list and all(bytes(element).startswith(b"{") for element in elements_of(raw))
        return raw if is_blocks else [_json_block(raw)]

    def _client_result(self, result: content_pb2.ToolResultBlock, path: str) -> list[WireBlock]:
        field = f"{path}.tool_result"
        content = self._result_content(result, field)
        if not result.structured_content_json:
            return content
        told = f"{field}.structured_content_json"
        if content:
            # The content says the same in words: never a reason to refuse.
            self._notices.add(chat_pb2.NOTICE_CODE_PARAM_DROPPED, told, "the result's content is sent instead")
            return content
        return [_json_block(raw_json(result.structured_content_json, told))]

    def _result_content(self, result: content_pb2.ToolResultBlock, field: str) -> list[WireBlock]:
        content: list[WireBlock] = []
        for position, part in enumerate(result.content):
            self._append_result(content, part, f"{field}.content[{position}]")
        return content

    def _append_result(self, written: list[WireBlock], block: content_pb2.ContentBlock, path: str) -> None:
        """Append a part of a result: of fewer kinds than a message's, and without cache points."""
        if block.WhichOneof("content") not in {"text", "media", "opaque"}:
            self._notices.block_dropped(path, "the provider takes no such block in a result")
            return
        part = self._write(block, path, _IN_RESULTS)
        if isinstance(part, dict) and "audio" in part:
            self._notices.block_dropped(path, "the provider takes no audio in a result")
            return
        if block.HasField("cache_hint"):
            self._notices.param_dropped(f"{path}.cache_hint", "a prompt cannot be cached up to the middle of a result")
        if part is not None:
            written.append(part)

    def _tell_lost_state(self, block: content_pb2.ContentBlock, path: str) -> None:
        if block.states or block.citations:
            lost = "state" if block.states else "citations"
            self._notices.state_dropped(path, f"{lost} of family {block.family!r} means nothing to this provider")


def _json_block(raw: msgspec.Raw) -> WireBlock:
    """Return JSON as a part of a result; what is no object goes as text, since the provider takes no other JSON."""
    return {"json": raw} if bytes(raw).lstrip().startswith(b"{") else {"text": bytes(raw).decode()}


def _needs_text(written: Sequence[WireBlock]) -> bool:
    kinds = {key for part in written if isinstance(part, dict) for key in part}
    return "document" in kinds and "text" not in kinds


def _guarded(part: dict[str, Any], metadata: Fields, wrappers: frozenset[str]) -> dict[str, Any]:
    """Return a text or an image as what a guardrail shall look at, where its metadata says so."""
    if _GUARDED not in metadata or _GUARDED not in wrappers:
        return part
    if "text" in part:
        told = fields_of(metadata[_GUARDED]) if bytes(metadata[_GUARDED]).startswith(b"{") else {}
        return {_GUARDED: {"text": {"text": part["text"], **told}}}
    image = part.get("image")
    fits = image is not None and image["format"] in _GUARDED_FORMATS and "bytes" in image["source"]
    return {_GUARDED: part} if fits else part


def _state(block: content_pb2.ContentBlock, kind: str) -> str | None:
    for state in block.states:
        if state.kind == kind:
            return state.data.decode("utf-8", "replace")
    return None


def _metadata(block: content_pb2.ContentBlock) -> Fields:
    if not block.provider_metadata_json:
        return {}
    try:
        return fields_of(block.provider_metadata_json.encode())
    except ProtocolError:
        return {}  # a caller's own text; the format has no place for it anyway


def _wire_id(call_id: str) -> str:
    """Return the id as the provider takes it; the same for a call and its result, another for another id."""
    fitting = _NOT_IN_IDS.sub("_", call_id)
    if fitting == call_id and len(call_id) <= _LONGEST_ID:
        return call_id
    return f"{fitting[:40]}-{hashlib.sha256(call_id.encode()).hexdigest()[:20]}"


def is_wire_name(name: str) -> bool:
    """Return whether the provider takes a tool of that name."""
    return wire_name(name) == name


def wire_name(name: str) -> str:
    """Return a tool's name with only the characters that the provider takes, and no more than it takes."""
    return _NOT_IN_TOOL_NAMES.sub("_", name)[:64]
