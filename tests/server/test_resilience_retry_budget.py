"""The retry budget: a tenth of the requests in an outage, each time while the provider answers."""

from __future__ import annotations

import random

import pytest

from execution_platform.server.config.personas import RetryBudgetSettings
from execution_platform.server.resilience.retry_budget import RetryBudget

DEFAULTS = RetryBudgetSettings()


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 5_000.0

    def __call__(self) -> float:
        """Return the seconds."""
        return self.now


def withdrawn(budget: RetryBudget, most: int = 10_000) -> int:
    """How many retries are paid for."""
    return next(number for number in range(most) if not budget.withdraw())


@pytest.mark.parametrize("requests", [30, 100, 1_000])
def test_requests_pay_for_a_tenth(requests: int) -> None:
    """Without any answer there are as many retries as a tenth of the requests, and none more."""
    budget = RetryBudget(DEFAULTS, Clock())
    for _ in range(requests):
        budget.asked()
    assert withdrawn(budget) == requests // 10


def test_few_chats_have_a_few_retries() -> None:
    """`least` retries are always allowed; beyond 30 requests in a window they add nothing to the tenth."""
    budget = RetryBudget(DEFAULTS, Clock())
    budget.asked()
    assert withdrawn(budget) == DEFAULTS.least == 3
    assert withdrawn(RetryBudget(RetryBudgetSettings(least=0), Clock())) == 0


def test_fresh_answers_pay_for_half() -> None:
    """While a provider answers there may be a retry for every second answer."""
    budget = RetryBudget(DEFAULTS, Clock())
    for _ in range(100):
        budget.asked()
        budget.answered()
    assert withdrawn(budget) == 50


def test_old_answers_pay_for_nothing() -> None:
    """Answers count for a fifth of the window: they tell that the provider answers now."""
    clock = Clock()
    budget = RetryBudget(DEFAULTS, clock)
    for _ in range(100):
        budget.asked()
        budget.answered()
    clock.now += DEFAULTS.window_seconds / 5
    assert withdrawn(budget) == 10


def test_what_was_counted_leaves_with_the_window() -> None:
    """Requests pay, and retries count, for as long as the window is."""
    clock = Clock()
    budget = RetryBudget(DEFAULTS, clock)
    for _ in range(100):
        budget.asked()
    assert withdrawn(budget) == 10
    clock.now += DEFAULTS.window_seconds - 1
    assert withdrawn(budget) == 0
    clock.now += 1
    assert withdrawn(budget) == DEFAULTS.least


def test_a_request_that_nobody_was_asked_for_pays_for_nothing() -> None:
    """What was passed over is taken back."""
    budget = RetryBudget(RetryBudgetSettings(least=0), Clock())
    for _ in range(100):
        budget.asked()
        budget.passed_over()
    assert withdrawn(budget) == 0


def test_whoever_is_denied_is_counted() -> None:
    """Each retry that is not paid for is told."""
    denied: list[int] = []
    budget = RetryBudget(RetryBudgetSettings(least=1), Clock(), lambda: denied.append(1))
    assert [budget.withdraw() for _ in range(3)] == [True, False, False]
    assert len(denied) == 2


def played(share_failing: list[float], seconds: int = 20, rate: int = 100) -> list[tuple[float, float]]:
    """Play requests at a rate, so many seconds with each share of failing ones.

    Returns:
        Of each: errors and retries, both for each request.
    """
    draw = random.Random(7)  # noqa: S311 - repeatable, not secret
    clock = Clock()
    budget = RetryBudget(DEFAULTS, clock)
    told = []
    for share in share_failing:
        errors = retries = 0
        for _ in range(seconds * rate):
            clock.now += 1 / rate
            budget.asked()
            for _ in range(6):
                if draw.random() >= share:
                    budget.answered()
                    break
                if not budget.withdraw():
                    errors += 1
                    break
                retries += 1
            else:
                errors += 1
        told.append((errors / (seconds * rate), retries / (seconds * rate)))
    return told


def test_a_fifth_failing_is_nearly_all_answered() -> None:
    """With 20 % failing at random the errors become less than a twentieth of that."""
    [(errors, retries)] = played([0.2])
    assert errors < 0.01
    assert 0.2 < retries < 0.3


def test_an_outage_adds_a_tenth_from_its_beginning() -> None:
    """Also right behind a healthy hour, and however it began, retries in an outage are a tenth of the requests."""
    for before in (0.0, 0.05, 0.2):
        _, (errors, retries) = played([before, 1.0])
        assert errors == 1
        assert retries <= 0.105  # the requests of the second before it pay as well


def test_half_failing_is_bounded() -> None:
    """With half of them failing retries add no more than a third to the load."""
    [(_, retries)] = played([0.5])
    assert retries < 0.34
