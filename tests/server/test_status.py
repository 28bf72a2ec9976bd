"""The table of errors: every reason has a status, with the details that its kind promises."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from execution_platform.adapters.errors import InvalidRequestError, RateLimitedError
from execution_platform.server.status import DOMAIN, error_detail, failure_of
from execution_platform.v1 import error_pb2

CODES = {
    "INVALID_REQUEST": "INVALID_ARGUMENT",
    "UNSUPPORTED_OPTION": "INVALID_ARGUMENT",
    "CONTEXT_LENGTH_EXCEEDED": "INVALID_ARGUMENT",
    "REQUEST_TOO_LARGE": "INVALID_ARGUMENT",
    "REQUEST_ID_REUSED": "INVALID_ARGUMENT",
    "REQUEST_IN_PROGRESS": "ABORTED",
    "MODEL_NOT_FOUND": "NOT_FOUND",
    "PROVIDER_NOT_FOUND": "NOT_FOUND",
    "NOT_FOUND": "NOT_FOUND",
    "PROVIDER_NOT_CONFIGURED": "FAILED_PRECONDITION",
    "PROVIDER_AUTHENTICATION": "FAILED_PRECONDITION",
    "PROVIDER_PERMISSION": "FAILED_PRECONDITION",
    "PROVIDER_BILLING": "FAILED_PRECONDITION",
    "PROVIDER_RATE_LIMITED": "RESOURCE_EXHAUSTED",
    "PROVIDER_OVERLOADED": "UNAVAILABLE",
    "PROVIDER_TIMEOUT": "UNAVAILABLE",
    "PROVIDER_UNAVAILABLE": "UNAVAILABLE",
    "STREAM_BROKEN": "UNAVAILABLE",
    "PROVIDER_PROTOCOL": "INTERNAL",
    "DRAINING": "UNAVAILABLE",
    "SERVER_OVERLOADED": "UNAVAILABLE",
    "CANCELLED": "CANCELLED",
    "DEADLINE_EXCEEDED": "DEADLINE_EXCEEDED",
    "NOT_SUPPORTED_BY_PROVIDER": "UNIMPLEMENTED",
    "INTERNAL": "INTERNAL",
    "PERSONA_NOT_FOUND": "NOT_FOUND",
    "CAPABILITY_MISSING": "FAILED_PRECONDITION",
    "NOT_ALLOWED": "FAILED_PRECONDITION",
    "CIRCUIT_OPEN": "UNAVAILABLE",
    "NO_HEALTHY_ROUTE": "UNAVAILABLE",
    "RATE_LIMITED": "RESOURCE_EXHAUSTED",
    "BUDGET_EXCEEDED": "RESOURCE_EXHAUSTED",
    "LEDGER_UNAVAILABLE": "UNAVAILABLE",
    "ETAG_MISMATCH": "ABORTED",
    "ALREADY_EXISTS": "ALREADY_EXISTS",
    "LEDGER_OFF": "FAILED_PRECONDITION",
    "UNSPECIFIED": "INTERNAL",
}
DETAILS = {
    "INVALID_ARGUMENT": {"BadRequest"},
    "ABORTED": {"RetryInfo"},
    "RESOURCE_EXHAUSTED": {"RetryInfo", "QuotaFailure"},
    "UNAVAILABLE": {"RetryInfo"},
    "FAILED_PRECONDITION": {"PreconditionFailure"},
    "ALREADY_EXISTS": set(),
}


def test_table_covers_the_whole_vocabulary() -> None:
    """Every reason of the contract is in the table of this test, and so in the server's."""
    assert {f"ERROR_REASON_{reason}" for reason in CODES} == set(error_pb2.ErrorReason.keys())


@pytest.mark.parametrize(("reason", "code"), CODES.items())
def test_reason_has_its_status_and_details(reason: str, code: str) -> None:
    """A reason gives its status, ErrorInfo, RequestInfo, and the details of its kind."""
    detail = error_pb2.ErrorDetail(
        reason=error_pb2.ErrorReason.Value(f"ERROR_REASON_{reason}"),
        message="what happened",
        provider="openai",
        retryable=True,
    )
    failure = failure_of(detail, "the-id", attempt=2)
    assert failure.code is grpc.StatusCode[code]
    assert failure.message == f"{reason}: what happened"
    status = read(failure.trailing_metadata)
    names = [part.TypeName().removeprefix("google.rpc.") for part in status.details]
    assert names[:2] == ["ErrorInfo", "RequestInfo"]
    assert set(names[2:]) == DETAILS.get(code, set())
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["attempt"]) == (reason, DOMAIN, "2")


def test_reached_limit_names_whose_it_is() -> None:
    """QuotaFailure's subject is the scope whose limit is reached; without one it is the provider."""
    detail = error_pb2.ErrorDetail(
        reason=error_pb2.ERROR_REASON_RATE_LIMITED, message="tokens_per_min", provider="openai", retryable=True
    )
    for subject, told in (("persona:reviewer", "persona:reviewer"), ("", "provider:openai")):
        quota = error_details_pb2.QuotaFailure()
        read(failure_of(detail, subject=subject).trailing_metadata).details[-1].Unpack(quota)
        assert [violation.subject for violation in quota.violations] == [told]


def test_chat_that_can_never_pass_is_not_told_to_come_again() -> None:
    """What is larger than a whole limit of ours carries no RetryInfo."""
    detail = error_pb2.ErrorDetail(reason=error_pb2.ERROR_REASON_RATE_LIMITED, message="too large", retryable=False)
    parts = read(failure_of(detail).trailing_metadata).details
    assert not any(part.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for part in parts)


def test_invalid_request_names_the_field() -> None:
    """BadRequest carries the path of the field at fault."""
    detail = error_detail(InvalidRequestError("sampling.top_p: must be 0 to 1", field="sampling.top_p"))
    bad = error_details_pb2.BadRequest()
    read(failure_of(detail).trailing_metadata).details[1].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["sampling.top_p"]


def test_rate_limit_tells_how_long_to_wait() -> None:
    """The provider's Retry-After is RetryInfo, to the millisecond."""
    detail = error_detail(RateLimitedError("slow down", retry_after=34.4, provider_status=429), "gemini", "pro")
    retry = error_details_pb2.RetryInfo()
    read(failure_of(detail).trailing_metadata).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 34_400


def test_huge_messages_are_cut_below_what_grpc_carries() -> None:
    """Message stays within 1 KiB and details within 4 KiB, at character borders, whatever the provider sent."""
    error = RateLimitedError("ü" * 100_000, provider_code="c" * 9_000, provider_request_id="r" * 9_000)
    failure = failure_of(error_detail(error, "p" * 9_000, "m" * 9_000), "i" * 2_000)
    assert len(failure.message.encode()) <= 1024
    assert failure.message.startswith("PROVIDER_RATE_LIMITED: ü")
    [(_, details)] = failure.trailing_metadata
    assert len(details) <= 4096


def test_only_failures_after_output_forbid_the_channel_to_retry() -> None:
    """grpc-retry-pushback-ms is -1 after output, and absent before."""
    detail = error_pb2.ErrorDetail(reason=error_pb2.ERROR_REASON_STREAM_BROKEN)
    assert dict(failure_of(detail, after_output=True).trailing_metadata)["grpc-retry-pushback-ms"] == "-1"
    assert "grpc-retry-pushback-ms" not in dict(failure_of(detail).trailing_metadata)


def read(trailing_metadata: tuple[tuple[str, str | bytes], ...]) -> status_pb2.Status:
    """The google.rpc.Status in trailing metadata."""
    value = dict(trailing_metadata)["grpc-status-details-bin"]
    assert isinstance(value, bytes)
    return status_pb2.Status.FromString(value)
