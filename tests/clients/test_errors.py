"""Statuses as errors, and the reading of their details without the googleapis package."""

import pickle
import subprocess
import sys
from typing import Any

import grpc
import pytest
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from tests.clients.platform_server import failed, started, status_of, used

from execution_platform.client import (
    CallCancelledError,
    DeadlineExceededError,
    ExecutionPlatformError,
    FailedPreconditionError,
    Fold,
    InternalError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    RequestInProgressError,
    StreamBrokenError,
    TransportError,
    UnauthenticatedError,
    UnavailableError,
    UnsupportedError,
    Violation,
)
from execution_platform.client.errors import DOMAIN, error_from_rpc
from execution_platform.client.protowire import bytes_field, fields, signed, text
from execution_platform.client.status_details import TRAILER, read_status_details
from execution_platform.v1 import error_pb2

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
Code = grpc.StatusCode


def rpc_error(code: grpc.StatusCode, message: str = "said", *details: Message) -> grpc.RpcError:
    """Return what grpc raises for a status with details."""
    trailer = ((TRAILER, status_of(code, message, *details)),) if details else ()
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailer), message, "")


def info(reason: str, domain: str = DOMAIN, **metadata: str) -> error_details_pb2.ErrorInfo:
    """Return an ErrorInfo."""
    return error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (Code.INVALID_ARGUMENT, InvalidRequestError),
        (Code.ABORTED, RequestInProgressError),
        (Code.NOT_FOUND, NotFoundError),
        (Code.UNAUTHENTICATED, UnauthenticatedError),
        (Code.PERMISSION_DENIED, PermissionDeniedError),
        (Code.FAILED_PRECONDITION, FailedPreconditionError),
        (Code.RESOURCE_EXHAUSTED, RateLimitedError),
        (Code.UNAVAILABLE, UnavailableError),
        (Code.UNIMPLEMENTED, UnsupportedError),
        (Code.CANCELLED, CallCancelledError),
        (Code.DEADLINE_EXCEEDED, DeadlineExceededError),
        (Code.INTERNAL, InternalError),
        (Code.UNKNOWN, InternalError),
        (Code.DATA_LOSS, InternalError),
    ],
)
def test_each_status_of_the_platform_has_its_error(code: grpc.StatusCode, kind: type[ExecutionPlatformError]) -> None:
    """A status with our ErrorInfo is the error of its code, with the reason in front of the message."""
    error = error_from_rpc(rpc_error(code, "WHY: said", info("WHY")))
    assert type(error) is kind
    assert (error.reason, error.message, str(error)) == ("WHY", "said", "WHY: said")


@pytest.mark.parametrize("code", [Code.RESOURCE_EXHAUSTED, Code.UNAVAILABLE])
@pytest.mark.parametrize("details", [(), (info("WHY", domain="somebody.else"),)])
def test_what_the_platform_did_not_say_is_the_transport(
    code: grpc.StatusCode, details: tuple[error_details_pb2.ErrorInfo, ...]
) -> None:
    """RESOURCE_EXHAUSTED and UNAVAILABLE without our ErrorInfo are errors of the transport."""
    assert type(error_from_rpc(rpc_error(code, "said", *details))) is TransportError


def test_every_status_is_some_error() -> None:
    """No status of gRPC is left without an error."""
    made = {type(error_from_rpc(rpc_error(code))) for code in Code if code is not Code.OK}
    assert all(issubclass(kind, ExecutionPlatformError) for kind in made)


def test_a_broken_stream_is_told_by_its_reason() -> None:
    """UNAVAILABLE with the reason STREAM_BROKEN is a StreamBrokenError, which is an UnavailableError too."""
    error = error_from_rpc(rpc_error(Code.UNAVAILABLE, "STREAM_BROKEN: cut", info("STREAM_BROKEN")))
    assert type(error) is StreamBrokenError
    assert isinstance(error, UnavailableError)


def test_violations_name_what_is_wrong() -> None:
    """Fields of BadRequest, quotas and preconditions are told with their descriptions."""
    bad = error_details_pb2.BadRequest(
        field_violations=[error_details_pb2.BadRequest.FieldViolation(field="messages[0]", description="empty")]
    )
    quota = error_details_pb2.QuotaFailure(
        violations=[error_details_pb2.QuotaFailure.Violation(subject="provider:x", description="used up")]
    )
    missing = error_details_pb2.PreconditionFailure(
        violations=[error_details_pb2.PreconditionFailure.Violation(type="KEY", subject="x", description="no key")]
    )
    error = error_from_rpc(rpc_error(Code.INVALID_ARGUMENT, "said", info("INVALID_REQUEST"), bad, quota, missing))
    assert error.field_violations == (Violation("messages[0]", "empty"),)
    assert error.violations == (Violation("provider:x", "used up"), Violation("x", "no key", "KEY"))


def test_the_failed_event_stands_in_for_a_status_without_details() -> None:
    """Where a proxy cut the details off, reason, provider, retry-after and field come from the stream itself."""
    detail = error_pb2.ErrorDetail(
        reason=error_pb2.ERROR_REASON_PROVIDER_OVERLOADED,
        provider="p",
        model="m",
        provider_status=529,
        provider_code="overloaded_error",
        provider_request_id="req",
        retryable=True,
        field="model",
        message="busy",
    )
    detail.retry_after.FromSeconds(9)
    fold = Fold()
    fold.add_all([started(), failed(detail)])
    error = error_from_rpc(rpc_error(Code.UNAVAILABLE), fold)
    assert type(error) is UnavailableError
    assert (error.reason, error.provider, error.model) == ("PROVIDER_OVERLOADED", "p", "m")
    assert (error.provider_status, error.provider_code, error.provider_request_id) == (529, "overloaded_error", "req")
    assert (error.retryable, error.retry_after, error.request_id) == (True, 9.0, "request-1")
    assert error.field_violations == (Violation("model", "busy"),)
    assert error.usage == used(2)


def test_whether_another_attempt_may_do_is_the_platforms_word() -> None:
    """The server's `retryable` decides, and without it a retry-after does."""
    retry = error_details_pb2.RetryInfo()
    said_no = error_from_rpc(rpc_error(Code.UNAVAILABLE, "x", info("WHY", retryable="false"), retry))
    unsaid = error_from_rpc(rpc_error(Code.UNAVAILABLE, "x", info("WHY"), retry))
    assert (said_no.retryable, unsaid.retryable) == (False, True)
    assert error_from_rpc(rpc_error(Code.UNAVAILABLE)).retryable
    assert not error_from_rpc(rpc_error(Code.INTERNAL)).retryable


def test_a_reason_of_a_newer_server_is_kept() -> None:
    """A reason that this client does not know is told as it came, by name or by number."""
    assert error_from_rpc(rpc_error(Code.INTERNAL, "x", info("BRAND_NEW"))).reason == "BRAND_NEW"
    fold = Fold()
    fold.add(failed(error_pb2.ErrorDetail(reason=error_pb2.ErrorReason.ValueType(900))))
    assert error_from_rpc(rpc_error(Code.INTERNAL), fold).reason == "900"


def test_the_first_metadata_name_the_request_too() -> None:
    """Where the details name no request, the identifier is that of the initial metadata."""
    first = grpc.aio.Metadata(("x-request-id", "from-metadata"))
    refused = grpc.aio.AioRpcError(Code.NOT_FOUND, first, grpc.aio.Metadata(), "said", "")
    assert error_from_rpc(refused).request_id == "from-metadata"
    assert error_from_rpc(refused, Fold()).request_id == "from-metadata"


def test_errors_travel_between_processes() -> None:
    """An error that was pickled is the same error."""
    error = error_from_rpc(rpc_error(Code.NOT_FOUND, "WHY: said", info("WHY", provider="p")))
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert type(again) is NotFoundError
    assert (again.reason, again.message, again.provider) == ("WHY", "said", "p")
    assert repr(again) == "NotFoundError('WHY: said')"


@given(
    TEXT, TEXT, st.dictionaries(TEXT, TEXT, max_size=5), TEXT, st.integers(-(2**40), 2**40), st.integers(0, 999_999_999)
)
def test_details_are_read_as_protobuf_reads_them(
    reason: str, domain: str, metadata: dict[str, str], request_id: str, seconds: int, nanos: int
) -> None:
    """What the generated google.rpc messages wrote is read back the same."""
    retry = error_details_pb2.RetryInfo()
    retry.retry_delay.seconds, retry.retry_delay.nanos = seconds, nanos if seconds >= 0 else -nanos
    written = status_of(
        Code.ABORTED,
        "said",
        error_details_pb2.DebugInfo(detail="passed over"),
        error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata=metadata),
        error_details_pb2.RequestInfo(request_id=request_id),
        retry,
    )
    found = read_status_details(written)
    assert (found.reason, found.domain, found.metadata, found.request_id) == (reason, domain, metadata, request_id)
    assert found.retry_after == retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9


@given(st.binary(max_size=60))
def test_broken_details_are_no_details(noise: bytes) -> None:
    """Bytes that are no status, or a status of broken details, never raise."""
    read_status_details(noise)
    read_status_details(
        bytes_field(3, bytes_field(1, b"type.googleapis.com/google.rpc.ErrorInfo") + bytes_field(2, noise))
    )
    read_status_details(bytes_field(3, noise))


@pytest.mark.parametrize("broken", [b"\x08", b"\x0a\x05ab", b"\x09\x01", b"\x0b", b"\x08" + b"\xff" * 11])
def test_broken_messages_are_refused(broken: bytes) -> None:
    """A message that is cut short, has an unknown wire type or an endless number raises ValueError."""
    with pytest.raises(ValueError, match=r"cut short|wire type|ten bytes"):
        list(fields(broken))


def test_numbers_keep_their_sign() -> None:
    """A negative number of ten bytes is read as negative, and fixed-width fields are passed on as bytes."""
    assert [signed(value) for _, value in fields(b"\x08" + b"\xff" * 9 + b"\x01") if isinstance(value, int)] == [-1]
    assert list(fields(b"\x0d\x01\x02\x03\x04")) == [(1, b"\x01\x02\x03\x04")]
    with pytest.raises(ValueError, match="string"):
        text(1)


def test_the_googleapis_package_is_not_needed() -> None:
    """The client works where google.rpc and grpc_health cannot be imported, and clashes with neither later on."""
    script = (
        "import sys\n"
        "away = ['google.rpc', 'grpc_health', 'grpc_status']\n"
        "sys.modules.update(dict.fromkeys(away))\n"
        "import execution_platform.client\n"
        "for name in away: del sys.modules[name]\n"
        "from google.rpc import error_details_pb2, status_pb2\n"
        "from grpc_health.v1 import health_pb2\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_an_error_without_facts_is_an_error() -> None:
    """An error may be raised with a message alone."""
    error: Any = ExecutionPlatformError("said")
    assert (str(error), error.reason, error.code, error.usage, error.partial) == ("said", "", None, None, None)
