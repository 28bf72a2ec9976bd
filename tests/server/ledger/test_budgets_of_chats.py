"""Hard budgets hold chats: before anybody is asked, while an answer streams, and whatever becomes of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import grpc
import grpc.aio
import pytest
from tests.server.conftest import (
    Serve,
    Served,
    chat_request,
    error_info,
    events_of,
    failed_stream,
    kinds,
    until,
)
from tests.server.ledger.served import (
    PRICES,
    check,
    held,
    make_budget,
    nanos_of,
    record_of,
    records,
    spent,
    untruths,
    with_ledger,
)
from tests.server.ledger.test_records_of_chats import DOWN, GOOD, ID, LATE, Script, platform, request, specs
from tests.server.test_limits_of_chats import quota_of
from tests.server.test_resilience_of_a_server import spec

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import chat_pb2, usage_pb2

#: A hundred pieces of 25 tokens each.
LONG: Script = [{"repeat": {"times": 100, "steps": [{"text": "1234" * 25}, {"pause_ms": 1}]}}]


def most(tokens: int, **fields: Any) -> chat_pb2.ChatRequest:
    """A chat of the persona whose answer may be so long."""
    return request(sampling=chat_pb2.Sampling(max_output_tokens=tokens), **fields)


def any_of(tokens: int) -> chat_pb2.ChatRequest:
    """The same without an id."""
    asking = most(tokens)
    asking.request_id = ""
    return asking


async def test_chat_without_room_is_refused_before_anybody_is_asked(
    serve: Serve, database: Database, database_url: str
) -> None:
    """A chat whose worst case does not fit is told which budget it is and when to come again; nobody was asked."""
    provider = ScriptedAdapter(GOOD)
    async with serve(with_ledger(database_url), specs(provider, []), platform(fallback=[])) as served:
        await make_budget(served, database, "0.1")
        events, error = await failed_stream(served.chat.Chat(most(1000)))
        assert (provider.calls, kinds(events), await records(database), await held(database)) == (0, ["failed"], [], {})
    assert (error.code(), error_info(error).reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "BUDGET_EXCEEDED")
    assert quota_of(error)[0] == "budget:b"
    assert "0.1" in (error.details() or "")


async def test_chat_larger_than_a_budget_is_not_told_to_come_again(
    serve: Serve, database: Database, database_url: str
) -> None:
    """What can never fit has no RetryInfo; what fits into the next window is told when that begins."""
    async with serve(with_ledger(database_url), specs([GOOD], []), platform(fallback=[])) as served:
        await make_budget(served, database, tokens=150)
        _, error = await failed_stream(served.chat.Chat(any_of(1000)))
        assert quota_of(error)[1] is None
        # 42 of 150 are used now.
        await events_of(served.chat.Chat(any_of(50)))
        _, error = await failed_stream(served.chat.Chat(any_of(100)))
    seconds = quota_of(error)[1]
    assert seconds is not None
    assert 0 < seconds <= 31 * 86_400


async def test_budget_counts_what_was_spent(serve: Serve, database: Database, database_url: str) -> None:
    """After a chat its budget has seen what the record says, and holds nothing any more."""
    async with serve(with_ledger(database_url), specs([GOOD], []), platform(fallback=[])) as served:
        await make_budget(served, database, "10", persona="writer")
        events = await events_of(served.chat.Chat(most(1000)))
        record = await record_of(database, ID)
        check(record, events[-1])
        assert await spent(database) == (54_000_000, 42) == (nanos_of(record.cost), 42)
        assert await held(database) == {}
        assert await untruths(database) == []


@pytest.mark.parametrize("by_caller", [False, True])
async def test_prompt_that_nobody_answered_in_time_counts(
    serve: Serve, database: Database, database_url: str, by_caller: bool
) -> None:
    """Who hangs up on a silent provider pays for the prompt, the same for our time-out as for a caller that leaves."""
    provider = ScriptedAdapter([{"hang": True}])
    configuration = platform(fallback=[], timeouts={} if by_caller else {"first_token": "50ms"})
    async with serve(with_ledger(database_url), specs(provider, []), configuration) as served:
        await make_budget(served, database, "100")
        call = served.chat.Chat(most(10, text="x" * 24_000))
        if by_caller:
            await until(lambda: provider.open_streams == 1)
            call.cancel()
        else:
            await failed_stream(call)
        await until(lambda: served.app.admission.running == 0)
        await nothing_held(database)
        record = await record_of(database, ID)
        check(record)
        assert await spent(database) == (nanos_of(record.cost), record.input_tokens)
        assert await untruths(database) == []
    outcome = chat_pb2.ATTEMPT_OUTCOME_CANCELLED if by_caller else chat_pb2.ATTEMPT_OUTCOME_FAILED
    assert [each.outcome for each in record.attempts] == [outcome]
    assert (record.usage_estimated, record.cost.status) == (True, usage_pb2.COST_STATUS_ESTIMATED)
    assert 6_000 <= record.input_tokens <= 6_010
    assert (record.output_tokens, nanos_of(record.cost)) == (0, record.input_tokens * 1_000_000)


async def test_used_up_budget_ends_a_stream_at_a_chunks_edge(
    serve: Serve, database: Database, database_url: str
) -> None:
    """An answer that uses up a budget ends with the piece that did, well-formed and with OK; the upstream is closed."""
    provider = ScriptedAdapter(LONG)
    configuration = platform(fallback=[])
    # It says more than anybody knew it could.
    configuration["models"]["a/echo"] = {**PRICES, "max_output_tokens": 200}
    async with serve(with_ledger(database_url), specs(provider, []), configuration) as served:
        await make_budget(served, database, tokens=1_000)
        events = await events_of(served.chat.Chat(request()))
        await until(lambda: provider.open_streams == 0)
        record = (await records(database))[0]
        check(record, events[-1])
        used = (await spent(database))[1]
        assert await held(database) == {}
        assert await untruths(database) == []
    finished = events[-1].finished
    assert (finished.reason, finished.provider_finish_reason) == (chat_pb2.FINISH_REASON_BUDGET_EXCEEDED, "budget:b")
    assert finished.cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert 1_000 < used <= 1_000 + 25
    assert_well_formed(events)


@pytest.mark.parametrize("whole", [False, True])
async def test_answer_of_open_length_begins_where_its_worst_case_has_no_room(
    serve: Serve, database: Database, database_url: str, whole: bool
) -> None:
    """Without a limit of its own an answer holds what is usual, and is cut where the budget ends; a whole one too."""
    provider = ScriptedAdapter(LONG)
    configuration = platform(fallback=[])
    configuration["models"]["a/echo"] = {**PRICES, "max_output_tokens": 100_000}
    async with serve(with_ledger(database_url), specs(provider, []), configuration) as served:
        await make_budget(served, database, tokens=1_500)
        if whole:
            response = await served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request()))
            reason = response.finished.reason
        else:
            reason = (await events_of(served.chat.Chat(request())))[-1].finished.reason
        used = (await spent(database))[1]
        assert await held(database) == {}
        assert await untruths(database) == []
        # One whose length is bounded has to fit whole.
        _, error = await failed_stream(served.chat.Chat(any_of(5_000)))
    assert reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
    assert 1_500 < used <= 1_500 + 25
    assert error_info(error).reason == "BUDGET_EXCEEDED"


async def test_several_answers_of_open_length_share_a_budget(
    serve: Serve, database: Database, database_url: str
) -> None:
    """Where the first holds its worst case, the next ones still find room for what is usual."""
    provider = ScriptedAdapter([{"text": "first"}, {"pause_ms": 60_000}])
    configuration = platform(fallback=[])
    configuration["models"]["a/echo"] = {**PRICES, "max_output_tokens": 64_000}
    async with serve(with_ledger(database_url), specs(provider, []), configuration) as served:
        await make_budget(served, database, tokens=90_000)
        calls = []
        for _ in range(3):
            asking = request()
            asking.request_id = ""
            calls.append(served.chat.Chat(asking))
        firsts = [await anext(aiter(call)) for call in calls]
        assert all(first.events[0].HasField("started") for first in firsts)
        for call in calls:
            call.cancel()
        await until(lambda: provider.open_streams == 0)


def assert_well_formed(events: list[chat_pb2.ChatEvent]) -> None:
    """Each block that began is stopped, once, and one event ends it all."""
    began = [event.block_started.block.index for event in events if event.HasField("block_started")]
    stopped = [event.block_stopped.index for event in events if event.HasField("block_stopped")]
    assert began == stopped
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert sum(event.HasField("finished") for event in events) == 1


async def test_cheaper_model_answers_where_the_dear_one_does_not_fit(
    serve: Serve, database: Database, database_url: str
) -> None:
    """A model that a budget has no room for is passed over, and a cheaper one asked; the attempts say why."""
    dear = ScriptedAdapter(GOOD)
    configuration = platform()
    configuration["models"]["b/echo"] = {"input_price": "1", "output_price": "2"}
    async with serve(with_ledger(database_url), specs(dear, [GOOD]), configuration) as served:
        await make_budget(served, database, "0.1")
        events = await events_of(served.chat.Chat(most(1000)))
        record = await record_of(database, ID)
        check(record, events[-1])
        assert await held(database) == {}
    attempts = events[-1].finished.attempts
    assert [(each.provider, chat_pb2.AttemptOutcome.Name(each.outcome)) for each in attempts] == [
        ("a", "ATTEMPT_OUTCOME_SKIPPED"),
        ("b", "ATTEMPT_OUTCOME_FINISHED"),
    ]
    assert "budget 'b'" in attempts[0].error.message
    assert dear.calls == 0
    assert [each.provider for each in record.attempts] == ["b"]


async def test_refusal_by_all_models_says_which_budget(serve: Serve, database: Database, database_url: str) -> None:
    """Where no model of several fits the chat is told of the budget, not that nobody can be asked; once, not again."""
    configuration = platform(retries={"most": 3, "first_wait": "1ms"})
    async with serve(with_ledger(database_url), specs([GOOD], [GOOD]), configuration) as served:
        await make_budget(served, database, "0.1")
        events, error = await failed_stream(served.chat.Chat(most(1000)))
    assert error_info(error).reason == "BUDGET_EXCEEDED"
    assert [each.provider for each in events[-1].failed.attempts] == ["a", "b"]


async def test_model_without_a_price_is_refused_by_a_budget_of_money(
    serve: Serve, database: Database, database_url: str
) -> None:
    """A budget of money refuses what it cannot count, and says what to do; one of tokens lets it pass."""
    configuration = platform(fallback=[])
    configuration["models"] = {}
    async with serve(with_ledger(database_url), specs([GOOD], []), configuration) as served:
        await make_budget(served, database, "1000")
        _, error = await failed_stream(served.chat.Chat(most(10)))
        assert "no price is known of a/echo" in (error.details() or "")
    assert error_info(error).reason == "BUDGET_EXCEEDED"


@pytest.mark.parametrize(("dollars", "asked"), [("0.02", 0), ("0.04", 1)])
async def test_answer_that_may_be_an_image_needs_room_for_one(
    serve: Serve, database: Database, database_url: str, dollars: str, asked: int
) -> None:
    """An image costs thirty times its text: a budget with room for text alone refuses it, one with room counts it."""
    item = {"modality": "MODALITY_IMAGE", "unit": "USAGE_UNIT_TOKEN", "quantity": "1000", "kind": "USAGE_KIND_OUTPUT"}
    image: Script = [{"text": "a"}, {"finish": {"reason": "STOP", "usage": {"items": [item]}}}]
    provider = ScriptedAdapter(image)
    configuration = platform(fallback=[])
    configuration["models"] = {}
    prices = {"input": "1", "output": "1", "output_image": "30"}
    configuration["prices"] = [{"provider": "a", "model": "echo", **prices}]
    async with serve(with_ledger(database_url), specs(provider, []), configuration) as served:
        # Text would cost 0.001 dollars, the image 0.03.
        await make_budget(served, database, dollars)
        ending = await ending_of(served.chat.Chat(most(1_000)))
        assert (ending, provider.calls) == ("finished" if asked else "BUDGET_EXCEEDED", asked)
        assert await spent(database) == (asked * 30_000_000, asked * 1_000)
        assert await held(database) == {}
        assert await untruths(database) == []


async def test_failed_attempt_makes_room_for_the_next(serve: Serve, database: Database, database_url: str) -> None:
    """A budget with room for one worst case serves a retry and a fallback, one after the other."""
    configuration = platform(retries={"most": 1, "most_before_fallback": 1, "first_wait": "1ms"})
    async with serve(with_ledger(database_url), specs([DOWN], [GOOD]), configuration) as served:
        await make_budget(served, database, tokens=150)
        events = await events_of(served.chat.Chat(most(100)))
        check(await record_of(database, ID), events[-1])
        assert len(events[-1].finished.attempts) == 3
        assert await held(database) == {}
        assert await untruths(database) == []


async def test_second_attempt_beside_a_late_one_needs_room(serve: Serve, database: Database, database_url: str) -> None:
    """A hedge that a budget has no room for is not begun, and the first one waited for."""
    slow: Script = [{"pause_ms": 100}, *GOOD]
    second = ScriptedAdapter(GOOD)
    configuration = platform(hedging={"after": "1ms"})
    made = [spec("a", ScriptedAdapter(slow)), spec("b", second)]
    async with serve(with_ledger(database_url), made, configuration) as served:
        await make_budget(served, database, tokens=150)
        events = await events_of(served.chat.Chat(most(100)))
    assert events[-1].finished.route.provider == "a"
    assert second.calls == 0


async def test_many_at_once_never_overrun_a_budget(serve: Serve, database: Database, database_url: str) -> None:
    """Of many chats at once just as many run as have room, and what was spent is what their records say."""
    slow: Script = [{"text": "a"}, {"pause_ms": 50}, {"usage": {"input": 30, "output": 12}}]
    provider = ScriptedAdapter(slow)
    async with serve(with_ledger(database_url), specs(provider, []), platform(fallback=[])) as served:
        # A worst case is 128 tokens: 28 of the prompt, 100 of the answer.
        await make_budget(served, database, tokens=600)
        calls = [served.chat.Chat(any_of(100)) for _ in range(40)]
        endings = Counter(await asyncio.gather(*(ending_of(call) for call in calls)))
        kept = await records(database)
        assert await held(database) == {}
        assert await untruths(database) == []
        assert await spent(database) == (sum(nanos_of(each.cost) for each in kept), 42 * len(kept))
    assert endings["finished"] == provider.calls == len(kept)
    assert endings["finished"] + endings["BUDGET_EXCEEDED"] == 40
    assert 4 <= endings["finished"] <= 600 // 42


async def ending_of(call: Any) -> str:
    """How a stream ends: with `finished`, cancelled, or with an error's reason."""
    try:
        events = await events_of(call)
    except asyncio.CancelledError:
        return "cancelled"
    except grpc.aio.AioRpcError as error:
        return "cancelled" if error.code() is grpc.StatusCode.CANCELLED else str(error_info(error).reason)
    return kinds(events)[-1] or ""


@pytest.mark.slow
@pytest.mark.unmeasured
async def test_random_cancels_leave_nothing_reserved(serve: Serve, database: Database, database_url: str) -> None:
    """Of 2,000 chats under a budget, 30 % of them cancelled at random moments, nothing is held when all have ended."""
    chance = random.Random(11)  # noqa: S311 - chance for a test
    scripts: list[Script] = [
        GOOD,
        DOWN,
        [{"text": "a"}, {"pause_ms": 5}, {"break": True}],
        [*GOOD, {"pause_ms": 4}],
        LATE,
    ]
    configuration = platform(hedging={"after": "5ms"}, mid_stream="restart")
    made = specs(ScriptedAdapter(GOOD), [GOOD])
    async with serve(with_ledger(database_url), made, configuration) as served:
        await make_budget(served, database, "1000000", persona="writer")

        async def one(number: int) -> str:
            asking = any_of(100)
            script = scripts[number % len(scripts)]
            asking.provider_options.extend(chat_request(script).provider_options)
            call = served.chat.Chat(asking)
            if script is LATE or chance.random() < 0.3:
                asyncio.get_running_loop().call_later(chance.random() * 0.06, call.cancel)
            return await ending_of(call)

        endings: Counter[str] = Counter()
        numbers = iter(range(2_000))

        async def caller() -> None:
            for number in numbers:
                endings[await one(number)] += 1

        await asyncio.gather(*(caller() for _ in range(30)))
        await until(lambda: served.app.admission.running == 0)
        # Whoever is cancelled while its record is written does not wait for it.
        await nothing_held(database)
        assert await untruths(database) == []
        kept = await records(database)
        for record in kept:
            check(record)
        assert await spent(database) == (
            sum(nanos_of(each.cost) for each in kept),
            sum(each.input_tokens + each.output_tokens for each in kept),
        )
        assert open_streams_of(served, "a") == open_streams_of(served, "b") == 0
        faults = [line for line in served.log.getvalue().splitlines() if '_fault"' in line or "Traceback" in line]
    assert faults == []
    assert len({record.id for record in kept}) == len(kept)
    # A cancel may come before anybody was asked; all others leave a record.
    assert endings["finished"] <= len(kept) <= 2_000
    assert endings["cancelled"] > 400, endings


async def nothing_held(database: Database) -> None:
    """Wait until nothing is held. The limit only keeps a failing run from hanging."""
    async with asyncio.timeout(60):
        while await held(database):  # noqa: ASYNC110 - what is waited for is in a database
            await asyncio.sleep(0.01)


def open_streams_of(served: Served, provider: str) -> int:
    """How many streams a provider has open."""
    adapter = served.app.providers.adapter(provider)
    assert isinstance(adapter, ScriptedAdapter)
    return adapter.open_streams
