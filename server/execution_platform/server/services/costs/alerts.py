"""WatchBudgetAlerts: alerts as they are raised."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncGenerator

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.errors import ServerOverloadedError
from execution_platform.server.ledger.alerts.feed import Feed
from execution_platform.v1 import cost_pb2

__all__ = ["WatchedAlerts"]

_ID = re.compile(r"[0-9a-f]{32}")


class WatchedAlerts:
    """The part of CostService that tells alerts.

    Args:
        feed: of all alerts.
        heartbeat: seconds without an alert after which an empty answer tells that the stream lives.
        most: streams that watch at once; each costs next to nothing.
    """

    def __init__(self, feed: Feed, heartbeat: float, *, most: int = 1_000) -> None:
        self._feed = feed
        self._most = most
        self._heartbeat = heartbeat

    async def watch(
        self, request: cost_pb2.WatchBudgetAlertsRequest
    ) -> AsyncGenerator[cost_pb2.WatchBudgetAlertsResponse, None]:
        """Yield alerts as they are raised, until the server drains; an empty answer where there was none for a while.

        Raises:
            InvalidRequestError: `after_id` is no id of an alert.
            LedgerUnavailableError: the ledger cannot be read.
            ServerOverloadedError: too many watch already.
        """
        if request.after_id and not _ID.fullmatch(request.after_id):
            raise InvalidRequestError("after_id is not the id of an alert", field="after_id")
        if self._feed.watching >= self._most:
            raise ServerOverloadedError(f"{self._most} streams watch alerts already; try again later", retry_after=10.0)
        kinds = frozenset(request.kinds)
        async with contextlib.aclosing(self._feed.watch(request.after_id, self._heartbeat)) as found:
            async for alerts in found:
                wanted = [alert for alert in alerts if _is_wanted(alert, kinds, request.tenant)]
                if wanted or not alerts:
                    yield cost_pb2.WatchBudgetAlertsResponse(alerts=wanted)


def _is_wanted(alert: cost_pb2.Alert, kinds: frozenset[int], tenant: str) -> bool:
    return (not kinds or alert.kind in kinds) and (not tenant or alert.tenant == tenant)
