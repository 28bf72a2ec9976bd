"""Waiting for one answer of an asynchronous call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

from execution_platform.client.errors import CallCancelledError, raising_ours

__all__ = ["being_cancelled", "response"]

_T = TypeVar("_T")


async def response(call: Awaitable[_T]) -> _T:
    """Wait for the answer of a call."""
    try:
        with raising_ours():
            return await call
    except asyncio.CancelledError:
        if being_cancelled():
            raise
        raise CallCancelledError("the client was closed while the call ran") from None


def being_cancelled() -> bool:
    """Tell whether it is this task that is cancelled: grpc raises CancelledError also for a call that is."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
