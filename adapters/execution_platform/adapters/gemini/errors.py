"""Failures of the Gemini API, mapped to the error tree at this one place.

Source: google.rpc.Status with its details (ErrorInfo, RetryInfo, QuotaFailure), google.api.ErrorReason, and bodies
that were seen.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from execution_platform.adapters import errors, transport
from execution_platform.adapters.gemini.fields import integer
from execution_platform.adapters.wire import decode_json

__all__ = ["Failure", "blocked_prompt", "error_of", "failure_of"]

_LONGEST_MESSAGE = 800

#: Google's keys, should a message repeat one.
_KEYS = re.compile(r"\b(AIza|AQ\.|ya29\.|auth_tokens/)[\w\-.]{6,}")

_CREDENTIALS = frozenset(
    {
        "API_KEY_INVALID",
        "API_KEY_EXPIRED",
        "CREDENTIALS_MISSING",
        "ACCESS_TOKEN_EXPIRED",
        "ACCESS_TOKEN_TYPE_UNSUPPORTED",
        "ACCOUNT_STATE_INVALID",
        "SESSION_COOKIE_INVALID",
    }
)
_FORBIDDEN = frozenset(
    {
        "API_KEY_SERVICE_BLOCKED",
        "API_KEY_HTTP_REFERRER_BLOCKED",
        "API_KEY_IP_ADDRESS_BLOCKED",
        "API_KEY_ANDROID_APP_BLOCKED",
        "API_KEY_IOS_APP_BLOCKED",
        "SERVICE_DISABLED",
        "SERVICE_NOT_VISIBLE",
        "CONSUMER_SUSPENDED",
        "CONSUMER_INVALID",
        "IAM_PERMISSION_DENIED",
        "ACCESS_TOKEN_SCOPE_INSUFFICIENT",
        "SECURITY_POLICY_VIOLATED",
        "LOCATION_POLICY_VIOLATED",
        "USER_PROJECT_DENIED",
    }
)

#: The HTTP status that belongs to a google.rpc.Code, for errors inside a stream that carry no number.
_STATUS_OF_WORD = {
    "CANCELLED": 499,
    "UNKNOWN": 500,
    "INVALID_ARGUMENT": 400,
    "DEADLINE_EXCEEDED": 504,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "PERMISSION_DENIED": 403,
    "RESOURCE_EXHAUSTED": 429,
    "FAILED_PRECONDITION": 400,
    "ABORTED": 409,
    "OUT_OF_RANGE": 400,
    "UNIMPLEMENTED": 501,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DATA_LOSS": 500,
    "UNAUTHENTICATED": 401,
}

#: Words of messages that say more than code and details do, in the order in which they are tried.
_MESSAGES: tuple[tuple[re.Pattern[str], type[errors.AdapterError]], ...] = (
    (
        re.compile(
            r"api key (not valid|not found|expired|was reported)|valid api key|unregistered callers", re.IGNORECASE
        ),
        errors.CredentialsError,
    ),
    (
        re.compile(
            r"token count.{0,60}exceeds the maximum|exceeds? .{0,40}(context|token limit)|input is too long",
            re.IGNORECASE,
        ),
        errors.ContextLengthError,
    ),
    (
        re.compile(r"(payload|request body|request) size .{0,40}exceed|maximum request body size", re.IGNORECASE),
        errors.RequestTooLargeError,
    ),
    (
        re.compile(
            r"credits? (are|is) depleted|prepa(y|id)ment|spend(ing)? (cap|limit)|enable billing"
            r"|billing (account|to be enabled)|billing.{0,20}disabled",
            re.IGNORECASE,
        ),
        errors.BillingError,
    ),
    (re.compile(r"user location is not supported", re.IGNORECASE), errors.ForbiddenError),
)
_BLOCKED = re.compile(
    r"responsible ai|(prompt|request|input|content).{0,60}(was|is|been) blocked"
    r"|blocked (by|for|due to).{0,40}(safety|prohibited)|PROHIBITED_CONTENT",
    re.IGNORECASE,
)
_ANOTHER_THING = re.compile(r"cachedcontent|cached content|\bfiles?\b|filesearchstore|\bcorp(us|ora)\b", re.IGNORECASE)
_MODEL = re.compile(
    r"\bmodels?/\S+ (is|was) not (found|available)\b(?! on this server)|publisher model"
    r"|\bmodel\b.{0,80}\bnot (found|exist|available)",
    re.IGNORECASE,
)
#: What is no text in the pages that Google's edge answers with.
_MARKUP = re.compile(r"<style.*?</style>|<[^>]*>", re.DOTALL)
_RETRY_IN = re.compile(r"retry in (\d+(?:\.\d+)?)(ms|s)\b", re.IGNORECASE)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)s")


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure as the API tells it.

    Attributes:
        status: its HTTP status; for a failure inside a stream the one that its code means.
        word: its google.rpc.Code, for example ``RESOURCE_EXHAUSTED``.
        message: its words, without keys, shortened.
        details: its details, decoded.
    """

    status: int
    word: str = ""
    message: str = ""
    details: tuple[dict[str, Any], ...] = field(default=())


def failure_of(body: bytes, status: int = 0) -> Failure:
    """Read an error body: an object, an array of one, or no JSON at all.

    Args:
        body: the answer's body, or the chunk of a stream.
        status: HTTP status of the answer; 0: what the body says.
    """
    with contextlib.suppress(errors.ProtocolError):
        said = decode_json(body)
        if isinstance(said, list) and said:
            said = said[0]
        told = said.get("error", said) if isinstance(said, dict) else None
        if isinstance(told, str):
            return Failure(status or 500, message=_clean(told))
        if isinstance(told, dict):
            return _read(told, status)
    return Failure(status or 500, message=_clean(_MARKUP.sub(" ", body[:4_000].decode("utf-8", "replace"))))


def _read(told: dict[str, Any], status: int) -> Failure:
    word = told.get("status")
    word = word if isinstance(word, str) else ""
    code = status or integer(told.get("code")) or _STATUS_OF_WORD.get(word, 500)
    details = told.get("details")
    known = tuple(part for part in details if isinstance(part, dict)) if isinstance(details, list) else ()
    return Failure(code, word, _clean(str(told.get("message") or "")), known)


def _clean(message: str) -> str:
    return _KEYS.sub(r"\1***", " ".join(message.split()))[:_LONGEST_MESSAGE]


def error_of(
    failure: Failure, headers: Mapping[str, str] | None = None, *, in_stream: bool = False
) -> errors.AdapterError:
    """Return the error that a failure is. Total: every failure is some error.

    Args:
        failure: what the API told.
        headers: of the answer.
        in_stream: the answer itself had status 200.
    """
    kind, retryable = _kind(failure)
    wait = _retry_delay(failure)
    if wait is None and headers is not None:
        wait = transport.retry_after(headers)
    return kind(
        failure.message or f"the provider answered with status {failure.status}",
        field="model" if kind is errors.ModelNotFoundError else "",
        provider_status=200 if in_stream else failure.status,
        provider_code=_reason(failure) or failure.word,
        retry_after=wait,
        retryable=retryable,
    )


def _kind(failure: Failure) -> tuple[type[errors.AdapterError], bool | None]:
    reason = _reason(failure)
    if reason in _CREDENTIALS:
        return errors.CredentialsError, None
    if reason in _FORBIDDEN:
        return errors.ForbiddenError, None
    if reason == "BILLING_DISABLED":
        return errors.BillingError, None
    if failure.status < 500:
        words = _words(failure)
        for pattern, kind in _MESSAGES:
            if pattern.search(words):
                return kind, None
    if failure.status == 429:
        return errors.RateLimitedError, False if _lasts_long(failure) else None
    if failure.status in {403, 404} and _names_missing_thing(failure):
        return errors.NotFoundError, None
    if failure.status == 404 and _MODEL.search(failure.message):
        return errors.ModelNotFoundError, None
    return errors.error_for_status(failure.status), None


def _words(failure: Failure) -> str:
    """Return the message with what DebugInfo adds to it: sometimes the message is an unfilled template."""
    return " ".join([failure.message, *(str(one.get("detail", "")) for one in _details(failure, "DebugInfo"))])


def _names_missing_thing(failure: Failure) -> bool:
    message = failure.message
    missing = failure.status == 404 or "not found" in message.lower() or "may not exist" in message.lower()
    return missing and bool(_ANOTHER_THING.search(message))


def _lasts_long(failure: Failure) -> bool:
    """Return whether a quota is not back within minutes: one per day, or one of zero."""
    for violation in _violations(failure):
        if "PerDay" in str(violation.get("quotaId", "")) or str(violation.get("quotaValue", "")) == "0":
            return True
    return bool(re.search(r"limit: 0\b|per day", failure.message, re.IGNORECASE))


def _violations(failure: Failure) -> Iterator[dict[str, Any]]:
    for detail in _details(failure, "QuotaFailure"):
        violations = detail.get("violations")
        if isinstance(violations, list):
            yield from (part for part in violations if isinstance(part, dict))


def _reason(failure: Failure) -> str:
    for detail in _details(failure, "ErrorInfo"):
        reason = detail.get("reason")
        if isinstance(reason, str):
            return reason
    return ""


def _retry_delay(failure: Failure) -> float | None:
    for detail in _details(failure, "RetryInfo"):
        found = _DURATION.fullmatch(str(detail.get("retryDelay", "")))
        if found:
            return float(found[1])
    in_words = _RETRY_IN.search(failure.message)
    if in_words is None:
        return None
    return float(in_words[1]) / (1000 if in_words[2].lower() == "ms" else 1)


def _details(failure: Failure, kind: str) -> Iterator[dict[str, Any]]:
    return (part for part in failure.details if str(part.get("@type", "")).endswith("." + kind))


def blocked_prompt(failure: Failure) -> bool:
    """Return whether the failure is a filter's word about the prompt, which is an answer rather than an error."""
    return failure.status == 400 and _reason(failure) == "" and bool(_BLOCKED.search(failure.message))
