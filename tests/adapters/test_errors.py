"""Each error of the tree carries its decision, and every status means one of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_platform.adapters import errors
from execution_platform.adapters.errors import AdapterError, error_for_status
from execution_platform.v1 import error_pb2

ALL = [getattr(errors, name) for name in errors.__all__ if name != "error_for_status"]
CLASSES: list[type[AdapterError]] = [kind for kind in ALL if kind is not AdapterError]


def test_no_two_errors_have_one_reason() -> None:
    """The reasons of the classes are all different, and none is the platform's own fault."""
    reasons = [kind.reason for kind in CLASSES]
    assert len(set(reasons)) == len(reasons)
    assert error_pb2.ERROR_REASON_INTERNAL not in reasons


def test_every_reason_of_providers_has_an_error() -> None:
    """Each reason of the contract is an adapter's error, or one that only the server gives."""
    servers = {
        "UNSPECIFIED", "REQUEST_ID_REUSED", "REQUEST_IN_PROGRESS", "PROVIDER_NOT_FOUND", "DRAINING",
        "SERVER_OVERLOADED", "CANCELLED", "DEADLINE_EXCEEDED", "INTERNAL", "PERSONA_NOT_FOUND",
            "CAPABILITY_MISSING", "NOT_ALLOWED", "CIRCUIT_OPEN", "NO_HEALTHY_ROUTE", "RATE_LIMITED",
        "BUDGET_EXCEEDED", "LEDGER_OFF", "LEDGER_UNAVAILABLE", "ETAG_MISMATCH", "ALREADY_EXISTS",
    }  # fmt: skip
    names = {name.removeprefix("ERROR_REASON_") for name in error_pb2.ErrorReason.keys()}  # noqa: SIM118  # not a dict
    adapters = {error_pb2.ErrorReason.Name(kind.reason).removeprefix("ERROR_REASON_") for kind in CLASSES}
    assert names - servers == adapters


def test_the_tree_is_drawn_whole() -> None:
    """The drawing at the top of the module names every class, each below its base."""
    drawing = (errors.__doc__ or "").splitlines()
    lines = {
        line.split()[-1] if "--" not in line else line.split("-- ")[1].split()[0]: line for line in drawing if line
    }
    for kind in CLASSES:
        base = kind.__mro__[1]
        assert kind.__name__ in lines
        depth, above = (line.index(name) for name, line in ((k.__name__, lines[k.__name__]) for k in (kind, base)))
        assert depth == above + 4


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_carries_what_is_known(kind: type[AdapterError]) -> None:
    """An error holds the message and all details, and its class decides about retrying unless told otherwise."""
    bare = kind("what happened")
    assert str(bare) == bare.message == "what happened"
    assert bare.retryable == kind.retryable_by_default
    assert (bare.field, bare.provider_status, bare.retry_after, bare.events) == ("", 0, None, [])
    for decision in (True, False):
        assert kind("m", retryable=decision).retryable is decision
    full = kind("m", field="f", provider_status=429, provider_code="c", provider_request_id="r", retry_after=1.5)
    assert (full.field, full.provider_status, full.provider_code) == ("f", 429, "c")
    assert (full.provider_request_id, full.retry_after) == ("r", 1.5)


@given(st.integers())
def test_every_status_means_something(status: int) -> None:
    """Any number at all, as an HTTP status, means one class of the tree."""
    kind = error_for_status(status)
    assert kind in CLASSES
    if 400 <= status < 500 and status not in {408, 409, 424, 429, 498, 499}:
        assert not kind.retryable_by_default
    if status >= 500:
        assert kind.retryable_by_default
    if status < 400:
        assert kind is errors.ProtocolError


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.InvalidRequestError),
        (401, errors.CredentialsError),
        (402, errors.BillingError),
        (403, errors.ForbiddenError),
        (404, errors.NotFoundError),
        (408, errors.ProviderTimeoutError),
        (413, errors.RequestTooLargeError),
        (418, errors.InvalidRequestError),
        (422, errors.InvalidRequestError),
        (429, errors.RateLimitedError),
        (500, errors.UnavailableError),
        (502, errors.UnavailableError),
        (503, errors.OverloadedError),
        (504, errors.ProviderTimeoutError),
        (529, errors.OverloadedError),
    ],
)
def test_the_usual_statuses_mean_what_they_say(status: int, kind: type[AdapterError]) -> None:
    """The statuses that providers use are mapped to their classes."""
    assert error_for_status(status) is kind


def test_what_a_provider_says_can_be_carried() -> None:
    """Half a surrogate pair in a provider's words does not keep an error from being told."""
    error = AdapterError("a\ud83d", provider_code="b\ud83d", provider_request_id="c\ud83d")
    assert (error.message, error.provider_code, error.provider_request_id, str(error)) == ("a?", "b?", "c?", "a?")
