"""Small parts of the JSON of a Chat Completions answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from execution_platform.adapters.fields import carried, json_of, value_of
from execution_platform.v1 import content_pb2

__all__ = ["plain", "token_logprobs", "words_of"]


def words_of(raw: msgspec.Raw | None) -> str:
    """Return a JSON string's text, surrogate halves included; null is empty, anything else its own JSON."""
    value = value_of(raw)
    if isinstance(value, str):
        return value
    return "" if value is None else json_of(raw)


def plain(raw: msgspec.Raw | None) -> str:
    """Return a string that protobuf can carry: for names and identifiers, which are never cut."""
    return carried(words_of(raw))


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63 else None


def token_logprobs(raw: msgspec.Raw | None) -> tuple[list[content_pb2.TokenLogprob], list[content_pb2.TokenLogprob]]:
    """Read ``logprobs``: those of the content and those of the refusal.

    Besides OpenAI's shape that of the old completions API is understood (parallel arrays; Together).
    """
    told = value_of(raw)
    if not isinstance(told, dict):
        return [], []
    if isinstance(told.get("token_logprobs"), list):
        return list(_parallel(told)), []
    return [_logprob(one) for one in _objects(told.get("content"))], [
        _logprob(one) for one in _objects(told.get("refusal"))
    ]


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    return (one for one in value if isinstance(one, dict)) if isinstance(value, list) else iter(())


def _logprob(told: dict[str, Any]) -> content_pb2.TokenLogprob:
    one = content_pb2.TokenLogprob(token=_carried(told.get("token")), logprob=_float(told.get("logprob")))
    octets = told.get("bytes")
    if isinstance(octets, list) and all(isinstance(octet, int) and 0 <= octet < 256 for octet in octets):
        one.token_bytes = bytes(octets)
    token_id = _integer(told.get("id", told.get("token_id")))
    if token_id is not None:
        one.token_id = token_id
    one.top.extend(_logprob(other) for other in _objects(told.get("top_logprobs")))
    return one


def _parallel(told: dict[str, Any]) -> Iterator[content_pb2.TokenLogprob]:
    tokens, ids = told.get("tokens"), told.get("token_ids")
    for at, logprob in enumerate(told["token_logprobs"]):
        one = content_pb2.TokenLogprob(logprob=_float(logprob))
        if isinstance(tokens, list) and at < len(tokens):
            one.token = _carried(tokens[at])
        token_id = _integer(ids[at]) if isinstance(ids, list) and at < len(ids) else None
        if token_id is not None:
            one.token_id = token_id
        yield one


def _carried(text: Any) -> str:
    return carried(text) if isinstance(text, str) else ""


def _float(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else 0.0
    except OverflowError:
        return 0.0
