"""The sources that an answer names: grounding, citations and retrieved URLs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from execution_platform.adapters.fields import Fields, clean_text, elements_of, text_of, value_of
from execution_platform.adapters.gemini.fields import integer, listed, members, word
from execution_platform.v1 import content_pb2

__all__ = ["Citations"]

_Found = tuple[content_pb2.Citation, int, str]

#: Kinds of grounding chunks, each with its keys for address, title, quoted text and identifier.
_SOURCES: dict[str, tuple[tuple[str, ...], str, str, tuple[str, ...]]] = {
    "web": (("uri",), "title", "", ()),
    "retrievedContext": (("uri",), "title", "text", ("documentName", "mediaId", "fileSearchStore")),
    "maps": (("uri",), "title", "text", ("placeId",)),
    "image": (("sourceUri", "imageUri"), "title", "", ()),
}
_RETRIEVED = frozenset({"", "URL_RETRIEVAL_STATUS_SUCCESS", "1"})


class Citations:
    """Collects sources as they come. What a later chunk of a stream tells again counts once."""

    def __init__(self) -> None:
        self._found: list[_Found] = []
        self._seen: set[bytes] = set()

    def __bool__(self) -> bool:
        return bool(self._found)

    def grounding(self, metadata: msgspec.Raw) -> None:
        """Take groundingMetadata: one citation for each source of each supported segment."""
        said = members(metadata)
        chunks = elements_of(said["groundingChunks"]) if "groundingChunks" in said else []
        supports = elements_of(said["groundingSupports"]) if "groundingSupports" in said else []
        for support in self._new(supports):
            self._support(support, chunks)
        if not supports:
            for chunk in self._new(chunks):
                citation = content_pb2.Citation(provider_type="groundingChunk", raw_json=_text(chunk))
                self._found.append((_with_source(citation, chunk), 0, ""))

    def _new(self, told: list[msgspec.Raw]) -> list[msgspec.Raw]:
        new = [raw for raw in told if bytes(raw) not in self._seen]
        self._seen.update(bytes(raw) for raw in new)
        return new

    def _support(self, support: msgspec.Raw, chunks: Sequence[msgspec.Raw]) -> None:
        said = members(support)
        segment = members(said["segment"]) if "segment" in said else {}
        numbers = [integer(number) for number in listed(said.get("groundingChunkIndices"))]
        named: list[msgspec.Raw | None] = [
            chunks[number] for number in numbers if number is not None and 0 <= number < len(chunks)
        ]
        for chunk in named or [None]:
            citation = content_pb2.Citation(provider_type="groundingSupport", raw_json=_text(support))
            _set_range(citation, segment)
            if chunk is not None:
                _with_source(citation, chunk)
            part = integer(value_of(segment.get("partIndex"))) or 0
            self._found.append((citation, part, text_of(segment.get("text"))))

    def recited(self, metadata: msgspec.Raw) -> Fields:
        """Take citationMetadata: what the answer quotes at length. Returns what else it says."""
        said = members(metadata)
        for key in ("citations", "citationSources"):
            for raw in elements_of(said.pop(key)) if key in said else ():
                source = members(raw)
                citation = content_pb2.Citation(
                    provider_type="citation",
                    uri=clean_text(source.get("uri")),
                    title=clean_text(source.get("title")),
                    raw_json=_text(raw),
                )
                if "endIndex" in source:
                    _set_range(citation, source)
                self._found.append((citation, 0, ""))
        return said

    def retrieved(self, metadata: msgspec.Raw) -> None:
        """Take urlContextMetadata: addresses that were read for the answer. Failed ones are no sources."""
        said = members(metadata)
        for raw in self._new(elements_of(said["urlMetadata"]) if "urlMetadata" in said else []):
            page = members(raw)
            if word(page.get("urlRetrievalStatus")) in _RETRIEVED:
                citation = content_pb2.Citation(
                    provider_type="urlContext", uri=clean_text(page.get("retrievedUrl")), raw_json=_text(raw)
                )
                self._found.append((citation, 0, ""))

    def placed(
        self, texts: Mapping[int, str], part_blocks: Sequence[int | None]
    ) -> list[tuple[int, content_pb2.Citation]]:
        """Return the citations, each with the text block that it belongs to.

        Args:
            texts: text of each text block, by index; at least one.
            part_blocks: block of each part of the answer.
        """
        encoded = {index: piece.encode("utf-8", "replace") for index, piece in texts.items()}
        return [
            (_block_of(citation, part, quoted.encode("utf-8", "replace"), encoded, part_blocks), citation)
            for citation, part, quoted in self._found
        ]


def _set_range(citation: content_pb2.Citation, segment: Fields) -> None:
    # proto3 leaves a zero out, so an end without a start starts at 0.
    end = integer(value_of(segment.get("endIndex")))
    if end is not None:
        citation.text_range.start = integer(value_of(segment.get("startIndex"))) or 0
        citation.text_range.end = end
        citation.text_range.unit = content_pb2.CITATION_UNIT_BYTE


def _with_source(citation: content_pb2.Citation, chunk: msgspec.Raw) -> content_pb2.Citation:
    for kind, raw in members(chunk).items():
        if kind in _SOURCES:
            uris, title, quoted, identifiers = _SOURCES[kind]
            source = members(raw)
            citation.uri = next((clean_text(source[key]) for key in uris if key in source), "")
            citation.title = clean_text(source.get(title))
            citation.cited_text = clean_text(source.get(quoted))
            citation.source_id = next((clean_text(source[key]) for key in identifiers if key in source), "")
    return citation


def _block_of(
    citation: content_pb2.Citation,
    part: int,
    quoted: bytes,
    texts: Mapping[int, bytes],
    part_blocks: Sequence[int | None],
) -> int:
    """Return the block whose bytes the range means: where the quoted words stand, else the part that is named."""
    start, end = citation.text_range.start, citation.text_range.end
    named = part_blocks[part] if part < len(part_blocks) else None
    order = sorted(texts, key=lambda index: (index != named, index))
    if quoted:
        for index in order:
            if texts[index][start:end] == quoted:
                return index
    for index in order:
        if len(texts[index]) >= end and texts[index]:
            return index
    return order[0]


def _text(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")
