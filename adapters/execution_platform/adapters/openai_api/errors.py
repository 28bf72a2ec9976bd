"""Failures of servers that speak OpenAI's formats, mapped to the error tree at this one place.

The decision looks at what the server says most exactly: first its code or type, then its words (many servers copy
the format without the codes), then the HTTP status.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2
import openai

from execution_platform.adapters import errors, transport
from execution_platform.adapters.openai_api.answer import provider_request_id
from execution_platform.adapters.openai_api.dialect import COMPATIBLE_PLACES, OPENAI_PLACES
from execution_platform.adapters.wire import decode_json, json_text
from execution_platform.v1 import chat_pb2

__all__ = [
    "error_in_stream",
    "error_of_answer",
    "filtered_categories",
    "finished_in_stream",
    "finished_instead",
    "map_error",
]

_LONGEST_MESSAGE = 800

#: Words that hide a key that a server repeats in its message.
_KEYS = re.compile(r"\b((?:sk|pk|gsk|xai|pplx|key|hf|nvapi|tgp)[-_])[\w\-*.]{6,}")

_BILLING = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_user_quota",
        "exceeded_current_quota_error",
        "payment_required",
        "credits_exhausted",
    }
)
_CREDENTIALS = frozenset(
    {"invalid_api_key", "authentication_error", "invalid_authentication", "authentication_fails", "account_deactivated"}
)
_CONTEXT = frozenset({"context_length_exceeded", "exceed_context_size_error", "context_window_exceeded"})
_MODEL = frozenset(
    {
        "model_not_found",
        "model_not_available",
        "model_decommissioned",
        "invalid_model",
        "unknown_model",
        "deploymentnotfound",
    }
)
_OVERLOADED = frozenset(
    {
        "overloaded_error",
        "server_overloaded",
        "engine_overloaded",
        "engine_overloaded_error",
        "slow_down",
        "unavailable_error",
        "capacity_exceeded",
    }
)
_RATE = frozenset({"rate_limit_exceeded", "rate_limit_error", "rate_limited", "ratelimitreached", "too_many_requests"})
_FILTER = frozenset(
    {
        "content_filter",
        "content_policy_violation",
        "responsibleaipolicyviolation",
        "data_inspection_failed",
        "moderation_blocked",
    }
)
_BROKEN_CALL = frozenset({"tool_use_failed", "json_validate_failed"})

_WORDS_CONTEXT = re.compile(
    r"maximum context length|context length is only|context window|exceeds? the (?:available |model'?s? )?context"
    r"|exceeds? the maximum (?:number of )?(?:tokens|prompt length)|maximum prompt length|prompt is too long"
    r"|input is too long|too many (?:input )?tokens|longer than the model'?s context|max_model_len"
    r"|prompt contains \d+ tokens|tokens \+ `?max_new_tokens`? must be <=|prompt exceeds max length",
    re.IGNORECASE,
)
_WORDS_MODEL = re.compile(
    r"model\b.{0,200}\b(?:does not exist|not found|is not available|not supported by provider|decommissioned)"
    r"|not a valid model|invalid model|unknown model|no such model|^no endpoints found for ",
    re.IGNORECASE | re.DOTALL,
)
_WORDS_KEY = re.compile(
    r"(?:incorrect|invalid|missing|no) api[ -]?key|invalid (?:subscription key|access token)", re.IGNORECASE
)
_WORDS_BILLING = re.compile(
    r"insufficient (?:balance|credits?|funds)|out of credits|requires more credits"
    r"|used all available credits|spending limit",
    re.IGNORECASE,
)
_WORDS_FILTER = re.compile(
    r"content exists risk|violates (?:our )?(?:usage|content|safety)|content management policy|flagged (?:as|by|for)"
    r"|requires moderation|unsafe or sensitive content",
    re.IGNORECASE,
)
_WORDS_OVERLOADED = re.compile(r"overloaded|at capacity|capacity exceeded|no available capacity", re.IGNORECASE)
_WORDS_OUTPUT_LIMIT = re.compile(r"max_tokens or model output limit was reached", re.IGNORECASE)
#: Requests that llama.cpp answers with 500 although they can never succeed.
_WORDS_BAD_INPUT = re.compile(
    r"not supported|unsupported|failed to parse|parse error|invalid|must (?:be|have|contain)|missing|unknown"
    r"|requires|type_error|cannot use|expected",
    re.IGNORECASE,
)
_WORDS_UNSUPPORTED = re.compile(r"\b(?:not supported|unsupported)\b", re.IGNORECASE)
_WORDS_NEVER_FITS = re.compile(r"^request too large", re.IGNORECASE)
_WORDS_WAIT = re.compile(
    r"(?:try again in|retry after|retry in|please wait) ((?:\d+(?:\.\d+)?\s?(?:ms|h|m|s)[a-z]*\s?)+)", re.IGNORECASE
)
_WAIT_PART = re.compile(r"(\d+(?:\.\d+)?)\s?(ms|h|m|s)", re.IGNORECASE)
_WAIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

_FIELD_OF_PARAM = {place: field for places in (COMPATIBLE_PLACES, OPENAI_PLACES) for field, place in places.items()} | {
    "model": "model",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "messages": "messages",
    "response_format": "output_format",
    "reasoning.effort": "reasoning.effort",
    "max_output_tokens": "sampling.max_output_tokens",
}


@dataclass(frozen=True, slots=True)
class _Told:
    """What a server says of a failure, out of any of the shapes in which servers say it."""

    message: str
    code: str
    type: str
    param: str
    raw: Mapping[str, Any]

    @property
    def words(self) -> frozenset[str]:
        inner = self.raw.get("innererror") or self.raw.get("inner_error")
        inner_code = inner.get("code") if isinstance(inner, dict) else None
        return frozenset(word.lower() for word in (self.code, self.type, inner_code) if isinstance(word, str) and word)


def map_error(error: Exception) -> errors.AdapterError:
    """Map whatever the openai SDK raises; the caller raises the result ``from`` it. Total."""
    if isinstance(error, errors.AdapterError):
        return error
    response = getattr(error, "response", None)
    if isinstance(error, openai.APIStatusError):
        return error_of_answer(error.status_code, _content(error), error.response.headers)
    if isinstance(error, openai.APITimeoutError):
        late = errors.ProviderTimeoutError("the provider did not answer in time")
        late.unanswered = transport.unanswered(error.__cause__)
        return late
    if isinstance(error, openai.APIConnectionError):
        return _transport_error(error)
    if isinstance(error, openai.APIResponseValidationError):
        return errors.ProtocolError(
            "the provider's answer is not what its format says", provider_status=error.status_code
        )
    if isinstance(error, httpx2.HTTPError):
        return _transport_error(error)
    if isinstance(error, openai.APIError):
        return error_in_stream(error.body if error.body is not None else error.message)
    if isinstance(error, openai.OpenAIError):
        status = response.status_code if isinstance(response, httpx2.Response) else 0
        return errors.NotConfiguredError(f"the client cannot be used ({type(error).__name__})", provider_status=status)
    return errors.UnavailableError(f"the request could not be sent ({type(error).__name__})")


def _content(error: openai.APIStatusError) -> bytes:
    try:
        return error.response.content
    except httpx2.ResponseNotRead:  # a stream whose body was never read; the SDK keeps what it understood
        return json_text(error.body).encode() if error.body is not None else b""


def _transport_error(error: Exception) -> errors.AdapterError:
    cause = error.__cause__ if isinstance(error.__cause__, httpx2.HTTPError) else error
    try:
        with transport.transport_errors():
            raise cause
    except errors.AdapterError as mapped:
        return mapped
    except Exception as unknown:  # noqa: BLE001  # the mapping is total, whatever lies below the SDK
        return errors.UnavailableError(f"the provider cannot be reached ({type(unknown).__name__})")


def error_of_answer(
    status: int, body: bytes, headers: Mapping[str, str], *, now: float | None = None
) -> errors.AdapterError:
    """Map an answer with an error status. Total over statuses and bodies.

    Args:
        status: HTTP status.
        body: of the answer, JSON or not.
        headers: of the answer; names in lower case or case-insensitive.
        now: seconds since the epoch, for waits that are told as a time; default: now.
    """
    told = _told_in_body(body, status)
    return _fill(status, told, status, headers, now)


def error_in_stream(
    error: Any, headers: Mapping[str, str] | None = None, *, now: float | None = None
) -> errors.AdapterError:
    """Map the ``error`` that a stream tells in place of a chunk: an object, or just words. Total.

    The HTTP status of such an answer was 200; where the error carries a status of its own, that one decides.
    """
    told = _told(error if isinstance(error, dict) else {"message": _text(error)})
    # The headers are those of a good answer: a retry-after among them is not about this failure.
    filled = _fill(200, told, _status_within(told), {}, now)
    return transport.with_request_id(filled, provider_request_id(headers or {}))


def finished_instead(status: int, body: bytes) -> chat_pb2.Finished | None:
    """Return how the answer ended where an error status tells of an ending rather than a failure; None: it failed.

    A prompt that a filter stopped is CONTENT_FILTER with ``prompt_blocked``; an output limit that was reached
    before there was any output is MAX_TOKENS.
    """
    if not 400 <= status < 500 or status in {401, 402, 404, 408, 429}:
        return None
    return _finished(_told_in_body(body, status))


def finished_in_stream(error: Any) -> chat_pb2.Finished | None:
    """Return the same for the ``error`` of a stream."""
    return _finished(_told(error)) if isinstance(error, dict) else None


def _finished(told: _Told) -> chat_pb2.Finished | None:
    if _WORDS_OUTPUT_LIMIT.search(told.message):
        return chat_pb2.Finished(
            reason=chat_pb2.FINISH_REASON_MAX_TOKENS, provider_finish_reason=told.code or told.type
        )
    if not (told.words & _FILTER or _WORDS_FILTER.search(told.message) or _is_moderation(told)):
        return None
    return chat_pb2.Finished(
        reason=chat_pb2.FINISH_REASON_CONTENT_FILTER,
        provider_finish_reason=_code(told),
        refusal=chat_pb2.RefusalDetail(
            category=_clean(",".join(filtered_categories(told.raw))),
            explanation=_clean(told.message),
            prompt_blocked=True,
            raw_json=json_text(dict(told.raw)),
        ),
    )


def _is_moderation(told: _Told) -> bool:
    """Whether it is OpenRouter's answer to input that its moderation flagged."""
    metadata = told.raw.get("metadata")
    return isinstance(metadata, dict) and "flagged_input" in metadata


def filtered_categories(raw: Mapping[str, Any]) -> list[str]:
    """Return the names of the categories that a filter acted on: Azure's verdict, or OpenRouter's reasons."""
    inner = raw.get("innererror") or raw.get("inner_error") or raw
    if not isinstance(inner, dict):
        return []
    results = inner.get("content_filter_result") or inner.get("content_filter_results")
    if isinstance(results, dict):
        return [name for name, result in results.items() if isinstance(result, dict) and result.get("filtered") is True]
    metadata = raw.get("metadata")
    reasons = metadata.get("reasons") if isinstance(metadata, dict) else None
    return [reason for reason in reasons if isinstance(reason, str)] if isinstance(reasons, list) else []


def _told_in_body(body: bytes, status: int) -> _Told:
    try:
        value = decode_json(body)
    except errors.AdapterError:
        value = None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return _Told(f"the provider answered with status {status}", "", "", "", {})
    error = value.get("error")
    several = value.get("errors")
    if not error and isinstance(several, list) and several:
        error = several[0]
    if isinstance(error, dict):
        return _told(error)
    if error:
        # The words stand beside the other keys, or are the whole of it.
        return _told({**value, "message": value.get("message") or _text(error)})
    return _told(value)


def _told(error: Mapping[str, Any]) -> _Told:
    message = error.get("message") or error.get("detail") or error.get("error_description") or error.get("msg") or ""
    code = error.get("code") or error.get("error_code")
    return _Told(
        message=_text(message) or "the provider reports a failure without words",
        code=_word(code),
        type=_word(error.get("type")),
        param=_word(error.get("param")),
        raw=error,
    )


def _word(value: Any) -> str:
    return value if isinstance(value, str) else "" if value is None else _text(value)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value)


def _status_within(told: _Told) -> int:
    for key in ("status_code", "code", "status", "error_code"):
        value = told.raw.get(key)
        if isinstance(value, str) and value.isdecimal():
            value = int(value)
        if isinstance(value, int) and 400 <= value <= 599:
            return value
    words = told.words
    if words & {"invalid_request_error", "badrequesterror", "bad_request"}:
        return 400
    if words & _RATE:
        return 429
    if not words and _WORDS_UNSUPPORTED.search(told.message):
        return 400
    return 500


def _decide(status: int, told: _Told) -> type[errors.AdapterError]:
    return _by_code(status, told.words) or _by_words(status, told) or errors.error_for_status(status)


def _by_code(status: int, words: frozenset[str]) -> type[errors.AdapterError] | None:
    if words & _BILLING:
        return errors.BillingError
    if words & _CONTEXT:
        return errors.ContextLengthError
    if words & _MODEL:
        return errors.ModelNotFoundError
    if words & _CREDENTIALS and status < 500:
        return errors.CredentialsError
    if words & _BROKEN_CALL:
        return errors.InvalidRequestError
    if "not_supported_error" in words:
        return errors.NotSupportedError
    if words & _OVERLOADED and (status == 429 or status >= 500):
        return errors.OverloadedError
    return None


def _by_words(status: int, told: _Told) -> type[errors.AdapterError] | None:
    message = told.message
    if status in {400, 413, 422, 500} and _WORDS_CONTEXT.search(message):
        return errors.ContextLengthError
    if status in {400, 404, 422} and (_WORDS_MODEL.search(message) or (status == 404 and told.param == "model")):
        return errors.ModelNotFoundError
    if status in {400, 403} and _WORDS_KEY.search(message):
        return errors.CredentialsError
    if status in {400, 403, 429} and _WORDS_BILLING.search(message):
        return errors.BillingError
    if status >= 500 and _WORDS_OVERLOADED.search(message):
        return errors.OverloadedError
    if status == 500 and told.raw.get("code") == 500 and told.type == "server_error" and _is_bad_input(message):
        return errors.InvalidRequestError
    return None


def _is_bad_input(message: str) -> bool:
    return _WORDS_BAD_INPUT.search(message) is not None


def _fill(
    status: int, told: _Told, decided_by: int, headers: Mapping[str, str], now: float | None
) -> errors.AdapterError:
    kind = _decide(decided_by, told)
    error = kind(
        _clean(told.message),
        provider_status=status,
        provider_code=_code(told),
        provider_request_id=provider_request_id(headers),
        retry_after=_retry_after(kind, told, headers, now),
        retryable=_retryable(kind, told, headers),
    )
    if isinstance(error, errors.InvalidRequestError):
        error.field = _FIELD_OF_PARAM.get(told.param, "")
    return error


def _retryable(kind: type[errors.AdapterError], told: _Told, headers: Mapping[str, str]) -> bool | None:
    decided = transport.should_retry(headers)
    if decided is not None:
        return decided
    if kind is errors.RateLimitedError and _WORDS_NEVER_FITS.search(told.message):
        return False
    if told.words & _BROKEN_CALL:
        return True  # the model may well write a readable call the next time
    return None


def _retry_after(
    kind: type[errors.AdapterError], told: _Told, headers: Mapping[str, str], now: float | None
) -> float | None:
    waits = transport.retry_after(headers, now)
    if waits is not None or not kind.retryable_by_default:
        return waits
    metadata = told.raw.get("metadata")
    passed_on = metadata.get("headers") if isinstance(metadata, dict) else None
    if isinstance(passed_on, dict):
        reset = passed_on.get("X-RateLimit-Reset")
        if isinstance(reset, str) and reset.isdecimal():
            moment = int(reset) / (1000 if len(reset) > 11 else 1)
            return max(0.0, moment - (time.time() if now is None else now))
    words = _WORDS_WAIT.search(told.message)
    if words is None:
        return None
    return sum(float(number) * _WAIT_SECONDS[unit.lower()] for number, unit in _WAIT_PART.findall(words[1]))


def _code(told: _Told) -> str:
    return _clean(told.code or told.type)[:128]


def _clean(message: str) -> str:
    return _KEYS.sub(r"\1***", message)[:_LONGEST_MESSAGE].encode("utf-8", "replace").decode()
