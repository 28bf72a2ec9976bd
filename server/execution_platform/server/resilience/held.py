"""Holds an attempt back until its first output, so that whatever wraps it knows: nothing yet, or something to keep."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import replace

from execution_platform.adapters.errors import AdapterError, ProtocolError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.resilience.journal import Entry
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["Held", "is_output"]

#: Events that tell nothing of the answer itself.
_BEFORE_OUTPUT = frozenset({"started", "notice", "usage_updated", "provider_event", "heartbeat", "route_changed"})

#: Most bytes that a provider may tell before its first output.
_MOST_HELD = 4 * 1024 * 1024


def is_output(event: chat_pb2.ChatEvent) -> bool:
    """Return whether an event is a part of the answer, or its end."""
    return event.WhichOneof("event") not in _BEFORE_OUTPUT


class Held(WrappingAdapter):
    """Yields nothing until the first output; then all that came before it, with it. Nothing follows `finished`.

    Notes in the attempt's entry what the provider tells of it, also where it then fails.

    Args:
        inner: the adapter of one provider.
        entry: the attempt's entry.
    """

    def __init__(self, inner: Adapter, entry: Entry) -> None:
        super().__init__(inner)
        self._entry = entry
        self._held: Events = []
        self._held_bytes = 0
        self._complete = False

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises AdapterError."""
        entry = self._entry
        self._reach()

        def waiting(waits: bool) -> None:
            if waits:
                entry.reached = False
            else:
                self._reach()
            call.on_waiting(waits)

        async with aclosing(self.inner.stream(replace(call, on_waiting=waiting))) as stream:
            try:
                async for events in stream:
                    told = self._noted(events)
                    if entry.first_output is None:
                        self._hold(told)
                        continue
                    if self._held:
                        told, self._held = [*self._held, *told], []
                    yield told
                    if self._complete:
                        break
            except AdapterError as error:
                self._note_usage(error.events)
                raise
            if not self._complete:
                raise ProtocolError("the adapter ended without `finished`")
            # The answer is whole, whatever becomes of its connection.
            with suppress(AdapterError):
                async for _ in stream:
                    pass

    def _reach(self) -> None:
        self._entry.began = time.monotonic()
        self._entry.reached = True

    def _noted(self, events: Events) -> Events:
        """Take note of what events tell. Returns them up to `finished`."""
        entry = self._entry
        for number, event in enumerate(events, 1):
            kind = event.WhichOneof("event")
            if kind == "block_delta":
                entry.streamed.take(event.block_delta)
                if entry.first_output is not None:
                    continue
            if kind == "route_changed":
                # The provider has gone on with another model, which is what it charges for.
                entry.served_model = event.route_changed.route.served_model or entry.served_model
            if kind == "usage_updated":
                self._used(event.usage_updated.usage)
            elif kind == "started":
                entry.served_model = event.started.route.served_model
            elif kind not in _BEFORE_OUTPUT:
                if entry.first_output is None:
                    entry.first_output = time.monotonic()
                if kind == "block_started":
                    entry.streamed.begin(event.block_started)
                elif kind == "finished":
                    self._finish(event.finished)
                    return events[:number]
        return events

    def _finish(self, finished: chat_pb2.Finished) -> None:
        self._complete = True
        self._entry.finish_reason = finished.reason
        if finished.HasField("usage"):
            self._used(finished.usage)

    def _used(self, usage: usage_pb2.Usage) -> None:
        self._entry.usage = usage
        if usage.items:
            self._entry.streamed.told()

    def _hold(self, events: Events) -> None:
        self._held += events
        self._held_bytes += sum(event.ByteSize() for event in events)
        if self._held_bytes > _MOST_HELD:
            raise ProtocolError(f"the provider told more than {_MOST_HELD} bytes before its first output")

    def _note_usage(self, events: Events) -> None:
        for event in events:
            if event.HasField("usage_updated"):
                self._used(event.usage_updated.usage)
