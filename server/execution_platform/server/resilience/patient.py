"""Waits only so long for an attempt's first output, and for each one after it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from execution_platform.adapters.errors import ProviderTimeoutError
from execution_platform.adapters.spi import Adapter, Call, Events
from execution_platform.adapters.wrappers import WrappingAdapter

__all__ = ["Patient"]


class Patient(WrappingAdapter):
    """Ends an attempt that is silent for too long.

    Args:
        inner: an adapter that yields nothing before its first output.
        first_token: seconds to the first output; None: no limit.
        idle: seconds of silence after it; None: no limit.
    """

    def __init__(self, inner: Adapter, first_token: float | None, idle: float | None) -> None:
        super().__init__(inner)
        self._first_token = first_token
        self._idle = idle

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run the attempt. Raises ProviderTimeoutError when it is silent for too long, and AdapterError."""
        limit, what = self._first_token, "no output"
        async with aclosing(self.inner.stream(call)) as stream:
            while True:
                # Around each step and not around the loop: a limit that outlasts a yield would strike whoever iterates.
                scope = asyncio.timeout(limit)
                try:
                    async with scope:
                        events = await anext(stream)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    if not scope.expired():
                        raise
                    raise ProviderTimeoutError(f"{what} for {limit:g} s") from error
                yield events
                limit, what = self._idle, "the answer stood still"
