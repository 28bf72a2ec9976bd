"""Each failure has a kind, and each kind says what follows from it."""

from __future__ import annotations

import pytest

import execution_platform.server.errors as server_errors
from execution_platform.adapters import errors
from execution_platform.adapters.decisions import (
    Decision,
    ErrorKind,
    decision_for,
    decision_of,
    kind_of,
    kind_of_finish,
)
from execution_platform.adapters.errors import AdapterError
from execution_platform.v1 import chat_pb2, error_pb2

REASONS = error_pb2.ErrorReason.values()
NAMES = {value: name.removeprefix("ERROR_REASON_") for name, value in error_pb2.ErrorReason.items()}

ADAPTERS = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]
SERVERS = [getattr(server_errors, name) for name in server_errors.__all__]

#: Failures that pass: the same request, sent again a little later, may be answered.
PASSING = {
    "PROVIDER_RATE_LIMITED",
    "PROVIDER_OVERLOADED",
    "PROVIDER_TIMEOUT",
    "PROVIDER_UNAVAILABLE",
    "STREAM_BROKEN",
}

#: Failures that no other model would spare the caller, or that are not about any model.
FINAL = {
    "UNSPECIFIED",
    "INVALID_REQUEST",
    "UNSUPPORTED_OPTION",
    "REQUEST_ID_REUSED",
    "REQUEST_IN_PROGRESS",
    "PROVIDER_NOT_FOUND",
    "NOT_FOUND",
    "DRAINING",
    "SERVER_OVERLOADED",
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "PERSONA_NOT_FOUND",
    "CAPABILITY_MISSING",
    "NOT_ALLOWED",
    "NO_HEALTHY_ROUTE",
    "LEDGER_UNAVAILABLE",
    "LEDGER_OFF",
    "ETAG_MISMATCH",
    "ALREADY_EXISTS",
}

#: Failures that tell nothing of whether the provider is up.
NOT_DOWN = FINAL | {
    "CONTEXT_LENGTH_EXCEEDED",
    "REQUEST_TOO_LARGE",
    "MODEL_NOT_FOUND",
    "PROVIDER_NOT_CONFIGURED",
    "PROVIDER_RATE_LIMITED",
    "NOT_SUPPORTED_BY_PROVIDER",
    "INTERNAL",
    "CIRCUIT_OPEN",
    "RATE_LIMITED",
    "BUDGET_EXCEEDED",
}


@pytest.mark.parametrize("reason", REASONS, ids=NAMES.get)
def test_every_reason_has_a_kind_and_a_decision(reason: error_pb2.ErrorReason.ValueType) -> None:
    """What follows from each reason is as these lists say, which were written without looking at the code's."""
    name = NAMES[reason]
    assert isinstance(kind_of(reason), ErrorKind)
    assert decision_of(reason) == Decision(
        retry=name in PASSING, fall_back=name not in FINAL, opens_circuit=name not in NOT_DOWN
    )


def test_every_kind_is_used() -> None:
    """There is no kind that nothing has; what a filter blocks is the end of an answer, not a failure."""
    failures = {kind_of(reason) for reason in REASONS}
    ends = {kind_of_finish(reason) for reason in chat_pb2.FinishReason.values()} - {None}
    assert failures | ends == set(ErrorKind)
    assert ends == {ErrorKind.CONTENT_BLOCKED}
    assert all(isinstance(decision_for(kind), Decision) for kind in ErrorKind)


def test_a_reason_from_the_future_is_no_answer_of_the_protocol() -> None:
    """A reason that is not known yet has a kind and a decision as well."""
    unknown = max(REASONS) + 1
    assert kind_of(unknown) is ErrorKind.PROTOCOL  # type: ignore[arg-type]  # what a newer adapter might say
    assert decision_of(unknown) == decision_for(ErrorKind.PROTOCOL)  # type: ignore[arg-type]  # the same


@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_an_adapters_error_is_retried_by_default_if_it_is_retryable(kind: type[AdapterError]) -> None:
    """What the class tells callers about trying again is what the gateway does itself."""
    assert decision_of(kind.reason).retry is kind.retryable_by_default


@pytest.mark.parametrize("kind", SERVERS, ids=lambda kind: kind.__name__)
def test_the_servers_own_errors_are_never_retried_by_the_server(kind: type[AdapterError]) -> None:
    """A refusal of this server's does not pass by asking the provider again."""
    assert not decision_of(kind.reason).retry


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("kind", ADAPTERS, ids=lambda kind: kind.__name__)
def test_a_provider_that_says_whether_it_passes_is_believed(kind: type[AdapterError], told: bool) -> None:
    """`x-should-retry` decides about the retry, and about nothing else."""
    decision = kind("m", retryable=told).decision
    assert decision.retry is told
    default = kind("m").decision
    assert (decision.fall_back, decision.opens_circuit) == (default.fall_back, default.opens_circuit)
