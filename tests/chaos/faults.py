"""What can be wrong between the gateway and a provider, as data."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

__all__ = ["TOLD_AS", "Fault", "FaultKind"]


class FaultKind(StrEnum):
    """What is done to a request, its answer, or the provider as a whole."""

    NONE = "none"
    KILLED = "killed"
    """Nobody listens: connections are refused, open ones are gone."""
    DROPS = "drops"
    """The request is read, then the connection is reset."""
    HANGS = "hangs"
    """The request is read, then there is silence."""
    HANGS_MIDWAY = "hangs midway"
    """Half of the answer, then silence."""
    RATE_LIMITED = "rate limited"
    """429 with Retry-After."""
    OVERLOADED = "overloaded"
    """503."""
    CUT_EARLY = "cut early"
    """The connection ends before the answer, behind its head, or in its first event; by FIN or RST."""
    CUT_MIDWAY = "cut midway"
    """The connection ends in an event in the middle of the answer, within a chunk; by FIN or RST."""
    BAD_JSON_EARLY = "bad JSON early"
    """The first event, or the whole body, is no JSON."""
    BAD_JSON_MIDWAY = "bad JSON midway"
    """An event in the middle of the answer, or the whole body, is no JSON."""
    WRONG_KEY = "wrong key"
    """The key is changed on the way, so that the provider itself refuses it."""
    DRIPS = "drips"
    """The body comes byte by byte, each in a chunk of its own."""


class Fault(msgspec.Struct, frozen=True):
    """A kind with its numbers.

    Attributes:
        kind: what is wrong.
        share: how many of the requests it strikes, drawn for each.
        burst: above 0: it strikes so many requests in a row at most, then spares as many at most; both drawn.
        retry_after: seconds told with 429.
        pause: between two bytes that drip, as a share of the gateway's patience.
    """

    kind: FaultKind = FaultKind.NONE
    share: float = 1.0
    burst: int = 0
    retry_after: int = 1
    pause: float = 0.0


#: What the platform may call a fault: the reasons of the attempts that it makes fail.
TOLD_AS: Mapping[FaultKind, frozenset[str]] = {
    FaultKind.NONE: frozenset(),
    FaultKind.KILLED: frozenset({"PROVIDER_UNAVAILABLE"}),
    FaultKind.DROPS: frozenset({"PROVIDER_UNAVAILABLE"}),
    FaultKind.HANGS: frozenset({"PROVIDER_TIMEOUT"}),
    FaultKind.HANGS_MIDWAY: frozenset({"PROVIDER_TIMEOUT"}),
    FaultKind.RATE_LIMITED: frozenset({"PROVIDER_RATE_LIMITED"}),
    FaultKind.OVERLOADED: frozenset({"PROVIDER_OVERLOADED"}),
    # Before the head of an answer nobody knows whether there is one; behind it the answer broke.
    FaultKind.CUT_EARLY: frozenset({"PROVIDER_UNAVAILABLE", "STREAM_BROKEN"}),
    FaultKind.CUT_MIDWAY: frozenset({"STREAM_BROKEN"}),
    FaultKind.BAD_JSON_EARLY: frozenset({"PROVIDER_PROTOCOL"}),
    FaultKind.BAD_JSON_MIDWAY: frozenset({"PROVIDER_PROTOCOL"}),
    FaultKind.WRONG_KEY: frozenset({"PROVIDER_AUTHENTICATION"}),
    FaultKind.DRIPS: frozenset({"PROVIDER_TIMEOUT"}),
}
