"""The server's own failures, in the same tree as the adapters', so that one table turns all of them into gRPC.

AdapterError
|-- InvalidRequestError
|   +-- RequestIdReusedError     the id came lately with another body
|-- NotFoundError
|   +-- ProviderNotFoundError    no provider of that name
|-- RequestInProgressError       a request with the id is still running
|-- DrainingError                the server is about to end
|-- ServerOverloadedError        as many chats as the server takes
|-- DeadlineExceededError        the caller's deadline, or the server's default one
+-- InternalError                a fault of the platform
"""

from __future__ import annotations

from execution_platform.adapters.errors import AdapterError, InvalidRequestError, NotFoundError
from execution_platform.v1 import error_pb2

__all__ = [
    "DeadlineExceededError",
    "DrainingError",
    "InternalError",
    "ProviderNotFoundError",
    "RequestIdReusedError",
    "RequestInProgressError",
    "ServerOverloadedError",
]


class RequestIdReusedError(InvalidRequestError):
    """The same request_id came lately with another body."""

    reason = error_pb2.ERROR_REASON_REQUEST_ID_REUSED


class ProviderNotFoundError(NotFoundError):
    """The request names a provider that this server does not know."""

    reason = error_pb2.ERROR_REASON_PROVIDER_NOT_FOUND


class RequestInProgressError(AdapterError):
    """A request with the same request_id is still running."""

    reason = error_pb2.ERROR_REASON_REQUEST_IN_PROGRESS
    retryable_by_default = True


class DrainingError(AdapterError):
    """The server is about to end and takes no more chats."""

    reason = error_pb2.ERROR_REASON_DRAINING
    retryable_by_default = True


class ServerOverloadedError(AdapterError):
    """The server runs as many chats as it takes."""

    reason = error_pb2.ERROR_REASON_SERVER_OVERLOADED
    retryable_by_default = True


class DeadlineExceededError(AdapterError):
    """The caller's deadline, or the server's default one, has passed."""

    reason = error_pb2.ERROR_REASON_DEADLINE_EXCEEDED


class InternalError(AdapterError):
    """A fault of the platform. Its message tells nothing of the inside; the log does."""
