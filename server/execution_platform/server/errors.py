"""The server's own failures, in the same tree as the adapters', so that one table turns all of them into gRPC.

AdapterError
|-- InvalidRequestError
|   +-- RequestIdReusedError     the id came lately with another body
|-- NotFoundError
|   |-- ProviderNotFoundError    no provider of that name
|   +-- PersonaNotFoundError     no persona of that name
|-- CapabilityMissingError       no route can do what is required
|-- NotAllowedError              the persona's or the request's lists leave nothing
|-- CircuitOpenError             the provider is not asked for a while
|-- NoHealthyRouteError          none of several routes can be asked now
|-- LimitReachedError            a limit of this server's
|   +-- BudgetExceededError      a budget has no room
|-- LedgerUnavailableError       the ledger cannot be written or read
|-- LedgerOffError               the server runs without a ledger
|-- EtagMismatchError            somebody else changed it in the meantime
|-- AlreadyExistsError           something of that name is there
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
    "AlreadyExistsError",
    "BudgetExceededError",
    "CapabilityMissingError",
    "CircuitOpenError",
    "DeadlineExceededError",
    "DrainingError",
    "EtagMismatchError",
    "InternalError",
    "LedgerOffError",
    "LedgerUnavailableError",
    "LimitReachedError",
    "NoHealthyRouteError",
    "NotAllowedError",
    "PersonaNotFoundError",
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


class PersonaNotFoundError(NotFoundError):
    """The request names a persona that the configuration does not have."""

    reason = error_pb2.ERROR_REASON_PERSONA_NOT_FOUND


class CapabilityMissingError(AdapterError):
    """No route can do what the persona or the request requires. The message names the capability."""

    reason = error_pb2.ERROR_REASON_CAPABILITY_MISSING


class NotAllowedError(AdapterError):
    """The lists of providers, regions or tools leave no route, or not this tool."""

    reason = error_pb2.ERROR_REASON_NOT_ALLOWED


class CircuitOpenError(AdapterError):
    """The provider has failed too often lately. It has not been asked."""

    reason = error_pb2.ERROR_REASON_CIRCUIT_OPEN
    retryable_by_default = True

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, retry_after=retry_after)
        self.asked = False


class NoHealthyRouteError(AdapterError):
    """None of several routes can be asked now."""

    reason = error_pb2.ERROR_REASON_NO_HEALTHY_ROUTE
    retryable_by_default = True


class LimitReachedError(AdapterError):
    """A limit of this server's is reached. Nobody has been asked.

    Args:
        message: names the limit.
        scope: what the limit is for: ``persona:reviewer``, ``tenant:acme``, ``key:1f3a5c70``, ``provider:openai``.
        limit: its name, as in the configuration.
        retry_after: seconds until there is room; None: nobody knows.
        retryable: False: the chat is larger than the whole limit and can never pass.
    """

    reason = error_pb2.ERROR_REASON_RATE_LIMITED
    retryable_by_default = True

    def __init__(
        self, message: str, *, scope: str, limit: str, retry_after: float | None = None, retryable: bool = True
    ) -> None:
        super().__init__(message, retry_after=retry_after, retryable=retryable)
        self.asked = False
        self.scope = scope
        self.limit = limit


class BudgetExceededError(LimitReachedError):
    """A budget has no room for what might be spent. Nobody has been asked.

    Args:
        message: names the budget, what is left of it and when it begins anew.
        budget_id: which.
        retry_after: seconds until its next window; None: this can never pass.
    """

    reason = error_pb2.ERROR_REASON_BUDGET_EXCEEDED

    def __init__(self, message: str, *, budget_id: str, retry_after: float | None = None) -> None:
        super().__init__(
            message,
            scope=f"budget:{budget_id}",
            limit="budget",
            retry_after=retry_after,
            retryable=retry_after is not None,
        )
        self.told = None  # no chat waits here for a budget's next window: its caller may
        self.budget_id = budget_id


class LedgerUnavailableError(AdapterError):
    """The ledger cannot be written or read. Nobody has been asked."""

    reason = error_pb2.ERROR_REASON_LEDGER_UNAVAILABLE
    retryable_by_default = True

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message, retry_after=retry_after)
        self.asked = False


class LedgerOffError(AdapterError):
    """The server runs without a ledger."""

    reason = error_pb2.ERROR_REASON_LEDGER_OFF


class EtagMismatchError(AdapterError):
    """What is to be changed has been changed by somebody else since it was read."""

    reason = error_pb2.ERROR_REASON_ETAG_MISMATCH
    retryable_by_default = False


class AlreadyExistsError(AdapterError):
    """Something of that name is there already."""

    reason = error_pb2.ERROR_REASON_ALREADY_EXISTS


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

    def __init__(self, message: str = "an unexpected fault of the platform; see its log") -> None:
        super().__init__(message)
