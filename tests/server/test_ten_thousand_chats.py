"""Ten thousand chats, cancelled at random moments: afterwards nothing is held."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import os
import random
import uuid
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeAlias

import grpc
import grpc.aio
import pytest
from sqlalchemy import Connection, func, select
from tests.server.conftest import Serve, Served, chat_request, error_info, events_of, kinds, until
from tests.server.ledger.chats import untrue_windows

from execution_platform.adapters import compatible, scripted
from execution_platform.adapters.scripted.adapter import ScriptedAdapter
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.ledger.store.tables import budget_leases, open_chats
from execution_platform.v1 import catalog_pb2, chat_pb2, cost_pb2

CHATS = 10_000
AT_ONCE = 60
SEED = 4

Script: TypeAlias = list[dict[str, Any]]

HANG: Script = [{"hang": True}]
SLOW: Script = [{"repeat": {"times": 3, "steps": [{"text": "word "}, {"pause_ms": 2}]}}]
HALF: Script = [{"text": "a"}, {"hang": True}]
DOWN: Script = [{"error": {"reason": "PROVIDER_OVERLOADED"}}]
BROKEN: Script = [{"text": "a"}, {"pause_ms": 2}, {"break": True}]


class Upstream:
    """A provider's HTTP server that answers slowly, one chat for each connection."""

    def __init__(self) -> None:
        self.open = 0
        self.seen = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a chat, unless whoever asked hangs up."""
        self.open += 1
        self.seen += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
                await reader.readexactly(int(length.partition(b":")[2]))
                await self._write(writer)
        finally:
            self.open -= 1
            writer.close()

    async def _write(self, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n")
        for word in (b"one ", b"two ", b"three"):
            writer.write(b'data: {"choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n' % word)
            await writer.drain()
            await asyncio.sleep(0.002)
        writer.write(b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n')
        await writer.drain()


class OwnScript(ScriptedAdapter):
    """A scripted provider that plays its own script, whatever the request brings."""

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Play it."""
        bare = chat_pb2.ChatRequest(messages=call.request.messages)
        async with contextlib.aclosing(super().stream(dataclasses.replace(call, request=bare))) as stream:
            async for events in stream:
                yield events


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    """An upstream, and its address."""
    running = Upstream()
    server = await asyncio.start_server(running.answer, "127.0.0.1", 0)
    async with server:
        yield running, "http://{}:{}/v1".format(*server.sockets[0].getsockname())


def platform() -> dict[str, Any]:
    """Personas whose chats wait, retry, hedge, fall back and go on; with limits everywhere, one of which is reached."""
    limits = {"tokens_per_min": 10**12, "requests_per_min": 10**9, "cost_per_min": "1000000", "concurrent": 10_000}
    echo = {"provider": "scripted", "model": "echo"}
    none = {"most": 0}
    second = {"provider": "second", "model": "echo"}
    retries = {"most": 3, "most_before_fallback": 3, "first_wait": "20ms"}
    return {
        "personas": {
            "plain": {**echo, "retries": none, "limits": {**limits, "concurrent": 3}},
            "retrying": {**echo, "retries": retries, "limits": limits},
            "hedging": {**echo, "retries": none, "limits": limits, "fallback": [second], "hedging": {"after": "3ms"}},
            "going_on": {**echo, "retries": none, "limits": limits, "fallback": [second], "mid_stream": "continue"},
            "real": {"provider": "compatible", "model": "m", "retries": none, "limits": limits},
        },
        "providers": {name: {"limits": limits} for name in ("scripted", "second", "compatible")},
        "default_tenant": limits,
        "each_key": limits,
        "breaker": {"failures": 1_000},
        "retry_budget": {"ratio": 1, "least": 1_000},
    }


KINDS: list[tuple[str, Script]] = [
    ("plain", SLOW),
    ("plain", HALF),
    ("retrying", DOWN),
    ("hedging", HANG),
    ("going_on", BROKEN),
    ("real", []),
]


def request_for(number: int) -> chat_pb2.ChatRequest:
    """The chat of a number, with an id of its own."""
    persona, script = KINDS[number % len(KINDS)]
    name = str(uuid.UUID(int=number + 1, version=4))
    return chat_request(script, model="", persona=persona, request_id=name)


async def cancel_at(when: str, call: Any, chance: random.Random) -> None:
    """Cancel a call: at once, a moment after it was made, or a moment after it was admitted."""
    if when == "at once":
        await asyncio.sleep(0)
    elif when == "early":
        await asyncio.sleep(chance.random() * 0.1)
    else:
        await call.initial_metadata()
        await asyncio.sleep(chance.random() * 0.06)
    call.cancel()


async def one(served: Served, number: int, chance: random.Random) -> str:
    """Run a chat, and cancel it at some moment, after its first message, or not if it ends by itself."""
    call = served.chat.Chat(request_for(number), timeout=60)
    endless = KINDS[number % len(KINDS)][1] is HALF
    when = chance.choices(["at once", "early", "admitted", "output", "never"], [1, 2, 5, 2, 0 if endless else 5])[0]
    cancel = asyncio.create_task(cancel_at(when, call, chance)) if when not in {"output", "never"} else None
    try:
        async for _ in call:
            if when == "output":
                call.cancel()
    except asyncio.CancelledError:
        return "cancelled"
    except grpc.aio.AioRpcError as error:
        return "cancelled" if error.code() is grpc.StatusCode.CANCELLED else str(error_info(error).reason)
    finally:
        if cancel is not None:
            cancel.cancel()
            await asyncio.gather(cancel, return_exceptions=True)
    return "finished"


async def storm(served: Served, chance: random.Random) -> Counter[str]:
    """Run all chats, many at once. Returns how they ended."""
    endings: Counter[str] = Counter()
    numbers = iter(range(CHATS))

    async def caller() -> None:
        for number in numbers:
            endings[await one(served, number, chance)] += 1

    await asyncio.gather(*(caller() for _ in range(AT_ONCE)))
    return endings


def held(served: Served, adapters: list[ScriptedAdapter], http: Upstream) -> dict[str, object]:
    """Return all that is still held; empty: nothing."""
    app = served.app
    limiter = app.limits.limiter
    found: dict[str, object] = {
        "chats": app.admission.running,
        "waiting": app.admission.waiting,
        "places": limiter.places.held,
        "corrections": limiter._pending,
        "streams": sum(adapter.open_streams for adapter in adapters),
        "connections": http.open,
        "attempts": sum(app.providers.record(name).running for name in app.providers.names()),
        "throttled": sum(model.running for model in app.limits.throttles._models.values()),
    }
    return {name: value for name, value in found.items() if value}


async def with_budget(served: Served) -> None:
    """Have every chat fall under a hard budget that is never used up, where there is a ledger."""
    if served.app.accounting is None:
        return
    budget = cost_pb2.Budget(id="all", period=cost_pb2.BUDGET_PERIOD_MONTH, max_tokens=10**15)
    await served.costs.CreateBudget(cost_pb2.CreateBudgetRequest(budget=budget))
    ledger, database = served.app.accounting.books.ledger, served.app.accounting.books.database
    await ledger.refresh()
    assert len(ledger.budgets) == 1
    # So many at once open all connections that there may be.
    await asyncio.gather(*(database.read(reserved) for _ in range(50)))


async def nothing_reserved(served: Served) -> None:
    """Wait until no budget holds anything for a chat; its server's ledger writes on behind chats that are gone."""
    if served.app.accounting is None:
        return
    database = served.app.accounting.books.database
    async with asyncio.timeout(60):
        while await database.read(reserved):  # noqa: ASYNC110 - what is waited for is in a database
            await asyncio.sleep(0.01)


def reserved(connection: Connection) -> int:
    """Return how many parts of budgets and open chats there are."""
    tables = (budget_leases, open_chats)
    return sum(int(connection.scalar(select(func.count()).select_from(table)) or 0) for table in tables)


def descriptors() -> int:
    """Return how many files and sockets this process has open."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


async def comes_down(count: Callable[[], int], most: int) -> None:
    """Wait until a count is as low as before."""

    def low() -> bool:
        gc.collect()
        return count() <= most

    await until(low)


@pytest.mark.slow
@pytest.mark.unmeasured
@pytest.mark.parametrize("ledger", ["off", "on"])
async def test_ten_thousand_chats_with_random_cancels_leave_nothing(serve: Serve, tmp_path: Path, ledger: str) -> None:
    """After 10,000 chats no place, slot, stream, connection, task, descriptor, request id or budget is held."""
    second = OwnScript(SLOW)
    specs = [
        dataclasses.replace(scripted.PROVIDERS[0], name="second", create=lambda _: second),
        *(each for each in compatible.PROVIDERS if each.name == "compatible"),
    ]
    environ = {"EP_MAX_CONCURRENT_CHATS": "8", "EP_ADMISSION_QUEUE": "6", "EP_ADMISSION_WAIT_SECONDS": "0.5"}
    if ledger == "on":
        # Chats keep their places while they are written down.
        environ["EP_MAX_CONCURRENT_CHATS"] = "32"
    environ |= {"EP_LEDGER": ledger, "EP_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}"}
    async with upstream() as (http, address):
        environ["EP_COMPATIBLE_BASE_URL"] = address
        async with serve(environ, specs, platform()) as served:
            first = served.app.providers.adapter("scripted")
            assert isinstance(first, ScriptedAdapter)
            # The first chats open what stays; they are none of the storm's.
            for number in range(CHATS, CHATS + len(KINDS)):
                if KINDS[number % len(KINDS)][1] not in (HALF, DOWN):
                    await events_of(served.chat.Chat(request_for(number)))
            await with_budget(served)
            gc.collect()
            tasks, files = len(asyncio.all_tasks()), descriptors()
            endings = await storm(served, random.Random(SEED))  # noqa: S311 - chance for a test
            await until(lambda: not held(served, [first, second], http))
            await nothing_reserved(served)
            await comes_down(lambda: len(asyncio.all_tasks()), tasks)
            await comes_down(descriptors, files + 1)
            again = Counter(
                [kinds(await events_of(served.chat.Chat(request_for(6 * number))))[-1] for number in range(50)]
            )
            untrue: list[str] = []
            if served.app.accounting is not None:
                await nothing_reserved(served)
                untrue = await served.app.accounting.books.database.read(untrue_windows)
            status = await served.catalog.GetProviderStatus(catalog_pb2.GetProviderStatusRequest(provider="scripted"))
            outcomes = Counter(
                (attempt["outcome"], len(line["attempts"]))
                for line in served.log_lines("chat")
                if line["ending"] == "cancelled"
                for attempt in line.get("attempts", [])
            )
            faults = [
                line for line in served.log.getvalue().splitlines() if "chat_fault" in line or "Traceback" in line
            ]
    assert faults == []
    assert sum(endings.values()) == CHATS
    # Each way to end came up often enough to mean something.
    assert endings["finished"] > CHATS / 50, endings
    assert endings["cancelled"] > CHATS / 5, endings
    assert endings["SERVER_OVERLOADED"] > 0, endings
    assert endings["RATE_LIMITED"] > 0, endings
    assert endings["PROVIDER_OVERLOADED"] > 0, endings
    assert outcomes[("CANCELLED", 2)] > 0, outcomes
    assert outcomes[("FAILED", 2)] > 0, outcomes
    assert http.seen > CHATS / 100
    assert again == {"finished": 50}
    assert untrue == []
    assert status.running_chats == 0
