"""What a chat will try, in which order, and why: data that a planner makes and a route is built from."""

from __future__ import annotations

from dataclasses import dataclass, field

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.config.personas import (
    Hedging,
    LimitSettings,
    MidStream,
    Retries,
    Strategy,
)
from execution_platform.v1 import catalog_pb2, chat_pb2

__all__ = ["Candidate", "Leg", "Plan"]


@dataclass(frozen=True, slots=True)
class Leg:
    """One that a chat may ask.

    Attributes:
        provider: its name.
        model: the provider's own name of the model.
        region: where it runs, as the configuration says, else its provider's adapter; empty: not known.
        request: the chat as it goes there, with what the model lacks left out; None: as the plan's.
        notices: what was left out of it.
    """

    provider: str
    model: str
    region: str = ""
    request: chat_pb2.ChatRequest | None = None
    notices: tuple[chat_pb2.Notice, ...] = ()

    @property
    def name(self) -> str:
        """``provider/model``."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Candidate:
    """One that was looked at, with what came of it.

    Attributes:
        leg: who.
        verdict: whether it is asked, and if not why.
        reasons: for people, one fact each.
    """

    leg: Leg
    verdict: catalog_pb2.RouteVerdict.ValueType
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """What a chat will try. The same inputs give the same plan.

    Attributes:
        request: the chat with what its persona fills in; never changed.
        persona: the persona's name; empty: none decided.
        legs: whom to ask, in order; at least one, unless `error` says why there is none.
        candidates: all that were looked at, the chosen ones first and in order.
        strategy: how the order came about.
        decided_by: who decided, for people.
        notice: what to tell the caller about the choice; None: the caller chose.
        limits: of the persona.
        retries: when the same model is asked again; None: never, and nobody else either.
        hedging: when a second attempt runs beside a late one; None: never.
        mid_stream: what happens when an answer breaks off.
        first_token: seconds to the first output of an attempt; None: the provider's own.
        idle: seconds of silence after it; None: the provider's own.
        total: seconds for the chat; None: the caller's.
        track_reasons: count the reasons of fallbacks in the metrics.
        error: why no leg is left.
    """

    request: chat_pb2.ChatRequest
    persona: str = ""
    legs: tuple[Leg, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    strategy: Strategy = Strategy.PRIORITY
    decided_by: str = ""
    notice: chat_pb2.Notice | None = None
    limits: LimitSettings = field(default_factory=LimitSettings)
    retries: Retries | None = field(default_factory=Retries)
    hedging: Hedging | None = None
    mid_stream: MidStream = MidStream.NEVER
    first_token: float | None = None
    idle: float | None = None
    total: float | None = None
    track_reasons: bool = True
    error: AdapterError | None = None
