"""Holds an attempt back until its first output, so that whatever wraps it knows: nothing yet, or something to keep."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing

from execution_platform.adapters.errors import AdapterError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter
from execution_platform.server.resilience.journal import Entry
from execution_platform.v1 import chat_pb2

__all__ = ["Held", "is_output"]

#: Events that tell nothing of the answer itself.
_BEFORE_OUTPUT = frozenset({"started", "notice", "usage_updated", "provider_event", "heartbeat"})


def is_output(event: chat_pb2.ChatEvent) -> bool:
    """Return whether an event is a part of the answer, or its end."""
    return event.WhichOneof("event") not in _BEFORE_OUTPUT


class Held(WrappingAdapter):
    """Yields nothing until the first output; then all that came before it, with it.

    Notes in the attempt's entry what was used, also where the attempt then fails.

    Args:
        inner: the adapter of one provider.
        entry: the attempt's entry.
    """

    def __init__(self, inner: Adapter, entry: Entry) -> None:
        super().__init__(inner)
        self._entry = entry

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises AdapterError."""
        held: Events = []
        began = False
        async with aclosing(self.inner.stream(call)) as stream:
            try:
                async for events in stream:
                    self._note_usage(events)
                    if began:
                        yield events
                        continue
                    held.extend(events)
                    if any(map(is_output, events)):
                        began = True
                        self._entry.first_output = time.monotonic()
                        yield held
            except AdapterError as error:
                self._note_usage(error.events)
                raise

    def _note_usage(self, events: Events) -> None:
        for event in events:
            kind = event.WhichOneof("event")
            if kind == "usage_updated":
                self._entry.usage = event.usage_updated.usage
            elif kind == "finished" and event.finished.HasField("usage"):
                self._entry.usage = event.finished.usage
