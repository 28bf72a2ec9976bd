"""Retrying: the same model again, when and only when that may help."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server.attempts import Fake, Step, begin, cancelled, finish, text, told_by, told_until_failure

from execution_platform.adapters import errors
from execution_platform.adapters.errors import AdapterError, OverloadedError, StreamBrokenError
from execution_platform.server.config.personas import Retries, RetryBudgetSettings
from execution_platform.server.errors import CircuitOpenError
from execution_platform.server.resilience.retry_budget import RetryBudget
from execution_platform.server.resilience.retrying import Chance, Retrying, backoff
from execution_platform.v1 import chat_pb2

ANSWER: Sequence[Step] = [[begin(), text("a"), finish()]]
DOWN: Sequence[Step] = [OverloadedError("full")]
RETRY = chat_pb2.ATTEMPT_CAUSE_RETRY

ALL = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error") and name != "AdapterError"]


class Waits:
    """Time that passes only by waiting, and is written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waited: list[float] = []

    async def sleep(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.waited.append(seconds)
        self.now += seconds

    def chance(self, draw: float = 1.0) -> Chance:
        """This time, and always the same luck."""
        return Chance(lambda: draw, self.sleep, lambda: self.now)


PLENTY = RetryBudgetSettings(ratio=1, least=1_000)


def retrying(
    inner: Fake,
    waits: Waits,
    policy: Retries | None = Retries(),  # noqa: B008 - frozen
    *,
    left: float = 3600.0,
    alone: bool = True,
    draw: float = 1.0,
    budget: RetryBudget | None = None,
    after: AdapterError | None = None,
) -> Retrying:
    """One over a fake."""
    budget = RetryBudget(PLENTY) if budget is None else budget
    deadline = waits.now + left
    return Retrying(inner, policy, budget, deadline, alone=lambda: alone, after=after, chance=waits.chance(draw))


async def test_a_failure_that_passes_is_asked_again() -> None:
    """The second attempt answers, tells that it is a retry, and its events are all there is."""
    inner, waits = Fake(DOWN, ANSWER), Waits()
    told = await told_by(retrying(inner, waits))
    assert [event.WhichOneof("event") for event in told[0]] == ["block_started", "block_delta", "finished"]
    assert inner.causes == [chat_pb2.ATTEMPT_CAUSE_FIRST, RETRY]
    assert inner.closed == 2


async def test_it_waits_1_2_4_8_16_seconds_at_most_and_then_gives_up() -> None:
    """By default five retries follow, each after twice the longest wait of the one before, and no sixth."""
    inner, waits = Fake(DOWN), Waits()
    _, error = await told_until_failure(retrying(inner, waits))
    assert waits.waited == [1, 2, 4, 8, 16]
    assert len(inner.calls) == 6
    assert isinstance(error, OverloadedError)


async def test_no_wait_is_longer_than_the_longest() -> None:
    """`longest_wait` bounds every wait, and `most` their number."""
    waits = Waits()
    await told_until_failure(retrying(Fake(DOWN), waits, Retries(first_wait=3, longest_wait=5, most=4)))
    assert waits.waited == [3, 5, 5, 5]


@given(
    number=st.integers(1, 64),
    first=st.floats(1e-3, 1e4),
    longest=st.floats(1e-3, 1e5),
    draw=st.floats(0, 1),
)
def test_full_jitter(number: int, first: float, longest: float, draw: float) -> None:
    """A wait is the drawn part of min(longest, first * 2^(n-1)): from nothing to all of it."""
    top = min(longest, first * 2 ** (number - 1))
    wait = backoff(number, first, longest, lambda: draw)
    assert 0 <= wait <= top
    assert math.isclose(wait, top * draw)
    assert backoff(number, first, longest, lambda: 0.0) == 0
    assert backoff(number, first, longest, lambda: 1.0) == top


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
async def test_only_what_passes_is_asked_again(kind: type[AdapterError]) -> None:
    """Rate limits, overload, timeouts, outages and broken streams are; anything else ends it."""
    inner = Fake([kind("m")], ANSWER)
    passes = kind.__name__ in {
        "RateLimitedError",
        "OverloadedError",
        "ProviderTimeoutError",
        "UnavailableError",
        "StreamBrokenError",
    }
    route = retrying(inner, Waits())
    if passes:
        await told_by(route)
    else:
        await told_until_failure(route)
    assert len(inner.calls) == (2 if passes else 1)


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("told", [True, False])
async def test_a_provider_that_says_so_is_believed(kind: type[AdapterError], told: bool) -> None:
    """`x-should-retry` goes before what the kind of the failure says."""
    inner = Fake([kind("m", retryable=told)], ANSWER)
    route = retrying(inner, Waits())
    if told:
        await told_by(route)
    else:
        await told_until_failure(route)
    assert len(inner.calls) == 1 + told


async def test_never_after_output() -> None:
    """What broke off behind output is told as it is, and nobody is asked again."""
    inner, waits = Fake([[begin()], StreamBrokenError("cut")], ANSWER), Waits()
    told, error = await told_until_failure(retrying(inner, waits))
    assert (len(told), len(inner.calls), waits.waited) == (1, 1, [])
    assert isinstance(error, StreamBrokenError)


async def test_retry_after_is_a_lower_bound() -> None:
    """A provider's time to wait is kept, however the draw; a longer backoff is not cut to it."""
    for draw, asked_for, waited in ((0.0, 7.0, 7.0), (1.0, 0.5, 1.0)):
        inner, waits = Fake([OverloadedError("full", retry_after=asked_for)], ANSWER), Waits()
        await told_by(retrying(inner, waits, draw=draw))
        assert waits.waited == [waited]


@pytest.mark.parametrize(("left", "attempts"), [(5.0, 1), (5.04, 1), (5.1, 2)])
async def test_never_past_the_deadline(left: float, attempts: int) -> None:
    """A wait that the chat's time does not allow, with some left behind it, is not begun."""
    inner, waits = Fake([OverloadedError("full", retry_after=5.0)], ANSWER), Waits()
    route = retrying(inner, waits, left=left)
    if attempts == 1:
        _, error = await told_until_failure(route)
        assert error.retry_after == 5.0
        assert waits.waited == []
    else:
        await told_by(route)
    assert len(inner.calls) == attempts


async def test_whoever_was_not_asked_is_not_asked_again() -> None:
    """An open circuit is no failure of an attempt, and costs no retry."""
    inner = Fake([CircuitOpenError("open", retry_after=1.0)], ANSWER)
    budget = RetryBudget(RetryBudgetSettings(ratio=1, least=0))
    await told_until_failure(retrying(inner, Waits(), budget=budget))
    assert len(inner.calls) == 1
    assert not budget.withdraw()  # nor does the request pay for one


async def test_a_circuit_that_opens_between_does_not_hide_the_failure() -> None:
    """A retry that is passed over ends the retries with what the model failed with."""
    full = OverloadedError("full")
    inner = Fake([full], [CircuitOpenError("open", retry_after=30.0)])
    _, error = await told_until_failure(retrying(inner, Waits()))
    assert error is full
    assert len(inner.calls) == 2


async def test_while_another_model_is_left_retries_are_few_and_short() -> None:
    """`most_before_fallback` and `longest_wait_before_fallback` hold while there is somebody to fall back to."""
    inner, waits = Fake(DOWN), Waits()
    await told_until_failure(retrying(inner, waits, alone=False))
    assert (len(inner.calls), waits.waited) == (2, [1])
    inner, waits = Fake([OverloadedError("full", retry_after=2.5)], ANSWER), Waits()
    await told_until_failure(retrying(inner, waits, alone=False))
    assert (len(inner.calls), waits.waited) == (1, [])


@pytest.mark.parametrize("policy", [None, Retries(most=0)])
async def test_without_retries_there_are_none(policy: Retries | None) -> None:
    """A request or a persona that wants none gets none."""
    inner = Fake(DOWN)
    await told_until_failure(retrying(inner, Waits(), policy))
    assert len(inner.calls) == 1


async def test_what_the_budget_does_not_pay_for_is_not_done() -> None:
    """The budget's word is the last one."""
    inner = Fake(DOWN)
    budget = RetryBudget(RetryBudgetSettings(ratio=0, least=2))
    await told_until_failure(retrying(inner, Waits(), budget=budget))
    assert len(inner.calls) == 3


async def test_after_a_failure_the_first_attempt_is_a_retry_as_well() -> None:
    """Where a model has failed already it is waited for, paid for and counted before the first attempt."""
    cut = StreamBrokenError("cut", retry_after=3.0)
    inner, waits = Fake(ANSWER), Waits()
    inner.cause = chat_pb2.ATTEMPT_CAUSE_MID_STREAM
    await told_by(retrying(inner, waits, after=cut))
    assert (waits.waited, inner.causes) == ([3.0], [chat_pb2.ATTEMPT_CAUSE_MID_STREAM])
    for policy in (None, Retries(most=0)):
        inner = Fake(ANSWER)
        _, error = await told_until_failure(retrying(inner, Waits(), policy, after=cut))
        assert error is cut
        assert not inner.calls


async def test_a_cancel_during_the_wait_ends_it_at_once() -> None:
    """Nobody is asked by a chat that was cancelled while it waited."""
    inner = Fake(DOWN)
    route = Retrying(
        inner, Retries(first_wait=3600, longest_wait=3600), RetryBudget(PLENTY), math.inf, alone=lambda: True
    )
    assert await cancelled(route, lambda: inner.closed == 1)
    assert len(inner.calls) == 1


async def test_the_attempts_stream_is_closed_before_the_wait() -> None:
    """No connection is held while nobody reads it."""
    inner = Fake(DOWN, ANSWER)
    seen: list[int] = []

    async def sleep(_: float) -> None:
        seen.append(inner.closed)

    chance = Chance(sleep=sleep)
    await told_by(Retrying(inner, Retries(), RetryBudget(PLENTY), math.inf, alone=lambda: True, chance=chance))
    assert seen == [1]
