"""Budgets are found by what they ask for: the same as by looking at each of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.facts import Facts
from execution_platform.v1 import common_pb2, cost_pb2

NAMES = st.sampled_from(["", "a", "b"])
LABELS = st.dictionaries(st.sampled_from(["team", "site", "x"]), st.sampled_from(["", "a", "b"]), max_size=3)

scopes = st.builds(
    cost_pb2.BudgetScope,
    tenant=NAMES,
    project=NAMES,
    persona=NAMES,
    end_user_id=NAMES,
    provider=NAMES,
    model=NAMES,
    labels=LABELS,
)
chats = st.builds(
    Facts,
    id=st.just("1"),
    request_id=st.just("1"),
    started=st.just(0),
    tenant=st.sampled_from(["a", "b"]),
    project=NAMES,
    persona=NAMES,
    end_user_id=NAMES,
    labels=LABELS,
)


def applies(scope: cost_pb2.BudgetScope, facts: Facts, provider: str, model: str) -> bool:
    """Whether all that is set in a scope is so, by the contract's words."""
    wanted = {
        (scope.tenant, facts.tenant),
        (scope.project, facts.project),
        (scope.persona, facts.persona),
        (scope.end_user_id, facts.end_user_id),
        (scope.provider, provider),
        (scope.model, model),
    }
    return all(want in {"", has} for want, has in wanted) and dict(scope.labels).items() <= dict(facts.labels).items()


@given(wanted=st.lists(scopes, max_size=12), facts=chats, provider=st.sampled_from("ab"), model=st.sampled_from("ab"))
def test_all_budgets_that_apply_are_found(
    wanted: list[cost_pb2.BudgetScope], facts: Facts, provider: str, model: str
) -> None:
    """An attempt touches the budgets to whose scopes it belongs, each once and by id; one by one says the same."""
    made = [
        cost_pb2.Budget(id=f"{number:02}", scope=scope, max_tokens=1, period=cost_pb2.BUDGET_PERIOD_DAY)
        for number, scope in enumerate(wanted)
    ]
    budgets = Budgets(1, reversed(made))
    expected = [each.id for each in made if applies(each.scope, facts, provider, model)]
    assert [each.id for each in budgets.touched(facts, provider, model)] == expected
    assert [each.id for each in budgets if each.matches(facts, provider, model)] == expected
    anybody = [each for each in made if applies(each.scope, facts, each.scope.provider, each.scope.model)]
    assert budgets.may_touch(facts) == bool(anybody)


def test_terms_say_what_a_budget_does_without_a_price() -> None:
    """What has no price is refused by hard budgets of money, unless they say otherwise; soft ones may say so."""
    money = common_pb2.Money(currency_code="USD", nanos=1)
    hard, soft = cost_pb2.BUDGET_ENFORCEMENT_UNSPECIFIED, cost_pb2.BUDGET_ENFORCEMENT_SOFT
    unset, allow, refuse = (
        cost_pb2.UNPRICED_POLICY_UNSPECIFIED,
        cost_pb2.UNPRICED_POLICY_ALLOW,
        cost_pb2.UNPRICED_POLICY_REFUSE,
    )
    told = {
        (hard, unset): True,
        (hard, allow): False,
        (hard, refuse): True,
        (soft, unset): False,
        (soft, allow): False,
        (soft, refuse): True,
    }
    for (enforcement, unpriced), refused in told.items():
        budget = cost_pb2.Budget(id="b", period=cost_pb2.BUDGET_PERIOD_DAY, enforcement=enforcement, unpriced=unpriced)
        budget.limit.CopyFrom(money)
        (terms,) = Budgets(1, [budget])
        assert terms.refuses_unpriced is refused
        budget.ClearField("limit")
        budget.max_tokens = 1
        (terms,) = Budgets(1, [budget])
        assert not terms.refuses_unpriced
