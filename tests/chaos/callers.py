"""Those who chat: over a real channel, each writing down all that it was told and when."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Iterable, Sequence
from enum import StrEnum

import grpc.aio
import msgspec
from google.rpc import error_details_pb2, status_pb2
from tests.chaos.answers import RESULT
from tests.e2e.caller import WEATHER, results, tool_calls, user

from execution_platform.client.fold import Fold
from execution_platform.v1 import chat_pb2, chat_pb2_grpc, content_pb2, error_pb2

__all__ = ["Attempt", "Caller", "Kind", "Turn"]

_PATIENCE = 60.0


class Kind(StrEnum):
    """What sort of chat it is."""

    STREAMED = "streamed"
    WHOLE = "whole"
    TOOLS = "tools"
    """Two turns, streamed: a tool is called, its result goes back."""


class Attempt(msgspec.Struct, frozen=True):
    """An attempt as the platform told it."""

    provider: str
    outcome: str
    cause: str
    reason: str

    @property
    def asked(self) -> bool:
        """Whether the provider was really asked."""
        return self.outcome != "SKIPPED"


class Turn(msgspec.Struct):
    """One call, and all that it told. Times are seconds since the epoch.

    Attributes:
        chat: number of the chat.
        kind: of the chat.
        primary: the provider that is to answer.
        reading: it is the turn in which the tool's result goes back.
        started: before it was sent.
        first_output: when the first part of the answer came.
        ended: when it was over.
        code: the status.
        reason: why it failed; empty: it did not.
        provider: who answered, in the end.
        attempts: as told.
        text: of the blocks that are not void.
        folded: the text that the client's fold makes of the events.
        broken: each time an answer broke off and was gone on with: what the caller had seen of its text by then.
        changes: how it was gone on with, each time.
        tools_begun: tool calls whose block began, void or not.
        tools_done: the ids of those whose block ended.
        orderly: numbered from 1 without a gap, begun once, ended once, the status agreeing.
    """

    chat: int
    kind: Kind
    primary: str
    reading: bool
    started: float
    first_output: float | None = None
    ended: float = 0.0
    code: str = ""
    reason: str = ""
    provider: str = ""
    attempts: list[Attempt] = []
    text: str = ""
    folded: str = ""
    broken: list[str] = []
    changes: list[str] = []
    tools_begun: int = 0
    tools_done: list[str] = []
    orderly: bool = True

    @property
    def answered(self) -> bool:
        """Whether it ended with an answer."""
        return self.code == "OK"

    @property
    def failed_over(self) -> bool:
        """Whether the first that was to answer did not."""
        return len(self.attempts) > 1

    def caused(self, cause: str) -> int:
        """Return how many attempts had a cause and really asked."""
        return sum(attempt.cause == cause and attempt.asked for attempt in self.attempts)


class _Seen:
    """What a caller has seen of an answer, block by block; takes nothing from the client's fold."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.calls: dict[int, content_pb2.ToolCallBlock] = {}
        self.done: list[str] = []
        self.broken: list[str] = []
        self.changes: list[str] = []

    @property
    def text(self) -> str:
        return "".join(self.texts[index] for index in sorted(self.texts))

    def take(self, event: chat_pb2.ChatEvent) -> bool:
        """Take an event. Returns whether it is a part of the answer."""
        match event.WhichOneof("event"):
            case "block_started":
                block = event.block_started.block
                if block.HasField("tool_call"):
                    self.calls[block.index] = block.tool_call
                else:
                    self.texts[block.index] = block.text.text
            case "block_delta":
                delta = event.block_delta
                if delta.WhichOneof("delta") == "text":
                    self.texts[delta.index] += delta.text
            case "block_stopped":
                call = self.calls.get(event.block_stopped.index)
                if call is not None:
                    self.done.append(call.call_id)
            case "route_changed":
                changed = event.route_changed
                self.broken.append(self.text)
                self.changes.append(chat_pb2.RouteChangeKind.Name(changed.kind).removeprefix("ROUTE_CHANGE_KIND_"))
                for index in changed.void_blocks:
                    self.texts.pop(index, None)
            case _:
                return False
        return True


class Caller:
    """Chats with a gateway.

    Args:
        address: where it serves.
    """

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._stub: chat_pb2_grpc.ChatServiceAsyncStub = chat_pb2_grpc.ChatServiceStub(self._channel)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._channel.close()

    async def chat(self, number: int, persona: str, kind: Kind) -> list[Turn]:
        """Have a chat: one turn, or two with a tool, as far as the first is answered with a call."""
        said = "How is the weather?" if kind is Kind.TOOLS else "Please count."
        request = chat_pb2.ChatRequest(persona=persona, messages=[user(f"{said} (chaos-{number})")])
        if kind is Kind.TOOLS:
            request.tools.append(WEATHER)
        if kind is Kind.WHOLE:
            return [await self._whole(number, request)]
        turn, message = await self._streamed(number, kind, request, reading=False)
        calls = tool_calls(message)
        if not turn.answered or not calls:
            return [turn]
        request.messages.extend([message, results(calls, *[RESULT] * len(calls))])
        second, _ = await self._streamed(number, kind, request, reading=True)
        return [turn, second]

    async def _streamed(
        self, number: int, kind: Kind, request: chat_pb2.ChatRequest, *, reading: bool
    ) -> tuple[Turn, content_pb2.Message]:
        request.request_id = str(uuid.uuid4())
        turn = Turn(number, kind, _primary(request), reading, time.time())
        seen, fold = _Seen(), Fold()
        events: list[chat_pb2.ChatEvent] = []
        call = self._stub.Chat(request, timeout=_PATIENCE)
        try:
            async for response in call:
                for event in response.events:
                    if seen.take(event) and turn.first_output is None:
                        turn.first_output = time.time()
                    fold.add(event)
                    events.append(event)
        except grpc.aio.AioRpcError:
            pass
        turn.ended = time.time()
        turn.code = (await call.code()).name
        turn.text, turn.broken, turn.changes = seen.text, seen.broken, seen.changes
        turn.tools_begun, turn.tools_done = len(seen.calls), seen.done
        turn.folded = fold.text
        turn.orderly = _orderly(events, answered=turn.answered)
        last = events[-1] if events else chat_pb2.ChatEvent()
        if last.HasField("failed"):
            turn.reason = error_pb2.ErrorReason.Name(last.failed.error.reason).removeprefix("ERROR_REASON_")
            turn.provider, turn.attempts = last.failed.route.provider, _attempts(last.failed.attempts)
        else:
            turn.provider, turn.attempts = last.finished.route.provider, _attempts(last.finished.attempts)
        return turn, fold.response.message

    async def _whole(self, number: int, request: chat_pb2.ChatRequest) -> Turn:
        request.request_id = str(uuid.uuid4())
        turn = Turn(number, Kind.WHOLE, _primary(request), reading=False, started=time.time())
        try:
            answer = await self._stub.CompleteChat(chat_pb2.CompleteChatRequest(chat=request), timeout=_PATIENCE)
        except grpc.aio.AioRpcError as error:
            turn.code, turn.reason = error.code().name, _reason(error)
        else:
            turn.code, turn.provider = "OK", answer.finished.route.provider
            turn.attempts = _attempts(answer.finished.attempts)
            turn.text = turn.folded = "".join(block.text.text for block in answer.message.content)
            turn.first_output = time.time()
        turn.ended = time.time()
        return turn


def _primary(request: chat_pb2.ChatRequest) -> str:
    """Return the provider that a persona asks first: personas are named after it."""
    return request.persona.partition("-")[0]


def _attempts(told: Iterable[chat_pb2.Attempt]) -> list[Attempt]:
    return [
        Attempt(
            attempt.provider,
            chat_pb2.AttemptOutcome.Name(attempt.outcome).removeprefix("ATTEMPT_OUTCOME_"),
            chat_pb2.AttemptCause.Name(attempt.cause).removeprefix("ATTEMPT_CAUSE_"),
            error_pb2.ErrorReason.Name(attempt.error.reason).removeprefix("ERROR_REASON_")
            if attempt.error.reason
            else "",
        )
        for attempt in told
    ]


def _orderly(events: Sequence[chat_pb2.ChatEvent], *, answered: bool) -> bool:
    kinds = [event.WhichOneof("event") for event in events]
    ends = [kind for kind in kinds if kind in {"finished", "failed"}]
    return (
        [event.sequence for event in events] == list(range(1, len(events) + 1))
        and kinds.count("started") <= 1
        and ends == (["finished"] if answered else ["failed"])
        and kinds[-1] == ends[0]
    )


def _reason(error: grpc.aio.AioRpcError) -> str:
    packed = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
    info = error_details_pb2.ErrorInfo()
    if isinstance(packed, bytes):
        for part in status_pb2.Status.FromString(packed).details:
            if part.Unpack(info):
                break
    return str(info.reason)


async def at_once(caller: Caller, personas: Sequence[str], kinds: Sequence[Kind], first: int, width: int) -> list[Turn]:
    """Have a chat for each kind, personas taking turns, so many at the same time.

    Args:
        caller: who chats.
        personas: who is asked, in turn.
        kinds: of the chats.
        first: number of the first chat.
        width: chats that run at once.
    """
    room = asyncio.Semaphore(width)

    async def one(at: int, kind: Kind) -> list[Turn]:
        async with room:
            return await caller.chat(first + at, personas[at % len(personas)], kind)

    chats = await asyncio.gather(*(one(at, kind) for at, kind in enumerate(kinds)))
    return [turn for turns in chats for turn in turns]
