"""Each chat that asked somebody leaves one record, and it is there before the caller hears of the end."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from tests.server.conftest import Serve, Served, chat_request, events_of, failed_stream, kinds, until
from tests.server.ledger.served import PRICES, check, nanos_of, record_of, records, with_ledger
from tests.server.test_lifecycle import first_message
from tests.server.test_resilience_of_a_server import QUICK, spec

from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events, ProviderSpec
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import chat_pb2, cost_pb2, error_pb2, usage_pb2

Script: TypeAlias = Sequence[Mapping[str, Any]]

ID = "0b5f1d6e-6a0b-4c59-9f0c-0a3b6d1a2c4e"

#: 30 tokens in and 12 out: 30,000,000 + 24,000,000 nanos.
GOOD: Script = [{"text": "Hello"}, {"pause_ms": 1}, {"text": " there"}, {"usage": {"input": 30, "output": 12}}]
DOWN: Script = [{"error": {"reason": "PROVIDER_OVERLOADED"}}]
REFUSED: Script = [{"error": {"reason": "INVALID_REQUEST"}}]
#: It tells its prompt, then breaks: the text that came counts by its length.
BROKEN: Script = [{"text": "12345678"}, {"usage": {"input": 30}}, {"text": "1234"}, {"pause_ms": 1}, {"break": True}]
PAID_FOR_NOTHING: Script = [{"started": True}, {"usage": {"input": 7}}, {"error": {"reason": "PROVIDER_UNAVAILABLE"}}]
LATE: Script = [{"pause_ms": 60_000}, {"text": "late"}]
HANG: Script = [{"text": "1234"}, {"hang": True}]

FINISHED, FAILED, CANCELLED = list(chat_pb2.AttemptOutcome.values())[2:5]


class Faulty(ScriptedAdapter):
    """A provider whose adapter has a fault, after some text."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Begin, and fail."""
        async with contextlib.aclosing(super().stream(call)) as stream:
            async for events in stream:
                yield events
                raise ValueError("a fault in the adapter")


def persona(*providers: str, **fields: Any) -> dict[str, Any]:
    """A persona that asks these in order; what fails is told at once unless it says otherwise."""
    routes = [{"provider": name, "model": "echo"} for name in providers]
    return {**routes[0], "fallback": routes[1:], "retries": {"most": 0}, **fields}


def platform(**fields: Any) -> dict[str, Any]:
    """A configuration with prices and one persona, which asks a, then b."""
    return {
        "models": {"a/echo": PRICES, "b/echo": PRICES},
        "personas": {"writer": persona("a", "b", **fields)},
        "breaker": {"failures": 1000},
        "retry_budget": {"ratio": 1, "least": 1000},
    }


def request(**fields: Any) -> chat_pb2.ChatRequest:
    """A chat of the persona."""
    return chat_request(model="", persona="writer", request_id=ID, **fields)


#: How chats end: the persona, what the providers play, and what becomes of each attempt: its outcome and nanos.
WAYS: dict[str, tuple[dict[str, Any], ScriptedAdapter | Sequence[Script], Sequence[Script], list[tuple[int, int]]]] = {
    "an answer": ({}, [GOOD], [GOOD], [(FINISHED, 54_000_000)]),
    "a retry": (
        {"retries": {"most": 1, **QUICK}, "fallback": []},
        [DOWN, GOOD],
        [],
        [(FAILED, 0), (FINISHED, 54_000_000)],
    ),
    "a fallback": ({}, [DOWN], [GOOD], [(FAILED, 0), (FINISHED, 54_000_000)]),
    "a fallback from one that was paid for": (
        {},
        [PAID_FOR_NOTHING],
        [GOOD],
        [(FAILED, 7_000_000), (FINISHED, 54_000_000)],
    ),
    "a hedge": ({"hedging": {"after": "1ms"}}, [LATE], [GOOD], [(CANCELLED, 0), (FINISHED, 54_000_000)]),
    "an answer begun anew": (
        {"mid_stream": "restart"},
        [BROKEN],
        [GOOD],
        [(FAILED, 32_000_000), (FINISHED, 54_000_000)],
    ),
    "an answer gone on with": (
        {"mid_stream": "continue"},
        [BROKEN],
        [GOOD],
        [(FAILED, 32_000_000), (FINISHED, 54_000_000)],
    ),
    "all fail": ({}, [DOWN], [DOWN], [(FAILED, 0), (FAILED, 0)]),
    "a request that the provider refuses": ({}, [REFUSED], [GOOD], [(FAILED, 0)]),
    "an answer that breaks off": ({}, [BROKEN], [GOOD], [(FAILED, 32_000_000)]),
    # Who is given up for silence is paid for the prompt, which has one token.
    "a silence": ({"timeouts": {"first_token": "50ms"}}, [LATE], [LATE], [(FAILED, 1_000_000), (FAILED, 1_000_000)]),
    "a connection that breaks": ({}, [[{"break": True}]], [DOWN], [(FAILED, 1_000_000), (FAILED, 0)]),
    "the persona's time is over": ({"timeouts": {"total": "100ms"}}, [LATE], [GOOD], [(CANCELLED, 0)]),
}


def specs(first: ScriptedAdapter | Sequence[Script], second: Sequence[Script]) -> list[ProviderSpec]:
    """Providers a and b."""
    one = first if isinstance(first, ScriptedAdapter) else ScriptedAdapter(*first)
    return [spec("a", one), spec("b", ScriptedAdapter(*(second or [GOOD])))]


async def ended(served: Served, database: Database) -> tuple[chat_pb2.ChatEvent, cost_pb2.UsageRecord]:
    """Stream a chat. Returns its last event, and the record that was there when it came."""
    last: chat_pb2.ChatEvent | None = None
    kept: list[cost_pb2.UsageRecord] = []
    with contextlib.suppress(grpc.aio.AioRpcError):
        async for response in served.chat.Chat(request()):
            last = response.events[-1]
            if last.WhichOneof("event") in {"finished", "failed"}:
                kept = await records(database)
    assert last is not None
    assert len(kept) == 1
    return last, kept[0]


@pytest.mark.parametrize("way", WAYS)
async def test_record_is_there_when_a_stream_ends(
    serve: Serve, database: Database, database_url: str, way: str
) -> None:
    """When `finished` or `failed` comes, a second connection finds one record that says the same of each attempt."""
    fields, first, second, expected = WAYS[way]
    async with serve(with_ledger(database_url), specs(first, second), platform(**fields)) as served:
        last, record = await ended(served, database)
        check(record, last)
        if "hedge" not in way and "time is over" not in way:
            assert [(each.outcome, nanos_of(each.cost)) for each in record.attempts] == expected
        else:
            # What a prompt costs that was cancelled is reckoned from its length.
            assert [each.outcome for each in record.attempts] == [outcome for outcome, _ in expected]
            assert record.usage_estimated
        assert (record.request_id, record.persona, record.tenant) == (ID, "writer", "default")
    assert len(await records(database)) == 1


@pytest.mark.parametrize("way", WAYS)
async def test_record_is_there_when_a_whole_answer_comes(
    serve: Serve, database: Database, database_url: str, way: str
) -> None:
    """When CompleteChat answers or fails, a second connection finds one record of it."""
    fields, first, second, expected = WAYS[way]
    async with serve(with_ledger(database_url), specs(first, second), platform(**fields)) as served:
        ask = served.chat.CompleteChat(chat_pb2.CompleteChatRequest(chat=request()))
        failure = ""
        end: chat_pb2.ChatEvent | None = None
        try:
            end = chat_pb2.ChatEvent(finished=(await ask).finished)
        except grpc.aio.AioRpcError as error:
            failure = str(error.details())
        record = await record_of(database, ID)
    check(record, end)
    reason = error_pb2.ErrorReason.Name(record.error_reason).removeprefix("ERROR_REASON_")
    assert failure.partition(":")[0] == ("" if end else reason)
    # Whole answers that break off are made anew: nobody has seen them.
    outcome = FINISHED if way == "an answer that breaks off" else expected[-1][0]
    assert record.attempts[-1].outcome == outcome


async def test_caller_that_goes_away_leaves_a_record(serve: Serve, database: Database, database_url: str) -> None:
    """A cancelled chat is recorded with its prompt and what had streamed, each by its length."""
    async with serve(with_ledger(database_url), specs([HANG], []), platform()) as served:
        call = served.chat.Chat(request(text="x" * 400))
        await first_message(call)
        call.cancel()
        await until(lambda: served.app.admission.running == 0)
        record = await record_of(database, ID)
    check(record)
    assert record.outcome == cost_pb2.USAGE_OUTCOME_CANCELLED
    assert record.usage_estimated
    assert 100 <= record.input_tokens <= 110
    assert record.output_tokens == 1
    assert record.cost.status == usage_pb2.COST_STATUS_ESTIMATED


async def test_deadline_leaves_a_record(serve: Serve, database: Database, database_url: str) -> None:
    """A chat whose caller's deadline passes is recorded, as failed by it or as left by its caller."""
    async with serve(with_ledger(database_url), specs([HANG], []), platform()) as served:
        call = served.chat.Chat(request(), timeout=0.2)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await first_message(call)
            async for _ in call:
                pass
    # Whoever is cancelled while its record is written does not wait for it; the server does, at its end.
    record = await record_of(database, ID)
    check(record)
    assert record.outcome in {cost_pb2.USAGE_OUTCOME_CANCELLED, cost_pb2.USAGE_OUTCOME_FAILED}
    assert record.output_tokens == 1


async def test_drained_chat_leaves_a_record(serve: Serve, database: Database, database_url: str) -> None:
    """A chat that a server's end cuts off is told so, and recorded; the books are closed behind it."""
    environ = with_ledger(database_url, EP_DRAIN_SECONDS="0")
    async with serve(environ, specs([HANG], []), platform()) as served:
        call = served.chat.Chat(request())
        await first_message(call)
        reading = asyncio.create_task(failed_stream(call))
        await served.app.shut_down()
        events, _ = await reading
        record = await record_of(database, ID)
    check(record, events[-1])
    assert record.error_reason == error_pb2.ERROR_REASON_DRAINING


async def test_fault_of_an_adapter_leaves_a_record(serve: Serve, database: Database, database_url: str) -> None:
    """A chat that fails by a fault is recorded with what had streamed."""
    async with serve(with_ledger(database_url), specs(Faulty(HANG), []), platform()) as served:
        last, record = await ended(served, database)
    check(record, last)
    assert record.error_reason == error_pb2.ERROR_REASON_INTERNAL
    assert record.output_tokens == 1


async def test_answer_without_usage_is_reckoned(serve: Serve, database: Database, database_url: str) -> None:
    """Of an answer without usage the record holds what its length comes to, and says that this is a guess."""

    class Silent(ScriptedAdapter):
        async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
            async with contextlib.aclosing(super().stream(call)) as stream:
                async for events in stream:
                    told = [event for event in events if not event.HasField("usage_updated")]
                    if told[-1].HasField("finished"):
                        told[-1].finished.ClearField("usage")
                    yield told

    async with serve(with_ledger(database_url), specs(Silent([{"text": "x" * 40}]), []), platform()) as served:
        last, record = await ended(served, database)
    check(record, last)
    assert (record.usage_estimated, record.output_tokens) == (True, 10)
    assert record.input_tokens > 0
    assert record.cost.status == usage_pb2.COST_STATUS_ESTIMATED


async def test_stated_cost_is_exact(serve: Serve, database: Database, database_url: str) -> None:
    """What the provider says that it cost is recorded as it says, and EXACT."""
    line = {"amount": {"currencyCode": "USD", "nanos": "777"}, "source": "COST_SOURCE_PROVIDER"}
    stated = {"reason": "STOP", "cost": {"status": "COST_STATUS_EXACT", "lines": [line]}}
    async with serve(with_ledger(database_url), specs([[{"text": "a"}, {"finish": stated}]], []), platform()) as served:
        last, record = await ended(served, database)
    check(record, last)
    assert (nanos_of(record.cost), record.cost.status) == (777, usage_pb2.COST_STATUS_EXACT)


async def test_one_attempt_without_a_price_leaves_the_rest_known(
    serve: Serve, database: Database, database_url: str
) -> None:
    """A record of which a part has no price is UNPRICED, and holds the lines that are known."""
    configuration = platform(mid_stream="restart")
    del configuration["models"]["a/echo"]
    async with serve(with_ledger(database_url), specs([BROKEN], [GOOD]), configuration) as served:
        last, record = await ended(served, database)
    check(record, last)
    assert last.finished.cost.status == usage_pb2.COST_STATUS_ESTIMATED
    assert record.cost.status == usage_pb2.COST_STATUS_UNPRICED
    assert nanos_of(record.cost) == 54_000_000


@pytest.mark.parametrize("kind", ["validation", "limits", "no persona", "circuits"])
async def test_chat_that_asked_nobody_leaves_no_record(
    serve: Serve, database: Database, database_url: str, kind: str
) -> None:
    """A chat that is refused before any provider is called is not in the ledger."""
    configuration = platform(limits={"requests_per_min": 1})
    asking = request()
    if kind == "validation":
        asking.sampling.temperature = 9.0
    elif kind == "no persona":
        asking.persona = "nobody"
    before = 0
    if kind == "circuits":
        configuration = {**platform(), "breaker": {"failures": 1}}
    async with serve(with_ledger(database_url), specs([DOWN], [DOWN]), configuration) as served:
        if kind in {"limits", "circuits"}:
            await failed_stream(served.chat.Chat(chat_request(model="", persona="writer")))
            before = 1
        events, _ = await failed_stream(served.chat.Chat(asking))
    assert kinds(events) == ["failed"]
    assert len(await records(database)) == before


async def test_record_says_whose_the_chat_was(serve: Serve, database: Database, database_url: str) -> None:
    """Tenant and project are the credential's, user and session the request's, labels of request and persona."""
    token = "made-up-token"
    digest = hashlib.sha256(token.encode()).hexdigest()
    configuration = {
        **platform(labels={"team": "blue", "cost_center": "7"}),
        "tenants": {"acme": {"projects": {"site": {"key_sha256": [digest]}}}},
    }
    asking = request()
    asking.context.end_user_id, asking.context.session_id = "u-1", "s-1"
    asking.context.labels["team"] = "red"
    async with serve(with_ledger(database_url), specs([GOOD], []), configuration) as served:
        await events_of(served.chat.Chat(asking, metadata=(("authorization", f"Bearer {token}"),)))
        record = await record_of(database, ID)
    assert (record.tenant, record.project, record.persona) == ("acme", "site", "writer")
    assert (record.end_user_id, record.session_id) == ("u-1", "s-1")
    assert dict(record.labels) == {"team": "red", "cost_center": "7"}
    assert record.start_time.ToNanoseconds() <= record.end_time.ToNanoseconds()
    assert (record.route.provider, record.route.model) == ("a", "echo")


async def test_request_that_ran_twice_has_two_records(serve: Serve, database: Database, database_url: str) -> None:
    """A request that is run again after its end leaves another record with the same request id."""
    async with serve(with_ledger(database_url), specs([GOOD], []), platform()) as served:
        for _ in range(2):
            await events_of(served.chat.Chat(request()))
        kept = await records(database)
    assert [record.request_id for record in kept] == [ID, ID]
    assert kept[0].id != kept[1].id
