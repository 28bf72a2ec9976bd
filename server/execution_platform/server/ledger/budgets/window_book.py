"""The windows that one transaction touches: found, made where they are missing, locked, changed, written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import Connection

from execution_platform.server.ledger.budgets.matching import Budgets, BudgetTerms
from execution_platform.server.ledger.budgets.windowed import OpenWindow, WindowKey
from execution_platform.server.ledger.facts import Facts
from execution_platform.server.ledger.store.statements import statements_of, sum_of_scope
from execution_platform.server.ledger.writing.entries import Row
from execution_platform.server.ledger.writing.posting import tokens_of

__all__ = ["WindowBook"]


class WindowBook:
    """Windows of one transaction.

    Args:
        connection: of the transaction.
        budgets: all that there are.
        now: microseconds since the epoch.

    Attributes:
        windows: that are open.
    """

    def __init__(self, connection: Connection, budgets: Budgets, now: int) -> None:
        self.windows: dict[WindowKey, OpenWindow] = {}
        self._connection = connection
        self._statements = statements_of(connection)
        self._budgets = budgets
        self._now = now
        self._wanted: dict[WindowKey, tuple[BudgetTerms, int]] = {}
        self._released: list[tuple[WindowKey, int, int]] = []

    def want_for(self, moment: int, touched: Iterable[BudgetTerms]) -> list[WindowKey]:
        """Say that the windows of some budgets in which a moment lies are needed."""
        keys: list[WindowKey] = []
        for terms in touched:
            start, end = terms.window(moment)
            key = (terms.id, start)
            self._wanted[key] = (terms, end)
            keys.append(key)
        return keys

    def want(self, facts: Facts, entry: Row) -> list[WindowKey]:
        """Say that the windows are needed for which an entry counts."""
        return self.want_for(facts.started, self._budgets.touched(facts, entry["provider"], entry["model"]))

    def release(self, key: WindowKey, nanos: int, tokens: int) -> None:
        """Give back what was held, and is taken out of the leases already."""
        terms = self._budgets.get(key[0])
        if terms is None:
            return  # deleted meanwhile
        start, end = terms.window(key[1])
        if start == key[1]:
            self._wanted[key] = (terms, end)
            self._released.append((key, nanos, tokens))

    def open(self) -> None:
        """Find and lock all windows that are needed; make those that are missing."""
        if not self._wanted:
            return
        self._find(self._wanted)
        made: set[WindowKey] = set()
        if missing := sorted(self._wanted.keys() - self.windows.keys()):
            made = self._make(missing)
            self._find(set(missing) - made)
        for key, nanos, tokens in self._released:
            # One that was made just now was made without it.
            if key not in made:
                self.windows[key].hold(-nanos, -tokens)

    def spend(self, keys: Sequence[WindowKey], entry: Row) -> None:
        """Count an entry."""
        if keys:
            nanos = entry["nanos"] if entry["currency"] == "USD" else 0
            tokens = tokens_of(entry)
            for key in keys:
                self.windows[key].spend(nanos, tokens, entry["unpriced"])

    def spent(self) -> list[OpenWindow]:
        """Return the windows in which something was spent."""
        return [window for window in self.windows.values() if window.spent]

    def write(self) -> None:
        """Write what has changed."""
        if changes := [window.changes() for window in self.windows.values() if window.changed]:
            self._statements.execute(self._connection, self._statements.change_windows, changes)

    def _find(self, keys: Iterable[WindowKey]) -> None:
        wanted = set(keys)
        if not wanted:
            return
        statements = self._statements
        parameters = {
            "ids": statements.many(sorted({key[0] for key in wanted})),
            "times": statements.many(sorted({key[1] for key in wanted})),
        }
        for budget, start, *amounts, refused in statements.execute(self._connection, statements.windows, parameters):
            if (budget, start) in wanted:
                terms = self._wanted[budget, start][0]
                self.windows[budget, start] = OpenWindow.of(terms, start, amounts, refused=bool(refused))

    def _make(self, keys: Sequence[WindowKey]) -> set[WindowKey]:
        """Make windows, each with what the ledger holds for it; return those that nobody else made meanwhile."""
        windows = {key: self._summed(key) for key in keys}
        rows = [window.row() for window in windows.values()]
        result = self._statements.add(self._connection, self._statements.new_windows, rows)
        # Whoever writes to SQLite is alone.
        made = {(budget, start) for budget, start in result} if self._connection.dialect.name != "sqlite" else set(keys)
        self.windows.update((key, windows[key]) for key in made)
        return made

    def _summed(self, key: WindowKey) -> OpenWindow:
        terms, end = self._wanted[key]
        if key[1] >= terms.counted_from and end > self._now:
            # Everything that counts for it would have made it; to look through a month's entries takes long.
            return OpenWindow(terms, key[1], end)
        spent = sum_of_scope(self._connection, terms.budget.scope, key[1], end)
        parameters = {"budget": key[0], "time": key[1]}
        held = self._statements.execute(self._connection, self._statements.window_leases, parameters).fetchone()
        return OpenWindow(terms, key[1], end, spent[0], spent[1], int(held[0]), int(held[1]), spent[2])
