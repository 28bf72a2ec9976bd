"""What follows from a failure.

Each reason has a kind, and each kind a decision: whether the same model is asked again, whether another one is, and
whether it says that the provider is down.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from execution_platform.v1 import chat_pb2, error_pb2

__all__ = ["Decision", "ErrorKind", "decision_for", "decision_of", "kind_of", "kind_of_finish"]


class ErrorKind(StrEnum):
    """What sort of failure it is, as retries, fallback and breakers see it."""

    TRANSIENT = "transient"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    AUTH = "auth"
    BILLING = "billing"
    INVALID_REQUEST = "invalid_request"
    CONTEXT_LENGTH = "context_length"
    CONTENT_BLOCKED = "content_blocked"
    PROTOCOL = "protocol"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a failure.

    Attributes:
        retry: the same model may be asked again after a while.
        fall_back: another model may be asked.
        opens_circuit: it says that the provider is down for this platform, whoever asks.
    """

    retry: bool = False
    fall_back: bool = False
    opens_circuit: bool = False


#: One decision for each kind. A credential that is refused is refused to every chat, so it opens the circuit; a rate
#: limit does not: it tells when to come back. What a filter blocks is an answer, by whomever.
_DECISIONS: dict[ErrorKind, Decision] = {
    ErrorKind.TRANSIENT: Decision(retry=True, fall_back=True, opens_circuit=True),
    ErrorKind.RATE_LIMITED: Decision(retry=True, fall_back=True),
    ErrorKind.OVERLOADED: Decision(retry=True, fall_back=True, opens_circuit=True),
    ErrorKind.TIMEOUT: Decision(retry=True, fall_back=True, opens_circuit=True),
    ErrorKind.AUTH: Decision(fall_back=True, opens_circuit=True),
    ErrorKind.BILLING: Decision(fall_back=True, opens_circuit=True),
    ErrorKind.INVALID_REQUEST: Decision(),
    ErrorKind.CONTEXT_LENGTH: Decision(fall_back=True),
    ErrorKind.CONTENT_BLOCKED: Decision(),
    ErrorKind.PROTOCOL: Decision(fall_back=True, opens_circuit=True),
    ErrorKind.CANCELLED: Decision(),
}

_KINDS: dict[error_pb2.ErrorReason.ValueType, ErrorKind] = {
    error_pb2.ERROR_REASON_UNSPECIFIED: ErrorKind.PROTOCOL,
    error_pb2.ERROR_REASON_INVALID_REQUEST: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_UNSUPPORTED_OPTION: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_CONTEXT_LENGTH_EXCEEDED: ErrorKind.CONTEXT_LENGTH,
    error_pb2.ERROR_REASON_REQUEST_TOO_LARGE: ErrorKind.CONTEXT_LENGTH,
    error_pb2.ERROR_REASON_REQUEST_ID_REUSED: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_REQUEST_IN_PROGRESS: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_MODEL_NOT_FOUND: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_PROVIDER_NOT_FOUND: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_NOT_FOUND: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_PROVIDER_NOT_CONFIGURED: ErrorKind.AUTH,
    error_pb2.ERROR_REASON_PROVIDER_AUTHENTICATION: ErrorKind.AUTH,
    error_pb2.ERROR_REASON_PROVIDER_PERMISSION: ErrorKind.AUTH,
    error_pb2.ERROR_REASON_PROVIDER_BILLING: ErrorKind.BILLING,
    error_pb2.ERROR_REASON_PROVIDER_RATE_LIMITED: ErrorKind.RATE_LIMITED,
    error_pb2.ERROR_REASON_PROVIDER_OVERLOADED: ErrorKind.OVERLOADED,
    error_pb2.ERROR_REASON_PROVIDER_TIMEOUT: ErrorKind.TIMEOUT,
    error_pb2.ERROR_REASON_PROVIDER_UNAVAILABLE: ErrorKind.TRANSIENT,
    error_pb2.ERROR_REASON_STREAM_BROKEN: ErrorKind.TRANSIENT,
    error_pb2.ERROR_REASON_PROVIDER_PROTOCOL: ErrorKind.PROTOCOL,
    error_pb2.ERROR_REASON_DRAINING: ErrorKind.CANCELLED,
    error_pb2.ERROR_REASON_SERVER_OVERLOADED: ErrorKind.OVERLOADED,
    error_pb2.ERROR_REASON_CANCELLED: ErrorKind.CANCELLED,
    error_pb2.ERROR_REASON_DEADLINE_EXCEEDED: ErrorKind.CANCELLED,
    error_pb2.ERROR_REASON_NOT_SUPPORTED_BY_PROVIDER: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_INTERNAL: ErrorKind.PROTOCOL,
    error_pb2.ERROR_REASON_PERSONA_NOT_FOUND: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_CAPABILITY_MISSING: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_NOT_ALLOWED: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_CIRCUIT_OPEN: ErrorKind.TRANSIENT,
    error_pb2.ERROR_REASON_NO_HEALTHY_ROUTE: ErrorKind.TRANSIENT,
    error_pb2.ERROR_REASON_RATE_LIMITED: ErrorKind.RATE_LIMITED,
    error_pb2.ERROR_REASON_BUDGET_EXCEEDED: ErrorKind.BILLING,
    error_pb2.ERROR_REASON_LEDGER_UNAVAILABLE: ErrorKind.TRANSIENT,
    error_pb2.ERROR_REASON_ETAG_MISMATCH: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_ALREADY_EXISTS: ErrorKind.INVALID_REQUEST,
    error_pb2.ERROR_REASON_LEDGER_OFF: ErrorKind.INVALID_REQUEST,
}

#: Reasons whose kind decides otherwise: another provider may know the model or the function; a fault in the code for
#: one provider is none in that for another, and says nothing about either.
_EXCEPTIONS: dict[error_pb2.ErrorReason.ValueType, Decision] = {
    error_pb2.ERROR_REASON_MODEL_NOT_FOUND: Decision(fall_back=True),
    error_pb2.ERROR_REASON_NOT_SUPPORTED_BY_PROVIDER: Decision(fall_back=True),
    error_pb2.ERROR_REASON_PROVIDER_NOT_CONFIGURED: Decision(fall_back=True),
    error_pb2.ERROR_REASON_CIRCUIT_OPEN: Decision(fall_back=True),
    error_pb2.ERROR_REASON_NO_HEALTHY_ROUTE: Decision(),
    error_pb2.ERROR_REASON_RATE_LIMITED: Decision(fall_back=True),
    # A cheaper model may fit where a dearer one does not.
    error_pb2.ERROR_REASON_BUDGET_EXCEEDED: Decision(fall_back=True),
    error_pb2.ERROR_REASON_LEDGER_UNAVAILABLE: Decision(),
    error_pb2.ERROR_REASON_SERVER_OVERLOADED: Decision(),
    error_pb2.ERROR_REASON_UNSPECIFIED: Decision(),
    error_pb2.ERROR_REASON_INTERNAL: Decision(fall_back=True),
}

#: Ends of answers that are no failures, and yet no answers.
_BLOCKED = frozenset({chat_pb2.FINISH_REASON_REFUSAL, chat_pb2.FINISH_REASON_CONTENT_FILTER})


def kind_of(reason: error_pb2.ErrorReason.ValueType) -> ErrorKind:
    """Return the kind of failures with a reason. Total: one that is not known breaks the protocol."""
    return _KINDS.get(reason, ErrorKind.PROTOCOL)


def kind_of_finish(reason: chat_pb2.FinishReason.ValueType) -> ErrorKind | None:
    """Return the kind of an answer's end, for the metrics; None: nothing is wrong with it."""
    return ErrorKind.CONTENT_BLOCKED if reason in _BLOCKED else None


def decision_for(kind: ErrorKind) -> Decision:
    """Return what follows from failures of a kind, where their reason says nothing else."""
    return _DECISIONS[kind]


def decision_of(reason: error_pb2.ErrorReason.ValueType) -> Decision:
    """Return what follows from failures with a reason. Total."""
    return _EXCEPTIONS.get(reason) or decision_for(kind_of(reason))
