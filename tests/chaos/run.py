"""Runs scenarios, and says of each what came of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Self

import msgspec
from tests.chaos.callers import Caller, Kind, Turn, at_once
from tests.chaos.faults import Fault
from tests.chaos.judging import percentile, told_too_little, too_soon, twice_called, wrong_output
from tests.chaos.outages import calls_while_open, outages_of
from tests.chaos.processes import Proxy, aimock, gateway
from tests.chaos.proxy import Command, Request
from tests.chaos.scenarios import Lane, Must, Scenario
from tests.e2e.processes import Server

__all__ = ["Observed", "Row", "Stage", "row_of"]

_CIRCUIT_EVENTS = ("circuit_opened", "circuit_half_open", "circuit_closed")
_HONEST = frozenset({"STREAM_BROKEN", "PROVIDER_TIMEOUT", "PROVIDER_PROTOCOL"})
_NOBODY = frozenset({"PROVIDER_UNAVAILABLE", "NO_HEALTHY_ROUTE"})
_PATIENCE = 30.0
_LEAST_ANSWERED = 0.999
_MOST_SECONDS = 5.0
#: Problems of each row that are kept, for people.
_TOLD = 8


class Row(msgspec.Struct, frozen=True):
    """What came of a scenario. Seconds are wall-clock, as callers saw them.

    Attributes:
        name: of the scenario.
        chats: how many there were.
        answered: how many were answered to the end.
        fallbacks: attempts that fallback made, breaks in mid-stream included.
        retries: attempts at the same model.
        failover_p50: time to the first output of turns that had more than one attempt.
        failover_p99: the same.
        ended_p99: time to the end of turns that failed.
        primary_calls: requests at the primaries; where nobody could count them, attempts as told.
        opened: how often a circuit opened, failed probes included.
        while_open: calls of a provider while its circuit was open, beyond one probe.
        wrong_outputs: turns that told something twice, mixed or not as it was said.
        wrong_tools: turns in which a tool was called twice, or not at all.
        too_soon: calls before the time that a 429 had told.
        left_open: connections to silent providers that outlived their chats.
        recovered: the primaries answered again afterwards.
        problems: what missed its bar, and some of the particulars.
        late: bars of time that were missed.
        reasons: why turns failed.
        blamed: why attempts at the primaries failed.
    """

    name: str
    chats: int
    answered: int
    fallbacks: int
    retries: int
    failover_p50: float
    failover_p99: float
    ended_p99: float
    primary_calls: int
    opened: int
    while_open: int
    wrong_outputs: int
    wrong_tools: int
    too_soon: int
    left_open: int
    recovered: bool
    problems: list[str]
    late: list[str]
    reasons: dict[str, int]
    blamed: dict[str, int]

    @property
    def met(self) -> bool:
        """Whether all bars are met."""
        return not self.problems and not self.late


class Observed(msgspec.Struct):
    """All that was seen of one scenario.

    Attributes:
        turns: by the callers.
        requests: by the proxy.
        lines: of the gateway's log on circuits, in order.
        held: connections that outlived their chats.
        recovered: everybody answered at once again afterwards.
    """

    turns: list[Turn] = []
    requests: list[Request] = []
    lines: list[dict[str, object]] = []
    held: int = 0
    recovered: bool = True


class Stage:
    """The processes of a run, and the scenarios that are played on them.

    Args:
        folder: for configuration and output of the processes.
        proxy: before the mocked providers.
        ports: its doors.
        server: the gateway.
        patience: seconds of silence after which it gives up an attempt.
    """

    def __init__(self, folder: Path, proxy: Proxy, ports: dict[str, int], server: Server, patience: float) -> None:
        self._folder = folder
        self._patience = patience
        self._proxy = proxy
        self._ports = ports
        self._server = server
        self._numbers = itertools.count()

    @classmethod
    @contextlib.asynccontextmanager
    async def set(cls, folder: Path, seed: int, patience: float = 1.0) -> AsyncIterator[Self]:
        """Start everything; end it with the context. Raises RuntimeError where aimock is not installed."""
        with aimock(folder / "aimock") as target:
            async with Proxy.started(target, seed) as proxy:
                ports = (await proxy.do(Command())).ports
                with gateway(folder / "gateway", ports, patience) as server:
                    yield cls(folder, proxy, ports, server, patience)

    async def play(self, scenario: Scenario, *, small: bool = False) -> Row:
        """Play a scenario, wait until all has healed, and say what came of it."""
        count = scenario.few if small else scenario.chats
        if scenario.nameless:
            with gateway(self._folder / "nameless", self._ports, self._patience, nameless=True) as server:
                return row_of(scenario, await self._observe(scenario, server, count))
        return row_of(scenario, await self._observe(scenario, self._server, count))

    async def _observe(self, scenario: Scenario, server: Server, count: int) -> Observed:
        seen = Observed()
        skipped = _lines(server)
        caller = Caller(server.address())
        try:
            for row in scenario.rows:
                await self._one_row(scenario, row, caller, count // len(scenario.rows), seen)
        finally:
            await caller.aclose()
        seen.lines = _lines(server)[len(skipped) :]
        return seen

    async def _one_row(
        self, scenario: Scenario, lanes: Sequence[Lane], caller: Caller, count: int, seen: Observed
    ) -> None:
        suffix = "nameless" if scenario.nameless else scenario.form
        names = [f"{lane.primary}-{suffix}" if suffix else lane.primary for lane in lanes]
        harmed = {lane.primary for lane in lanes} | ({lane.second for lane in lanes} if scenario.both else set())
        everybody = {name for lane in lanes for name in (lane.primary, lane.second)}
        if scenario.form == "local":
            everybody.add("local")  # that it is loaded first is no part of falling over
        if not (scenario.nameless or await self._healed(everybody, caller)):
            told = self._server.err.splitlines()[-1:]
            raise RuntimeError(f"before {scenario.name!r} nobody is harmed, and yet not everybody answers: {told}")
        fault = msgspec.structs.replace(scenario.fault, pause=scenario.fault.pause * self._patience)
        await self._proxy.do(Command(tuple(harmed), fault, report=True))
        kinds = list(itertools.islice(itertools.cycle(_spread(scenario.kinds, len(names))), count))
        first = next(self._numbers)
        self._numbers = itertools.count(first + count)
        seen.turns += await at_once(caller, names, kinds, first, scenario.width)
        seen.held += await self._still_held()
        report = await self._proxy.do(Command(tuple(harmed), Fault(), report=True))
        seen.requests += report.requests
        if not scenario.nameless:
            seen.recovered = await self._healed(everybody, caller) and seen.recovered

    async def _still_held(self) -> int:
        """Return the connections on which the proxy is silent, once the gateway has had time to end them."""
        end = time.monotonic() + 5.0
        while held := (await self._proxy.do(Command())).held:
            if time.monotonic() > end:
                return held
            await asyncio.sleep(0.05)
        return 0

    async def _healed(self, everybody: Iterable[str], caller: Caller) -> bool:
        """Wait until all of these providers answer at the first attempt. Returns whether that came."""
        end = time.monotonic() + _PATIENCE
        for provider in sorted(everybody):
            while True:
                (turn,) = await caller.chat(next(self._numbers), provider, Kind.STREAMED)
                if turn.answered and turn.provider == provider and not turn.failed_over:
                    break
                if time.monotonic() > end:
                    return False
                await asyncio.sleep(0.1)
        return True


def _spread(kinds: Sequence[Kind], lanes: int) -> list[Kind]:
    """Repeat each kind so that every lane gets it."""
    return [kind for kind in kinds for _ in range(lanes)]


def _lines(server: Server) -> list[dict[str, object]]:
    """Return the log's lines on circuits, in order."""
    found = [line for event in _CIRCUIT_EVENTS for line in server.records(event)]
    return sorted(found, key=lambda line: str(line["timestamp"]))


def row_of(scenario: Scenario, seen: Observed) -> Row:
    """Judge what was seen."""
    turns = seen.turns
    outages = outages_of(seen.lines)
    over = [turn.first_output - turn.started for turn in turns if turn.failed_over and turn.first_output is not None]
    failed = [turn for turn in turns if not turn.answered]
    wrong = [problem for turn in turns if (problem := _told(turn, wrong_output(turn)))]
    tools = [turn for turn in turns if twice_called(turn)]
    chats = {turn.chat for turn in turns}
    told_as = scenario.told_as
    row = Row(
        name=scenario.name,
        chats=len(chats),
        answered=len(chats - {turn.chat for turn in failed}),
        fallbacks=sum(turn.caused("FALLBACK") + turn.caused("MID_STREAM") for turn in turns),
        retries=sum(turn.caused("RETRY") for turn in turns),
        failover_p50=percentile(over, 50),
        failover_p99=percentile(over, 99),
        ended_p99=percentile([turn.ended - turn.started for turn in failed], 99),
        primary_calls=_primary_calls(scenario, seen),
        opened=sum(len(outage.opened) for outage in outages),
        while_open=calls_while_open(outages, turns, seen.requests),
        wrong_outputs=len(wrong),
        wrong_tools=len(tools),
        too_soon=too_soon(seen.requests, scenario.fault.retry_after) if "PROVIDER_RATE_LIMITED" in told_as else 0,
        left_open=seen.held,
        recovered=seen.recovered,
        problems=[],
        late=[],
        reasons=dict(Counter(turn.reason or turn.code for turn in failed)),
        blamed=dict(Counter(_blamed(turns))),
    )
    row.problems.extend(_problems(scenario, row, failed))
    row.problems.extend(wrong[:_TOLD])
    row.problems.extend(itertools.islice(told_too_little(turns, seen.requests), _TOLD))
    if scenario.seen_at_doors and not any(request.struck for request in seen.requests):
        row.problems.append("the fault has struck nobody")
    if row.failover_p99 >= _MOST_SECONDS:
        row.late.append(f"failover took {row.failover_p99:.1f} s")
    if row.ended_p99 >= _MOST_SECONDS:
        row.late.append(f"failing took {row.ended_p99:.1f} s")
    return row


def _primary_calls(scenario: Scenario, seen: Observed) -> int:
    primary_of = {turn.chat: turn.primary for turn in seen.turns}
    if not scenario.seen_at_doors:
        return sum(
            attempt.provider == turn.primary and attempt.asked for turn in seen.turns for attempt in turn.attempts
        )
    return sum(request.door == primary_of.get(request.chat) for request in seen.requests)


def _problems(scenario: Scenario, row: Row, failed: Sequence[Turn]) -> list[str]:
    found: list[str] = []
    if scenario.must is Must.ANSWER and row.answered < row.chats * _LEAST_ANSWERED:
        found.append(f"only {row.answered} of {row.chats} chats were answered: {row.reasons}")
    if scenario.must is Must.ANSWER_OR_BREAK:
        dishonest = [turn for turn in failed if turn.reason not in _HONEST or turn.first_output is None]
        found += [
            f"chat {turn.chat} failed with {turn.reason or turn.code} before output" for turn in dishonest[:_TOLD]
        ]
    if scenario.must is Must.REFUSE and (row.answered or not set(row.reasons) <= _NOBODY):
        found.append(f"{row.answered} chats were answered by nobody; the others failed with {row.reasons}")
    if scenario.unharmed and row.fallbacks + row.retries:
        found.append("the primary was given up although it answered")
    counts = {
        "calls while the circuit was open": row.while_open,
        "wrong outputs": row.wrong_outputs,
        "wrong tool calls": row.wrong_tools,
        "calls before the time that was told": row.too_soon,
        "connections left open": row.left_open,
    }
    found += [f"{count} {what}" for what, count in counts.items() if count]
    if not set(row.blamed) <= scenario.told_as:
        found.append(f"attempts failed with {row.blamed}, not with {' or '.join(scenario.told_as)}")
    if scenario.opens and not row.opened:
        found.append("no circuit opened")
    if not row.recovered:
        found.append("a primary was not asked again after it was back")
    return found


def _blamed(turns: Sequence[Turn]) -> Iterator[str]:
    for turn in turns:
        for attempt in turn.attempts:
            if attempt.provider == turn.primary and attempt.outcome == "FAILED":
                yield attempt.reason


def _told(turn: Turn, problem: str) -> str:
    return problem and f"chat {turn.chat} ({turn.kind}): {problem}"
