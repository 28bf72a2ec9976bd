"""The errors of the client. All carry the platform's reason, where the platform gave one.

ExecutionPlatformError
|-- InvalidRequestError          the request is wrong or too large; `field_violations` name the field
|-- RequestInProgressError       a request with the same request_id still runs
|-- NotFoundError                no such model, provider or other thing
|-- UnauthenticatedError         the caller's credentials are refused
|-- PermissionDeniedError        the caller may not do this
|-- FailedPreconditionError      the platform lacks something, such as a provider's key
|-- RateLimitedError             a rate limit or quota; see `retry_after`
|   +-- BudgetExceededError      a budget has no room
|-- ConflictError                it exists already, or was changed by somebody else
|-- UnavailableError             provider or server overloaded, down, too slow or draining
|   +-- StreamBrokenError        the answer broke off after output had been sent
|-- UnsupportedError             the provider or the server has no such function
|-- CallCancelledError           the call was cancelled
|-- DeadlineExceededError        the caller's timeout, or the server's default one, has passed
|-- InternalError                a fault of the platform, or nonsense from a provider
|-- ProtocolViolationError       the server broke a promise of the stream
+-- TransportError               the server was not reached, or a message was larger than the transport takes
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, cast

import grpc

from execution_platform.client.enums import short_name
from execution_platform.client.fold import Fold
from execution_platform.client.status_details import TRAILER, StatusDetails, Violation, read_status_details
from execution_platform.v1 import error_pb2

if TYPE_CHECKING:
    from execution_platform.v1 import usage_pb2

__all__ = [
    "DOMAIN",
    "BudgetExceededError",
    "CallCancelledError",
    "ConflictError",
    "DeadlineExceededError",
    "ErrorFacts",
    "ExecutionPlatformError",
    "FailedPreconditionError",
    "InternalError",
    "InvalidRequestError",
    "NotFoundError",
    "PermissionDeniedError",
    "ProtocolViolationError",
    "RateLimitedError",
    "RequestInProgressError",
    "StreamBrokenError",
    "TransportError",
    "UnauthenticatedError",
    "UnavailableError",
    "UnsupportedError",
    "error_from_rpc",
    "raising_ours",
    "request_id_in",
]

DOMAIN = "execution-platform"
"""ErrorInfo.domain of every error that the platform itself states."""


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What is known of a failure besides its message; the fields are described at ExecutionPlatformError."""

    code: grpc.StatusCode | None = None
    reason: str = ""
    retryable: bool = False
    retry_after: float | None = None
    provider: str = ""
    model: str = ""
    provider_status: int = 0
    provider_code: str = ""
    provider_request_id: str = ""
    request_id: str = ""
    field_violations: tuple[Violation, ...] = ()
    violations: tuple[Violation, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


class ExecutionPlatformError(Exception):
    """A call that failed.

    Attributes:
        message: for people, without the reason that `str()` puts in front.
        code: the gRPC status; None for a fault that the client found itself.
        reason: name of an ErrorReason without its prefix, such as ``PROVIDER_RATE_LIMITED``; empty: none was given.
        retryable: whether the same request may succeed later without a change.
        retry_after: seconds until another attempt makes sense; None: not told.
        provider: provider that failed; empty: none was asked.
        model: the provider's model; empty: none was chosen.
        provider_status: HTTP status of the provider's answer; 0: there was none.
        provider_code: the provider's own code of the error.
        provider_request_id: the provider's identifier of the request.
        request_id: the platform's identifier of the request.
        field_violations: fields of the request that are at fault.
        violations: quotas that have run out and preconditions that are not met.
        metadata: everything that ErrorInfo said, by key.
        partial: what a stream had told before it failed; None for other calls.
    """

    def __init__(self, message: str, facts: ErrorFacts | None = None, partial: Fold | None = None) -> None:
        super().__init__(message, facts, partial)
        facts = facts if facts is not None else ErrorFacts()
        self.message = message
        self.code = facts.code
        self.reason = facts.reason
        self.retryable = facts.retryable
        self.retry_after = facts.retry_after
        self.provider = facts.provider
        self.model = facts.model
        self.provider_status = facts.provider_status
        self.provider_code = facts.provider_code
        self.provider_request_id = facts.provider_request_id
        self.request_id = facts.request_id
        self.field_violations = facts.field_violations
        self.violations = facts.violations
        self.metadata = facts.metadata
        self.partial = partial

    def __str__(self) -> str:
        """Return the message behind its reason."""
        return f"{self.reason}: {self.message}" if self.reason else self.message

    def __repr__(self) -> str:
        """Return the class and what `str()` gives."""
        return f"{type(self).__name__}({str(self)!r})"

    @property
    def usage(self) -> usage_pb2.Usage | None:
        """What was used before it failed, as far as the stream told; None: not known."""
        return self.partial.usage if self.partial is not None else None


class InvalidRequestError(ExecutionPlatformError):
    """The request is wrong, asks for what the model cannot do, or is too large."""


class RequestInProgressError(ExecutionPlatformError):
    """A request with the same request_id is still running."""


class NotFoundError(ExecutionPlatformError):
    """The model, the provider or something else that was named does not exist."""


class UnauthenticatedError(ExecutionPlatformError):
    """The caller's credentials are missing or refused."""


class PermissionDeniedError(ExecutionPlatformError):
    """The caller may not do this."""


class FailedPreconditionError(ExecutionPlatformError):
    """The platform lacks something: a provider's key, permission or credit."""


class RateLimitedError(ExecutionPlatformError):
    """A rate limit or quota, the platform's or the provider's."""


class BudgetExceededError(RateLimitedError):
    """A budget has no room for what the chat might cost; the message names it, and `retry_after` its next window."""


class ConflictError(ExecutionPlatformError):
    """Something of that name exists already, or was changed by somebody else since it was read."""


class UnavailableError(ExecutionPlatformError):
    """The provider or the server is overloaded, down, too slow or draining."""


class StreamBrokenError(UnavailableError):
    """The answer broke off after output had been sent; `partial` has what came."""


class UnsupportedError(ExecutionPlatformError):
    """The provider, or this server, has no such function."""


class CallCancelledError(ExecutionPlatformError):
    """The call was cancelled, by this side or by the server."""


class DeadlineExceededError(ExecutionPlatformError):
    """The timeout of the call, or the server's default one, has passed."""


class InternalError(ExecutionPlatformError):
    """A fault of the platform, or an answer of the provider that breaks its own protocol."""


class ProtocolViolationError(ExecutionPlatformError):
    """The server broke a promise of the stream, such as ending it with status OK before `finished`."""


class TransportError(ExecutionPlatformError):
    """The server was not reached, or the transport refused; the platform itself has said nothing."""


_BY_CODE: dict[grpc.StatusCode, type[ExecutionPlatformError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.ABORTED: RequestInProgressError,
    grpc.StatusCode.ALREADY_EXISTS: ConflictError,
    grpc.StatusCode.NOT_FOUND: NotFoundError,
    grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimitedError,
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
}

_BY_REASON: dict[str, type[ExecutionPlatformError]] = {
    "STREAM_BROKEN": StreamBrokenError,
    "BUDGET_EXCEEDED": BudgetExceededError,
    "ETAG_MISMATCH": ConflictError,
}

_TRANSPORT = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE}
# Without ErrorInfo these still mean that another attempt may succeed.
_RETRYABLE = {grpc.StatusCode.UNAVAILABLE}


class FailedCall(Protocol):
    """What the errors of grpc have in common, synchronous and asynchronous."""

    def code(self) -> grpc.StatusCode | None:
        """Return the status."""

    def details(self) -> str | None:
        """Return the status's message."""

    def initial_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return what the server sent first."""

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None:
        """Return what the server sent last."""


def error_from_rpc(error: grpc.RpcError, partial: Fold | None = None) -> ExecutionPlatformError:
    """Return the error that a failed RPC means.

    Args:
        error: what grpc raised, synchronous or asynchronous.
        partial: what the stream had told; None for a call without a stream.
    """
    call = cast("FailedCall", error)  # not every type of grpc's errors says so
    code = call.code() or grpc.StatusCode.UNKNOWN
    details = _details_of(call)
    request_id = partial.response.started.request_id if partial is not None else ""
    # The error of a synchronous stream is the stream itself, and asking it for its first metadata might wait.
    if not request_id and (partial is None or isinstance(error, grpc.aio.AioRpcError)):
        request_id = request_id_in(call.initial_metadata())
    told = partial.failed.error if partial is not None and partial.failed is not None else None
    ours = details.domain == DOMAIN or told is not None
    facts = _facts(code, details, told or error_pb2.ErrorDetail(), request_id)
    message = _without_reason(call.details() or code.name, facts.reason)
    return _class_of(code, facts.reason, ours=ours)(message, facts, partial)


def request_id_in(metadata: Iterable[tuple[str, str | bytes]] | None) -> str:
    """Return the request's identifier that a call's initial metadata tell; empty: they tell none."""
    return next((str(value) for key, value in metadata or () if key == "x-request-id"), "")


@contextmanager
def raising_ours(partial: Fold | None = None) -> Iterator[None]:
    """Raise what grpc raises inside as an ExecutionPlatformError."""
    try:
        yield
    except grpc.RpcError as error:
        raise error_from_rpc(error, partial) from error


def _class_of(code: grpc.StatusCode, reason: str, *, ours: bool) -> type[ExecutionPlatformError]:
    if not ours and code in _TRANSPORT:
        return TransportError
    return _BY_REASON.get(reason) or _BY_CODE.get(code, InternalError)


def _facts(
    code: grpc.StatusCode,
    details: StatusDetails,
    told: error_pb2.ErrorDetail,
    request_id: str,
) -> ErrorFacts:
    """Join what the status says with what the stream's `failed` event said, should a proxy have cut the status."""
    metadata = details.metadata
    fields = details.fields or ((Violation(told.field, told.message),) if told.field else ())
    retry_after = details.retry_after
    if retry_after is None and told.HasField("retry_after"):
        retry_after = told.retry_after.ToTimedelta().total_seconds()
    return ErrorFacts(
        code=code,
        reason=details.reason or (short_name(error_pb2.ErrorReason.DESCRIPTOR, told.reason) if told.reason else ""),
        retryable=_retryable(code, details, told),
        retry_after=retry_after,
        provider=metadata.get("provider", told.provider),
        model=metadata.get("model", told.model),
        provider_status=_int(metadata.get("provider_status", "")) or told.provider_status,
        provider_code=metadata.get("provider_code", told.provider_code),
        provider_request_id=metadata.get("provider_request_id", told.provider_request_id),
        request_id=details.request_id or request_id,
        field_violations=fields,
        violations=details.quotas + details.preconditions,
        metadata=metadata,
    )


def _retryable(code: grpc.StatusCode, details: StatusDetails, told: error_pb2.ErrorDetail) -> bool:
    if "retryable" in details.metadata:
        return details.metadata["retryable"].lower() == "true"
    if details.reason or told.reason:
        return told.retryable or details.retry_after is not None
    return code in _RETRYABLE


def _without_reason(message: str, reason: str) -> str:
    return message.removeprefix(reason).removeprefix(":").strip() or message if reason else message


def _details_of(error: FailedCall) -> StatusDetails:
    for key, value in error.trailing_metadata() or ():
        if key == TRAILER and isinstance(value, bytes):
            return read_status_details(value)
    return StatusDetails()


def _int(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() else 0
