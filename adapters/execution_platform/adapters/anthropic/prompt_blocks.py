"""Content blocks of a request, from the contract to the Messages API.

Source of the shapes: `types/*_block_param.py` of the anthropic SDK 2.11.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from google.protobuf import duration_pb2

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.fields import Fields, fields_of
from execution_platform.adapters.notices import Notices
from execution_platform.adapters.wire import raw_json
from execution_platform.v1 import chat_pb2, content_pb2

__all__ = ["PromptBlocks", "WireBlock", "cache_control"]

#: A block as it goes out: an object, or JSON that stands as it is.
WireBlock = dict[str, Any] | msgspec.Raw

_FIVE_MINUTES = 300
_ONE_HOUR = 3600

#: Metadata that the request's format has a place for, by type of block.
_REPLAYED: dict[str, frozenset[str]] = {
    "tool_use": frozenset({"caller", "toolset_name"}),
    "server_tool_use": frozenset({"caller"}),
    "mcp_tool_use": frozenset({"server_name"}),
    "mcp_tool_result": frozenset({"is_error"}),
    "tool_result": frozenset({"toolset_name"}),
    "document": frozenset({"context"}),
    "image": frozenset({"transformations"}),
}
_REPLAYED_OF_RESULTS = frozenset({"caller"})

_NOT_IN_IDS = re.compile(r"[^a-zA-Z0-9_-]")


def cache_control(ttl: duration_pb2.Duration | None, field: str, notices: Notices) -> dict[str, str]:
    """Return the breakpoint for a time to live; None: the provider's shortest. Raises like param_adjusted."""
    if ttl is None:
        return {"type": "ephemeral"}
    short = ttl.seconds <= _FIVE_MINUTES
    if ttl.seconds not in {_FIVE_MINUTES, _ONE_HOUR} or ttl.nanos:
        notices.param_adjusted(field, f"caches live 5 minutes or 1 hour; {'5 minutes' if short else '1 hour'} it is")
    return {"type": "ephemeral", "ttl": "5m" if short else "1h"}


class PromptBlocks:
    """Writes the blocks of one request.

    Args:
        family: family of the provider that is asked.
        notices: where to tell what is left out.
        default_ttl: time to live of hints that name none; None: the provider's.

    Attributes:
        uses_files: a block refers to a file at the provider.
    """

    def __init__(self, family: str, notices: Notices, default_ttl: duration_pb2.Duration | None = None) -> None:
        self._family = family
        self._notices = notices
        self._default_ttl = default_ttl
        self.uses_files = False

    def write(self, blocks: Sequence[content_pb2.ContentBlock], path: str) -> list[WireBlock]:
        """Return the blocks that the provider takes, in order.

        Raises:
            InvalidRequestError: JSON in a block is none.
            UnsupportedOptionError: a block must be left out and the request wants that refused.
        """
        written: list[WireBlock] = []
        for position, block in enumerate(blocks):
            part = self._write(block, f"{path}[{position}]")
            if part is not None:
                written.append(part)
        return written

    def hint(self, hint: content_pb2.CacheHint, field: str) -> dict[str, str]:
        """Return the breakpoint that a hint asks for."""
        ttl = hint.ttl if hint.HasField("ttl") else self._default_ttl
        return cache_control(ttl, f"{field}.cache_hint.ttl", self._notices)

    def _write(self, block: content_pb2.ContentBlock, path: str) -> WireBlock | None:
        part = self._write_content(block, path)
        if part is None or not block.HasField("cache_hint"):
            return part
        if block.WhichOneof("content") in {"thinking", "redacted_thinking"}:
            self._notices.param_dropped(f"{path}.cache_hint", "thinking cannot end a cached prompt")
            return part
        members: dict[str, Any] = dict(fields_of(part)) if isinstance(part, msgspec.Raw) else part
        return {**members, "cache_control": self.hint(block.cache_hint, path)}

    def _write_content(self, block: content_pb2.ContentBlock, path: str) -> WireBlock | None:
        foreign = bool(block.family) and block.family != self._family
        match block.WhichOneof("content"):
            case "text":
                return self._text(block, foreign, path)
            case "media":
                return self._media(block, foreign, path)
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

    def _text(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        if foreign:
            self._tell_lost_state(block, path)
        if not block.text.text:
            # Refused by the provider. It says nothing, so leaving it out is never a reason to refuse.
            self._tell(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "the provider takes no empty text")
            return None
        part: dict[str, Any] = {"type": "text", "text": block.text.text}
        citations = [] if foreign else [citation.raw_json for citation in block.citations if citation.raw_json]
        if citations:
            part["citations"] = [raw_json(text, f"{path}.citations", must_be_object=True) for text in citations]
        return part

    def _thinking(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        signature = _state(block, "signature")
        if foreign:
            self._notices.state_dropped(path, f"reasoning of family {block.family!r} means nothing to this provider")
            return None
        if signature is None and not block.family:
            self._notices.state_dropped(path, "the provider takes only reasoning that it signed")
            return None
        return {"type": "thinking", "thinking": block.thinking.text, "signature": signature or ""}

    def _redacted(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        if foreign:
            self._notices.state_dropped(path, f"reasoning of family {block.family!r} means nothing to this provider")
            return None
        return {"type": "redacted_thinking", "data": block.redacted_thinking.data.decode("utf-8", "replace")}

    def _refusal(self, block: content_pb2.ContentBlock, path: str) -> WireBlock | None:
        if not block.refusal.text:
            return None
        self._tell(chat_pb2.NOTICE_CODE_BLOCK_DROPPED, path, "a refusal is sent as text")
        return {"type": "text", "text": block.refusal.text}

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
        if foreign:
            self._tell_lost_state(block, path)
        kind = (call.provider_type or "server_tool_use") if by_provider else "tool_use"
        part: dict[str, Any] = {
            "type": kind,
            "id": _wire_id(call.call_id),
            "name": call.name,
            "input": self._arguments(call, path),
        }
        return self._with_metadata(part, block, kind, foreign)

    def _arguments(self, call: content_pb2.ToolCallBlock, path: str) -> Any:
        if call.HasField("arguments_text"):
            self._tell(chat_pb2.NOTICE_CODE_PARAM_ADJUSTED, f"{path}.tool_call.arguments_text", "sent as an object")
            return {"input": call.arguments_text}
        if not call.arguments_json.strip():
            return {}
        return raw_json(call.arguments_json, f"{path}.tool_call.arguments_json", must_be_object=True)

    def _result(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        result = block.tool_result
        if result.executed_by != content_pb2.TOOL_EXECUTOR_PROVIDER:
            return self._client_result(block, foreign, path)
        if foreign:
            self._notices.block_dropped(path, f"a result that family {block.family!r} made itself means nothing here")
            return None
        kind = result.provider_type or "tool_result"
        part: dict[str, Any] = {"type": kind, "tool_use_id": _wire_id(result.call_id)}
        if result.structured_content_json:
            part["content"] = raw_json(result.structured_content_json, f"{path}.tool_result.structured_content_json")
        else:
            part["content"] = self.write(result.content, f"{path}.tool_result.content")
        return self._with_metadata(part, block, kind, foreign)

    def _client_result(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock:
        result = block.tool_result
        part: dict[str, Any] = {"type": "tool_result", "tool_use_id": _wire_id(result.call_id)}
        content = self.write(result.content, f"{path}.tool_result.content")
        if result.structured_content_json:
            if content:
                why = "the provider takes one form of a result; the content is sent"
                self._tell(chat_pb2.NOTICE_CODE_PARAM_DROPPED, f"{path}.tool_result.structured_content_json", why)
            else:
                content = [{"type": "text", "text": result.structured_content_json}]
        if content:
            part["content"] = content
        if result.is_error:
            part["is_error"] = True
        return self._with_metadata(part, block, "tool_result", foreign)

    # -- media

    def _media(self, block: content_pb2.ContentBlock, foreign: bool, path: str) -> WireBlock | None:
        media = block.media
        metadata: Fields = {} if foreign else _metadata(block)
        if bytes(metadata.get("type", b"")) == b'"container_upload"':
            self.uses_files = True
            return {"type": "container_upload", "file_id": media.file_id}
        kind = _media_kind(media)
        source = self._source(media, kind, path) if kind else None
        if source is None:
            what = media.mime_type or media.uri.partition(":")[0] or "nothing"
            self._notices.block_dropped(path, f"the provider takes images, PDF and plain text, not {what}")
            return None
        if media.detail:
            self._notices.param_dropped(f"{path}.media.detail", "the provider has no such choice")
        part: dict[str, Any] = {"type": kind, "source": source}
        if kind == "document":
            if media.filename:
                part["title"] = media.filename
            if media.HasField("citations"):
                part["citations"] = {"enabled": media.citations}
        return self._with_metadata(part, block, kind, foreign)

    def _source(self, media: content_pb2.MediaBlock, kind: str, path: str) -> dict[str, Any] | None:
        match media.WhichOneof("source"):
            case "data":
                return self._data_source(media, kind, path)
            case "uri" if media.uri.startswith(("https://", "http://")):
                return {"type": "url", "url": media.uri}
            case "file_id":
                self.uses_files = True
                return {"type": "file", "file_id": media.file_id}
            case _:
                return None

    def _data_source(self, media: content_pb2.MediaBlock, kind: str, path: str) -> dict[str, Any] | None:
        mime = media.mime_type.partition(";")[0].strip().lower()
        if kind == "image" or mime == "application/pdf":
            data = base64.b64encode(media.data).decode()
            return {"type": "base64", "media_type": mime, "data": data}
        if mime != "text/plain":
            self._notices.param_adjusted(f"{path}.media.mime_type", f"{mime} is sent as text/plain")
        try:
            return {"type": "text", "media_type": "text/plain", "data": media.data.decode()}
        except UnicodeDecodeError:
            return None

    # -- what belongs to a family

    def _with_metadata(
        self, part: dict[str, Any], block: content_pb2.ContentBlock, kind: str, foreign: bool
    ) -> WireBlock:
        if foreign or not block.provider_metadata_json:
            return part
        known = _REPLAYED.get(kind, _REPLAYED_OF_RESULTS if kind.endswith("_result") else frozenset())
        part.update((key, raw) for key, raw in _metadata(block).items() if key in known)
        return part

    def _tell_lost_state(self, block: content_pb2.ContentBlock, path: str) -> None:
        if block.states or block.citations:
            lost = "state" if block.states else "citations"
            self._notices.state_dropped(path, f"{lost} of family {block.family!r} means nothing to this provider")

    def _tell(self, code: chat_pb2.NoticeCode.ValueType, path: str, message: str) -> None:
        self._notices.add(code, path, message)


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
    """Return the id with only the characters that the provider takes; the same for a call and its result."""
    return _NOT_IN_IDS.sub("_", call_id)


def _media_kind(media: content_pb2.MediaBlock) -> str:
    """Return the type of block for a medium; empty: the provider has none."""
    mime = media.mime_type.lower()
    if mime.startswith("image/"):
        return "image"
    if mime.startswith(("application/pdf", "text/")):
        return "document"
    if mime:
        return ""
    if media.WhichOneof("source") == "uri":
        return "document" if media.uri.partition("?")[0].lower().endswith((".pdf", ".txt")) else "image"
    return "document" if media.WhichOneof("source") == "file_id" else ""
