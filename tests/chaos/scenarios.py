"""What goes wrong, for whom, and what must come of it."""

from __future__ import annotations

from enum import StrEnum

import msgspec
from tests.chaos.answers import MODELS
from tests.chaos.callers import Kind
from tests.chaos.faults import TOLD_AS, Fault, FaultKind

__all__ = ["LANES", "SCENARIOS", "Lane", "Must", "Scenario", "configuration"]


class Must(StrEnum):
    """What must come of a scenario's chats."""

    ANSWER = "answer"
    """At least 99.9 % are answered."""
    ANSWER_OR_BREAK = "answer or break"
    """A chat may fail, but only after output had been sent, and it must say so."""
    REFUSE = "refuse"
    """Nobody can answer: every chat fails at once, with a reason that says so."""


class Lane(msgspec.Struct, frozen=True):
    """Who is asked first, and who next. The local model is asked last."""

    primary: str
    second: str


#: Each provider comes first once, and its second speaks another format. Lanes of one row do not meet: all of its
#: primaries may be harmed at once.
LANES = (
    (Lane("openai", "anthropic"), Lane("gemini", "vllm")),
    (Lane("anthropic", "gemini"), Lane("vllm", "openai")),
)

_DNS = tuple(Lane(name, "together") for name in ("openai", "anthropic", "gemini", "vllm"))


_MIXED = (Kind.STREAMED, Kind.STREAMED, Kind.WHOLE, Kind.STREAMED, Kind.TOOLS)
_STREAMED = (Kind.STREAMED,)


class Scenario(msgspec.Struct, frozen=True):
    """One row of the table.

    Attributes:
        name: for people.
        fault: what is done to the primaries.
        chats: in a full run.
        few: in a small one.
        must: what must come of it.
        form: of the persona: which policy and which chain.
        rows: of lanes, one after the other.
        both: the seconds are harmed as well.
        width: chats that run at once.
        unharmed: no chat may need anybody but the primary.
        kinds: of its chats, in turn.
        opens: circuits must open.
        nameless: the primaries' addresses have a host name that does not resolve.
    """

    name: str
    fault: Fault
    chats: int = 80
    few: int = 24
    must: Must = Must.ANSWER
    form: str = ""
    rows: tuple[tuple[Lane, ...], ...] = LANES
    both: bool = False
    width: int = 16
    unharmed: bool = False
    kinds: tuple[Kind, ...] = _MIXED
    opens: bool = True
    nameless: bool = False

    @property
    def told_as(self) -> frozenset[str]:
        """What the platform may call it."""
        return TOLD_AS[FaultKind.KILLED if self.nameless else self.fault.kind]

    @property
    def seen_at_doors(self) -> bool:
        """Whether requests reach the proxy, so that it can count them."""
        return self.fault.kind is not FaultKind.KILLED and not self.nameless


_FIRST = ((LANES[0][0],),)

SCENARIOS = (
    Scenario("primary killed: the long run", Fault(FaultKind.KILLED), 1000, 200, rows=_FIRST, width=32),
    Scenario("primary killed", Fault(FaultKind.KILLED)),
    Scenario("primary drops connections", Fault(FaultKind.DROPS)),
    Scenario("host name unknown (DNS)", Fault(), rows=(_DNS,), nameless=True),
    Scenario("wrong key (401)", Fault(FaultKind.WRONG_KEY)),
    Scenario("429, Retry-After 1", Fault(FaultKind.RATE_LIMITED, retry_after=1), 48, 16, opens=False),
    Scenario("429, Retry-After 3", Fault(FaultKind.RATE_LIMITED, retry_after=3), opens=False),
    Scenario("503 in bursts", Fault(FaultKind.OVERLOADED, burst=6), 160, 32, opens=False),
    Scenario("hangs before the first token", Fault(FaultKind.HANGS)),
    Scenario("drips too slowly", Fault(FaultKind.DRIPS, pause=0.05), 48, 16),
    Scenario("drips, in time", Fault(FaultKind.DRIPS), 32, 8, width=4, unharmed=True, opens=False),
    Scenario("cut before the first output", Fault(FaultKind.CUT_EARLY)),
    Scenario("bad JSON at the start", Fault(FaultKind.BAD_JSON_EARLY)),
    Scenario("cut in mid-stream", Fault(FaultKind.CUT_MIDWAY), must=Must.ANSWER_OR_BREAK),
    Scenario("hung in mid-stream", Fault(FaultKind.HANGS_MIDWAY), must=Must.ANSWER_OR_BREAK),
    Scenario("bad JSON in mid-stream", Fault(FaultKind.BAD_JSON_MIDWAY), must=Must.ANSWER_OR_BREAK),
    Scenario(
        "cut in mid-stream, RESTART",
        Fault(FaultKind.CUT_MIDWAY, share=0.6),
        form="restart",
        kinds=_STREAMED,
        opens=False,
    ),
    Scenario(
        "hung in mid-stream, RESTART",
        Fault(FaultKind.HANGS_MIDWAY, share=0.6),
        form="restart",
        kinds=_STREAMED,
        opens=False,
    ),
    Scenario(
        "cut in mid-stream, CONTINUE",
        Fault(FaultKind.CUT_MIDWAY, share=0.6),
        form="continue",
        kinds=_STREAMED,
        opens=False,
    ),
    Scenario(
        "hung in mid-stream, CONTINUE",
        Fault(FaultKind.HANGS_MIDWAY, share=0.6),
        form="continue",
        kinds=_STREAMED,
        opens=False,
    ),
    Scenario(
        "tool calls cut in mid-stream, RESTART",
        Fault(FaultKind.CUT_MIDWAY),
        must=Must.ANSWER_OR_BREAK,
        form="restart",
        kinds=(Kind.TOOLS,),
    ),
    Scenario(
        "both killed, the local model answers",
        Fault(FaultKind.KILLED),
        16,
        4,
        form="local",
        rows=_FIRST,
        both=True,
        width=2,
        kinds=_STREAMED,
    ),
    Scenario(
        "all down", Fault(FaultKind.KILLED), must=Must.REFUSE, form="nowhere", rows=_FIRST, both=True, kinds=_STREAMED
    ),
)

_RETRIES = {"first_wait": "100ms", "longest_wait": "500ms"}
_LOCAL = {"provider": "local", "model": "smollm2-135m-instruct"}


def configuration(patience: float) -> dict[str, object]:
    """Return the configuration file: a persona for each lane and form.

    Args:
        patience: seconds to the first output of an attempt, and of silence after it.
    """
    found: dict[str, object] = {}
    for lane in (*LANES[0], *LANES[1]):
        found[lane.primary] = _persona(lane)
        found[f"{lane.primary}-restart"] = {**_persona(lane), "mid_stream": "restart"}
        found[f"{lane.primary}-continue"] = {**_persona(lane), "mid_stream": "continue"}
    for lane in _DNS:
        found[f"{lane.primary}-nameless"] = _persona(lane)
    first = LANES[0][0]
    # The local model is small and slow.
    slow = {"timeouts": {"first_token": "30s", "idle": "30s"}, "sampling": {"max_output_tokens": 8}}
    found["openai-local"] = {**_persona(first), **slow}
    found["local"] = {**_LOCAL, **slow}
    found["openai-nowhere"] = {**_target(first.primary), "fallback": [_target(first.second)]}
    return {
        "version": 1,
        "breaker": {"failures": 5, "open_seconds": 1},
        "defaults": {"timeouts": {"first_token": patience, "idle": patience, "total": "30s"}, "retries": _RETRIES},
        "personas": found,
    }


def _persona(lane: Lane) -> dict[str, object]:
    return {**_target(lane.primary), "fallback": [_target(lane.second), _LOCAL]}


def _target(provider: str) -> dict[str, str]:
    return {"provider": provider, "model": MODELS[provider]}
