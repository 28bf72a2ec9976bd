"""The one table that turns an error into a gRPC status with details."""

from __future__ import annotations

from typing import NamedTuple

import grpc
from google.protobuf import any_pb2, duration_pb2
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from execution_platform.adapters.errors import AdapterError
from execution_platform.v1 import error_pb2

__all__ = ["DOMAIN", "RpcFailure", "error_detail", "failure_of"]

DOMAIN = "execution-platform"

#: Seconds to wait where a status needs RetryInfo and nobody told how long.
DEFAULT_RETRY_SECONDS = 1.0

_MAX_MESSAGE_BYTES = 1024
_MAX_DETAILS_BYTES = 4096
_MAX_METADATA_VALUE = 256

_CODES: dict[error_pb2.ErrorReason.ValueType, grpc.StatusCode] = {
    error_pb2.ERROR_REASON_UNSPECIFIED: grpc.StatusCode.INTERNAL,
    error_pb2.ERROR_REASON_INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_UNSUPPORTED_OPTION: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_REQUEST_TOO_LARGE: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_REQUEST_ID_REUSED: grpc.StatusCode.INVALID_ARGUMENT,
    error_pb2.ERROR_REASON_REQUEST_IN_PROGRESS: grpc.StatusCode.ABORTED,
    error_pb2.ERROR_REASON_MODEL_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    error_pb2.ERROR_REASON_PROVIDER_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    error_pb2.ERROR_REASON_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    error_pb2.ERROR_REASON_PROVIDER_NOT_CONFIGURED: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_PROVIDER_AUTHENTICATION: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_PROVIDER_PERMISSION: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_PROVIDER_BILLING: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_REASON_PROVIDER_OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_PROVIDER_TIMEOUT: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_STREAM_BROKEN: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_PROVIDER_PROTOCOL: grpc.StatusCode.INTERNAL,
    error_pb2.ERROR_REASON_DRAINING: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_SERVER_OVERLOADED: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_CANCELLED: grpc.StatusCode.CANCELLED,
    error_pb2.ERROR_REASON_DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    error_pb2.ERROR_REASON_NOT_SUPPORTED_BY_PROVIDER: grpc.StatusCode.UNIMPLEMENTED,
    error_pb2.ERROR_REASON_INTERNAL: grpc.StatusCode.INTERNAL,
    error_pb2.ERROR_REASON_PERSONA_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    error_pb2.ERROR_REASON_CAPABILITY_MISSING: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_NOT_ALLOWED: grpc.StatusCode.FAILED_PRECONDITION,
    error_pb2.ERROR_REASON_CIRCUIT_OPEN: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_NO_HEALTHY_ROUTE: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_RATE_LIMITED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_REASON_BUDGET_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    error_pb2.ERROR_REASON_LEDGER_UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    error_pb2.ERROR_REASON_ETAG_MISMATCH: grpc.StatusCode.ABORTED,
    error_pb2.ERROR_REASON_ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    error_pb2.ERROR_REASON_LEDGER_OFF: grpc.StatusCode.FAILED_PRECONDITION,
}

#: Limits of our own.
_OURS = frozenset({error_pb2.ERROR_REASON_RATE_LIMITED, error_pb2.ERROR_REASON_BUDGET_EXCEEDED})

_WITH_RETRY_INFO = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED})


class RpcFailure(NamedTuple):
    """What ends an RPC.

    Attributes:
        code: the gRPC status code.
        message: starts with the reason; at most 1 KiB.
        trailing_metadata: the details, at most 4 KiB, and whether the channel may retry.
    """

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


def error_detail(error: AdapterError, provider: str = "", model: str = "") -> error_pb2.ErrorDetail:
    """Return an error as the contract tells it."""
    detail = error_pb2.ErrorDetail(
        reason=error.reason,
        message=_cut(error.message, _MAX_MESSAGE_BYTES),
        provider=error.provider or provider,
        model=error.model or model,
        provider_status=error.provider_status,
        provider_code=_cut(error.provider_code, _MAX_METADATA_VALUE),
        provider_request_id=_cut(error.provider_request_id, _MAX_METADATA_VALUE),
        retryable=error.retryable,
        field=error.field,
    )
    if error.retry_after is not None:
        detail.retry_after.CopyFrom(_duration(error.retry_after))
    return detail


def failure_of(
    detail: error_pb2.ErrorDetail,
    request_id: str = "",
    *,
    attempt: int = 0,
    after_output: bool = False,
    subject: str = "",
) -> RpcFailure:
    """Return the status that tells an error.

    Args:
        detail: the error.
        request_id: id of the request; empty: unknown.
        attempt: number of the failed attempt, from 1; 0: nobody was asked.
        after_output: output has been sent, so the channel must not retry on its own.
        subject: whose limit is reached; empty: the provider's, or the route's where none was asked.
    """
    code = _CODES.get(detail.reason, grpc.StatusCode.INTERNAL)
    reason = _reason_name(detail.reason)
    message = _cut(f"{reason}: {detail.message}", _MAX_MESSAGE_BYTES)
    status = status_pb2.Status(code=code.value[0], message=message)
    for part in _details(detail, code, reason, request_id, attempt, subject):
        packed = any_pb2.Any()
        packed.Pack(part)
        status.details.append(packed)
        if status.ByteSize() > _MAX_DETAILS_BYTES:
            del status.details[-1]
    trailing: list[tuple[str, str | bytes]] = [("grpc-status-details-bin", status.SerializeToString())]
    if after_output:
        trailing.append(("grpc-retry-pushback-ms", "-1"))
    return RpcFailure(code, message, tuple(trailing))


def _reason_name(reason: error_pb2.ErrorReason.ValueType) -> str:
    return error_pb2.ErrorReason.Name(reason).removeprefix("ERROR_REASON_")


def _details(
    detail: error_pb2.ErrorDetail,
    code: grpc.StatusCode,
    reason: str,
    request_id: str,
    attempt: int,
    subject: str,
) -> list[Message]:
    told = {
        "provider": detail.provider,
        "model": detail.model,
        "provider_status": str(detail.provider_status or ""),
        "provider_code": detail.provider_code,
        "provider_request_id": detail.provider_request_id,
        "attempt": str(attempt or ""),
        "retryable": str(detail.retryable).lower(),
    }
    metadata = {key: _cut(value, _MAX_METADATA_VALUE) for key, value in told.items() if value}
    parts: list[Message] = [error_details_pb2.ErrorInfo(reason=reason, domain=DOMAIN, metadata=metadata)]
    if request_id:
        parts.append(error_details_pb2.RequestInfo(request_id=request_id))
    # What is larger than a limit of ours never passes: no wait helps.
    if code in _WITH_RETRY_INFO and (detail.retryable or detail.reason not in _OURS):
        parts.append(_retry_info(detail))
    special = _special(detail, code, reason, subject or _subject(detail))
    if special is not None:
        parts.append(special)
    return parts


def _retry_info(detail: error_pb2.ErrorDetail) -> error_details_pb2.RetryInfo:
    info = error_details_pb2.RetryInfo()
    if detail.HasField("retry_after"):
        info.retry_delay.CopyFrom(detail.retry_after)
    else:
        info.retry_delay.CopyFrom(_duration(DEFAULT_RETRY_SECONDS))
    return info


def _subject(detail: error_pb2.ErrorDetail) -> str:
    return f"provider:{detail.provider}" if detail.provider else "route"


def _special(detail: error_pb2.ErrorDetail, code: grpc.StatusCode, reason: str, subject: str) -> Message | None:
    description = _cut(detail.message, _MAX_METADATA_VALUE * 2)
    special: Message | None = None
    if code is grpc.StatusCode.INVALID_ARGUMENT:
        field = error_details_pb2.BadRequest.FieldViolation(field=detail.field, description=description)
        special = error_details_pb2.BadRequest(field_violations=[field])
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        quota = error_details_pb2.QuotaFailure.Violation(subject=subject, description=description)
        special = error_details_pb2.QuotaFailure(violations=[quota])
    elif code is grpc.StatusCode.FAILED_PRECONDITION:
        precondition = error_details_pb2.PreconditionFailure.Violation(
            type=reason, subject=subject, description=description
        )
        special = error_details_pb2.PreconditionFailure(violations=[precondition])
    return special


def _duration(seconds: float) -> duration_pb2.Duration:
    duration = duration_pb2.Duration()
    duration.FromMilliseconds(round(max(0.0, min(seconds, 86_400.0 * 365)) * 1000))
    return duration


def _cut(text: str, max_bytes: int) -> str:
    encoded = text.encode("utf-8", "replace")
    if len(encoded) <= max_bytes:
        return text
    return encoded[: max_bytes - 3].decode("utf-8", "ignore") + "..."
