"""When circuits were open, by the gateway's log, and who was asked all the same."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from tests.chaos.callers import Turn
from tests.chaos.proxy import Request

__all__ = ["Outage", "calls_while_open", "outages_of"]

#: Seconds in which a request that left before a circuit opened may still arrive.
_ON_ITS_WAY = 0.5


class Outage(msgspec.Struct):
    """From the moment a circuit opens to the moment it closes. Times are seconds since the epoch.

    Attributes:
        provider: whose.
        opened: each time it opened: first, and after each probe that failed.
        probed: each time it let a probe through.
        closed: when it was over; infinite: not yet.
    """

    provider: str
    opened: list[float]
    probed: list[float] = []
    closed: float = math.inf

    def windows(self) -> list[tuple[float, float]]:
        """Return the spans in which nobody may be asked."""
        ends = [*self.probed, *[self.closed] * (len(self.opened) - len(self.probed))]
        return list(zip(self.opened, ends, strict=False))

    def probes(self) -> list[tuple[float, float]]:
        """Return the spans in which one may be asked."""
        ends = [*self.opened[1:], self.closed]
        return list(zip(self.probed, ends, strict=False))


def outages_of(records: Iterable[Mapping[str, Any]]) -> list[Outage]:
    """Read the log's lines on circuits, in order."""
    found: list[Outage] = []
    running: dict[str, Outage] = {}
    for record in records:
        provider, at = str(record["provider"]), datetime.fromisoformat(record["timestamp"]).timestamp()
        outage = running.get(provider)
        match record["event"]:
            case "circuit_opened" if outage is None:
                outage = running[provider] = Outage(provider, [at])
                found.append(outage)
            case "circuit_opened" if outage is not None:
                outage.opened.append(at)
            case "circuit_half_open" if outage is not None:
                outage.probed.append(at)
            case "circuit_closed" if outage is not None:
                outage.closed = at
                del running[provider]
            case _:
                pass
    return found


def calls_while_open(outages: Iterable[Outage], turns: Sequence[Turn], requests: Sequence[Request]) -> int:
    """Return how often a provider was asked while its circuit was open, beyond one probe each time.

    Judged twice: by what the platform told of its attempts, and by what came to the provider's door. The larger
    number counts.
    """
    total = 0
    for outage in outages:
        told = _told(outage, turns) - len(outage.probed)
        total += max(0, told, _counted(outage, turns, requests))
    return total


def _told(outage: Outage, turns: Sequence[Turn]) -> int:
    """Return the attempts of turns that lie within the outage as a whole: no clock can excuse them."""
    return sum(
        attempt.provider == outage.provider and attempt.asked
        for turn in turns
        if outage.opened[0] < turn.started and turn.ended < outage.closed
        for attempt in turn.attempts
    )


def _counted(outage: Outage, turns: Sequence[Turn], requests: Sequence[Request]) -> int:
    began = _Beginnings(turns)
    came = [request for request in requests if request.door == outage.provider]
    total = 0
    for begin, end in outage.windows():
        for request in came:
            late = request.at > begin + _ON_ITS_WAY or began(request) > begin
            total += begin < request.at < end and late
    for begin, end in outage.probes():
        total += max(0, sum(begin <= request.at < end and began(request) > outage.opened[0] for request in came) - 1)
    return total


class _Beginnings:
    """Tells when the turn began that a request is for; a request of nobody's began never."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        self._starts: dict[int, list[float]] = {}
        for turn in turns:
            self._starts.setdefault(turn.chat, []).append(turn.started)

    def __call__(self, request: Request) -> float:
        return max((start for start in self._starts.get(request.chat, ()) if start <= request.at), default=-math.inf)
