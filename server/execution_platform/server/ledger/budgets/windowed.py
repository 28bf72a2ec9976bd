"""A budget's window within one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from execution_platform.server.ledger.budgets.matching import BudgetTerms
from execution_platform.server.ledger.writing.entries import Row
from execution_platform.v1 import cost_pb2

__all__ = ["CHANGES", "OpenWindow", "WindowKey"]

#: A window: id of its budget, and when it began in microseconds since the epoch.
WindowKey = tuple[str, int]

#: Columns that a transaction may change.
CHANGES = (
    "spent_nanos",
    "spent_tokens",
    "reserved_nanos",
    "reserved_tokens",
    "unpriced",
    "alerted_percent",
    "alerted_refusal",
)


@dataclass(slots=True)
class OpenWindow:
    """A window that is locked for this transaction. Amounts in nanos (1e-9 US dollars), times in microseconds.

    Attributes:
        terms: of its budget.
        spent: whether what was spent in it changes here.
    """

    terms: BudgetTerms
    started_at: int
    ends_at: int
    spent_nanos: int = 0
    spent_tokens: int = 0
    reserved_nanos: int = 0
    reserved_tokens: int = 0
    unpriced: int = 0
    alerted_percent: int = 0
    alerted_refusal: bool = False
    spent: bool = False
    _before: tuple[int, ...] = field(default=(), repr=False)

    def __post_init__(self) -> None:
        """Remember what it is like now."""
        self._before = self._amounts()

    @classmethod
    def of(cls, terms: BudgetTerms, start: int, amounts: Sequence[int], *, refused: bool) -> OpenWindow:
        """Return a window as a row of `budget_windows` has it: the columns from `ends_at` to `alerted_percent`."""
        end, spent, spent_tokens, reserved, reserved_tokens, unpriced, alerted = amounts
        return cls(terms, start, end, spent, spent_tokens, reserved, reserved_tokens, unpriced, alerted, refused)

    @property
    def budget(self) -> cost_pb2.Budget:
        """The budget, as the contract tells it."""
        return self.terms.budget

    @property
    def changed(self) -> bool:
        """Whether anything of it has changed here."""
        return self._before != self._amounts()

    def has_room(self, nanos: int, tokens: int) -> bool:
        """Return whether so much more may be held. What gives back, or a soft budget, always may."""
        terms = self.terms
        if not terms.hard:
            return True
        return not (
            (
                nanos > 0
                and terms.limit_nanos is not None
                and self.spent_nanos + self.reserved_nanos + nanos > terms.limit_nanos
            )
            or (
                tokens > 0
                and terms.max_tokens is not None
                and self.spent_tokens + self.reserved_tokens + tokens > terms.max_tokens
            )
        )

    def hold(self, nanos: int, tokens: int) -> None:
        """Hold so much more; less than 0: give back."""
        self.reserved_nanos += nanos
        self.reserved_tokens += tokens

    def spend(self, nanos: int, tokens: int, unpriced: int) -> None:
        """Count so much as spent."""
        self.spent_nanos += nanos
        self.spent_tokens += tokens
        self.unpriced += unpriced
        self.spent = True

    def row(self) -> Row:
        """Return it as a row of `budget_windows`."""
        row: Row = {"budget_id": self.terms.id, "started_at": self.started_at, "ends_at": self.ends_at}
        row.update(zip(CHANGES, self._amounts(), strict=True))
        row["alerted_refusal"] = self.alerted_refusal
        return row

    def changes(self) -> Row:
        """Return the parameters of the statement that writes it."""
        row: Row = {f"new_{name}": value for name, value in zip(CHANGES, self._amounts(), strict=True)}
        row["new_alerted_refusal"] = self.alerted_refusal
        row["of_budget"] = self.terms.id
        row["of_time"] = self.started_at
        return row

    def _amounts(self) -> tuple[int, ...]:
        return (
            self.spent_nanos,
            self.spent_tokens,
            self.reserved_nanos,
            self.reserved_tokens,
            self.unpriced,
            self.alerted_percent,
            self.alerted_refusal,
        )
