"""Content blocks of an answer, from Converse to the contract.

Source: ContentBlock and what it holds in `bedrock-runtime/2023-09-30/service-2.json` of botocore 1.44.5; the types of
tool calls and results that recorded answers have.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import msgspec

from execution_platform.adapters.bedrock.media import media_type
from execution_platform.adapters.errors import ProtocolError
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
)
from execution_platform.v1 import content_pb2

__all__ = [
    "BlockContext",
    "call_block",
    "media_block",
    "opaque_block",
    "read_blocks",
    "read_citation",
    "result_block",
]

_Block = content_pb2.ContentBlock

_KNOWN_OF_CALL = frozenset({"toolUseId", "name", "input", "type"})
#: The status is kept besides: what goes back says "success" where the answer did.
_KNOWN_OF_RESULT = frozenset({"toolUseId", "content", "type"})

_ORDINARY_CALL = "tool_use"


@dataclass(frozen=True, slots=True)
class BlockContext:
    """What a block of a whole answer does not say itself.

    Attributes:
        summarized: what the model shows of its thinking is a summary.
        minted_id: identifier for a call that has none.
    """

    summarized: bool = False
    minted_id: str = ""


def read_blocks(raw: msgspec.Raw, context: BlockContext) -> list[_Block]:
    """Return what a block of a whole answer says; nearly always one block.

    Raises:
        ProtocolError: it is no JSON object, or a tool call without a name.
    """
    fields = rest_of(fields_of(raw))
    kind = next((key for key in fields if key in _READERS), "")
    blocks = _READERS[kind](kind, fields[kind], context) if kind else []
    if not blocks:
        return [opaque_block(next(iter(fields), ""), json_of(raw))]
    _add_metadata(blocks[0], {key: value for key, value in fields.items() if key != kind})
    return blocks


def call_block(fields: Fields, minted_id: str) -> _Block:
    """Return a tool call without its arguments. Raises ProtocolError where it has no name."""
    kind = clean_text(fields.get("type"))
    name = clean_text(fields.get("name"))
    if not name:
        raise ProtocolError("the provider sent a tool call without a name", provider_status=200)
    block = _Block(
        id=clean_text(fields.get("toolUseId")), provider_metadata_json=object_json(rest_of(fields, _KNOWN_OF_CALL))
    )
    call = block.tool_call
    call.call_id = block.id or minted_id
    call.call_id_minted = not block.id
    call.name = name
    by_caller = kind in {"", _ORDINARY_CALL}
    call.executed_by = content_pb2.TOOL_EXECUTOR_CLIENT if by_caller else content_pb2.TOOL_EXECUTOR_PROVIDER
    call.provider_type = "" if by_caller else kind
    return block


def result_block(fields: Fields) -> _Block:
    """Return the result of a tool that Bedrock ran, without its content."""
    block = _Block(provider_metadata_json=object_json(rest_of(fields, _KNOWN_OF_RESULT)))
    result = block.tool_result
    result.call_id = clean_text(fields.get("toolUseId"))
    result.is_error = clean_text(fields.get("status")) == "error"
    result.executed_by = content_pb2.TOOL_EXECUTOR_PROVIDER
    result.provider_type = clean_text(fields.get("type"))
    return block


def opaque_block(kind: str, json: str) -> _Block:
    """Return a block that the contract has no place for."""
    return _Block(opaque=content_pb2.OpaqueBlock(type=kind, json=json))


def _decoded(raw: msgspec.Raw | None) -> bytes:
    """Return the bytes of a blob. Raises ProtocolError where it is not base64."""
    try:
        return base64.b64decode(clean_text(raw), validate=True)
    except (binascii.Error, ValueError) as error:
        raise ProtocolError("the provider sent bytes that are not base64", provider_status=200) from error


def read_citation(raw: msgspec.Raw) -> content_pb2.Citation:
    """Return a citation, whole or of a delta: they have one shape."""
    fields = fields_if_any(raw)
    location = rest_of(fields_if_any(fields.get("location")))
    kind = next(iter(location), "")
    place = fields_if_any(location.get(kind))
    citation = content_pb2.Citation(
        provider_type=kind,
        uri=clean_text(place.get("url")),
        title=clean_text(fields.get("title")),
        cited_text=_joined_texts(elements_if_any(fields.get("sourceContent"))),
        source_id=clean_text(fields.get("source")),
        raw_json=json_of(raw),
    )
    if not citation.uri and "://" in citation.source_id:
        citation.uri = citation.source_id
    document = int_of(place.get("documentIndex"))
    if document is not None:
        citation.document_index = document
    if "start" in place or "end" in place:
        _read_range(citation.source_range, kind, place)
    return citation


_UNITS: Mapping[str, content_pb2.CitationUnit.ValueType] = {
    "documentChar": content_pb2.CITATION_UNIT_CHARACTER,
    "documentPage": content_pb2.CITATION_UNIT_PAGE,
    "documentChunk": content_pb2.CITATION_UNIT_BLOCK,
    "searchResultLocation": content_pb2.CITATION_UNIT_BLOCK,
}


def _read_range(part: content_pb2.CitationRange, kind: str, place: Fields) -> None:
    part.unit = _UNITS.get(kind, content_pb2.CITATION_UNIT_UNSPECIFIED)
    start, end = int_of(place.get("start")), int_of(place.get("end"))
    if start is not None:
        part.start = start
    if end is not None:
        part.end = end


def _text(_: str, raw: msgspec.Raw, __: BlockContext) -> list[_Block]:
    return [_Block(text=content_pb2.TextBlock(text=clean_text(raw)))]


def _call(_: str, raw: msgspec.Raw, context: BlockContext) -> list[_Block]:
    fields = fields_if_any(raw)
    block = call_block(fields, context.minted_id)
    given = fields.get("input")
    block.tool_call.arguments_json = json_of(given) if is_told(given) else "{}"
    return [block]


def _result(_: str, raw: msgspec.Raw, __: BlockContext) -> list[_Block]:
    fields = fields_if_any(raw)
    block = result_block(fields)
    content = fields.get("content")
    block.tool_result.structured_content_json = json_of(content) if is_told(content) else "[]"
    return [block]


def _reasoning(_: str, raw: msgspec.Raw, context: BlockContext) -> list[_Block]:
    fields = fields_if_any(raw)
    blocks: list[_Block] = []
    if "reasoningText" in fields:
        text = fields_if_any(fields["reasoningText"])
        block = _Block(provider_metadata_json=object_json(rest_of(text, {"text", "signature"})))
        block.thinking.text = clean_text(text.get("text"))
        block.thinking.is_summary = context.summarized
        signature = clean_text(text.get("signature"))
        if signature:
            block.states.add(kind="signature", data=signature.encode())
        blocks.append(block)
    if "redactedContent" in fields:
        # Its base64 as it stands: what goes back must be what came.
        data = clean_text(fields["redactedContent"]).encode()
        blocks.append(_Block(redacted_thinking=content_pb2.RedactedThinkingBlock(data=data)))
    if blocks:
        _add_metadata(blocks[0], rest_of(fields, {"reasoningText", "redactedContent"}))
    return blocks


def _cited(_: str, raw: msgspec.Raw, __: BlockContext) -> list[_Block]:
    fields = fields_if_any(raw)
    content = elements_if_any(fields.get("content"))
    known = {"content", "citations"}
    if any(fields_if_any(element).keys() != {"text"} for element in content):
        known.remove("content")  # it says more than its texts
    block = _Block(provider_metadata_json=object_json(rest_of(fields, known)))
    block.text.text = _joined_texts(content)
    block.citations.extend(read_citation(element) for element in elements_if_any(fields.get("citations")))
    return [block]


def _media(kind: str, raw: msgspec.Raw, _: BlockContext) -> list[_Block]:
    """Return a block of media; none where its source has no place here, such as the text of a document."""
    fields = fields_if_any(raw)
    source = rest_of(fields_if_any(fields.get("source")))
    media = media_block(media_type(kind, clean_text(fields.get("format"))), source)
    if media is None and "error" not in fields:
        return []
    block = media or _Block(media=content_pb2.MediaBlock(data=b""))
    block.media.filename = clean_text(fields.get("name"))
    _add_metadata(block, rest_of(fields, {"format", "source", "name"}))
    return [block]


def media_block(mime_type: str, source: Fields) -> _Block | None:
    """Return a block of media with its bytes or address; None: the source is of another kind."""
    media = content_pb2.MediaBlock(mime_type=mime_type)
    if "bytes" in source:
        media.data = _decoded(source["bytes"])
        return _Block(media=media, provider_metadata_json=object_json(rest_of(source, {"bytes"})))
    if "s3Location" in source:
        location = fields_if_any(source["s3Location"])
        media.uri = clean_text(location.get("uri"))
        return _Block(media=media, provider_metadata_json=object_json(rest_of(location, {"uri"})))
    return None


_Reader = Callable[[str, msgspec.Raw, BlockContext], list[_Block]]

#: Kinds of blocks that the contract has.
_READERS: Mapping[str, _Reader] = {
    "text": _text,
    "toolUse": _call,
    "toolResult": _result,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
    "image": _media,
    "audio": _media,
    "video": _media,
    "document": _media,
}


def _joined_texts(elements: Iterable[msgspec.Raw]) -> str:
    return "".join(clean_text(fields_if_any(element).get("text")) for element in elements)


def _add_metadata(block: _Block, more: Fields) -> None:
    if more:
        said = block.provider_metadata_json
        block.provider_metadata_json = object_json({**(fields_of(said.encode()) if said else {}), **more})
