"""Content blocks of an answer, from the Messages API to the contract.

Source of the shapes: `types/beta/beta_*_block.py` and `types/citation*.py` of the anthropic SDK 2.11.
"""

from __future__ import annotations

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
)
from execution_platform.v1 import content_pb2

__all__ = ["CALL_TYPES", "is_opaque", "read_block", "read_citation"]

#: Types whose arguments stream, and who runs them.
CALL_TYPES = {
    "tool_use": content_pb2.TOOL_EXECUTOR_CLIENT,
    "server_tool_use": content_pb2.TOOL_EXECUTOR_PROVIDER,
    "mcp_tool_use": content_pb2.TOOL_EXECUTOR_PROVIDER,
}

_READ = frozenset({"text", "thinking", "redacted_thinking", "container_upload", *CALL_TYPES})

#: Members of each type that reach a field; the rest is metadata of the block.
_KNOWN: dict[str, frozenset[str]] = {
    "text": frozenset({"type", "text", "citations"}),
    "thinking": frozenset({"type", "thinking", "signature"}),
    "redacted_thinking": frozenset({"type", "data"}),
    "container_upload": frozenset({"file_id"}),
    **dict.fromkeys(CALL_TYPES, frozenset({"type", "id", "name", "input"})),
}
_KNOWN_OF_RESULTS = frozenset({"type", "tool_use_id", "content"})


def is_opaque(fields: Fields) -> bool:
    """Return whether the contract has no block for these members."""
    return text_of(fields.get("type")) not in _READ and not _is_result(fields)


def _is_result(fields: Fields) -> bool:
    return "tool_use_id" in fields and "content" in fields


def read_block(fields: Fields, summarized: bool, minted_id: str) -> content_pb2.ContentBlock:
    """Return a block without what streams: text, thinking, signature and arguments.

    Args:
        fields: the block's members. Must not be opaque.
        summarized: the model shows a summary of its thinking.
        minted_id: identifier for a call that has none.
    """
    kind = clean_text(fields.get("type"))
    if _is_result(fields) and kind not in _READ:
        return _read_result(kind, fields)
    block = content_pb2.ContentBlock(provider_metadata_json=object_json(rest_of(fields, _KNOWN[kind])))
    if kind == "text":
        block.text.SetInParent()
        block.citations.extend(read_citation(element) for element in elements_if_any(fields.get("citations")))
    elif kind == "thinking":
        block.thinking.is_summary = summarized
    elif kind == "redacted_thinking":
        block.redacted_thinking.data = clean_text(fields.get("data")).encode()
    elif kind == "container_upload":
        block.media.file_id = clean_text(fields.get("file_id"))
    else:
        _read_call(block, kind, fields, minted_id)
    return block


def _read_call(block: content_pb2.ContentBlock, kind: str, fields: Fields, minted_id: str) -> None:
    block.id = clean_text(fields.get("id"))
    call = block.tool_call
    call.call_id = block.id or minted_id
    call.call_id_minted = not block.id
    call.name = clean_text(fields.get("name"))
    call.executed_by = CALL_TYPES[kind]
    call.provider_type = "" if kind == "tool_use" else kind


def _read_result(kind: str, fields: Fields) -> content_pb2.ContentBlock:
    block = content_pb2.ContentBlock(provider_metadata_json=object_json(rest_of(fields, _KNOWN_OF_RESULTS)))
    result = block.tool_result
    result.call_id = clean_text(fields.get("tool_use_id"))
    result.structured_content_json = json_of(fields["content"])
    result.is_error = bytes(fields.get("is_error", b"")) == b"true" or _tells_error(fields["content"])
    result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    result.provider_type = kind
    return block


def _tells_error(content: msgspec.Raw) -> bool:
    """Return whether the content is one of the error objects, such as web_search_tool_result_error."""
    return text_of(fields_if_any(content).get("type")).endswith("_error")


#: Where each type of citation tells its range, and what it counts.
_RANGES: dict[str, tuple[str, str, content_pb2.CitationUnit.ValueType]] = {
    "char_location": ("start_char_index", "end_char_index", content_pb2.CITATION_UNIT_CHARACTER),
    "page_location": ("start_page_number", "end_page_number", content_pb2.CITATION_UNIT_PAGE),
    "content_block_location": ("start_block_index", "end_block_index", content_pb2.CITATION_UNIT_BLOCK),
    "search_result_location": ("start_block_index", "end_block_index", content_pb2.CITATION_UNIT_BLOCK),
}


def read_citation(raw: msgspec.Raw) -> content_pb2.Citation:
    """Return a citation of any of the five kinds; of an unknown kind what it shares with them."""
    fields = fields_of(raw)
    kind = clean_text(fields.get("type"))
    citation = content_pb2.Citation(
        provider_type=kind,
        uri=clean_text(fields.get("url")),
        title=clean_text(fields.get("document_title")) or clean_text(fields.get("title")),
        cited_text=clean_text(fields.get("cited_text")),
        source_id=clean_text(fields.get("file_id")),
        raw_json=json_of(raw),
    )
    if is_told(fields.get("source")):
        _read_source(citation, clean_text(fields["source"]))
    document = int_of(fields.get("document_index"))
    if document is not None:
        citation.document_index = document
    if kind in _RANGES:
        _read_range(citation.source_range, fields, *_RANGES[kind])
    return citation


def _read_source(citation: content_pb2.Citation, source: str) -> None:
    citation.source_id = source
    if "://" in source:
        citation.uri = source


def _read_range(
    part: content_pb2.CitationRange,
    fields: Fields,
    start: str,
    end: str,
    unit: content_pb2.CitationUnit.ValueType,
) -> None:
    part.unit = unit
    first, last = int_of(fields.get(start)), int_of(fields.get(end))
    if first is not None:
        part.start = first
    if last is not None:
        part.end = last
