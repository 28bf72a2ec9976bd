"""The errors of adapters. An error carries the decision; the server turns it into a gRPC status in one table.

AdapterError
|-- InvalidRequestError            the request itself is wrong
|   |-- UnsupportedOptionError     the model cannot do what was asked
|   |-- ContextLengthError         the prompt does not fit
|   +-- RequestTooLargeError       the body is larger than the provider takes
|-- NotFoundError                  something that was named does not exist at the provider
|   +-- ModelNotFoundError
|-- NotSupportedError              the provider has no such function
|-- NotConfiguredError             no credentials or address
|-- CredentialsError               the provider refuses the platform's credentials
|-- ForbiddenError                 the credentials may not do this
|-- BillingError                   no credit, or a spend limit
|-- RateLimitedError
|-- OverloadedError
|-- ProviderTimeoutError
|-- UnavailableError               unreachable, or a failure of its own
|-- StreamBrokenError              the answer ended in the middle
+-- ProtocolError                  the answer breaks the provider's own protocol

Each error has a kind, and each kind a decision; :mod:`.decisions` holds both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from execution_platform.adapters.decisions import Decision, ErrorKind, decision_of, kind_of
from execution_platform.v1 import chat_pb2, error_pb2

__all__ = [
    "AdapterError",
    "BillingError",
    "ContextLengthError",
    "CredentialsError",
    "ForbiddenError",
    "InvalidRequestError",
    "ModelNotFoundError",
    "NotConfiguredError",
    "NotFoundError",
    "NotSupportedError",
    "OverloadedError",
    "ProtocolError",
    "ProviderTimeoutError",
    "RateLimitedError",
    "RequestTooLargeError",
    "StreamBrokenError",
    "UnavailableError",
    "UnsupportedOptionError",
    "error_for_status",
]


class AdapterError(Exception):
    """A failed call of a provider.

    Args:
        message: for people; names the field and the fix where there is one. Never holds a secret.
        field: path of the ChatRequest field at fault, for example ``sampling.top_k``; empty: none.
        provider_status: HTTP status of the provider's answer, 200 for a failure inside a stream, 0: no answer.
        provider_code: the provider's own code or type of the error.
        provider_request_id: the provider's identifier of the request.
        retry_after: seconds until another attempt makes sense; None: not told.
        retryable: overrides the class's decision, for example by ``x-should-retry``.

    Attributes:
        told: the override; None: nobody said whether it will pass.
        events: what the piece of the stream that told the error said before it. Set by a translation; whoever reads
            the stream yields them before the error, so that where the network cuts decides nothing.
        asked: the provider was asked; False: it was passed over without being asked.
        unanswered: the request went out and its provider has not said that it failed: the wait was given up, or the
            connection broke. It may be charged for.
        provider: who failed; empty: the platform, or not told yet. Set by whoever knows the route.
        model: the provider's model.
    """

    reason: ClassVar[error_pb2.ErrorReason.ValueType] = error_pb2.ERROR_REASON_INTERNAL
    retryable_by_default: ClassVar[bool] = False
    unanswered_by_default: ClassVar[bool] = False

    def __init__(
        self,
        message: str,
        *,
        field: str = "",
        provider_status: int = 0,
        provider_code: str = "",
        provider_request_id: str = "",
        retry_after: float | None = None,
        retryable: bool | None = None,
    ) -> None:
        message = _carried(message)
        super().__init__(message)
        self.message = message
        self.field = field
        self.provider_status = provider_status
        self.provider_code = _carried(provider_code)
        self.provider_request_id = _carried(provider_request_id)
        self.retry_after = retry_after
        self.told = retryable
        self.retryable = self.retryable_by_default if retryable is None else retryable
        self.events: list[chat_pb2.ChatEvent] = []
        self.asked = True
        self.unanswered = self.unanswered_by_default
        self.provider = ""
        self.model = ""

    @property
    def kind(self) -> ErrorKind:
        """What sort of failure it is."""
        return kind_of(self.reason)

    @property
    def decision(self) -> Decision:
        """What follows from it. An error that says of itself that it will pass, or will not, is believed."""
        decided = decision_of(self.reason)
        return decided if self.told is None else replace(decided, retry=self.told)


def _carried(text: str) -> str:
    """Return a provider's words as protobuf can carry them: half of a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()


class InvalidRequestError(AdapterError):
    """The request is not valid for this provider."""

    reason = error_pb2.ERROR_REASON_INVALID_REQUEST


class UnsupportedOptionError(InvalidRequestError):
    """The model cannot honour an option, and the request wants that refused."""

    reason = error_pb2.ERROR_REASON_UNSUPPORTED_OPTION


class ContextLengthError(InvalidRequestError):
    """The prompt does not fit into the model's context."""

    reason = error_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED


class RequestTooLargeError(InvalidRequestError):
    """The body is larger than the provider takes."""

    reason = error_pb2.ERROR_REASON_REQUEST_TOO_LARGE


class NotFoundError(AdapterError):
    """Something that the request names, such as a file, does not exist at the provider."""

    reason = error_pb2.ERROR_REASON_NOT_FOUND


class ModelNotFoundError(NotFoundError):
    """The provider does not know the model."""

    reason = error_pb2.ERROR_REASON_MODEL_NOT_FOUND


class NotSupportedError(AdapterError):
    """The provider has no such function."""

    reason = error_pb2.ERROR_REASON_NOT_SUPPORTED_BY_PROVIDER


class NotConfiguredError(AdapterError):
    """The provider has no credentials or address here."""

    reason = error_pb2.ERROR_REASON_PROVIDER_NOT_CONFIGURED


class CredentialsError(AdapterError):
    """The provider refuses the platform's credentials."""

    reason = error_pb2.ERROR_REASON_PROVIDER_AUTHENTICATION


class ForbiddenError(AdapterError):
    """The platform's credentials may not do this at the provider."""

    reason = error_pb2.ERROR_REASON_PROVIDER_PERMISSION


class BillingError(AdapterError):
    """The platform's account at the provider has no credit or has reached its spend limit."""

    reason = error_pb2.ERROR_REASON_PROVIDER_BILLING


class RateLimitedError(AdapterError):
    """The provider limits the rate."""

    reason = error_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED
    retryable_by_default = True


class OverloadedError(AdapterError):
    """The provider is overloaded."""

    reason = error_pb2.ERROR_REASON_PROVIDER_OVERLOADED
    retryable_by_default = True


class ProviderTimeoutError(AdapterError):
    """The provider did not answer in time."""

    reason = error_pb2.ERROR_REASON_PROVIDER_TIMEOUT
    retryable_by_default = True


class UnavailableError(AdapterError):
    """The provider cannot be reached or reports a failure of its own."""

    reason = error_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE
    retryable_by_default = True


class StreamBrokenError(AdapterError):
    """The answer ended in the middle, without the provider's word that it is complete."""

    reason = error_pb2.ERROR_REASON_STREAM_BROKEN
    retryable_by_default = True
    unanswered_by_default = True


class ProtocolError(AdapterError):
    """The provider's answer breaks its own protocol."""

    reason = error_pb2.ERROR_REASON_PROVIDER_PROTOCOL


_BY_STATUS: dict[int, type[AdapterError]] = {
    400: InvalidRequestError,
    401: CredentialsError,
    402: BillingError,
    403: ForbiddenError,
    404: NotFoundError,
    405: InvalidRequestError,
    408: ProviderTimeoutError,
    409: UnavailableError,
    413: RequestTooLargeError,
    415: InvalidRequestError,
    422: InvalidRequestError,
    424: UnavailableError,
    429: RateLimitedError,
    498: OverloadedError,
    499: UnavailableError,
    503: OverloadedError,
    504: ProviderTimeoutError,
    529: OverloadedError,
}


def error_for_status(status: int) -> type[AdapterError]:
    """Return what an HTTP status means when the provider's body says nothing more exact. Total over all ints."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if 400 <= status < 500:
        return InvalidRequestError
    if status >= 500:
        return UnavailableError
    return ProtocolError
