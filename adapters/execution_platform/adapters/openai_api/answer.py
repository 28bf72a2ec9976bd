"""What both formats tell beside the answer itself: identifiers and rate limits in headers, and costs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation

from google.protobuf import duration_pb2, timestamp_pb2

from execution_platform.v1 import common_pb2, usage_pb2

__all__ = ["provider_request_id", "rate_limits", "stated_cost"]

_NANOS = 1_000_000_000

#: xAI states costs in ticks of 1e-10 USD: a tenth of a nano. Source: docs.x.ai, cost_in_usd_ticks.
_TICKS_PER_NANO = 10

_REQUEST_ID_HEADERS = ("x-request-id", "apim-request-id", "x-ms-request-id", "x-generation-id")

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|\u00b5s|ns|m|s|d)")

_UNIT_NANOS = {
    "d": 86_400 * _NANOS,
    "h": 3_600 * _NANOS,
    "m": 60 * _NANOS,
    "s": _NANOS,
    "ms": 1_000_000,
    "us": 1_000,
    "\u00b5s": 1_000,
    "ns": 1,
}


def provider_request_id(headers: Mapping[str, str]) -> str:
    """Return the server's identifier of the request, or nothing."""
    return next((headers[name] for name in _REQUEST_ID_HEADERS if headers.get(name)), "")


def rate_limits(headers: Mapping[str, str]) -> list[usage_pb2.RateLimitSnapshot]:
    """Read ``x-ratelimit-{limit,remaining,reset}[-NAME]``; the nameless ones are about requests.

    Resets are spans as OpenAI writes them (``1m30s``, ``6ms``), seconds, or a time as seconds or milliseconds of
    the epoch. What is not a number is passed over.
    """
    found: dict[str, usage_pb2.RateLimitSnapshot] = {}
    for header, value in headers.items():
        field, _, name = header.lower().removeprefix("x-ratelimit-").partition("-")
        if not header.lower().startswith("x-ratelimit-") or field not in {"limit", "remaining", "reset"}:
            continue
        snapshot = usage_pb2.RateLimitSnapshot(name=name or "requests")
        if _read(snapshot, field, value.strip()):
            found.setdefault(snapshot.name, usage_pb2.RateLimitSnapshot()).MergeFrom(snapshot)
    return list(found.values())


def _read(snapshot: usage_pb2.RateLimitSnapshot, field: str, value: str) -> bool:
    if field == "reset":
        return _read_reset(snapshot, value)
    try:
        number = int(Decimal(value))
    except (InvalidOperation, ValueError, OverflowError):
        return False
    if not -(2**63) <= number < 2**63:
        return False
    if field == "limit":
        snapshot.limit = number
    else:
        snapshot.remaining = number
    return True


def _read_reset(snapshot: usage_pb2.RateLimitSnapshot, value: str) -> bool:
    if re.fullmatch(r"\d{1,15}(\.\d+)?", value):
        nanos = int(Decimal(value) * _NANOS)
        if nanos >= 10**12 * _NANOS:  # milliseconds of the epoch
            nanos //= 1000
        if nanos >= 10**9 * _NANOS:
            snapshot.reset_time.CopyFrom(timestamp_pb2.Timestamp(seconds=nanos // _NANOS, nanos=nanos % _NANOS))
            return True
    elif value and not _DURATION.sub("", value):
        nanos = sum(int(Decimal(number) * _UNIT_NANOS[unit]) for number, unit in _DURATION.findall(value))
    else:
        return False
    snapshot.reset_after.CopyFrom(duration_pb2.Duration(seconds=nanos // _NANOS, nanos=nanos % _NANOS))
    return True


def stated_cost(cost: str | None = None, ticks: str | None = None) -> usage_pb2.Cost | None:
    """Return the cost that a server states in its usage, exactly; None: it states none.

    Args:
        cost: JSON text of ``usage.cost``, in USD (OpenRouter).
        ticks: JSON text of ``usage.cost_in_usd_ticks`` (xAI).
    """
    for text, nanos_each in ((ticks, Decimal(1) / _TICKS_PER_NANO), (cost, Decimal(_NANOS))):
        try:
            nanos = (Decimal(text) * nanos_each).to_integral_value(ROUND_HALF_EVEN) if text else None
        except InvalidOperation:  # null, or not a number
            continue
        if nanos is not None and nanos.is_finite() and abs(nanos) < 2**63:
            amount = common_pb2.Money(currency_code="USD", nanos=int(nanos))
            line = usage_pb2.CostLine(amount=amount, source=usage_pb2.COST_SOURCE_PROVIDER)
            return usage_pb2.Cost(status=usage_pb2.COST_STATUS_EXACT, lines=[line])
    return None
