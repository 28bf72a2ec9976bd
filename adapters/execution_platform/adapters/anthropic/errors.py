"""What failures of the Messages API mean. One mapping for answers with an error status and for errors in a stream.

Sources: the error types and `error.details` of the anthropic SDK 2.11 (`types/beta_*_error.py`,
`types/shared/error_details.py`), https://platform.claude.com/docs/en/api/errors, and recorded answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anthropic

from execution_platform.adapters.errors import (
    AdapterError,
    BillingError,
    ContextLengthError,
    CredentialsError,
    ForbiddenError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    NotSupportedError,
    OverloadedError,
    ProtocolError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestTooLargeError,
    UnavailableError,
    error_for_status,
)
from execution_platform.adapters.transport import retry_after, should_retry, unanswered
from execution_platform.adapters.wire import decode_json

__all__ = ["blocked_by_filter", "error_from_body", "error_from_sdk", "request_id_of"]

_BY_TYPE: dict[str, type[AdapterError]] = {
    "authentication_error": CredentialsError,
    "billing_error": BillingError,
    "permission_error": ForbiddenError,
    "not_found_error": NotFoundError,
    "request_too_large": RequestTooLargeError,
    "rate_limit_error": RateLimitedError,
    "timeout_error": ProviderTimeoutError,
    "overloaded_error": OverloadedError,
    # Of llama.cpp's server, which speaks this format too (tools/server/server-common.cpp).
    "exceed_context_size_error": ContextLengthError,
    "not_supported_error": NotSupportedError,
    "unavailable_error": OverloadedError,
}

#: Types that say no more than the status; inside a stream there is no status.
_VAGUE: dict[str, type[AdapterError]] = {
    "invalid_request_error": InvalidRequestError,
    "api_error": UnavailableError,
    "server_error": UnavailableError,
}

_SPENT = ("spend limit", "spend cap", "credit balance", "usage limits", "insufficient credit")
_TOO_LONG = ("prompt is too long", "exceed context limit", "context window", "context length", "context size")
_FILTERED = ("content filtering policy",)

_MOST_WORDS = 900


def error_from_body(status: int, headers: Mapping[str, str], body: bytes) -> AdapterError:
    """Return what an answer with an error status means, or with status 200 an error event of a stream.

    Total: any status, any body.

    Args:
        status: HTTP status.
        headers: of the answer, names in lower case; empty inside a stream.
        body: the answer's body, or the event's data.
    """
    error, request_id = _error_object(body)
    kind = _str(error.get("type")) or _str(error.get("code")) or _str(error.get("status"))
    message = _str(error.get("message"))
    cls = _class_of(status, kind, message, _error_code(error))
    return cls(
        _words(status, kind, message),
        provider_status=status,
        provider_code=_error_code(error) or kind,
        provider_request_id=request_id or request_id_of(headers),
        retry_after=retry_after(headers) if status != 200 else None,
        retryable=_retryable(cls, status, headers),
    )


def error_from_sdk(error: anthropic.AnthropicError) -> AdapterError:
    """Return what an error of the SDK means. Total over its classes."""
    if isinstance(error, anthropic.APIStatusError):
        response = error.response
        return error_from_body(response.status_code, response.headers, _content(error))
    if isinstance(error, anthropic.APITimeoutError):
        late = ProviderTimeoutError("the provider did not answer in time")
        late.unanswered = unanswered(error.__cause__)
        return late
    if isinstance(error, anthropic.APIConnectionError):
        cause = error.__cause__
        broken = UnavailableError(f"the provider cannot be reached ({type(cause or error).__name__})")
        broken.unanswered = unanswered(cause)
        return broken
    if isinstance(error, anthropic.CredentialsError):
        return CredentialsError("the provider's SDK found no usable credentials")
    if isinstance(error, anthropic.RetryableError):
        return UnavailableError("the provider's SDK asks to try again")
    return ProtocolError(f"the provider's answer could not be read ({type(error).__name__})")


def blocked_by_filter(body: bytes) -> str:
    """Return the explanation if an error body says that a filter stopped the answer, else an empty text."""
    error, _ = _error_object(body)
    message = _str(error.get("message"))
    return message if any(words in message.lower() for words in _FILTERED) else ""


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return the provider's identifier of the request; empty: it gave none."""
    return headers.get("request-id") or headers.get("x-request-id") or ""


def _content(error: anthropic.APIStatusError) -> bytes:
    try:
        return error.response.content
    except Exception:  # noqa: BLE001  # an error body that never came; httpx2 has several errors for that
        return b""


def _error_object(body: bytes) -> tuple[dict[str, Any], str]:
    try:
        value = decode_json(body)
    except ProtocolError:
        return {"message": body[:_MOST_WORDS].decode("utf-8", "replace")}, ""
    if isinstance(value, list) and value:
        value = value[0]  # Google's front wraps errors in an array
    if not isinstance(value, dict):
        return {}, ""
    error = value.get("error", value)
    if isinstance(error, str):
        error = {"message": error}
    return (error if isinstance(error, dict) else {}), _str(value.get("request_id"))


def _error_code(error: dict[str, Any]) -> str:
    details = error.get("details")
    return _str(details.get("error_code")) if isinstance(details, dict) else ""


def _class_of(status: int, kind: str, message: str, code: str) -> type[AdapterError]:
    words = message.lower()
    if "spend_limit" in code or any(spent in words for spent in _SPENT):
        return BillingError
    cls = _BY_TYPE.get(kind)
    if cls is None:
        cls = _VAGUE.get(kind, UnavailableError) if status == 200 else error_for_status(status)
    if cls is NotFoundError and (words.startswith("model:") or "model" in words):
        return ModelNotFoundError
    if cls is InvalidRequestError and any(part in words for part in _TOO_LONG):
        return ContextLengthError
    return NotSupportedError if status == 501 else cls


def _retryable(cls: type[AdapterError], status: int, headers: Mapping[str, str]) -> bool | None:
    told = should_retry(headers)
    if told is not None or status == 200:
        return told
    if cls is RateLimitedError and retry_after(headers) is None:
        # Without a time to wait the limit can be one of money, which waiting does not lift.
        return False
    return None


def _words(status: int, kind: str, message: str) -> str:
    said = message[:_MOST_WORDS] or "no explanation"
    label = kind or (f"HTTP {status}" if status != 200 else "error")
    return f"the provider answered {label}: {said}"


def _str(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return ""
    return str(value) if isinstance(value, str | int) else ""
