"""Fallback: one after the other until one has output, and one failure that tells most."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from tests.server.attempts import CALL, Fake, Step, begin, finish, text, told_by, told_until_failure

from execution_platform.adapters import errors
from execution_platform.adapters.errors import (
    AdapterError,
    CredentialsError,
    InvalidRequestError,
    NotConfiguredError,
    OverloadedError,
    ProviderTimeoutError,
    StreamBrokenError,
)
from execution_platform.server.errors import CircuitOpenError, LimitReachedError, NoHealthyRouteError
from execution_platform.server.resilience.fallback import Fallback, Steps
from execution_platform.server.routing.plan import Leg

ANSWER: Sequence[Step] = [[begin(), text("a"), finish()]]


class Told:
    """Several fakes in a row, and the steps between them."""

    def __init__(self, *attempts: Sequence[Step]) -> None:
        self.fakes = [Fake(steps) for steps in attempts]
        self.steps: list[str] = []
        legs = [Leg(name, "m") for name in "abcdef"]
        self.fallback = Fallback(list(zip(legs, self.fakes, strict=False)), Steps(self._tell))

    def _tell(self, failed: Leg, error: AdapterError, following: Leg) -> None:
        self.steps.append(f"{failed.provider} {type(error).__name__} {following.provider}")

    @property
    def asked(self) -> list[int]:
        """How often each was asked."""
        return [len(fake.calls) for fake in self.fakes]


def skipped(error: AdapterError, provider: str = "a") -> AdapterError:
    """The same, of one who was not asked."""
    error.asked = False
    error.provider, error.model = provider, "m"
    return error


def open_circuit(retry_after: float, provider: str = "a") -> AdapterError:
    """An open circuit."""
    return skipped(CircuitOpenError("open", retry_after=retry_after), provider)


async def test_they_are_asked_in_order_until_one_answers() -> None:
    """The third answers, the fourth is not asked, and both steps are told."""
    told = Told([OverloadedError("m")], [open_circuit(1)], ANSWER, ANSWER)
    assert len(await told_by(told.fallback)) == 1
    assert told.asked == [1, 1, 1, 0]
    assert told.steps == ["a OverloadedError b", "b CircuitOpenError c"]


async def test_after_output_nobody_else_is_asked() -> None:
    """What breaks off behind output is told as it is."""
    cut = StreamBrokenError("cut")
    told = Told([[begin()], cut], ANSWER)
    events, error = await told_until_failure(told.fallback)
    assert (len(events), told.asked, error) == (1, [1, 0], cut)


NO_FALLBACK = {"InvalidRequestError", "UnsupportedOptionError", "NotFoundError"}
ALL = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error") and name != "AdapterError"]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
async def test_the_callers_own_faults_are_not_taken_elsewhere(kind: type[AdapterError]) -> None:
    """A request that is wrong is wrong everywhere; everything else is tried with the next."""
    told = Told([kind("m")], ANSWER)
    if kind.__name__ in NO_FALLBACK:
        _, error = await told_until_failure(told.fallback)
        assert type(error) is kind
    else:
        await told_by(told.fallback)
    assert told.asked == [1, 0 if kind.__name__ in NO_FALLBACK else 1]


@pytest.mark.parametrize(
    ("failures", "verdict"),
    [
        ([OverloadedError("m"), ProviderTimeoutError("m")], 1),
        ([OverloadedError("m"), CredentialsError("m")], 0),
        ([CredentialsError("m"), OverloadedError("m"), CredentialsError("m")], 1),
        ([CredentialsError("m"), NotConfiguredError("m")], 1),
        ([OverloadedError("m"), open_circuit(1, "b")], 0),
        ([CredentialsError("m"), open_circuit(1, "b")], 0),
        ([OverloadedError("m"), InvalidRequestError("m")], 0),
        ([open_circuit(1)], 0),
        ([skipped(NotConfiguredError("m")), skipped(NotConfiguredError("m"), "b")], 0),
    ],
    ids=[
        "the last that may pass",
        "what may pass before what does not",
        "wherever it stands",
        "else the last",
        "whoever was asked",
        "though it does not pass",
        "a refusal of the next does not make the request wrong",
        "the only one",
        "nobody asked, and nothing passes",
    ],
)
async def test_the_failure_that_tells_most_is_told(failures: list[AdapterError], verdict: int) -> None:
    """Of several failures the caller gets the one that says whether to come back."""
    _, error = await told_until_failure(Told(*([failure] for failure in failures)).fallback)
    assert error is failures[verdict]


async def test_where_nobody_can_be_asked_that_is_told() -> None:
    """With every route passed over, the reasons are named and the soonest time to come back is told."""
    limit = skipped(LimitReachedError("30 a minute", scope="provider:b", limit="requests_per_min"), "b")
    _, error = await told_until_failure(Told([open_circuit(9)], [limit], [open_circuit(4, "c")]).fallback)
    assert isinstance(error, NoHealthyRouteError)
    assert error.retry_after == 4
    assert error.message == "none of 3 routes can be asked: a/m: open; b/m: 30 a minute; c/m: open"
    assert error.provider == ""


async def test_every_stream_is_closed() -> None:
    """Of those that failed and of the one that answers nothing is left open, also if nobody reads on."""
    told = Told([OverloadedError("m")], [[begin()], [text("a")], [finish()]])
    stream = told.fallback.stream(CALL)
    await anext(stream)
    await stream.aclose()
    assert [fake.closed for fake in told.fakes] == [1, 1]
