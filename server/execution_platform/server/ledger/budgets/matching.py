"""Which budgets an attempt touches: those of which all that is set applies to it.

Budgets are found by what they ask for, not one by one. Those that ask for the same names (tenant and model, say) lie in
one table under the values they want; a chat looks once into each such table. Of a budget's labels one is part of the
key, and the others are compared where it was found.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from execution_platform.server.ledger.budgets.windows import Calendar
from execution_platform.server.ledger.facts import Facts
from execution_platform.v1 import cost_pb2

__all__ = ["BudgetTerms", "Budgets"]

#: Later than any window.
_NEVER: Final = 2**62


@dataclass(frozen=True, slots=True)
class BudgetTerms:
    """What one budget lets pass, ready to be asked.

    Attributes:
        budget: as the contract tells it.
        id: its identifier.
        limit_nanos: most that may be spent in a window, in 1e-9 US dollars; None: it limits no money.
        max_tokens: most tokens in a window; None: it limits no tokens.
        hard: chats that might not fit are refused.
        refuses_unpriced: chats whose price is not known are refused.
        counted_from: a window that begins here or later, in microseconds since the epoch, and has no row holds nothing:
            all that was ever written to it was written under this budget. Before, the ledger may hold something for it.
        calendar: its windows.
    """

    budget: cost_pb2.Budget
    id: str
    limit_nanos: int | None
    max_tokens: int | None
    hard: bool
    refuses_unpriced: bool
    counted_from: int
    calendar: Calendar

    @classmethod
    def of(cls, budget: cost_pb2.Budget) -> BudgetTerms:
        """Return the terms of a budget.

        Raises:
            ValueError: its period is not set, or its time zone is not known.
        """
        hard = budget.enforcement != cost_pb2.BUDGET_ENFORCEMENT_SOFT
        limit = budget.limit.nanos if budget.HasField("limit") else None
        refuses = budget.unpriced == cost_pb2.UNPRICED_POLICY_REFUSE or (
            budget.unpriced == cost_pb2.UNPRICED_POLICY_UNSPECIFIED and hard
        )
        return cls(
            budget=budget,
            id=budget.id,
            limit_nanos=limit,
            max_tokens=budget.max_tokens or None,
            hard=hard,
            refuses_unpriced=refuses and limit is not None,
            counted_from=budget.update_time.ToMicroseconds() if budget.HasField("update_time") else _NEVER,
            calendar=Calendar(budget.period, budget.time_zone),
        )

    def window(self, micros: int) -> tuple[int, int]:
        """Return the beginning and the end of the window in which a moment lies. All in microseconds."""
        return self.calendar.window(micros)

    def matches(self, facts: Facts, provider: str, model: str) -> bool:
        """Return whether an attempt counts for this budget."""
        wanted = _values(self.budget.scope)
        return all(
            not want or want == has for want, has in zip(wanted, _found(facts, provider, model), strict=True)
        ) and all(facts.labels.get(key) == value for key, value in self.budget.scope.labels.items())


class Budgets:
    """All budgets of one version of their set. Never changes.

    Args:
        version: of the set: the value of `state.budgets`.
        budgets: all of them.
    """

    __slots__ = ("_by_id", "_exact", "_likely", "version")

    def __init__(self, version: int, budgets: Iterable[cost_pb2.Budget]) -> None:
        self.version = version
        terms = sorted(map(BudgetTerms.of, budgets), key=lambda each: each.id)
        self._by_id = {each.id: each for each in terms}
        self._exact = _Index(terms, len(_NAMES))
        # Without the attempt's names, which stand last.
        self._likely = _Index(terms, len(_NAMES) - 2)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[BudgetTerms]:
        """Go through them, by id."""
        return iter(self._by_id.values())

    def get(self, budget_id: str) -> BudgetTerms | None:
        """Return one; None: there is none of that id."""
        return self._by_id.get(budget_id)

    def touched(self, facts: Facts, provider: str, model: str) -> list[BudgetTerms]:
        """Return the budgets that an attempt counts for, by id.

        Args:
            facts: of the chat.
            provider: who is asked.
            model: its model, in its own word.
        """
        return self._exact.found(_found(facts, provider, model), facts)

    def may_touch(self, facts: Facts) -> bool:
        """Return whether an attempt of a chat might count for any budget, whoever is asked."""
        return bool(self._likely.found(_found(facts, "", ""), facts))


_NAMES = ("tenant", "project", "persona", "end_user_id", "provider", "model")


def _values(scope: cost_pb2.BudgetScope) -> tuple[str, ...]:
    return (scope.tenant, scope.project, scope.persona, scope.end_user_id, scope.provider, scope.model)


def _found(facts: Facts, provider: str, model: str) -> tuple[str, ...]:
    return (facts.tenant, facts.project, facts.persona, facts.end_user_id, provider, model)


class _Index:
    """Budgets by what they ask for. Which of the names, and their values; and the first of the labels, if any."""

    __slots__ = ("_labelled", "_plain")

    def __init__(self, terms: Sequence[BudgetTerms], names: int) -> None:
        self._plain: dict[tuple[int, ...], dict[tuple[str, ...], list[BudgetTerms]]] = {}
        self._labelled: dict[tuple[int, ...], dict[tuple[str, ...], list[BudgetTerms]]] = {}
        for each in terms:
            values = _values(each.budget.scope)[:names]
            places = tuple(place for place, value in enumerate(values) if value)
            key = tuple(values[place] for place in places)
            label = min(each.budget.scope.labels.items(), default=None)
            if label is None:
                self._plain.setdefault(places, {}).setdefault(key, []).append(each)
            else:
                self._labelled.setdefault(places, {}).setdefault((*key, *label), []).append(each)

    def found(self, values: tuple[str, ...], facts: Facts) -> list[BudgetTerms]:
        found: list[BudgetTerms] = []
        for places, table in self._plain.items():
            found += table.get(tuple([values[place] for place in places]), ())
        if self._labelled and facts.labels:
            found += self._with_labels(values, facts)
        if len(found) > 1:
            found.sort(key=lambda each: each.id)
        return found

    def _with_labels(self, values: tuple[str, ...], facts: Facts) -> Iterator[BudgetTerms]:
        has = facts.labels
        for places, table in self._labelled.items():
            key = tuple([values[place] for place in places])
            for label in has.items():
                for each in table.get((*key, *label), ()):
                    if all(has.get(name) == value for name, value in each.budget.scope.labels.items()):
                        yield each
