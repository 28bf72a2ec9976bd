"""Content blocks of a run, from the CLI's messages to the contract.

The CLI hands on blocks of the Messages API. Sources: `types.py` and `_internal/message_parser.py` of claude-agent-sdk
0.2.187; https://platform.claude.com/docs/en/api/messages; runs of its CLI 2.1.330.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator

import msgspec

from execution_platform.adapters.fields import (
    Fields,
    clean_text,
    elements_if_any,
    fields_if_any,
    fields_of,
    int_of,
    is_told,
    json_of,
    object_json,
    rest_of,
    text_of,
    value_of,
)
from execution_platform.v1 import content_pb2

__all__ = ["CALL_TYPES", "is_opaque", "object_if_any", "read_block", "read_citation", "read_tool_result"]

#: Types whose arguments stream. All of them are run by the CLI, or by the model's provider on its behalf.
CALL_TYPES = frozenset({"tool_use", "server_tool_use", "mcp_tool_use"})

_READ = frozenset({"text", "thinking", "redacted_thinking", *CALL_TYPES})

#: Members of each type that reach a field; the rest is metadata of the block.
_KNOWN: dict[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    **dict.fromkeys(CALL_TYPES, frozenset({"type", "id", "name", "input"})),
}
_KNOWN_OF_RESULTS = frozenset({"type", "tool_use_id", "content"})
_KNOWN_OF_TOOL_RESULTS = _KNOWN_OF_RESULTS | {"is_error"}


def is_opaque(fields: Fields) -> bool:
    """Return whether the contract has no block for these members."""
    return text_of(fields.get("type")) not in _READ and not _is_result(fields)


def _is_result(fields: Fields) -> bool:
    return "tool_use_id" in fields and "content" in fields


def read_block(fields: Fields, minted_id: str, metadata: Fields) -> content_pb2.ContentBlock:
    """Return a block without what streams: text, thinking, signature and arguments.

    Args:
        fields: the block's members. Must not be opaque.
        minted_id: identifier for a call that has none.
        metadata: what else is to be told of the block.
    """
    kind = clean_text(fields.get("type"))
    if _is_result(fields) and kind not in _READ:
        return _read_result(kind, fields, metadata)
    rest = {**rest_of(fields, _KNOWN[kind]), **metadata}
    block = content_pb2.ContentBlock(provider_metadata_json=object_json(rest))
    if kind == "text":
        block.text.SetInParent()
        block.citations.extend(read_citation(element) for element in elements_if_any(fields.get("citations")))
    elif kind == "thinking":
        # Every model that the CLI offers shows a summary of its thinking.
        block.thinking.is_summary = True
    elif kind == "redacted_thinking":
        block.redacted_thinking.data = clean_text(fields.get("data")).encode()
    else:
        _read_call(block, kind, fields, minted_id)
    return block


def _read_call(block: content_pb2.ContentBlock, kind: str, fields: Fields, minted_id: str) -> None:
    block.id = clean_text(fields.get("id"))
    call = block.tool_call
    call.call_id = block.id or minted_id
    call.call_id_minted = not block.id
    call.name = clean_text(fields.get("name"))
    call.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    call.provider_type = "" if kind == "tool_use" else kind


def _read_result(kind: str, fields: Fields, metadata: Fields) -> content_pb2.ContentBlock:
    """Return the result of a tool that the model's provider ran, as it stands."""
    rest = {**rest_of(fields, _KNOWN_OF_RESULTS), **metadata}
    block = content_pb2.ContentBlock(provider_metadata_json=object_json(rest))
    result = block.tool_result
    result.call_id = clean_text(fields.get("tool_use_id"))
    result.structured_content_json = json_of(fields["content"])
    failed = text_of(fields_if_any(fields["content"]).get("type")).endswith("_error")
    result.is_error = failed or bytes(fields.get("is_error", b"")) == b"true"
    result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    result.provider_type = kind
    return block


def read_tool_result(fields: Fields, structured: msgspec.Raw | None, metadata: Fields) -> content_pb2.ContentBlock:
    """Return the result of a tool that the CLI ran.

    Args:
        fields: the `tool_result` block's members.
        structured: the CLI's own account of the result, an object; None: it has none.
        metadata: what else is to be told of the block.
    """
    rest = {**rest_of(fields, _KNOWN_OF_TOOL_RESULTS), **metadata}
    block = content_pb2.ContentBlock(provider_metadata_json=object_json(rest))
    result = block.tool_result
    result.call_id = clean_text(fields.get("tool_use_id"))
    result.is_error = bytes(fields.get("is_error", b"")) == b"true"
    result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    result.content.extend(_read_content(fields.get("content")))
    holds_media = any(part.HasField("media") for part in result.content)
    if structured is not None and not holds_media:
        # With an image it only says the same again, as long as the image itself.
        result.structured_content_json = json_of(structured)
    return block


def _read_content(raw: msgspec.Raw | None) -> Iterator[content_pb2.ContentBlock]:
    if not is_told(raw):
        return
    if bytes(raw).startswith(b'"'):
        yield content_pb2.ContentBlock(text=content_pb2.TextBlock(text=clean_text(raw)))
        return
    for index, element in enumerate(elements_if_any(raw)):
        part = _read_part(element)
        part.index = index
        yield part


def _read_part(raw: msgspec.Raw) -> content_pb2.ContentBlock:
    fields = fields_if_any(raw)
    kind = clean_text(fields.get("type"))
    if kind == "text":
        rest = object_json(rest_of(fields, {"type", "text"}))
        text = content_pb2.TextBlock(text=clean_text(fields.get("text")))
        return content_pb2.ContentBlock(text=text, provider_metadata_json=rest)
    media = _read_media(fields) if kind in {"image", "document"} else None
    if media is not None:
        rest = object_json(rest_of(fields, {"type", "source", "title"}))
        return content_pb2.ContentBlock(media=media, provider_metadata_json=rest)
    return content_pb2.ContentBlock(opaque=content_pb2.OpaqueBlock(type=kind, json=json_of(raw)))


def _read_media(fields: Fields) -> content_pb2.MediaBlock | None:
    source = fields_if_any(fields.get("source"))
    media = content_pb2.MediaBlock(
        mime_type=clean_text(source.get("media_type")), filename=clean_text(fields.get("title"))
    )
    match text_of(source.get("type")):
        case "base64":
            try:
                media.data = base64.b64decode(text_of(source.get("data")), validate=True)
            except (binascii.Error, ValueError):
                return None
        case "url":
            media.uri = clean_text(source.get("url"))
        case "text":
            media.data = clean_text(source.get("data")).encode()
        case _:
            return None
    return media


def read_citation(raw: msgspec.Raw) -> content_pb2.Citation:
    """Return a citation: what its kinds share, and all of it verbatim."""
    fields = fields_of(raw)
    citation = content_pb2.Citation(
        provider_type=clean_text(fields.get("type")),
        uri=clean_text(fields.get("url")),
        title=clean_text(fields.get("document_title")) or clean_text(fields.get("title")),
        cited_text=clean_text(fields.get("cited_text")),
        source_id=clean_text(fields.get("source")) or clean_text(fields.get("file_id")),
        raw_json=json_of(raw),
    )
    document = int_of(fields.get("document_index"))
    if document is not None:
        citation.document_index = document
    return citation


def object_if_any(raw: msgspec.Raw | None) -> msgspec.Raw | None:
    """Return a member that holds an object or a list; None: it holds something else, or is not there."""
    return raw if is_told(raw) and isinstance(value_of(raw), dict | list) else None
