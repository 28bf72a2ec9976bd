"""Has the ledger keep account of chats: once for each, before its caller hears of the end."""

from __future__ import annotations

import asyncio

from execution_platform.server.chat.accounts import Account, Ending
from execution_platform.server.chat.sequencing import ChatClock
from execution_platform.server.errors import LedgerUnavailableError
from execution_platform.server.ledger.ledger import Ledger
from execution_platform.server.limits.limits import Limits
from execution_platform.server.metrics import Metrics
from execution_platform.server.resilience.journal import Journal
from execution_platform.server.routing.plan import Plan
from execution_platform.server.telemetry import Logger
from execution_platform.v1 import chat_pb2, cost_pb2, error_pb2

__all__ = ["Keeping"]

#: Seconds that the record of a chat that failed may take; the ledger goes on with it behind that.
_FAILED_SECONDS = 10.0

#: The same where nobody waits: it only keeps the chat's place, so that callers who come and go do not pile up records.
_GONE_SECONDS = 2.0


class Keeping:
    """Keeps account of chats. Without a ledger it does nothing.

    A chat of which no provider was reached leaves no record: it used nothing.

    Args:
        ledger: keeps the records; None: there is none.
        limits: know whose a caller is, and what usages cost.
        metrics: count what was spent.
        logger: is told of records that are not durable yet.
    """

    def __init__(self, ledger: Ledger | None, limits: Limits, metrics: Metrics, logger: Logger) -> None:
        self._ledger = ledger
        self._limits = limits
        self._metrics = metrics
        self._logger = logger

    def admit(self) -> None:
        """Let a chat begin. Raises LedgerUnavailableError."""
        if self._ledger is not None:
            self._ledger.admit()

    def open(self, plan: Plan, journal: Journal, clock: ChatClock, request_id: str, caller: str) -> Account | None:
        """Return the account of a chat that is about to ask somebody; None: nobody keeps any."""
        if self._ledger is None:
            return None
        return Account(plan, journal, clock, request_id, caller, self._limits)

    async def finished(self, account: Account, reason: chat_pb2.FinishReason.ValueType) -> None:
        """Keep what a chat has used that is complete. Once more: wait again for the same.

        Raises:
            LedgerUnavailableError: it cannot be made durable. The caller must not take it for kept, nor ask again.
        """
        try:
            await self._keep(account, Ending(cost_pb2.USAGE_OUTCOME_FINISHED, finish_reason=reason))
        except LedgerUnavailableError as error:
            error.told = error.retryable = False
            raise

    async def failed(self, account: Account | None, reason: error_pb2.ErrorReason.ValueType) -> None:
        """Keep what a chat has used that failed."""
        if account is not None and account.record is None:
            await self._kept(account, Ending(cost_pb2.USAGE_OUTCOME_FAILED, error_reason=reason), _FAILED_SECONDS)

    async def gone(self, account: Account | None) -> None:
        """Keep what a chat has used whose caller went away, unless it had ended before."""
        if account is not None and account.record is None:
            await self._kept(account, Ending(cost_pb2.USAGE_OUTCOME_CANCELLED), _GONE_SECONDS)

    async def _kept(self, account: Account, ending: Ending, seconds: float) -> None:
        """Keep a chat's record within a time, or leave it to the ledger, which has it in hand."""
        try:
            async with asyncio.timeout(seconds):
                await self._keep(account, ending)
        except (LedgerUnavailableError, TimeoutError) as error:
            reason = str(error) or "it takes too long"
            self._logger.warning("record_not_durable", record=account.facts.id, reason=reason)

    async def _keep(self, account: Account, ending: Ending) -> None:
        if self._ledger is None or account.empty:
            return
        record = account.record
        if record is None:
            record = account.close(ending)
            if self._metrics.counting:
                account.count(self._metrics)
        await self._ledger.settle(account.facts, record)
