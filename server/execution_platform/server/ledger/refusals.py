"""What a chat is told for which a budget has no room: which budget, how much is left, and when it begins anew."""

from __future__ import annotations

from datetime import UTC, datetime

from execution_platform.server.errors import BudgetExceededError
from execution_platform.server.ledger.alerts.wording import dollars
from execution_platform.server.ledger.facts import Demand
from execution_platform.server.ledger.windowed import OpenWindow

__all__ = ["refusal_of", "unpriced_refusal_of"]


def refusal_of(window: OpenWindow, demand: Demand, now: int) -> BudgetExceededError:
    """Return the refusal of a demand that does not fit into what is left.

    Args:
        window: of the budget.
        demand: of the whole attempt.
        now: microseconds since the epoch.
    """
    terms = window.terms
    lacks = [*_money(window, demand), *_tokens(window, demand)]
    too_large = (terms.limit_nanos is not None and (demand.nanos or 0) > terms.limit_nanos) or (
        terms.max_tokens is not None and demand.tokens > terms.max_tokens
    )
    end = datetime.fromtimestamp(window.ends_at // 1_000_000, UTC).isoformat().replace("+00:00", "Z")
    hint = "it is more than the whole budget" if too_large else f"it begins anew at {end}"
    return BudgetExceededError(
        f"budget {_name(window)}: {' and '.join(lacks)}; {hint}",
        budget_id=terms.id,
        retry_after=None if too_large else max(window.ends_at - now, 0) / 1_000_000,
    )


def unpriced_refusal_of(window: OpenWindow, provider: str, model: str) -> BudgetExceededError:
    """Return the refusal of a chat whose price nobody knows, by a budget of money."""
    return BudgetExceededError(
        f"budget {_name(window)}: no price is known of {provider}/{model}; give it one under `prices:` in the "
        "configuration, or set the budget's `unpriced` to ALLOW",
        budget_id=window.terms.id,
    )


def _name(window: OpenWindow) -> str:
    budget = window.terms.budget
    return f"{budget.id!r} ({budget.display_name})" if budget.display_name else repr(budget.id)


def _money(window: OpenWindow, demand: Demand) -> list[str]:
    limit = window.terms.limit_nanos
    if limit is None or not demand.nanos:
        return []
    held = f", {dollars(window.reserved_nanos)} held for chats that run" if window.reserved_nanos else ""
    left = dollars(max(limit - window.spent_nanos - window.reserved_nanos, 0))
    return [f"{left} of {dollars(limit)} left{held}, and this may cost up to {dollars(demand.nanos)}"]


def _tokens(window: OpenWindow, demand: Demand) -> list[str]:
    limit = window.terms.max_tokens
    if limit is None or not demand.tokens:
        return []
    held = f", {window.reserved_tokens:,} held for chats that run" if window.reserved_tokens else ""
    left = max(limit - window.spent_tokens - window.reserved_tokens, 0)
    return [f"{left:,} of {limit:,} tokens left{held}, and this may take up to {demand.tokens:,}"]
