"""The section `budgets` of the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from enum import StrEnum

import pytest
from tests.server.personas.reading import problems_of, read

from execution_platform.server.config.budgets import BudgetPeriod, Enforcement, Unpriced
from execution_platform.v1 import cost_pb2

WHOLE = """\
version: 1
tenants: {acme: {}}
budgets:
  acme-month:
    display_name: ACME, each month
    scope: {tenant: acme, labels: {team: search}}
    limit: 500.000000001
    max_tokens: 1000000
    period: month
    time_zone: Europe/Berlin
    enforcement: soft
    alert_percents: [80, 100]
    unpriced: refuse
  whole-day: {limit: 20, period: day}
"""

#: What is wrong, by what the test is called: the budget `a`, and the one line that it gives after the file's name.
WRONG = {
    "nothing": ("", "budgets.a: must be a mapping of keys to values"),
    "no period": ("{limit: 1}", "budgets.a: `period` is missing"),
    "no limit": ("{period: day}", "budgets.a: give it a `limit` (US dollars) or `max_tokens`, or both"),
    "a period that is none": (
        "{limit: 1, period: mnth}",
        "budgets.a.period: 'mnth' is not known here; did you mean 'month'?",
    ),
    "a time zone that is none": (
        "{limit: 1, period: day, time_zone: Berlin}",
        "budgets.a.time_zone: is no time zone; write an IANA name such as Europe/Berlin",
    ),
    "a limit of nothing": ("{limit: 0, period: day}", "budgets.a.limit: must be above 0"),
    "a limit that is too fine": (
        "{limit: 0.0000000001, period: day}",
        "budgets.a.limit: has too many digits behind the point",
    ),
    "a currency": (
        "{limit: 5 EUR, period: day}",
        "budgets.a.limit: must be a number, such as 0.50, without a currency",
    ),
    "a percent of nothing": (
        "{limit: 1, period: day, alert_percents: [50, 0]}",
        "budgets.a.alert_percents[1]: must be at least 1",
    ),
    "a provider that is none": (
        "{limit: 1, period: day, scope: {provider: opnai}}",
        "budgets.a.scope.provider: no provider 'opnai'; did you mean 'openai'?",
    ),
    "a misspelt key": (
        "{limit: 1, period: day, scope: {tenent: acme}}",
        "budgets.a.scope.tenent: unknown key; did you mean 'tenant'?",
    ),
}


def test_a_budget_may_say_everything() -> None:
    """Each key of a budget is read, amounts to the last digit, and its place is known."""
    reading = read(WHOLE)
    budget = reading.configuration.budgets["acme-month"]
    assert (budget.scope.tenant, budget.scope.labels) == ("acme", {"team": "search"})
    assert (budget.limit, budget.max_tokens) == (Decimal("500.000000001"), 1_000_000)
    assert (budget.period, budget.time_zone) == (BudgetPeriod.MONTH, "Europe/Berlin")
    assert (budget.enforcement, budget.unpriced) == (Enforcement.SOFT, Unpriced.REFUSE)
    assert budget.alert_percents == (80, 100)
    assert reading.budget_sources == {"acme-month": "personas.yaml:4", "whole-day": "personas.yaml:14"}
    assert reading.warnings == ()


@pytest.mark.parametrize(("text", "line"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_with_a_budget_is_told(text: str, line: str) -> None:
    """A budget that cannot be is told with its line, and with what to write."""
    assert problems_of(("f.yaml", f"version: 1\nbudgets:\n  a: {text}\n")) == (f"f.yaml:3: {line}",)


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 129])
def test_a_name_that_is_no_id_is_told(name: str) -> None:
    """A budget's name has to be an id."""
    (problem,) = problems_of(("f.yaml", f"budgets:\n  {name!r}: {{limit: 1, period: day}}\n"))
    assert problem.endswith(": cannot name a budget: use 1 to 128 letters, digits, '_', '-' or '.'")


def test_names_of_personas_limits_are_kept_free() -> None:
    """A budget cannot be called as one that is made of a persona's limits."""
    (problem,) = problems_of(("f.yaml", "budgets:\n  persona.a.tokens_per_min: {limit: 1, period: day}\n"))
    assert problem.endswith(": cannot name a budget: 'persona.' begins the budgets that personas' limits are")


def test_a_budget_of_nobody_is_told() -> None:
    """A scope that nobody is in is worth a look, since it holds nobody back."""
    text = WHOLE.replace("tenant: acme,", "tenant: acmee, persona: revewer,") + "personas: {reviewer: {}}\n"
    assert read(text).warnings == (
        "personas.yaml:6: budgets.acme-month.scope.tenant: there is no tenant 'acmee' here; did you mean 'acme'?",
        (
            "personas.yaml:6: budgets.acme-month.scope.persona: there is no persona 'revewer' here; "
            "did you mean 'reviewer'?"
        ),
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (BudgetPeriod, cost_pb2.BudgetPeriod.keys()),
        (Enforcement, cost_pb2.BudgetEnforcement.keys()),
        (Unpriced, cost_pb2.UnpricedPolicy.keys()),
    ],
    ids=["period", "enforcement", "unpriced"],
)
def test_words_are_those_of_the_contract(words: Iterable[StrEnum], told: Iterable[str]) -> None:
    """The words of the file are the contract's names in lower case, all of them."""
    known = {name.rpartition("_")[2].lower() for name in told}
    assert {word.value for word in words} == known - {"unspecified"}
