"""What whoever writes the ledger shows of its transactions, and to whom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sqlalchemy import Connection

from execution_platform.server.ledger.facts import Facts
from execution_platform.v1 import cost_pb2

__all__ = ["Observer", "Outage", "Refusal", "Seen", "Window"]


class Window(Protocol):
    """A window of a budget, as the transaction leaves it. Amounts in nanos (1e-9 US dollars), times in microseconds.

    An observer changes `alerted_percent` and `alerted_refusal`, which are written with the rest of the window.
    """

    started_at: int
    ends_at: int
    spent_nanos: int
    spent_tokens: int
    reserved_nanos: int
    reserved_tokens: int
    unpriced: int
    alerted_percent: int
    alerted_refusal: bool

    @property
    def budget(self) -> cost_pb2.Budget:
        """The budget, as the contract tells it."""
        ...


@dataclass(frozen=True, slots=True)
class Refusal:
    """A chat that a budget had no room for.

    Attributes:
        window: of the budget.
        facts: of the chat.
        provider: who was to be asked, or was answering.
        model: its model.
        running: True: it was answering, and ended at a chunk's edge.
    """

    window: Window
    facts: Facts
    provider: str
    model: str
    running: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """What one transaction does.

    Attributes:
        records: that it adds; none that were there before.
        windows: that it changes what was spent in.
        refusals: that it decides.
    """

    records: Sequence[cost_pb2.UsageRecord] = ()
    windows: Sequence[Window] = ()
    refusals: Sequence[Refusal] = ()


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the ledger could not be written, in microseconds since the epoch.

    Attributes:
        began: when this process noticed it.
        ended: when it could be written again.
        spooled: records that were kept in the spool file meanwhile.
        refused: chats that were refused because of it.
    """

    began: int
    ended: int
    spooled: int = 0
    refused: int = 0


class Observer(Protocol):
    """Sees what is written."""

    def observe(self, connection: Connection, seen: Seen) -> None:
        """Raise what is to be raised. Never fails but for a lost connection.

        To be called once in each transaction, after all decisions: the windows are locked by then, and written
        afterwards. Nothing more may be locked later in the transaction.
        """
        ...

    def outage(self, connection: Connection, outage: Outage) -> None:
        """Raise that the ledger was away. To be called once it can be written again, in a transaction."""
        ...
