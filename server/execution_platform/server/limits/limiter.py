"""Reserves what a chat will probably use, and corrects that once it is known."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from execution_platform.server.config.personas import LimitSettings

__all__ = ["Limiter", "Reservation", "Scope"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose limits: a kind (persona, tenant, key, provider), whose, and what may be used."""

    kind: str
    name: str
    limits: LimitSettings


@dataclass(slots=True)
class Reservation:
    """What one chat is believed to use; corrected when its limits are let go.

    Attributes:
        tokens: of prompt and answer.
        cost_nanos: in 1e-9 US dollars; 0: not known.
    """

    tokens: int
    cost_nanos: int = 0


class Limiter:
    """Holds limits while chats run."""

    @asynccontextmanager
    async def held(self, scopes: Sequence[Scope], reservation: Reservation) -> AsyncIterator[None]:  # noqa: ARG002
        """Hold what a chat uses of some limits, all or none.

        The reservation is changed by whoever learns better; what it holds at the end is what is counted.

        Raises:
            LimitReachedError: one of them is reached; nothing is held.
        """
        yield
