"""How much of a budget is left, as the contract tells it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.v1 import common_pb2, cost_pb2

__all__ = ["reached_percent", "scope_in_words", "status_of", "timestamp"]

#: Percents at which a budget alerts where it names none. One of minutes then has none: it would alert all the time.
_PERCENTS: Final = (50, 80, 100)


def status_of(
    terms: BudgetTerms,
    window: tuple[int, int],
    *,
    spent: tuple[int, int] = (0, 0),
    reserved: tuple[int, int] = (0, 0),
    unpriced: int = 0,
) -> cost_pb2.BudgetStatus:
    """Return what is told of a budget.

    Args:
        terms: of the budget.
        window: beginning and end of its window, in microseconds since the epoch.
        spent: in it: nanos (1e-9 US dollars) and tokens.
        reserved: for chats that run, the same.
        unpriced: attempts in it without a known price.
    """
    status = cost_pb2.BudgetStatus(
        budget=terms.budget,
        window=common_pb2.TimeRange(start_time=timestamp(window[0]), end_time=timestamp(window[1])),
        spent=_dollars(spent[0]),
        reserved=_dollars(reserved[0]),
        spent_tokens=spent[1],
        reserved_tokens=reserved[1],
        reached_percent=reached_percent(terms.budget, *spent),
        unpriced=unpriced,
    )
    if terms.limit_nanos is not None:
        status.remaining.CopyFrom(_dollars(max(terms.limit_nanos - spent[0] - reserved[0], 0)))
    if terms.max_tokens is not None:
        status.remaining_tokens = max(terms.max_tokens - spent[1] - reserved[1], 0)
    return status


def reached_percent(budget: cost_pb2.Budget, nanos: int, tokens: int) -> int:
    """Return the highest of a budget's percents that has been reached; 0: none.

    Args:
        budget: its limits and percents count.
        nanos: spent, in 1e-9 US dollars.
        tokens: used.
    """
    percents: Sequence[int] = budget.alert_percents
    if not percents:
        percents = () if budget.period == cost_pb2.BUDGET_PERIOD_MINUTE else _PERCENTS
    limits = ((nanos, budget.limit.nanos), (tokens, budget.max_tokens))
    share = max((spent * 100 // limit for spent, limit in limits if limit > 0), default=0)
    return max((percent for percent in percents if percent <= share), default=0)


def scope_in_words(scope: cost_pb2.BudgetScope) -> str:
    """Return for people what a budget counts, such as ``tenant acme, label team=search``."""
    names = ("tenant", "project", "persona", "end_user_id", "provider", "model")
    words = [f"{name} {value}" for name in names if (value := getattr(scope, name))]
    words += [f"label {key}={scope.labels[key]}" for key in sorted(scope.labels)]
    return ", ".join(words) or "all chats"


def timestamp(micros: int) -> Timestamp:
    """Return a moment, given in microseconds since the epoch."""
    made = Timestamp()
    made.FromMicroseconds(micros)
    return made


def _dollars(nanos: int) -> common_pb2.Money:
    return common_pb2.Money(currency_code="USD", nanos=nanos)
