"""The base of adapters that wrap adapters: fallback, retry, limits and tracing are such wrappers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from execution_platform.adapters.spi import Adapter, Call, Events

__all__ = ["WrappingAdapter"]

#: Methods of the optional abilities in :mod:`~execution_platform.adapters.spi`.
_ABILITIES = ("count_tokens", "list_models")


class WrappingAdapter:
    """Does what the wrapped adapter does; a subclass overrides what it changes.

    It has the optional abilities that the wrapped adapter has and no others, so asking ``isinstance(adapter,
    CountsTokens)`` gives the same answer through any number of wrappers. A subclass that defines the method of an
    ability has it always, and must answer for an inner adapter that has not.

    Args:
        inner: the adapter to wrap; the wrapper closes it.

    Attributes:
        inner: the wrapped adapter.
    """

    def __init__(self, inner: Adapter) -> None:
        self.inner = inner
        for name in _ABILITIES:
            if hasattr(inner, name) and not hasattr(type(self), name):
                # On the instance: runtime protocols see it there, and a class-wide method would claim it for all.
                setattr(self, name, getattr(inner, name))

    async def stream(self, call: Call) -> AsyncGenerator[Events, None]:
        """Run one attempt of the wrapped adapter, closing it however this one ends. Raises AdapterError."""
        async with aclosing(self.inner.stream(call)) as stream:
            async for events in stream:
                yield events

    async def aclose(self) -> None:
        """Close the wrapped adapter."""
        await self.inner.aclose()
