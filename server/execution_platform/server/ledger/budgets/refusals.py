"""What a chat is told for which a budget has no room.

Which budget, what it counts, how much is left and would be needed, in its unit, and when it begins anew, or what to
change where that does not help.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from execution_platform.server.errors import BudgetExceededError
from execution_platform.server.ledger.alerts.wording import dollars
from execution_platform.server.ledger.budgets.budget_status import scope_in_words
from execution_platform.server.ledger.budgets.windowed import OpenWindow
from execution_platform.server.ledger.facts import Demand

__all__ = ["only_held", "refusal_of", "unpriced_refusal_of"]

#: Characters of a scope that are told: a message is at most 1 KiB.
_MOST_SCOPE: Final = 200

#: Seconds after which some of the chats that hold the rest have probably ended.
_SOON: Final = 2.0


def refusal_of(window: OpenWindow, demand: Demand, now: int) -> BudgetExceededError:
    """Return the refusal of a demand that does not fit into what is left.

    Args:
        window: of the budget.
        demand: of the whole attempt.
        now: microseconds since the epoch.
    """
    terms = window.terms
    lacks = [*_money(window, demand), *_tokens(window, demand)]
    never = _beyond(demand.nanos, terms.limit_nanos) or _beyond(demand.tokens, terms.max_tokens)
    wait: float | None = max(window.ends_at - now, 0) / 1_000_000
    end = datetime.fromtimestamp(window.ends_at // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    anew = f"it begins anew at {end}, in {-(-max(window.ends_at - now, 0) // 1_000_000)} s"
    if never:
        wait = None
        hint = (
            "that is more than the whole budget; lower sampling.max_output_tokens, shorten the prompt, or raise the "
            f"budget ({anew})"
        )
    elif only_held(window, demand):
        wait = min(wait or 0.0, _SOON)
        hint = f"there is room when the chats that run have ended, unless they use it up ({anew})"
    else:
        hint = f"{anew}; what takes less fits before: lower sampling.max_output_tokens"
    return BudgetExceededError(
        f"budget {_name(window)}: {' and '.join(lacks) or 'it is used up'}; {hint}",
        budget_id=terms.id,
        retry_after=wait,
    )


def only_held(window: OpenWindow, demand: Demand) -> bool:
    """Return whether a demand would fit if chats that run held nothing: then it is worth to come again soon."""
    terms = window.terms
    return not (
        _beyond(demand.nanos, _left(terms.limit_nanos, window.spent_nanos))
        or _beyond(demand.tokens, _left(terms.max_tokens, window.spent_tokens))
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
    name = f"{budget.display_name}, " if budget.display_name else ""
    scope = scope_in_words(budget.scope)
    return f"{budget.id!r} ({name}{scope[:_MOST_SCOPE]}{'...' if len(scope) > _MOST_SCOPE else ''})"


def _left(limit: int | None, spent: int) -> int | None:
    return None if limit is None else max(limit - spent, 0)


def _beyond(wanted: int | None, limit: int | None) -> bool:
    return wanted is not None and limit is not None and wanted > limit


def _money(window: OpenWindow, demand: Demand) -> Iterator[str]:
    limit = window.terms.limit_nanos
    left = 0 if limit is None else max(limit - window.spent_nanos - window.reserved_nanos, 0)
    if limit is not None and demand.nanos and demand.nanos > left:
        held = f" ({dollars(window.reserved_nanos)} held for chats that run)" if window.reserved_nanos else ""
        yield f"{dollars(left)} of {dollars(limit)} left{held}, this chat may cost up to {dollars(demand.nanos)}"


def _tokens(window: OpenWindow, demand: Demand) -> Iterator[str]:
    limit = window.terms.max_tokens
    left = 0 if limit is None else max(limit - window.spent_tokens - window.reserved_tokens, 0)
    if limit is not None and demand.tokens > left:
        held = f" ({window.reserved_tokens:,} held for chats that run)" if window.reserved_tokens else ""
        yield f"{left:,} of {limit:,} tokens left{held}, this chat may take up to {demand.tokens:,}"
