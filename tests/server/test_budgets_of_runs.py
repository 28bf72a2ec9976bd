"""Budgets over a provider whose answers take many calls of models, as an agent's run does: nothing bounds them."""

from __future__ import annotations

import dataclasses

import pytest
from tests.server.attempts import CALL, Step, begin, finish, hang, started, stop, text, told_by
from tests.server.ledgers import MemoryLedger
from tests.server.listings import LISTINGS
from tests.server.test_resilience_budgeted import PRICED, Trial, trial

from execution_platform.adapters.spi import Events
from execution_platform.server.config.personas import PlatformConfiguration
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.resilience.accounted import account
from execution_platform.server.routing.capabilities import Facts
from execution_platform.server.routing.prices import Prices
from execution_platform.server.routing.worst_case import WorstCases
from execution_platform.v1 import chat_pb2, common_pb2, usage_pb2

#: What the run itself is called has no price; the models that it calls have.
NESTED = PlatformConfiguration.model_validate(
    {"models": {"a/large": {"input_price": "1", "output_price": "1"}, "a/small": {"input_price": 0, "output_price": 0}}}
)


def run(ledger: MemoryLedger, *steps: Step, configuration: PlatformConfiguration = PRICED, **more: object) -> Trial:
    """A run whose calls have answers of at most 100 tokens."""
    return trial(ledger, *steps, most=100, configuration=configuration, many_calls=True, **more)  # type: ignore[arg-type]  # as trial's


def told(**tokens: int) -> chat_pb2.ChatEvent:
    """Tokens of prompts so far, by the model that used them; `own`: the run's."""
    items = [
        usage_pb2.UsageItem(
            kind=usage_pb2.USAGE_KIND_INPUT,
            unit=usage_pb2.USAGE_UNIT_TOKEN,
            quantity=quantity,
            model="" if model == "own" else model,
        )
        for model, quantity in tokens.items()
    ]
    return chat_pb2.ChatEvent(usage_updated=chat_pb2.UsageUpdated(usage=usage_pb2.Usage(items=items)))


def last_of(told_lists: list[Events]) -> chat_pb2.Finished:
    """How it ended."""
    return told_lists[-1][-1].finished


async def test_a_run_holds_its_first_call_and_more_as_it_goes() -> None:
    """Before the run one call is held; where the calls that are told come to more, more is held, and it goes on."""
    ledger = MemoryLedger(nanos=10**9)
    one = run(ledger, [begin()], [told(own=500)], [told(own=5_000)], [told(own=50_000)], [stop(), finish()])
    assert last_of(await told_by(one.budgeted)).reason == chat_pb2.FINISH_REASON_STOP
    assert ledger.asked[0] == Demand(116_000, 116)
    assert ledger.leases[one.journal.facts.id, 1].held.nanos >= 50_000_000  # type: ignore[union-attr, operator]  # priced


async def test_a_used_up_budget_ends_a_run() -> None:
    """The run ends with the call that used the budget up, its process too, and is charged for what it used."""
    ledger = MemoryLedger(nanos=2_000_000)
    one = run(ledger, [started(), begin(), text("Hm")], [told(own=1_500)], [told(own=2_500)], hang)
    finished = last_of(await told_by(one.budgeted))
    assert finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    assert sum(item.quantity for item in finished.usage.items) == 2_500
    assert one.fake.closed == 1


async def test_models_that_a_run_calls_count_at_their_own_prices() -> None:
    """Where only the models within a run have prices, these end it: a dear one, and not one that costs nothing."""
    ledger = MemoryLedger(nanos=2_000_000, allows_unpriced=True)
    steps: list[Step] = [[begin()], [told(small=10**6, large=1_000)], [told(small=10**9, large=2_500)], hang]
    one = run(ledger, *steps, configuration=NESTED)
    finished = last_of(await told_by(one.budgeted))
    assert finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    prices = Estimates(Prices(lambda: NESTED, LISTINGS))
    account(one.entry, CALL.request, prices)
    assert one.entry.cost is not None
    assert one.entry.cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert sum(line.amount.nanos for line in one.entry.cost.lines) == 2_500_000

    ledger = MemoryLedger(nanos=2_000_000, allows_unpriced=True)
    steps = [[begin()], [told(small=10**9, large=1_500)], [stop(), finish()]]
    assert last_of(await told_by(run(ledger, *steps, configuration=NESTED).budgeted)).reason == (
        chat_pb2.FINISH_REASON_STOP
    )


async def test_what_tools_bring_is_no_answer_of_a_model() -> None:
    """Results of tools within a run, however long, are charged with the call that reads them, and not as an answer."""
    ledger = MemoryLedger(nanos=2_000_000)
    result = begin(1, "tool_result")
    piece = chat_pb2.BlockDelta(index=1, structured_content_json='"' + "x" * 100_000)
    steps: list[Step] = [[begin()], [result, chat_pb2.ChatEvent(block_delta=piece)], [stop(), finish()]]
    assert last_of(await told_by(run(ledger, *steps).budgeted)).reason == chat_pb2.FINISH_REASON_STOP
    assert len(ledger.asked) == 1


async def test_what_is_stated_at_the_end_is_what_counts() -> None:
    """A run that says what it cost is charged that, whatever its tokens come to, and holds no more."""
    ledger = MemoryLedger(nanos=10**9)
    first = run(ledger, [begin()], [told(own=50_000)], [stop(), finish()])
    await told_by(first.budgeted)
    finished = chat_pb2.Finished()
    finished.cost.status = usage_pb2.COST_STATUS_EXACT
    money = common_pb2.Money(currency_code="USD", nanos=7_000)
    finished.cost.lines.add(source=usage_pb2.COST_SOURCE_PROVIDER, amount=money)
    first.entry.end(chat_pb2.ATTEMPT_OUTCOME_FINISHED)
    account(first.entry, CALL.request, Estimates(Prices(lambda: PRICED, LISTINGS)), finished)
    second = run(ledger, [begin()], [finish()], journal=first.journal)
    await told_by(second.budgeted)
    assert [lease.held.nanos for lease in ledger.leases.values()] == [7_000, 116_000]


async def test_what_runs_usually_come_to_is_held() -> None:
    """What the last runs cost is held where there is room, and where there is not the least of a call."""
    prices = Prices(lambda: PRICED, LISTINGS)
    estimates = Estimates(prices)
    usage = told(own=40_000).usage_updated.usage
    usage.items.add(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=60)
    estimates.learn("a", "m", usage)
    ledger = MemoryLedger(nanos=10**9)
    await told_by(run(ledger, [begin(), finish()], estimates=estimates).budgeted)
    assert ledger.asked == [Demand(40_060_000, 40_060)]
    ledger = MemoryLedger(nanos=10**6)
    await told_by(run(ledger, [begin(), finish()], estimates=estimates).budgeted)
    assert ledger.asked == [Demand(40_060_000, 40_060), Demand(76_000, 76)]


@pytest.mark.parametrize("limited", [True, False])
async def test_a_limit_of_an_answer_bounds_no_run(limited: bool) -> None:
    """`max_output_tokens` is each call's: a run that is asked for whole is watched all the same, and may be cut."""
    ledger = MemoryLedger(tokens=200)
    one = run(ledger, [begin()], [told(own=300)], hang)
    request = chat_pb2.ChatRequest()
    if limited:
        request.sampling.max_output_tokens = 50
    finished = last_of(await told_by(one.budgeted, dataclasses.replace(CALL, request=request, unary=True)))
    assert finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    assert [call.unary for call in one.fake.calls] == [False]


def test_a_written_cache_is_the_worst_of_a_call() -> None:
    """A run caches its prompts unasked, so the worst of its first call is a prompt that is written to a cache."""
    entry = {"provider": "a", "model": "m", "input": 1, "output": 1, "cache_write": 3, "cache_write_1h": 5}
    configuration = PlatformConfiguration.model_validate({"prices": [entry]})
    prices = Prices(lambda: configuration, LISTINGS)
    worst = [
        WorstCases(prices, lambda *_, many=many: Facts("a/m", many_calls=many), lambda: configuration).of(
            "a", "m", chat_pb2.ChatRequest()
        )
        for many in (False, True)
    ]
    assert [each.prompt_price for each in worst] == [10**9, 5 * 10**9]
    assert [each.open for each in worst] == [False, True]
