"""All that this server knows of limits, in one hand."""

from __future__ import annotations

from dataclasses import dataclass

from execution_platform.server.limits.estimates import Estimates
from execution_platform.server.limits.limiter import Limiter
from execution_platform.server.limits.scopes import Scopes
from execution_platform.server.limits.throttles import Throttles

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What is made once and handed down.

    Attributes:
        scopes: whose limits there are.
        limiter: holds them while chats run.
        estimates: of what a chat will use.
        throttles: what providers say about theirs.
    """

    scopes: Scopes
    limiter: Limiter
    estimates: Estimates
    throttles: Throttles
