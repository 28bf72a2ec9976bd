"""Many callers of several servers under one hard budget: what they saw, what the provider saw, what the ledger says.

The provider is a real HTTP server here that counts requests and charges known usage. A part of the chats is cancelled
at random, a part gets longer answers than it asked for, and one server is killed in the middle. Callers, provider and
ledger each write down what happened; :func:`judged` compares them.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import random
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc.aio
from google.rpc import error_details_pb2, status_pb2
from sqlalchemy import Connection, func, select
from tests.e2e.caller import chat
from tests.e2e.processes import PATIENCE, Server, serving
from tests.server.ledger.chats import untrue_windows

from execution_platform.server.ledger.store.address import DatabaseAddress
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import (
    budget_leases,
    budget_windows,
    open_chats,
    usage_entries,
    usage_records,
)
from execution_platform.server.telemetry import make_logger
from execution_platform.v1 import chat_pb2, chat_pb2_grpc, cost_pb2

#: Nanos (1e-9 US dollars) of a token of the prompt and of the answer.
PROMPT_PRICE, ANSWER_PRICE = 1_000_000, 2_000_000
#: A piece of an answer: ten tokens, as the gateway reckons them and as the provider charges them.
PIECE, PIECE_TOKENS = "0123456789" * 4, 10

_MODEL = "vllm/made-up"
_KEY = "e2e-made-up-key-0123456789"


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done.

    Attributes:
        servers: processes.
        callers: of each.
        chats: of each caller.
        dollars: the budget's limit.
        lease_seconds: after which a killed server's chats are settled.
        cancelled: share of the chats that are cancelled at some piece of their answer.
        longer: share of the chats whose provider answers far more than it was let.
        kill: one server is killed when about half of the budget is spent.
        seed: of everything that is drawn.
    """

    servers: int = 4
    callers: int = 16
    chats: int = 8
    dollars: int = 50
    lease_seconds: int = 10
    cancelled: float = 0.3
    longer: float = 0.3
    kill: bool = True
    seed: int = 1

    @property
    def limit(self) -> int:
        """The budget's limit in nanos."""
        return self.dollars * 1_000_000_000


@dataclass(slots=True)
class Heard:
    """What a caller heard of one chat.

    Attributes:
        server: which it asked.
        longer: its provider was to answer far more than it was let.
        end: `finished`, `cut` (BUDGET_EXCEEDED), `refused`, `cancelled`, `broken` (the server went away), or why else.
        nanos: what it was told to have cost; None: it was not told.
        output: it saw a piece of the answer.
        largest: tokens of the largest piece that came at once.
        message: of the status.
    """

    server: int
    longer: bool = False
    end: str = ""
    nanos: int | None = None
    output: bool = False
    largest: int = 0
    message: str = ""


@dataclass(slots=True)
class Ledger:
    """What the ledger says in the end.

    Attributes:
        records: outcomes of the records of each request.
        nanos: what the entries of each request come to.
        spent: of the budget's windows, in nanos.
        entries: sum of all entries, in nanos.
        held: rows that still hold something, by table.
        untrue: windows that are not what they stand for.
    """

    records: dict[str, list[int]] = field(default_factory=dict)
    nanos: dict[str, int] = field(default_factory=dict)
    spent: int = 0
    entries: int = 0
    held: dict[str, int] = field(default_factory=dict)
    untrue: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Result:
    """All that happened.

    Attributes:
        heard: by request id.
        asked: request ids that reached the provider, with the pieces that it sent.
        ledger: in the end.
        seconds: that the callers took.
        settled_seconds: from the kill until nothing was held any more.
    """

    heard: dict[str, Heard] = field(default_factory=dict)
    asked: dict[str, int] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)
    seconds: float = 0.0
    settled_seconds: float = 0.0

    @property
    def ends(self) -> Counter[str]:
        """How many chats ended how."""
        return Counter(each.end for each in self.heard.values())


class Provider:
    """A model server that speaks Chat Completions, and does what the prompt says.

    Attributes:
        asked: the ids of the prompts that came, with the pieces that were sent.
        url: where it is.
    """

    def __init__(self) -> None:
        self.asked: dict[str, int] = {}
        self.url = ""
        self._tasks: set[asyncio.Task[None]] = set()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[Provider]:
        """Serve while the context is entered."""

        def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.get_running_loop().create_task(self._connection(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.url = f"http://{host}:{port}/v1"
        try:
            yield self
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
                length = int(head.partition("content-length:")[2].partition("\r\n")[0])
                await self._answer(json.loads(await reader.readexactly(length)), writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # hung up
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        content = body["messages"][-1]["content"]
        text = content if isinstance(content, str) else "".join(part["text"] for part in content)
        wish = json.loads(text)
        self.asked[wish["id"]] = 0
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            + _event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        )
        for _ in range(wish["pieces"]):
            writer.write(_event({"choices": [{"index": 0, "delta": {"content": PIECE}}]}))
            await writer.drain()
            self.asked[wish["id"]] += 1
            await asyncio.sleep(wish["pause"])
        writer.write(_event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}))
        prompt, answer = _prompt_tokens(text), wish["pieces"] * PIECE_TOKENS
        usage = {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}
        writer.write(_event({"choices": [], "usage": usage}) + _chunk(b"data: [DONE]\n\n") + _chunk(b""))
        await writer.drain()


def _prompt_tokens(text: str) -> int:
    return len(text) // 4


def _event(fields: dict[str, Any]) -> bytes:
    told = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "made-up", **fields}
    return _chunk(b"data: " + json.dumps(told).encode() + b"\n\n")


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class _Callers:
    """All who chat, and what they hear."""

    def __init__(self, plan: Plan) -> None:
        self.heard: dict[str, Heard] = {}
        self.told = 0
        self.half = asyncio.Event()
        self._plan = plan
        self._random = random.Random(plan.seed)  # noqa: S311 - no secret

    async def call(self, server: int, address: str) -> None:
        """Have the callers of one server chat until they are through, or it is gone."""
        async with grpc.aio.insecure_channel(address) as channel:
            stub = chat_pb2_grpc.ChatServiceStub(channel)
            await asyncio.gather(*(self._caller(server, stub) for _ in range(self._plan.callers)))

    async def _caller(self, server: int, stub: Any) -> None:
        for _ in range(self._plan.chats):
            request_id = str(uuid.UUID(int=self._random.getrandbits(128), version=4))
            heard = self.heard[request_id] = Heard(server)
            await self._chat(request_id, heard, stub)
            self.told += heard.nanos or 0
            if self.told > self._plan.limit // 2:
                self.half.set()
            if heard.end == "broken":
                return

    async def _chat(self, request_id: str, heard: Heard, stub: Any) -> None:
        draw = self._random
        pieces = draw.randrange(2, 20)
        longer = heard.longer = draw.random() < self._plan.longer
        wish = {"id": request_id, "pieces": pieces * (5 if longer else 1), "pause": draw.random() / 100}
        request = chat(_MODEL, json.dumps(wish), request_id=request_id)
        request.sampling.max_output_tokens = pieces * PIECE_TOKENS
        ends_after = draw.randrange(pieces) if draw.random() < self._plan.cancelled else None
        call = stub.Chat(request, timeout=PATIENCE * 5)
        seen = 0
        try:
            async for response in call:
                seen += 1
                _take(response, heard)
                if ends_after is not None and seen > ends_after and not heard.end:
                    call.cancel()
        except asyncio.CancelledError:
            if not call.cancelled():
                raise
            heard.end = heard.end or "cancelled"
        except grpc.aio.AioRpcError as error:
            heard.message = error.details() or ""
            heard.end = _why(error)


def _take(response: chat_pb2.ChatResponse, heard: Heard) -> None:
    size = 0
    for event in response.events:
        if event.HasField("block_delta"):
            size += len(event.block_delta.text)
        elif event.HasField("finished"):
            cut = event.finished.reason == chat_pb2.FINISH_REASON_BUDGET_EXCEEDED
            heard.end = "cut" if cut else "finished"
            heard.nanos = sum(line.amount.nanos for line in event.finished.cost.lines)
    heard.output = heard.output or size > 0
    heard.largest = max(heard.largest, -(-size // 4))


def _why(error: grpc.aio.AioRpcError) -> str:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    if isinstance(packed, bytes) and status_pb2.Status.FromString(packed).details[0].Unpack(info):
        return "refused" if info.reason == "BUDGET_EXCEEDED" else str(info.reason)
    if error.code() is grpc.StatusCode.CANCELLED:
        return "cancelled"
    return "broken" if error.code() is grpc.StatusCode.UNAVAILABLE else str(error.code())


async def played(plan: Plan, url: str, folder: Path) -> Result:
    """Run it all.

    Args:
        plan: how much.
        url: EP_DATABASE_URL of an empty database.
        folder: for what the servers write.
    """
    result = Result()
    async with Provider().serving() as provider:
        with contextlib.ExitStack() as stack:
            servers = await asyncio.to_thread(_start, plan, url, folder, provider.url, stack)
            callers = _Callers(plan)
            began = time.monotonic()
            killing = asyncio.create_task(_kill(callers, servers[0][0])) if plan.kill else None
            async with asyncio.TaskGroup() as tasks:
                for number, (_, address) in enumerate(servers):
                    tasks.create_task(callers.call(number, address))
            result.seconds = time.monotonic() - began
            killed = began + result.seconds
            if killing is not None:
                callers.half.set()
                killed = await killing
            result.heard, result.asked = callers.heard, provider.asked
            result.ledger = await _settled(url)
            result.settled_seconds = time.monotonic() - killed
    return result


async def _kill(callers: _Callers, server: Server) -> float:
    await callers.half.wait()
    server.signal(signal.SIGKILL)
    return time.monotonic()


def _start(plan: Plan, url: str, folder: Path, provider: str, stack: contextlib.ExitStack) -> list[tuple[Server, str]]:
    file = folder / "personas.json"
    file.write_text(json.dumps(_configuration(plan)))
    settings = {
        "EP_CONFIG_PATH": str(file),
        "EP_CONFIG_WATCH": "off",
        "EP_LEDGER": "on",
        "EP_DATABASE_URL": url,
        "EP_LEDGER_LEASE_SECONDS": str(plan.lease_seconds),
        "EP_VLLM_BASE_URL": provider,
        "EP_VLLM_API_KEY": _KEY,
    }
    servers = [stack.enter_context(serving(folder / f"server-{number}", settings)) for number in range(plan.servers)]
    return [(server, server.address()) for server in servers]


def _configuration(plan: Plan) -> dict[str, Any]:
    return {
        "version": 1,
        "defaults": {"retries": {"most": 0}},
        "models": {_MODEL: {"input_price": PROMPT_PRICE // 1_000, "output_price": ANSWER_PRICE // 1_000}},
        "budgets": {
            "money": {"limit": plan.dollars, "period": "month"},
            # Never used up: it shows that a chat counts for every budget that it touches.
            "tokens": {"max_tokens": 10**12, "period": "day", "scope": {"tenant": "default", "provider": "vllm"}},
        },
    }


async def _settled(url: str) -> Ledger:
    """Return what the ledger says once nothing is held any more, or when it has been waited for in vain."""
    database = Database(DatabaseAddress.parse(url), make_logger("error", "json", io.StringIO()))
    await database.start()
    try:
        end = time.monotonic() + 2 * PATIENCE
        while True:
            ledger = await database.read(_read)
            if not ledger.held or time.monotonic() > end:
                return ledger
            await asyncio.sleep(0.1)
    finally:
        await database.aclose()


def _read(connection: Connection) -> Ledger:
    ledger = Ledger(untrue=untrue_windows(connection))
    records = usage_records.c
    nanos = select(usage_entries.c.record_id, func.sum(usage_entries.c.nanos)).group_by(usage_entries.c.record_id)
    costs = {row[0]: int(row[1]) for row in connection.execute(nanos)}
    for row in connection.execute(select(records.id, records.request_id, records.kind, records.outcome)):
        ledger.nanos[row.request_id] = ledger.nanos.get(row.request_id, 0) + costs.get(row.id, 0)
        if row.kind == cost_pb2.USAGE_RECORD_KIND_CHAT:
            ledger.records.setdefault(row.request_id, []).append(row.outcome)
    window = budget_windows.c
    ledger.spent = int(connection.scalar(select(func.sum(window.spent_nanos)).where(window.budget_id == "money")) or 0)
    ledger.entries = sum(costs.values())
    counts = {
        "chats": select(func.count()).select_from(open_chats),
        "leases": select(func.count()).select_from(budget_leases),
        "nanos": select(func.sum(window.reserved_nanos)),
        "tokens": select(func.sum(window.reserved_tokens)),
    }
    held = {name: int(connection.scalar(query) or 0) for name, query in counts.items()}
    ledger.held = {name: count for name, count in held.items() if count}
    return ledger


def overrun_allowed(result: Result) -> int:
    """Return by how much the budget may be overrun, in nanos: by a piece of each stream that went beyond what it held.

    A stream that is not longer than its caller let it be never does.
    """
    return sum(each.largest for each in result.heard.values() if each.longer) * ANSWER_PRICE


def judged(plan: Plan, result: Result) -> list[str]:
    """Return what should not have happened."""
    return [*_overrun(plan, result), *_left(result), *_of_chats(plan, result)]


def _overrun(plan: Plan, result: Result) -> Sequence[str]:
    ledger = result.ledger
    wrong = list(ledger.untrue)
    if ledger.spent > plan.limit + overrun_allowed(result):
        wrong.append(f"spent {ledger.spent} of {plan.limit}, more than a piece of each stream beyond")
    if ledger.spent != ledger.entries:
        wrong.append(f"the budget has seen {ledger.spent}, the records come to {ledger.entries}")
    return wrong


def _left(result: Result) -> list[str]:
    return [f"{count} {name} still held" for name, count in result.ledger.held.items()]


def _of_chats(plan: Plan, result: Result) -> list[str]:
    wrong: list[str] = []
    for name, heard in result.heard.items():
        records = result.ledger.records.get(name, [])
        what = f"{name}: {heard.end}, records {records}"
        if heard.end not in {"finished", "cut", "refused", "cancelled", "broken"}:
            wrong.append(f"{what}: {heard.message}")
        if heard.end == "refused" and name in result.asked:
            wrong.append(f"{what}: refused, and asked the provider")
        if len(records) > 1:
            wrong.append(f"{what}: twice")
        if heard.end in {"finished", "cut"}:
            if records != [cost_pb2.USAGE_OUTCOME_FINISHED] or result.ledger.nanos[name] != heard.nanos:
                wrong.append(f"{what}: told {heard.nanos}, recorded {result.ledger.nanos.get(name)}")
        elif heard.output and not records:
            wrong.append(f"{what}: used something, and is not recorded")
        if cost_pb2.USAGE_OUTCOME_LOST in records and not (plan.kill and heard.server == 0):
            wrong.append(f"{what}: lost by a server that lives")
    unknown = result.ledger.records.keys() - result.heard.keys()
    return [*wrong, *(f"{name}: recorded, and nobody asked" for name in unknown)]
