"""What every RPC has in common: its id, its time, the metadata it begins with and the status it ends with."""

from __future__ import annotations

import hashlib
import re
import uuid
from typing import Any, NoReturn

import grpc
import grpc.aio

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.chat.pipeline import ChatFailedError
from execution_platform.server.status import RpcFailure, error_detail, failure_of

__all__ = ["CONTRACT_VERSION", "Context", "abort", "begin", "caller_of", "request_id_of", "time_left", "trace_id_of"]

#: Version of execution_platform.v1 as this server serves it: rises with each compatible addition.
CONTRACT_VERSION = "1.3"

_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?P<trace_id>(?!0{32})[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

_UNPRINTABLE = re.compile(r"[^ -~]")

Context = grpc.aio.ServicerContext[Any, Any]


def request_id_of(given: str) -> str:
    """Return the caller's id of a request, or a new one."""
    return given or str(uuid.uuid4())


def time_left(context: Context, default: float) -> float:
    """Return the seconds that a call may take: what its caller's deadline leaves, else `default`."""
    remaining: float | None = context.time_remaining()
    return default if remaining is None else remaining


def trace_id_of(context: Context) -> str:
    """Return the caller's trace, from ``traceparent`` (W3C Trace Context); empty: it sent none, or not a valid one."""
    for key, value in context.invocation_metadata() or ():
        if key == "traceparent" and isinstance(value, str):
            match = _TRACEPARENT.match(value)
            return match["trace_id"] if match else ""
    return ""


def caller_of(context: Context) -> str:
    """Return who calls: the SHA-256 digest, in hex, of the bearer token in ``authorization``; empty: there is none."""
    for key, value in context.invocation_metadata() or ():
        if key == "authorization" and isinstance(value, str):
            scheme, _, token = value.partition(" ")
            if scheme.lower() == "bearer" and token.strip():
                return hashlib.sha256(token.strip().encode()).hexdigest()
    return ""


async def begin(context: Context, request_id: str) -> None:
    """Send the initial metadata, which also stops the channel's own retries."""
    # Metadata values are printable ASCII; an id that is not a UUID is refused right after.
    shown = _UNPRINTABLE.sub("?", request_id[:128])
    await context.send_initial_metadata((("x-request-id", shown), ("x-contract-version", CONTRACT_VERSION)))


async def abort(
    context: Context, error: AdapterError | ChatFailedError, request_id: str = "", *, within: str = ""
) -> NoReturn:
    """End a call with the status that tells an error.

    Args:
        context: the call.
        error: why.
        request_id: id of the request, where the error does not know it.
        within: field of the RPC's request that holds the ChatRequest; empty: it is the request itself.
    """
    failure = _failure(error, request_id, within)
    await context.abort(failure.code, failure.message, failure.trailing_metadata)


def _failure(error: AdapterError | ChatFailedError, request_id: str, within: str) -> RpcFailure:
    attempt, after_output, subject = 0, False, ""
    if isinstance(error, ChatFailedError):
        detail, attempt, after_output, subject = error.detail, error.attempt, error.after_output, error.subject
    else:
        detail = error_detail(error)
    if within and detail.field:
        detail.field = f"{within}.{detail.field}"
    return failure_of(detail, request_id, attempt=attempt, after_output=after_output, subject=subject)
