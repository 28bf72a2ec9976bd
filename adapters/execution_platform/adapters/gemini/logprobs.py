"""Log probabilities of an answer's tokens."""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.fields import Fields, elements_of, value_of
from execution_platform.adapters.gemini.fields import integer, listed, members
from execution_platform.v1 import content_pb2

__all__ = ["read_logprobs"]


def read_logprobs(result: msgspec.Raw) -> tuple[list[content_pb2.TokenLogprob], Fields]:
    """Return the tokens that were chosen, each with the most likely ones at its place, and what else was said.

    Args:
        result: a LogprobsResult of the Gemini API.
    """
    fields = members(result)
    chosen = elements_of(fields.pop("chosenCandidates")) if "chosenCandidates" in fields else []
    places = elements_of(fields.pop("topCandidates")) if "topCandidates" in fields else []
    tokens = [_token(value_of(raw)) for raw in chosen]
    for token, place in zip(tokens, places, strict=False):
        token.top.extend(_token(candidate) for candidate in listed(members(place).get("candidates")))
    if len(places) > len(tokens):
        # Alternatives without the token that was chosen have no place.
        fields["topCandidates"] = msgspec.Raw(b"[" + b",".join(bytes(raw) for raw in places[len(tokens) :]) + b"]")
    return tokens, fields


def _token(said: Any) -> content_pb2.TokenLogprob:
    if not isinstance(said, dict):
        return content_pb2.TokenLogprob()
    token = content_pb2.TokenLogprob(
        token=str(said.get("token", "")).encode("utf-8", "replace").decode(),
        logprob=_number(said.get("logProbability")),
    )
    number = integer(said.get("tokenId"))
    if number is not None:
        token.token_id = number
    return token


def _number(said: Any) -> float:
    """Return a number; the JSON form of protobuf writes infinity, and no number, as strings."""
    try:
        return float(said)
    except (TypeError, ValueError, OverflowError):
        return 0.0
