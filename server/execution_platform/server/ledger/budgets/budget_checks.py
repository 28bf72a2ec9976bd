"""What a budget must be like before it is stored."""

from __future__ import annotations

import re
from typing import Final

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.budgets.windows import UnknownTimeZoneError, time_zone
from execution_platform.v1 import cost_pb2

__all__ = ["PERSONA_PREFIX", "checked", "is_budget_id"]

#: Ids that begin so are those of personas' limits.
PERSONA_PREFIX: Final = "persona."

_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_MOST_NAME: Final = 128
#: As wide as the columns that a scope is compared with.
_MOST_SCOPE: Final = 512
_MOST_LABELS: Final = 32
_MOST_LABEL: Final = 128
_MOST_PERCENT: Final = 1_000
_MOST_PERCENTS: Final = 16
#: What fits into a column, with room for what is spent beyond it.
_MOST_AMOUNT: Final = 10**18

_NAMES: Final = ("tenant", "project", "persona", "end_user_id", "provider", "model")


def is_budget_id(text: str) -> bool:
    """Return whether a text may be the id of a budget."""
    return _ID.fullmatch(text) is not None


def checked(budget: cost_pb2.Budget) -> cost_pb2.Budget:
    """Return a budget as it is stored: what was left out is filled in, and what only the server tells is left out.

    Args:
        budget: as a caller gave it; its id, if it has one, is checked as well.

    Raises:
        InvalidRequestError: something of it cannot be. Names the field and what to write.
    """
    if budget.id and not is_budget_id(budget.id):
        raise _wrong("id", "must be 1 to 128 letters, digits, '_', '-' or '.'")
    if len(budget.display_name) > _MOST_NAME or not _is_line(budget.display_name):
        raise _wrong("display_name", f"must be one line of at most {_MOST_NAME} characters")
    _check_scope(budget.scope)
    _check_amounts(budget)
    _check_time(budget)
    made = cost_pb2.Budget()
    made.CopyFrom(budget)
    for name in ("etag", "create_time", "update_time", "configured"):
        made.ClearField(name)
    made.enforcement = budget.enforcement or cost_pb2.BUDGET_ENFORCEMENT_HARD
    del made.alert_percents[:]
    made.alert_percents.extend(_percents(budget))
    return made


def _check_scope(scope: cost_pb2.BudgetScope) -> None:
    for name in _NAMES:
        value = getattr(scope, name)
        if len(value) > _MOST_SCOPE or not _is_line(value):
            raise _wrong(f"scope.{name}", f"must be one line of at most {_MOST_SCOPE} characters")
    if len(scope.labels) > _MOST_LABELS:
        raise _wrong("scope.labels", f"must not have more than {_MOST_LABELS} entries")
    for key, value in scope.labels.items():
        if not key:
            raise _wrong("scope.labels", "a label must have a key")
        if max(len(key), len(value)) > _MOST_LABEL or not _is_line(key + value):
            raise _wrong("scope.labels", f"keys and values must be one line of at most {_MOST_LABEL} characters")


def _check_amounts(budget: cost_pb2.Budget) -> None:
    limit = budget.limit
    if budget.HasField("limit"):
        if limit.currency_code != "USD":
            raise _wrong("limit.currency_code", "must be USD: budgets are reckoned in US dollars")
        if not 0 < limit.nanos <= _MOST_AMOUNT:
            raise _wrong("limit.nanos", f"must be above 0 and at most {_MOST_AMOUNT:,} (1e-9 US dollars)")
    if not 0 <= budget.max_tokens <= _MOST_AMOUNT:
        raise _wrong("max_tokens", f"must be 0, which is no limit, or at most {_MOST_AMOUNT:,}")
    if not budget.HasField("limit") and not budget.max_tokens:
        raise _wrong("limit", "give limit (an amount in USD) or max_tokens, or both")
    if budget.enforcement not in cost_pb2.BudgetEnforcement.values():
        raise _wrong("enforcement", "must be HARD or SOFT")
    if budget.unpriced not in cost_pb2.UnpricedPolicy.values():
        raise _wrong("unpriced", "must be ALLOW or REFUSE")


def _check_time(budget: cost_pb2.Budget) -> None:
    if budget.period == cost_pb2.BUDGET_PERIOD_UNSPECIFIED or budget.period not in cost_pb2.BudgetPeriod.values():
        raise _wrong("period", "must be MINUTE, HOUR, DAY, WEEK or MONTH")
    try:
        time_zone(budget.time_zone)
    except UnknownTimeZoneError as error:
        raise _wrong(
            "time_zone", "must be the IANA name of a time zone, such as Europe/Berlin, or empty for UTC"
        ) from (error)


def _percents(budget: cost_pb2.Budget) -> list[int]:
    percents = sorted(set(budget.alert_percents))
    if percents and not 0 < percents[0] <= percents[-1] <= _MOST_PERCENT:
        raise _wrong("alert_percents", f"must be above 0 and at most {_MOST_PERCENT}")
    if len(percents) > _MOST_PERCENTS:
        raise _wrong("alert_percents", f"must not be more than {_MOST_PERCENTS}")
    return percents


def _is_line(text: str) -> bool:
    return "\0" not in text and "\n" not in text and "\r" not in text


def _wrong(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"budget.{field}: {message}", field=f"budget.{field}")
