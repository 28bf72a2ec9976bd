"""Holds the limits of whoever asks while a chat runs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from execution_platform.server.limits.limits import Limits
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.resilience.limited import settle
from execution_platform.server.routing.plan import Plan
from execution_platform.v1 import chat_pb2

__all__ = ["spending"]


@asynccontextmanager
async def spending(limits: Limits, plan: Plan, caller: str, journal: Journal) -> AsyncIterator[None]:
    """Hold the limits of a chat's persona, tenant and credential; count what its attempts have used at the end.

    Args:
        limits: the server's.
        plan: of the chat.
        caller: SHA-256 digest of the caller's bearer token, in hex; empty: none.
        journal: of the chat.

    Raises:
        LimitReachedError: one of them is reached.
    """
    scopes = limits.scopes.of_chat(caller, plan.persona, plan.limits)
    try:
        if not scopes:
            yield
            return
        leg = plan.legs[0]
        reservation = limits.estimates.expected(leg.provider, leg.model, leg.request or plan.request)
        async with limits.limiter.held(scopes, reservation):
            try:
                yield
            finally:
                settle(reservation, journal.entries, plan.request, limits.estimates)
    finally:
        for entry in journal.entries:
            if entry.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED and not entry.cut:
                limits.estimates.learn(entry.leg.provider, entry.leg.model, entry.usage, entry.cost)
