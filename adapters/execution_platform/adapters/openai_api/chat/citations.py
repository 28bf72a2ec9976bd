"""Sources that an answer names, in the shapes of several servers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from execution_platform.adapters.fields import elements_if_any, fields_if_any, fields_of, int_of, value_of
from execution_platform.adapters.openai_api.chat.pieces import plain
from execution_platform.v1 import content_pb2

__all__ = ["annotation", "reference", "sources"]


def annotation(raw: msgspec.Raw) -> content_pb2.Citation:
    """Return an element of ``annotations``: OpenAI's ``url_citation``, or another type of the same make.

    The members stand in an object named as the type, or beside it.
    """
    told = fields_of(raw)
    kind = plain(told.get("type"))
    said = fields_if_any(told.get(kind)) or told
    citation = content_pb2.Citation(
        provider_type=kind,
        uri=plain(said.get("url")),
        title=plain(said.get("title") or said.get("name") or said.get("filename")),
        source_id=plain(said.get("file_id") or said.get("hash")),
        cited_text=_cited(said.get("content") or said.get("quote")),
        raw_json=bytes(raw).decode("utf-8", "replace"),
    )
    start, end = int_of(said.get("start_index")), int_of(said.get("end_index"))
    if start is not None or end is not None:
        cited = content_pb2.CitationRange(start=start, end=end, unit=content_pb2.CITATION_UNIT_CHARACTER)
        citation.text_range.CopyFrom(cited)
    return citation


def _cited(raw: msgspec.Raw | None) -> str:
    """Return cited words: a text, or the texts of content parts."""
    value = value_of(raw)
    if isinstance(value, list):
        return "".join(_text(part) for part in value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return plain(raw) if isinstance(value, str) else ""


def _text(part: Any) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    return text if isinstance(text, str) else ""


def reference(raw: msgspec.Raw, at: int) -> Iterator[content_pb2.Citation]:
    """Yield the sources of a ``reference`` part of Mistral's, which stands where the cited text ends.

    Args:
        raw: the part.
        at: how many characters of text stand before it.
    """
    told = fields_of(raw)
    for source in elements_if_any(told.get("reference_ids")):
        citation = content_pb2.Citation(
            provider_type="reference", source_id=plain(source), raw_json=bytes(raw).decode("utf-8", "replace")
        )
        citation.text_range.start = citation.text_range.end = at
        citation.text_range.unit = content_pb2.CITATION_UNIT_CHARACTER
        yield citation


def sources(urls: msgspec.Raw | None, results: msgspec.Raw | None) -> Iterator[content_pb2.Citation]:
    """Yield the sources that Perplexity (and xAI) name for the whole answer.

    Args:
        urls: ``citations``: addresses, in the order of the numbers in the text.
        results: ``search_results``: objects with title, address and snippet; each is joined to its address.
    """
    by_url: dict[str, content_pb2.Citation] = {}
    for raw in elements_if_any(results):
        told = fields_if_any(raw)
        by_url.setdefault(
            plain(told.get("url")),
            content_pb2.Citation(
                provider_type="search_result",
                uri=plain(told.get("url")),
                title=plain(told.get("title")),
                cited_text=plain(told.get("snippet")),
                raw_json=bytes(raw).decode("utf-8", "replace"),
            ),
        )
    for raw in elements_if_any(urls):
        url = plain(raw) if bytes(raw).startswith(b'"') else plain(fields_if_any(raw).get("url"))
        found = by_url.pop(url, None)
        yield found or content_pb2.Citation(
            provider_type="citation", uri=url, raw_json=bytes(raw).decode("utf-8", "replace")
        )
    yield from by_url.values()
