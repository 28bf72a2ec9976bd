"""A chat for which a budget has no room is told all that it needs to know."""

from __future__ import annotations

from typing import Any

import pytest
from tests.server.ledger.chats import DOLLAR, money

from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.server.ledger.budgets.refusals import refusal_of, unpriced_refusal_of
from execution_platform.server.ledger.budgets.windowed import OpenWindow
from execution_platform.server.ledger.facts import Demand
from execution_platform.v1 import cost_pb2

#: 2026-11-21T12:00:00Z, in the middle of a day.
NOON = 1_795_262_400 * 1_000_000
DAY = cost_pb2.BUDGET_PERIOD_DAY


def window(*, spent: tuple[int, int] = (0, 0), reserved: tuple[int, int] = (0, 0), **fields: Any) -> OpenWindow:
    """The present window of a budget."""
    terms = BudgetTerms.of(cost_pb2.Budget(id="acme-day", period=DAY, **fields))
    return OpenWindow(terms, *terms.window(NOON), *spent, *reserved)


def test_a_refusal_names_the_budget_and_what_is_left() -> None:
    """Budget, scope, what is left, what is held, what the chat needs and when it fits are told."""
    scope = cost_pb2.BudgetScope(tenant="acme", labels={"team": "red"})
    full = window(
        spent=(4 * DOLLAR + 1, 0),
        reserved=(DOLLAR // 2 - 1, 0),
        limit=money(5 * DOLLAR),
        scope=scope,
        display_name="ACME a day",
    )
    error = refusal_of(full, Demand(DOLLAR, 10), NOON)
    assert error.message == (
        "budget 'acme-day' (ACME a day, tenant acme, label team=red): 0.50 USD of 5.00 USD left (0.499999999 USD "
        "held for chats that run), this chat may cost up to 1.00 USD; it begins anew at 2026-11-22T00:00:00Z, in "
        "43200 s; what takes less fits before: lower sampling.max_output_tokens"
    )
    assert (error.retry_after, error.retryable, error.scope) == (43_200.0, True, "budget:acme-day")


def test_what_only_runs_in_the_way_is_waited_for() -> None:
    """A chat that would fit if those that run held nothing is told to come again soon, not in the next window."""
    full = window(spent=(DOLLAR, 0), reserved=(4 * DOLLAR, 0), limit=money(5 * DOLLAR))
    error = refusal_of(full, Demand(DOLLAR, 10), NOON)
    assert "there is room when the chats that run have ended" in error.message
    assert (error.retry_after, error.retryable) == (2.0, True)


def test_only_what_lacks_is_told() -> None:
    """A budget of money and tokens tells of the one that has no room."""
    full = window(spent=(0, 900), limit=money(DOLLAR), max_tokens=1_000)
    error = refusal_of(full, Demand(5, 101), NOON)
    assert error.message.startswith(
        "budget 'acme-day' (all chats): 100 of 1,000 tokens left, this chat may take up to 101; it begins anew at "
    )


@pytest.mark.parametrize(
    "fields", [{"limit": money(DOLLAR)}, {"max_tokens": 100}, {"limit": money(DOLLAR), "max_tokens": 10**9}]
)
def test_what_can_never_fit_is_told_what_to_lower(fields: dict[str, Any]) -> None:
    """A chat that is larger than the whole budget is told to be smaller, and not to come again."""
    error = refusal_of(window(**fields), Demand(DOLLAR + 1, 101), NOON)
    assert error.message.endswith(
        "that is more than the whole budget; lower sampling.max_output_tokens, shorten the prompt, or raise the budget "
        "(it begins anew at 2026-11-22T00:00:00Z, in 43200 s)"
    )
    assert (error.retry_after, error.retryable) == (None, False)


def test_what_has_no_price_is_told_where_to_give_one() -> None:
    """A chat without a known price is told which model it is, and both ways out."""
    error = unpriced_refusal_of(window(limit=money(1)), "openai", "gpt-new")
    assert "no price is known of openai/gpt-new" in error.message
    assert "`prices:`" in error.message
    assert "ALLOW" in error.message
    assert error.retry_after is None


def test_a_refusal_fits_into_a_status() -> None:
    """However much a scope says, a message stays below the contract's KiB."""
    scope = cost_pb2.BudgetScope(labels={f"{n:0128}": "x" * 128 for n in range(32)})
    error = refusal_of(window(limit=money(1), scope=scope, display_name="x" * 128), Demand(1, 0), NOON)
    assert len(error.message.encode()) < 1_000
