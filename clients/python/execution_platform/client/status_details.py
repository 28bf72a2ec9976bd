"""What a gRPC status says beyond its code: the `google.rpc` messages in the trailer `grpc-status-details-bin`.

Field numbers: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto and status.proto.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from execution_platform.client import protowire

__all__ = ["TRAILER", "StatusDetails", "Violation", "read_status_details"]

TRAILER = "grpc-status-details-bin"
"""Key of the trailer that holds a serialized google.rpc.Status."""

_PACKAGE = "google.rpc."


@dataclass(frozen=True, slots=True)
class Violation:
    """What one of BadRequest, QuotaFailure and PreconditionFailure complains about.

    Attributes:
        subject: path of the request's field, or what has run out or is missing.
        description: for people.
        kind: type of a precondition; empty for the others.
    """

    subject: str
    description: str
    kind: str = ""


@dataclass(slots=True)
class StatusDetails:
    """The details of a status, as far as they are known here; every part is empty when it was not sent.

    Attributes:
        reason: of ErrorInfo.
        domain: of ErrorInfo.
        metadata: of ErrorInfo.
        retry_after: of RetryInfo, seconds.
        request_id: of RequestInfo.
        fields: of BadRequest.
        quotas: of QuotaFailure.
        preconditions: of PreconditionFailure.
    """

    reason: str = ""
    domain: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    retry_after: float | None = None
    request_id: str = ""
    fields: tuple[Violation, ...] = ()
    quotas: tuple[Violation, ...] = ()
    preconditions: tuple[Violation, ...] = ()


def read_status_details(status: bytes) -> StatusDetails:
    """Return what a serialized google.rpc.Status says; a detail that cannot be read is passed over."""
    found = StatusDetails()
    try:
        details = [value for number, value in protowire.fields(status) if number == 3]
    except ValueError:
        return found
    for detail in details:
        try:
            _read_detail(found, detail)
        except ValueError:  # of which UnicodeDecodeError is one
            continue
    return found


def _read_detail(found: StatusDetails, detail: int | bytes) -> None:
    packed = _by_number(detail)
    name = _last_text(packed, 1).rpartition("/")[2]
    content = _by_number(_last(packed, 2))
    match name.removeprefix(_PACKAGE):
        case "ErrorInfo":
            found.metadata = dict(_map_entry(entry) for entry in content.get(3, []))
            found.reason, found.domain = _last_text(content, 1), _last_text(content, 2)
        case "RetryInfo":
            found.retry_after = _seconds(_last(content, 1))
        case "RequestInfo":
            found.request_id = _last_text(content, 1)
        case "BadRequest":
            found.fields = _violations(content, subject=1, description=2)
        case "QuotaFailure":
            found.quotas = _violations(content, subject=1, description=2)
        case "PreconditionFailure":
            found.preconditions = _violations(content, subject=2, description=3, kind=1)
        case _:
            pass


def _violations(
    content: dict[int, list[int | bytes]],
    *,
    subject: int,
    description: int,
    kind: int = 0,
) -> tuple[Violation, ...]:
    parts = [_by_number(violation) for violation in content.get(1, [])]
    return tuple(Violation(_last_text(p, subject), _last_text(p, description), _last_text(p, kind)) for p in parts)


def _map_entry(entry: int | bytes) -> tuple[str, str]:
    parts = _by_number(entry)
    return _last_text(parts, 1), _last_text(parts, 2)


def _seconds(duration: int | bytes) -> float:
    parts = _by_number(duration)
    seconds, nanos = _last(parts, 1, 0), _last(parts, 2, 0)
    if not isinstance(seconds, int) or not isinstance(nanos, int):
        raise ValueError("a duration is made of two numbers")  # noqa: TRY004 - one error for all that is malformed
    return protowire.signed(seconds) + protowire.signed(nanos) / 1e9


def _by_number(message: int | bytes) -> dict[int, list[int | bytes]]:
    if isinstance(message, int):
        raise ValueError("a message was expected")  # noqa: TRY004 - one error for all that is malformed
    found: dict[int, list[int | bytes]] = {}
    for number, value in protowire.fields(message):
        found.setdefault(number, []).append(value)
    return found


def _last(parts: dict[int, list[int | bytes]], number: int, default: int | bytes = b"") -> int | bytes:
    return parts.get(number, [default])[-1]


def _last_text(parts: dict[int, list[int | bytes]], number: int) -> str:
    return protowire.text(_last(parts, number))
