"""An attempt holds its worst case of the budgets that it touches, and its answer ends where they are used up."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from tests.server.attempts import (
    CALL,
    Fake,
    Step,
    begin,
    cancelled,
    finish,
    hang,
    started,
    stop,
    text,
    told_by,
    told_until_failure,
    usage,
)
from tests.server.ledgers import MemoryLedger
from tests.server.listings import LISTINGS

from execution_platform.adapters.errors import OverloadedError
from execution_platform.adapters.spi import Events
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.errors import BudgetExceededError, LedgerUnavailableError
from execution_platform.server.ledger.facts import Demand, Facts, mint_id
from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.budgeted import Budgeted, Budgeting
from execution_platform.server.resilience.held import Held
from execution_platform.server.resilience.journal import Entry, Journal
from execution_platform.server.routing.capabilities import Facts as ModelFacts
from execution_platform.server.routing.plan import Leg
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.worst_case import WorstCases
from execution_platform.v1 import chat_pb2, content_pb2, cost_pb2, usage_pb2

#: A dollar for a million tokens: 1,000 nanos each.
PRICED = PlatformConfiguration.model_validate({"models": {"a/m": {"input_price": "1", "output_price": "1"}}})
UNPRICED = PlatformConfiguration()


@dataclasses.dataclass
class Trial:
    """One attempt under a budget."""

    ledger: MemoryLedger
    fake: Fake
    entry: Entry
    budgeted: Budgeted
    journal: Journal


def trial(
    ledger: MemoryLedger,
    *steps: Step,
    most: int | None = None,
    configuration: PlatformConfiguration = PRICED,
    journal: Journal | None = None,
    many_calls: bool = False,
    estimates: Estimates | None = None,
) -> Trial:
    """An attempt whose adapter does these steps; its model's answers, or calls of them, have `most` tokens."""
    prices = Prices(lambda: configuration, LISTINGS)
    facts = ModelFacts("a/m", max_output_tokens=most, many_calls=many_calls)
    worst = WorstCases(prices, lambda *_: facts, lambda: configuration)
    shared = Budgeting(ledger, worst, estimates or Estimates(prices), Metrics())
    if journal is None:
        journal = Journal()
        journal.facts = Facts(mint_id(), "r", 0)
        journal.snapshot = cost_pb2.UsageRecord
    entry = journal.begin(Leg("a", "m"), chat_pb2.ATTEMPT_CAUSE_FIRST)
    fake = Fake(steps)
    return Trial(ledger, fake, entry, Budgeted(Held(fake, entry), journal, entry, shared), journal)


def told(input_tokens: int, output_tokens: int) -> chat_pb2.ChatEvent:
    """The provider tells prompt and answer so far."""
    spent = usage(output_tokens)
    spent.items.add(kind=usage_pb2.USAGE_KIND_INPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=input_tokens)
    return chat_pb2.ChatEvent(usage_updated=chat_pb2.UsageUpdated(usage=spent))


def words(count: int) -> Events:
    """A piece of so many tokens, by their length."""
    return [text("abcd" * count)]


def kinds(told_lists: Sequence[Events]) -> list[list[str | None]]:
    """What kinds of events they are."""
    return [[event.WhichOneof("event") for event in events] for events in told_lists]


async def test_the_worst_case_is_held_before_anybody_is_asked() -> None:
    """What is held is the prompt at its largest and the longest answer, priced; the model's maximum is the longest."""
    ledger = MemoryLedger(nanos=10**9)
    one = trial(ledger, [begin(), finish()], most=100)
    await told_by(one.budgeted)
    # 16 tokens stand around every prompt.
    assert ledger.asked == [Demand(116_000, 116)]
    assert one.entry.lease is ledger.leases[one.journal.facts.id, 1]  # type: ignore[union-attr]  # set above


@pytest.mark.parametrize(("asked", "most", "longest"), [(50, 100, 50), (500, 100, 100), (50, None, 50)])
async def test_a_request_limits_its_answer(asked: int, most: int | None, longest: int) -> None:
    """The longest answer is what the request allows, as far as the model can."""
    ledger = MemoryLedger(tokens=10**6)
    one = trial(ledger, [begin(), finish()], most=most)
    request = chat_pb2.ChatRequest(sampling=chat_pb2.Sampling(max_output_tokens=asked))
    await told_by(one.budgeted, dataclasses.replace(CALL, request=request))
    assert [demand.tokens for demand in ledger.asked] == [16 + longest]


async def test_what_does_not_fit_is_not_asked() -> None:
    """Without room for the worst case nobody is asked, and the failure says so and that another may be."""
    one = trial(MemoryLedger(nanos=115_999), [begin(), finish()], most=100)
    got, error = await told_until_failure(one.budgeted)
    assert (got, one.fake.calls, one.entry.reached, one.entry.lease) == ([], [], False, None)
    assert isinstance(error, BudgetExceededError)
    assert not error.asked
    assert (error.decision.retry, error.decision.fall_back, error.decision.opens_circuit) == (False, True, False)
    assert not one.journal.holds


async def test_without_a_price_nothing_is_known() -> None:
    """A model without a price demands no amount of money; what becomes of it is the budget's to say."""
    one = trial(MemoryLedger(tokens=10**6), [begin(), finish()], most=100, configuration=UNPRICED)
    await told_by(one.budgeted)
    assert one.ledger.asked == [Demand(None, 116)]


async def test_an_answer_within_what_is_held_passes_as_it_is() -> None:
    """An answer that costs no more than was held is not touched, and asks for nothing more."""
    steps: list[Step] = [[started(), begin()], words(20), [stop(), finish()]]
    one = trial(MemoryLedger(nanos=10**9), *steps, most=100)
    assert kinds(await told_by(one.budgeted)) == [
        ["started", "block_started"],
        ["block_delta"],
        ["block_stopped", "finished"],
    ]
    assert len(one.ledger.asked) == 1


async def test_an_answer_that_grows_holds_more() -> None:
    """Where more streams than was held, more is held, and the answer goes on."""
    steps: list[Step] = [[begin()], *[words(50)] * 6, [stop(), finish()]]
    one = trial(MemoryLedger(nanos=10**9), *steps, most=100)
    assert kinds(await told_by(one.budgeted))[-1] == ["block_stopped", "finished"]
    amounts = [demand.tokens for demand in one.ledger.asked]
    assert amounts[0] == 116
    assert amounts[-1] >= 300
    assert len(amounts) <= 3


async def test_a_used_up_budget_ends_the_answer_at_the_chunks_edge() -> None:
    """The piece that uses up the budget comes whole; the connection is closed, open blocks stop, and it is said why."""
    closed: list[int] = []
    thought = begin(1, "thinking")
    steps: list[Step] = [[started(), begin(), thought], words(100), words(100), words(100), hang]
    one = trial(MemoryLedger(nanos=150_000), *steps, most=100)
    got: list[Events] = []
    async with aclosing(one.budgeted.stream(CALL)) as stream:
        async for events in stream:
            got.append(events)
            closed.append(one.fake.closed)
    last = got[-1]
    assert kinds([last]) == [["block_delta", "block_stopped", "block_stopped", "finished"]]
    assert [event.block_stopped.index for event in last[1:3]] == [0, 1]
    finished = last[-1].finished
    assert finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    assert finished.provider_finish_reason == "budget:b"
    # 100 tokens fit; 200 do not.
    assert sum(item.quantity for item in finished.usage.items) == 200
    assert closed == [0, 0, 1]
    assert one.entry.cut


async def test_numbers_of_the_provider_count_before_lengths() -> None:
    """What the provider tells replaces what was reckoned from lengths, and what comes behind it is added."""
    steps: list[Step] = [[begin()], [*words(400), told(10, 20)], words(5), [stop(), finish()]]
    one = trial(MemoryLedger(tokens=120), *steps, most=100)
    assert kinds(await told_by(one.budgeted))[-1] == ["block_stopped", "finished"]
    steps = [[begin()], [*words(1), told(10, 150)], [stop(), finish()]]
    one = trial(MemoryLedger(tokens=120), *steps, most=100)
    last = (await told_by(one.budgeted))[-1]
    assert last[-1].finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    assert sum(item.quantity for item in last[-1].finished.usage.items) == 160


async def test_a_complete_answer_is_not_cut() -> None:
    """An answer that comes with its end stays whole, whatever it costs."""
    one = trial(MemoryLedger(tokens=120), [begin(), *words(1000), stop(), finish()], most=100)
    assert (await told_by(one.budgeted))[-1][-1].finished.reason == chat_pb2.FINISH_REASON_STOP


async def test_metadata_in_pieces_is_taken_back_where_an_answer_is_cut() -> None:
    """A block of whose metadata only a part had come is stopped with none."""
    piece = chat_pb2.ChatEvent(metadata_delta=chat_pb2.MetadataDelta(index=0, provider_metadata_json="{"))
    one = trial(MemoryLedger(tokens=120), [begin()], [piece, *words(1000)], hang, most=100)
    stopped = next(e for events in await told_by(one.budgeted) for e in events if e.HasField("block_stopped"))
    assert stopped.block_stopped.HasField("provider_metadata_json")
    assert stopped.block_stopped.provider_metadata_json == ""


async def test_what_an_ended_attempt_did_not_use_makes_room() -> None:
    """Before the next attempt holds its worst case, those that have ended hold no more than they cost."""
    ledger = MemoryLedger(tokens=150)
    first = trial(ledger, OverloadedError("full"), most=100)
    await told_until_failure(first.budgeted)
    first.entry.end(chat_pb2.ATTEMPT_OUTCOME_FAILED)
    second = trial(ledger, [begin(), finish()], most=100, journal=first.journal)
    await told_by(second.budgeted)
    assert [lease.held.tokens for lease in ledger.leases.values()] == [0, 116]


async def test_attempts_beside_each_other_each_hold_their_own() -> None:
    """A second attempt beside one that runs needs room of its own."""
    ledger = MemoryLedger(tokens=150)
    first = trial(ledger, hang, most=100)
    assert await cancelled(first.budgeted, lambda: bool(first.fake.calls))
    second = trial(ledger, [begin(), finish()], most=100, journal=first.journal)
    _, error = await told_until_failure(second.budgeted)
    assert isinstance(error, BudgetExceededError)


async def test_ledger_that_is_away_refuses_beginnings_and_not_what_runs() -> None:
    """While the ledger is away no attempt begins, and an answer that runs goes on without holding more."""
    one = trial(MemoryLedger(tokens=150, away=True), [begin(), finish()], most=100)
    _, error = await told_until_failure(one.budgeted)
    assert isinstance(error, LedgerUnavailableError)
    assert one.fake.calls == []

    ledger = MemoryLedger(tokens=150)

    async def leave() -> None:
        ledger.away = True

    one = trial(ledger, [begin()], leave, *[words(100)] * 4, [stop(), finish()], most=100)
    assert (await told_by(one.budgeted))[-1][-1].finished.reason == chat_pb2.FINISH_REASON_STOP


async def test_whole_answers_are_held_and_not_watched() -> None:
    """A whole answer is held at its worst, and comes as it is."""
    one = trial(MemoryLedger(tokens=120), [begin(), *words(500)], [stop(), finish()], most=100)
    await told_by(one.budgeted, dataclasses.replace(CALL, unary=True))
    assert [demand.tokens for demand in one.ledger.asked] == [116]


def test_prompts_are_not_underrated() -> None:
    """A worst prompt has at least a token for two bytes, and tools and messages bring their own."""
    message = content_pb2.Message(role=content_pb2.ROLE_USER)
    message.content.add().text.text = "x" * 1000
    prices = Prices(lambda: PRICED, LISTINGS)
    worst = WorstCases(prices, lambda *_: ModelFacts("a/m"), lambda: PRICED)
    plain = worst.of("a", "m", chat_pb2.ChatRequest(messages=[message]))
    assert 500 <= plain.prompt_tokens <= 550
    tools = [chat_pb2.Tool(function=chat_pb2.FunctionTool(name="f"))]
    assert worst.of("a", "m", chat_pb2.ChatRequest(messages=[message], tools=tools)).prompt_tokens > 1000


async def test_text_of_a_model_that_makes_images_streams_at_the_price_of_text() -> None:
    """What is held is the price of images; text that streams is known to cost less, and is not taken for them."""
    prices = [{"provider": "a", "model": "m", "input": "0", "output": "1", "output_image": "30"}]
    configuration = PlatformConfiguration.model_validate({"prices": prices})
    # Held: 100 tokens at 30,000 nanos. The answer has 500 tokens of text, at 1,000.
    ledger = MemoryLedger(nanos=3_000_000)
    steps: list[Step] = [[begin()], *[words(50)] * 10, [stop(), finish()]]
    one = trial(ledger, *steps, most=100, configuration=configuration)
    spoken = await told_by(one.budgeted)
    assert ledger.asked[0] == Demand(3_000_000, 116)
    assert kinds(spoken)[-1] == ["block_stopped", "finished"]
    assert one.entry.finish_reason == chat_pb2.FINISH_REASON_STOP
