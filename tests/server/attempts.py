"""Fakes on the seam: adapters and attempts that do what a test says, and events in a word."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, TypeAlias

from tests.server.conftest import until

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Call, Events
from execution_platform.server.resilience.journal import Entry
from execution_platform.server.routing.plan import Leg
from execution_platform.v1 import chat_pb2, content_pb2, usage_pb2

Event = chat_pb2.ChatEvent

#: What a fake does in one attempt, in order: yields, raises, or waits for what a function returns.
Step: TypeAlias = Events | Exception | Callable[[], Awaitable[object]]

CALL = Call(chat_pb2.ChatRequest(), "m", "id", timeout=60.0)


class Streams(Protocol):
    """Whatever streams."""

    def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Make attempts."""
        ...


class Fake:
    """Does what it is told: each stream the next list of steps, the last one for ever.

    Attributes:
        calls: the calls so far.
        closed: streams that have ended, however.
        cause: as the attempts' that retries are made of.
    """

    def __init__(self, *attempts: Sequence[Step]) -> None:
        self._attempts = attempts
        self.calls: list[Call] = []
        self.causes: list[int] = []
        self.closed = 0
        self.cause: chat_pb2.AttemptCause.ValueType = chat_pb2.ATTEMPT_CAUSE_FIRST

    def does(self, *attempts: Sequence[Step]) -> None:
        """Say what it does, where the steps have to know it."""
        self._attempts = attempts

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Do the next attempt's steps."""
        self.calls.append(call)
        self.causes.append(self.cause)
        steps = self._attempts[min(len(self.calls), len(self._attempts)) - 1]
        try:
            for step in steps:
                if isinstance(step, Exception):
                    raise step
                if callable(step):
                    await step()
                else:
                    # Whoever reads may change them.
                    yield [_copy(event) for event in step]
        finally:
            self.closed += 1

    async def aclose(self) -> None:
        """There is nothing to close."""


def _copy(event: Event) -> Event:
    copy = Event()
    copy.CopyFrom(event)
    return copy


async def told_by(streams: Streams, call: Call = CALL) -> list[Events]:
    """What a stream yields, list by list. Raises what it raises."""
    async with aclosing(streams.stream(call)) as stream:
        return [events async for events in stream]


async def told_until_failure(streams: Streams, call: Call = CALL) -> tuple[list[Events], AdapterError]:
    """What a stream yields before it fails, and its failure."""
    told: list[Events] = []
    try:
        async with aclosing(streams.stream(call)) as stream:
            async for events in stream:
                told.append(events)  # noqa: PERF401 - they count also if it fails
    except AdapterError as error:
        return told, error
    raise AssertionError(f"it did not fail: {told}")


async def cancelled(streams: Streams, once: Callable[[], bool]) -> bool:
    """Whether reading a stream that is cancelled once something holds ends as a cancel, and as nothing else."""
    reading = asyncio.create_task(told_by(streams))
    await until(once)
    reading.cancel()
    await asyncio.gather(reading, return_exceptions=True)
    return reading.cancelled()


async def hang() -> None:
    """Wait without end."""
    await asyncio.Event().wait()


def entry(provider: str = "a") -> Entry:
    """An entry of an attempt at a provider."""
    return Entry(Leg(provider, "m"), chat_pb2.ATTEMPT_CAUSE_FIRST)


def started(served_model: str = "") -> Event:
    """The answer begins."""
    return Event(started=chat_pb2.Started(route=chat_pb2.Route(served_model=served_model)))


def begin(index: int = 0, kind: str = "text") -> Event:
    """A block begins."""
    block = content_pb2.ContentBlock(index=index, family="f")
    getattr(block, kind).SetInParent()
    return Event(block_started=chat_pb2.BlockStarted(block=block))


def text(words: str, index: int = 0) -> Event:
    """More text."""
    return Event(block_delta=chat_pb2.BlockDelta(index=index, text=words))


def stop(index: int = 0) -> Event:
    """A block is complete."""
    return Event(block_stopped=chat_pb2.BlockStopped(index=index))


def notice(message: str) -> Event:
    """Something to know."""
    return Event(notice=chat_pb2.Notice(message=message))


def used(quantity: int) -> Event:
    """Usage so far."""
    return Event(usage_updated=chat_pb2.UsageUpdated(usage=usage(quantity)))


def usage(quantity: int) -> usage_pb2.Usage:
    """Some output tokens."""
    item = usage_pb2.UsageItem(kind=usage_pb2.USAGE_KIND_OUTPUT, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
    return usage_pb2.Usage(items=[item])


def quantity_of(told: usage_pb2.Usage) -> int:
    """How much that is."""
    return sum(item.quantity for item in told.items)


def finish(reason: chat_pb2.FinishReason.ValueType = chat_pb2.FINISH_REASON_STOP) -> Event:
    """The answer is complete."""
    return Event(finished=chat_pb2.Finished(reason=reason))
