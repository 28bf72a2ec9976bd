"""The store of budgets: made, read, changed and deleted, while chats run.

All functions take a Connection within a transaction, which writes unless a function only reads. A change holds the set
of budgets alone (:mod:`.budget_set`), so no chat is settled or reserves meanwhile, and afterwards all know of it. What
a budget counts is reckoned anew where its scope, period or time zone is another one: from the ledger's entries and from
what running chats hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy import Row as SqlRow

from execution_platform.adapters.errors import InvalidRequestError, NotFoundError
from execution_platform.server.errors import AlreadyExistsError, EtagMismatchError
from execution_platform.server.ledger.budgets.budget_checks import PERSONA_PREFIX, checked
from execution_platform.server.ledger.budgets.budget_set import lock_alone, raise_version
from execution_platform.server.ledger.budgets.budget_status import status_of, timestamp
from execution_platform.server.ledger.budgets.counting import add_windows, count_anew, forget
from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.store.statements import sum_of_scope
from execution_platform.server.ledger.store.tables import budget_windows, budgets
from execution_platform.v1 import cost_pb2

__all__ = [
    "Clock",
    "create_budget",
    "delete_budget",
    "get_budget",
    "put_budgets",
    "remove_budgets",
    "statuses_of",
    "stored_budgets",
    "update_budget",
]

#: Microseconds since the epoch.
Clock = Callable[[], int]


def create_budget(connection: Connection, budget: cost_pb2.Budget, clock: Clock) -> cost_pb2.BudgetStatus:
    """Make a budget. It counts what its window has seen before.

    Raises:
        InvalidRequestError: it cannot be so.
        AlreadyExistsError: there is one of that id.
    """
    made = checked(budget)
    if made.id.startswith(PERSONA_PREFIX):
        raise InvalidRequestError(
            f"budget.id: ids that begin with {PERSONA_PREFIX!r} are those of personas' limits", field="budget.id"
        )
    made.id = made.id or mint_id()
    lock_alone(connection)
    if _find(connection, made.id) is not None:
        raise AlreadyExistsError(f"budget.id: there is a budget {made.id!r} already", field="budget.id")
    now = clock()
    put_budgets(connection, [(made, None)], now)
    raise_version(connection)
    return _status(connection, made, now)


def get_budget(connection: Connection, budget_id: str, now: int) -> cost_pb2.BudgetStatus:
    """Return a budget and how much of it is left. Raises NotFoundError."""
    return _status(connection, _found(connection, budget_id, "id"), now)


def update_budget(
    connection: Connection, budget: cost_pb2.Budget, clock: Clock, configured: Callable[[str], str]
) -> cost_pb2.BudgetStatus:
    """Change a budget.

    Args:
        connection: within a transaction that writes.
        budget: the whole budget as it shall be, with the etag that was read.
        clock: tells the time.
        configured: says of a configured budget's id where it is changed.

    Raises:
        InvalidRequestError: it cannot be so, or it is changed in the configuration only.
        NotFoundError: there is none of that id.
        EtagMismatchError: it has been changed meanwhile.
    """
    if not budget.id:
        raise InvalidRequestError("budget.id: must name the budget to change", field="budget.id")
    if not budget.etag:
        raise InvalidRequestError("budget.etag: hand back the etag that was read", field="budget.etag")
    made = checked(budget)
    lock_alone(connection)
    before = _found(connection, budget.id, "budget.id")
    _check_change(before, budget.etag, "budget.etag", configured)
    now = clock()
    put_budgets(connection, [(made, before)], now)
    raise_version(connection)
    return _status(connection, made, now)


def delete_budget(connection: Connection, budget_id: str, etag: str, configured: Callable[[str], str]) -> None:
    """Delete a budget, with its windows and what chats hold of it. The ledger's records stay.

    Args:
        connection: within a transaction that writes.
        budget_id: which.
        etag: that was read; empty: whatever it is.
        configured: says of a configured budget's id where it is changed.

    Raises:
        InvalidRequestError: it is changed in the configuration only.
        NotFoundError: there is none of that id.
        EtagMismatchError: it has been changed meanwhile.
    """
    lock_alone(connection)
    before = _found(connection, budget_id, "id")
    _check_change(before, etag or before.etag, "etag", configured)
    remove_budgets(connection, [budget_id])
    raise_version(connection)


def stored_budgets(connection: Connection) -> list[cost_pb2.Budget]:
    """Return all budgets, by id."""
    # Sorted here: databases order letters each in their own way.
    found = [cost_pb2.Budget.FromString(data) for data in connection.scalars(select(budgets.c.data))]
    return sorted(found, key=lambda each: each.id)


def statuses_of(connection: Connection, wanted: Iterable[cost_pb2.Budget], now: int) -> list[cost_pb2.BudgetStatus]:
    """Return how much is left of budgets, in their order."""
    terms = [BudgetTerms.of(each) for each in wanted]
    keys = {each.id: each.window(now) for each in terms}
    starts = sorted({start for start, _ in keys.values()})
    windows = budget_windows.c
    rows = connection.execute(
        select(budget_windows).where(windows.budget_id.in_(list(keys)), windows.started_at.in_(starts))
    )
    found = {(row.budget_id, row.started_at): row for row in rows}
    return [_told(connection, each, keys[each.id], found.get((each.id, keys[each.id][0]))) for each in terms]


# --- what a change does, under the lock


def put_budgets(
    connection: Connection, changes: Iterable[tuple[cost_pb2.Budget, cost_pb2.Budget | None]], now: int
) -> None:
    """Store budgets, whose lock is held, and reckon anew what they count where that is another thing.

    Args:
        connection: within a transaction that holds the set of budgets alone.
        changes: each budget as it shall be, to which what the server tells is added, and as it is; None: there is none.
        now: microseconds since the epoch.
    """
    anew: list[BudgetTerms] = []
    kept: list[BudgetTerms] = []
    for budget, before in changes:
        _store(connection, budget, before, now)
        same = before is not None and _counts(before) == _counts(budget)
        (kept if same else anew).append(BudgetTerms.of(budget))
        if before is not None and same and _alerts(before) != _alerts(budget):
            # What was told of the old limit says nothing of this one.
            forgotten = {"alerted_percent": 0, "alerted_refusal": False}
            connection.execute(update(budget_windows).where(budget_windows.c.budget_id == budget.id).values(forgotten))
    count_anew(connection, anew, now)
    if kept:
        # From the time of this change on, a window without a row holds nothing.
        add_windows(connection, kept, now)


def remove_budgets(connection: Connection, ids: Sequence[str]) -> None:
    """Take budgets out, whose lock is held. Chats that hold a part of one go on, and give back only the rest."""
    forget(connection, ids)
    connection.execute(delete(budgets).where(budgets.c.id == bindparam("which")), [{"which": each} for each in ids])


def _store(connection: Connection, budget: cost_pb2.Budget, before: cost_pb2.Budget | None, now: int) -> None:
    budget.etag = mint_id(now // 1000)
    # Later than the change before, also if the clock was put back.
    budget.update_time.CopyFrom(timestamp(max(now, before.update_time.ToMicroseconds() + 1 if before else now)))
    budget.create_time.CopyFrom(budget.update_time if before is None else before.create_time)
    row = {
        "etag": budget.etag,
        "created_at": budget.create_time.ToMicroseconds(),
        "updated_at": budget.update_time.ToMicroseconds(),
        "configured": budget.configured,
        "data": budget.SerializeToString(deterministic=True),
    }
    if before is None:
        connection.execute(insert(budgets), {"id": budget.id, **row})
    else:
        connection.execute(update(budgets).where(budgets.c.id == budget.id).values(row))


def _counts(budget: cost_pb2.Budget) -> tuple[bytes, int, str]:
    """Return what decides which entries count in which window."""
    return budget.scope.SerializeToString(deterministic=True), budget.period, budget.time_zone or "UTC"


def _alerts(budget: cost_pb2.Budget) -> tuple[int, int, tuple[int, ...]]:
    return budget.limit.nanos, budget.max_tokens, tuple(budget.alert_percents)


# --- reading


def _find(connection: Connection, budget_id: str) -> cost_pb2.Budget | None:
    data = connection.scalar(select(budgets.c.data).where(budgets.c.id == budget_id))
    return None if data is None else cost_pb2.Budget.FromString(data)


def _found(connection: Connection, budget_id: str, field: str) -> cost_pb2.Budget:
    if not budget_id:
        raise InvalidRequestError(f"{field}: must name a budget", field=field)
    found = _find(connection, budget_id)
    if found is None:
        raise NotFoundError(f"{field}: there is no budget of this id", field=field)
    return found


def _check_change(before: cost_pb2.Budget, etag: str, field: str, configured: Callable[[str], str]) -> None:
    if before.configured:
        raise InvalidRequestError(
            f"budget {before.id!r} is of the server's configuration: change it {configured(before.id)}"
        )
    if etag != before.etag:
        raise EtagMismatchError(
            f"{field}: budget {before.id!r} has been changed since it was read; read it again", field=field
        )


def _status(connection: Connection, budget: cost_pb2.Budget, now: int) -> cost_pb2.BudgetStatus:
    return statuses_of(connection, [budget], now)[0]


def _told(
    connection: Connection, terms: BudgetTerms, window: tuple[int, int], row: SqlRow[tuple[object, ...]] | None
) -> cost_pb2.BudgetStatus:
    if row is not None:
        spent, reserved = (row.spent_nanos, row.spent_tokens), (row.reserved_nanos, row.reserved_tokens)
        return status_of(terms, window, spent=spent, reserved=reserved, unpriced=row.unpriced)
    if window[0] >= terms.counted_from:
        return status_of(terms, window)
    nanos, tokens, unpriced = sum_of_scope(connection, terms.budget.scope, *window)
    return status_of(terms, window, spent=(nanos, tokens), unpriced=unpriced)
