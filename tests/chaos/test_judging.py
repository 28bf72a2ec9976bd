"""The judge of ``make chaos`` finds what it looks for."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from tests.chaos.answers import continuation as going_on
from tests.chaos.answers import counting, reading
from tests.chaos.callers import Attempt, Kind, Turn
from tests.chaos.faults import Fault, FaultKind
from tests.chaos.judging import percentile, told_too_little, too_soon, twice_called, wrong_output
from tests.chaos.outages import Outage, calls_while_open, outages_of
from tests.chaos.proxy import Door, Request
from tests.chaos.report import Report
from tests.chaos.run import Observed, row_of
from tests.chaos.scenarios import LANES, Must, Scenario

ASKED = Attempt("openai", "FAILED", "FIRST", "PROVIDER_UNAVAILABLE")
SKIPPED = Attempt("openai", "SKIPPED", "FIRST", "CIRCUIT_OPEN")
ANSWERED = Attempt("anthropic", "FINISHED", "FALLBACK", "")


def turn(started: float = 100.0, attempts: Sequence[Attempt] = (ASKED, ANSWERED), **fields: Any) -> Turn:
    """Return a turn that Anthropic answered after OpenAI had failed."""
    text = counting("anthropic")
    given: dict[str, Any] = {"code": "OK", "provider": "anthropic", "text": text, "folded": text, **fields}
    made = Turn(1, Kind.STREAMED, "openai", reading=False, started=started, first_output=started + 0.1)
    made.ended, made.attempts = started + 0.2, list(attempts)
    return msgspec.structs.replace(made, **given)


def request(at: float, *, chat: int = 1, door: str = "openai", digest: str = "d", struck: bool = True) -> Request:
    """Return a request that came to a door."""
    return Request(door, at, chat, digest, "", struck)


def line(event: str, at: float, provider: str = "openai") -> dict[str, Any]:
    """Return a line of the log."""
    return {"event": event, "provider": provider, "timestamp": datetime.fromtimestamp(at, UTC).isoformat()}


def test_percentiles_are_values_that_were_seen() -> None:
    """The nearest-rank percentile of 1 to 100 is the number itself, and nothing has 0."""
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, percent) for percent in (1, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([7.0], 50) == 7.0
    assert percentile([], 99) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        counting("anthropic") * 2,
        counting("openai")[:30] + counting("anthropic"),
        counting("anthropic")[:-1],
        counting("openai"),
        "",
    ],
    ids=["twice", "mixed", "cut short", "another's", "nothing"],
)
def test_a_text_that_nobody_said_is_found(text: str) -> None:
    """Whatever differs from the words of the provider that answered is wrong."""
    assert wrong_output(turn()) == ""
    assert wrong_output(turn(text=text, folded=text))


def test_a_fold_that_differs_is_found() -> None:
    """What the client's fold makes of the events has to be what was heard."""
    assert "the fold" in wrong_output(turn(folded=counting("openai")[:20] + counting("anthropic")))


def test_what_broke_off_is_the_beginning_of_an_answer() -> None:
    """A failed turn may have told the beginning of one answer, and nothing else."""
    for text, wrong in ((counting("openai")[:50], False), (counting("openai")[:9] * 2, True)):
        failed = turn(code="UNAVAILABLE", reason="STREAM_BROKEN", text=text, folded=text)
        assert bool(wrong_output(failed)) is wrong


def test_a_restart_gives_one_whole_answer() -> None:
    """After RESTART only the new answer counts; what was void before must have been one's beginning."""
    restarted: dict[str, Any] = {"changes": ["RESTART"], "broken": [counting("openai")[:40]]}
    assert wrong_output(turn(**restarted)) == ""
    assert wrong_output(turn(**{**restarted, "broken": ["what nobody says"]}))
    kept = counting("openai")[:40] + counting("anthropic")
    assert wrong_output(turn(**restarted, text=kept, folded=kept))


def test_going_on_appends() -> None:
    """After CONTINUE the text is what was there with the other's words behind it, not an answer from the start."""
    seen = counting("openai")[:40]
    for rest, wrong in ((going_on("anthropic"), False), (counting("anthropic"), True)):
        text = seen + rest
        assert bool(wrong_output(turn(changes=["CONTINUE"], broken=[seen], text=text, folded=text))) is wrong


def test_events_out_of_order_are_found() -> None:
    """A stream with a gap, a second beginning or no end is wrong, whatever its text."""
    assert wrong_output(turn(orderly=False)) == "events out of order"


@pytest.mark.parametrize(
    ("begun", "done", "wrong"),
    [(1, ["a"], False), (2, ["a", "b"], True), (2, ["a"], True), (1, [], True), (0, [], True)],
)
def test_a_tool_is_called_once(begun: int, done: list[str], wrong: bool) -> None:
    """A caller that acts on each complete call must act once for an answer that calls one tool."""
    called = turn(kind=Kind.TOOLS, text="", folded="", tools_begun=begun, tools_done=done)
    assert twice_called(called) is wrong
    assert wrong_output(called) == ""


def test_a_result_is_read_without_a_further_call() -> None:
    """The turn in which a result goes back has text and no call."""
    text = reading("anthropic")
    read = turn(kind=Kind.TOOLS, reading=True, text=text, folded=text)
    assert (wrong_output(read), twice_called(read)) == ("", False)
    assert twice_called(turn(kind=Kind.TOOLS, reading=True, text=text, folded=text, tools_begun=1))


def test_attempts_that_were_not_told_are_found() -> None:
    """A request for which no attempt is told is a problem, unless a failed CompleteChat could tell none."""
    requests = [request(100.1), request(100.2)]
    assert list(told_too_little([turn()], requests)) == ["chat 1: openai was asked 2 times, told were 1"]
    assert list(told_too_little([turn(attempts=[ASKED, ASKED, ANSWERED])], requests)) == []
    assert list(told_too_little([turn(kind=Kind.WHOLE, code="UNAVAILABLE")], requests)) == []


def test_coming_back_too_soon_is_found() -> None:
    """The same body within the time that a 429 told counts; another body, or a later time, does not."""
    first = request(100.0)
    assert too_soon([first, request(100.9)], 1.0) == 1
    assert too_soon([first, request(101.1)], 1.0) == 0
    assert too_soon([first, request(100.9, digest="e"), request(100.9, door="gemini")], 1.0) == 0


LOG = [
    line("circuit_opened", 110.0),
    line("circuit_opened", 110.5, "gemini"),
    line("circuit_half_open", 111.0),
    line("circuit_opened", 111.2),
    line("circuit_half_open", 112.2),
    line("circuit_closed", 112.5),
]


def test_outages_are_read_from_the_log() -> None:
    """An outage lasts from the first opening to the closing, with its probes; one without an end is still on."""
    openai, gemini = outages_of(LOG)
    assert (openai.windows(), openai.probes()) == (
        [(110.0, 111.0), (111.2, 112.2)],
        [(111.0, 111.2), (112.2, 112.5)],
    )
    assert (gemini.provider, gemini.windows(), gemini.probes()) == ("gemini", [(110.5, math.inf)], [])


@pytest.mark.parametrize(
    ("turns", "requests", "expected"),
    [
        ([turn(110.1, [SKIPPED, ANSWERED])], [], 0),
        ([turn(110.1), turn(110.2), turn(110.3)], [], 1),
        ([turn(110.1)], [request(110.2)], 1),
        ([turn(109.9)], [request(110.1)], 0),
        ([turn(109.9)], [request(110.7)], 1),
        ([turn(110.9)], [request(111.1)], 0),
        ([turn(110.9), turn(110.8)], [request(111.1), request(111.15)], 1),
        ([turn(110.1)], [request(110.2, door="anthropic")], 0),
    ],
    ids=["skipped", "told", "counted", "on its way", "late retry", "probe", "two probes", "another"],
)
def test_calls_while_a_circuit_is_open_are_found(turns: list[Turn], requests: list[Request], expected: int) -> None:
    """What was told or came within an outage counts, but for a probe each time and what was on its way before."""
    outages = [Outage("openai", [110.0, 111.2], [111.0, 112.2], 112.5)]
    assert calls_while_open(outages, turns, requests) == expected


SCENARIO = Scenario("a test", Fault(FaultKind.DROPS), rows=((LANES[0][0],),))
GOOD = Observed([turn(109.9), turn(110.1, [SKIPPED, ANSWERED])], [request(109.95)], LOG[:1])


def changed(**fields: Any) -> Observed:
    """Return what was seen in a good run, but for some of it."""
    return msgspec.structs.replace(GOOD, **fields)


def test_a_good_run_meets_its_bars() -> None:
    """Without anything wrong the row counts what happened and is met."""
    row = row_of(SCENARIO, GOOD)
    assert (row.met, row.problems, row.late) == (True, [], [])
    assert (row.chats, row.answered, row.fallbacks, row.retries, row.opened, row.primary_calls) == (1, 1, 2, 0, 1, 1)
    assert row.failover_p99 == pytest.approx(0.1)
    assert "met" in Report({}, 1, 1.0, [row]).text()


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        (changed(turns=[turn(code="UNAVAILABLE", reason="PROVIDER_UNAVAILABLE", text="", folded="")]), "only 0 of 1"),
        (changed(lines=[]), "no circuit opened"),
        (changed(held=1), "1 connections left open"),
        (changed(recovered=False), "was not asked again"),
        (changed(requests=[]), "has struck nobody"),
        (changed(turns=[turn(tools_begun=1)]), "1 wrong tool calls"),
        (changed(turns=[turn(text="x", folded="x")]), "1 wrong outputs"),
        (changed(turns=[turn(attempts=[Attempt("openai", "FAILED", "FIRST", "INTERNAL"), ANSWERED])]), "not with"),
        (changed(requests=[request(110.2)]), "1 calls while the circuit was open"),
    ],
    ids=["unanswered", "no circuit", "held", "lost", "vacuous", "tools", "output", "reason", "open"],
)
def test_each_bar_can_be_missed(seen: Observed, told: str) -> None:
    """Each thing that may go wrong is told and makes the run fail."""
    row = row_of(SCENARIO, seen)
    assert any(told in problem for problem in row.problems), row.problems
    assert not Report({}, 1, 1.0, [row]).met


def test_failing_before_output_is_no_honest_break() -> None:
    """Where chats may break off, one that fails without output, or with a reason of another kind, is a problem."""
    scenario = msgspec.structs.replace(SCENARIO, must=Must.ANSWER_OR_BREAK)
    broken: dict[str, Any] = {
        "code": "UNAVAILABLE",
        "reason": "STREAM_BROKEN",
        "text": "openai-1",
        "folded": "openai-1",
    }
    assert row_of(scenario, changed(turns=[turn(**broken)])).problems == []
    for fields in ({"first_output": None}, {"reason": "PROVIDER_UNAVAILABLE"}):
        assert row_of(scenario, changed(turns=[turn(**{**broken, **fields})])).problems


def test_being_late_is_a_bar_of_its_own() -> None:
    """Five seconds to the first output, or to a failure, miss the bars of time and no other."""
    row = row_of(SCENARIO, changed(turns=[turn(109.0, first_output=114.0)]))
    assert (row.problems, row.late) == ([], ["failover took 5.0 s"])
    refused = turn(109.0, attempts=[ASKED], code="UNAVAILABLE", reason="NO_HEALTHY_ROUTE", text="", folded="")
    refused.ended = 115.0
    row = row_of(msgspec.structs.replace(SCENARIO, must=Must.REFUSE), changed(turns=[refused]))
    assert (row.problems, row.late) == ([], ["failing took 6.0 s"])


async def test_a_door_of_a_killed_provider_refuses() -> None:
    """Connections to a killed provider are refused, open ones are gone, and afterwards its port is the same."""
    door = Door("openai", "127.0.0.1:1", 1)
    await door.open()
    port = door.port
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    # Taken by the door, so that there is something to end.
    writer.write(b"POST / HTTP/1.1\r\n")
    await writer.drain()
    while not door.connections:  # noqa: ASYNC110 - what is waited for is a state, not an event
        await asyncio.sleep(0.001)
    await door.set(Fault(FaultKind.KILLED))
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await door.set(Fault())
    assert door.port == port
    await door.close()
