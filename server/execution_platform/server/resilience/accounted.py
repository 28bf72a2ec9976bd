"""What an attempt has used and costs, as far as anybody knows by now."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from execution_platform.server.limits.reckoning import reckoned
from execution_platform.server.resilience.journal import Entry
from execution_platform.v1 import chat_pb2, usage_pb2

__all__ = ["KnowsCosts", "account", "known_so_far"]


class KnowsCosts(Protocol):
    """Knows what usages cost."""

    def cost(
        self,
        provider: str,
        model: str,
        request: chat_pb2.ChatRequest,
        usage: usage_pb2.Usage,
        *,
        served: str = "",
        at: datetime | None = None,
    ) -> usage_pb2.Cost:
        """Return what a usage costs: with the model that really answered, where that is told, and at a time."""
        ...


def account(
    entry: Entry, request: chat_pb2.ChatRequest, prices: KnowsCosts, finished: chat_pb2.Finished | None = None
) -> None:
    """Write into an entry that has ended what it has used and costs. The first word counts.

    That is what its provider says, else what the usage that it told comes to. What it has not told of an answer that
    broke off is reckoned, and the prompt of an attempt that was given up or lost before it had any output. One whose
    provider told its failure before any output, and no usage, used nothing.

    Args:
        entry: of the attempt.
        request: that was made.
        prices: know what usages cost.
        finished: its end, if it came to that.
    """
    if entry.cost is not None:
        return
    if not entry.usage.items and not entry.charged:
        return
    entry.reckoned, entry.cost = known_so_far(entry, request, prices)
    if finished is not None and finished.HasField("cost"):
        entry.cost = finished.cost


def known_so_far(
    entry: Entry, request: chat_pb2.ChatRequest, prices: KnowsCosts
) -> tuple[usage_pb2.Usage | None, usage_pb2.Cost]:
    """Return what an attempt has used, None where its provider has told everything, and what that costs."""
    whole = entry.outcome == chat_pb2.ATTEMPT_OUTCOME_FINISHED and not entry.cut
    usage = reckoned(request, entry.usage, entry.streamed, whole=whole)
    leg = entry.leg
    asked, served = usage or entry.usage, entry.served_model
    return usage, prices.cost(leg.provider, leg.model, request, asked, served=served, at=entry.arrived)
