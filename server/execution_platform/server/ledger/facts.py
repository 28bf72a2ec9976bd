"""What a chat tells the ledger: whose it is, and what it may spend."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Demand", "Facts", "mint_id"]


def mint_id(milliseconds: int | None = None) -> str:
    """Return a new identifier, the newer the later in alphabetical order: a UUID of version 7 in 32 hex digits.

    Args:
        milliseconds: since the epoch; None: now.
    """
    now = time.time_ns() // 1_000_000 if milliseconds is None else milliseconds
    random = int.from_bytes(os.urandom(10), "big")
    return f"{(now << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0x2 << 62 | random & (1 << 62) - 1):032x}"


@dataclass(frozen=True, slots=True)
class Facts:
    """Whose a chat is. Budgets are chosen by it, and its record says it.

    Attributes:
        id: of the chat's record, from :func:`mint_id`. One for each run of a request.
        request_id: of the request.
        started: when it arrived, in microseconds since the epoch. It counts for the budgets' windows of this time.
        tenant: who pays.
        project: of the credential; empty: none.
        persona: its name; empty: none decided.
        end_user_id: as the request named it; empty: none.
        session_id: as the request named it; empty: none.
        labels: the request's and its persona's.
    """

    id: str
    request_id: str
    started: int
    tenant: str = "default"
    project: str = ""
    persona: str = ""
    end_user_id: str = ""
    session_id: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Demand:
    """What an attempt may spend.

    Attributes:
        nanos: in 1e-9 US dollars; None: no price is known.
        tokens: of prompt and answer.
    """

    nanos: int | None = 0
    tokens: int = 0
