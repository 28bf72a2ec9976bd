"""Annotations and log probabilities of Responses, as the contract tells them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from execution_platform.adapters.fields import clean_text, fields_if_any, json_of, value_of
from execution_platform.v1 import content_pb2

__all__ = ["citation_of", "logprobs_of"]


def citation_of(raw: msgspec.Raw) -> content_pb2.Citation:
    """Return an annotation: url_citation, file_citation, container_file_citation, file_path, or a newer one.

    ``index`` of file citations stays in raw_json: the format calls it a position in the list of files, servers send
    a position in the text.
    """
    fields = fields_if_any(raw)
    citation = content_pb2.Citation(
        provider_type=clean_text(fields.get("type")),
        uri=clean_text(fields.get("url")),
        title=clean_text(fields.get("title")) or clean_text(fields.get("filename")),
        source_id=clean_text(fields.get("file_id")),
        raw_json=json_of(raw),
    )
    start, end = value_of(fields.get("start_index")), value_of(fields.get("end_index"))
    if _is_int64(start) and _is_int64(end):
        citation.text_range.start = start
        citation.text_range.end = end
        citation.text_range.unit = content_pb2.CITATION_UNIT_CHARACTER
    return citation


def logprobs_of(value: Any) -> list[content_pb2.TokenLogprob]:
    """Return a list of log probabilities; nothing for anything else."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [_logprob(each) for each in value if isinstance(each, dict)]


def _logprob(value: dict[str, Any]) -> content_pb2.TokenLogprob:
    token = value.get("token")
    logprob = value.get("logprob")
    said = content_pb2.TokenLogprob(
        token=token.encode("utf-8", "replace").decode() if isinstance(token, str) else "",
        logprob=float(logprob) if isinstance(logprob, int | float) else 0.0,
        top=logprobs_of(value.get("top_logprobs")),
    )
    data = value.get("bytes")
    if isinstance(data, list) and all(isinstance(each, int) and 0 <= each < 256 for each in data):
        said.token_bytes = bytes(data)
    token_id = value.get("token_id")
    if _is_int64(token_id):
        said.token_id = token_id
    return said


def _is_int64(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and -(2**63) <= value < 2**63
