"""What budgets count, reckoned anew: their windows from the ledger's entries, and what running chats hold of them.

For whoever changes budgets, and holds their set alone meanwhile: nobody reserves or settles, so this has to be quick.
All budgets of one change are reckoned together, so that a thousand of them cost one look through a window's entries.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection, delete, func, insert, select

from execution_platform.server.ledger.budgets.matching import Budgets, BudgetTerms
from execution_platform.server.ledger.budgets.windowed import WindowKey
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.store.statements import sum_of_scope, sums_by_names
from execution_platform.server.ledger.store.tables import budget_leases, budget_windows, open_chats, usage_entries
from execution_platform.server.ledger.writing.entries import Row, facts_of
from execution_platform.v1 import cost_pb2

__all__ = ["add_windows", "count_anew", "forget"]

#: Budgets that one statement is about: databases take no lists without an end.
_AT_ONCE = 500

Window = tuple[int, int]
Sums = tuple[int, int, int]


def count_anew(connection: Connection, changed: Sequence[BudgetTerms], now: int) -> None:
    """Replace the windows and leases of budgets by what they are to count now.

    Args:
        connection: within a transaction that holds the set of budgets alone.
        changed: the budgets.
        now: microseconds since the epoch.
    """
    if not changed:
        return
    leases = _leases(connection, changed)
    forget(connection, [each.id for each in changed])
    if leases:
        connection.execute(insert(budget_leases), leases)
    add_windows(connection, changed, now, leases)


def forget(connection: Connection, ids: Sequence[str]) -> None:
    """Take out the windows of budgets, and what chats hold of them."""
    for start in range(0, len(ids), _AT_ONCE):
        some = ids[start : start + _AT_ONCE]
        connection.execute(delete(budget_leases).where(budget_leases.c.budget_id.in_(some)))
        connection.execute(delete(budget_windows).where(budget_windows.c.budget_id.in_(some)))


def add_windows(connection: Connection, wanted: Sequence[BudgetTerms], now: int, leases: Sequence[Row] = ()) -> None:
    """Make the windows of now, those of leases, and later ones that have entries, as far as they are not there."""
    windows = _Windows()
    terms = {each.id: each for each in wanted}
    latest = connection.scalar(select(func.max(usage_entries.c.started_at))) or 0
    for each in wanted:
        window = windows.add(each, now)
        if latest >= window[1]:
            _add_later(connection, windows, each, window)
    for lease in leases:
        windows.add(terms[lease["budget_id"]], lease["window_started_at"])
    windows.leave_out(connection, list(terms))
    held: dict[WindowKey, list[Row]] = defaultdict(list)
    for lease in leases:
        held[lease["budget_id"], lease["window_started_at"]].append(lease)
    rows: list[Row] = []
    for window, budgets in windows.by_time.items():
        sums = _sums(connection, list(budgets.values()), window)
        rows += [_row(name, window, sums.get(name, (0, 0, 0)), held[name, window[0]]) for name in budgets]
    if rows:
        connection.execute(insert(budget_windows), rows)


@dataclass(slots=True)
class _Windows:
    """Windows to be made: those that begin and end together stand together."""

    by_time: dict[Window, dict[str, BudgetTerms]] = field(default_factory=lambda: defaultdict(dict))

    def add(self, terms: BudgetTerms, moment: int) -> Window:
        window = terms.window(moment)
        self.by_time[window][terms.id] = terms
        return window

    def leave_out(self, connection: Connection, ids: Sequence[str]) -> None:
        """Leave out those that are there."""
        columns = budget_windows.c
        for start in range(0, len(ids), _AT_ONCE):
            there = select(columns.budget_id, columns.started_at, columns.ends_at).where(
                columns.budget_id.in_(ids[start : start + _AT_ONCE]),
                columns.started_at >= min(begin for begin, _ in self.by_time),
            )
            for row in connection.execute(there):
                self.by_time.get((row.started_at, row.ends_at), {}).pop(row.budget_id, None)


def _add_later(connection: Connection, windows: _Windows, terms: BudgetTerms, window: Window) -> None:
    """Add the windows after one for which there are entries: from servers whose clocks are ahead."""
    started = usage_entries.c.started_at
    while (first := connection.scalar(select(func.min(started)).where(started >= window[1]))) is not None:
        window = windows.add(terms, int(first))


def _leases(connection: Connection, changed: Iterable[BudgetTerms]) -> list[Row]:
    """Return what running chats have to hold of budgets: of each the same as they hold of others already."""
    lease = budget_leases.c
    attempts = (
        select(
            lease.chat_id,
            lease.attempt,
            func.max(lease.provider).label("provider"),
            func.max(lease.model).label("model"),
            func.max(lease.nanos).label("nanos"),
            func.max(lease.tokens).label("tokens"),
        )
        .group_by(lease.chat_id, lease.attempt)
        .subquery()
    )
    running = connection.execute(
        select(attempts, open_chats.c.data).join(open_chats, open_chats.c.id == attempts.c.chat_id)
    )
    budgets = Budgets(0, (each.budget for each in changed))
    rows: list[Row] = []
    for row in running.mappings():
        facts = facts_of(cost_pb2.UsageRecord.FromString(row["data"]))
        made = {name: row[name] for name in ("chat_id", "attempt", "provider", "model", "nanos", "tokens")}
        rows += [
            {**made, "budget_id": terms.id, "window_started_at": terms.window(facts.started)[0]}
            for terms in budgets.touched(facts, row["provider"], row["model"])
        ]
    return rows


def _sums(connection: Connection, wanted: Sequence[BudgetTerms], window: Window) -> Mapping[str, Sums]:
    """Return what the ledger holds for each of several budgets within a window."""
    labelled = [each for each in wanted if each.budget.scope.labels]
    plain = [each for each in wanted if not each.budget.scope.labels]
    sums: dict[str, Sums] = {}
    if len(plain) > 1:
        sums = _sums_together(connection, plain, window)
        plain = []
    for each in [*labelled, *plain]:
        sums[each.id] = sum_of_scope(connection, each.budget.scope, *window)
    return sums


def _sums_together(connection: Connection, wanted: Sequence[BudgetTerms], window: Window) -> dict[str, Sums]:
    names = ("tenant", "project", "persona", "end_user_id", "provider", "model")
    asked = [name for name in names if any(getattr(each.budget.scope, name) for each in wanted)]
    budgets = Budgets(0, (each.budget for each in wanted))
    sums: dict[str, Sums] = {}
    for found, spent in sums_by_names(connection, asked, *window):
        facts = Facts(
            "",
            "",
            0,
            tenant=found.get("tenant", ""),
            project=found.get("project", ""),
            persona=found.get("persona", ""),
            end_user_id=found.get("end_user_id", ""),
        )
        for terms in budgets.touched(facts, found.get("provider", ""), found.get("model", "")):
            before = sums.get(terms.id, (0, 0, 0))
            sums[terms.id] = (before[0] + spent[0], before[1] + spent[1], before[2] + spent[2])
    return sums


def _row(budget_id: str, window: Window, spent: Sums, held: Sequence[Row]) -> Row:
    return {
        "budget_id": budget_id,
        "started_at": window[0],
        "ends_at": window[1],
        "spent_nanos": spent[0],
        "spent_tokens": spent[1],
        "reserved_nanos": sum(row["nanos"] for row in held),
        "reserved_tokens": sum(row["tokens"] for row in held),
        "unpriced": spent[2],
        "alerted_percent": 0,
        "alerted_refusal": False,
    }
