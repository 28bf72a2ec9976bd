"""What failures of the Messages API mean: recorded, documented, and every class of the SDK."""

from __future__ import annotations

import json

import anthropic
import httpx2
import pytest
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters import errors
from execution_platform.adapters.anthropic.errors import error_from_body, error_from_sdk
from execution_platform.adapters.anthropic.limits import rate_limits
from execution_platform.adapters.errors import AdapterError

FAILED = [
    record
    for split in ("open", "documented")
    for record in records(split, "anthropic")
    if record["response"]["status"] >= 400
]
MEANT = {
    "invalid_request_error": errors.InvalidRequestError,
    "authentication_error": errors.CredentialsError,
    "not_found_error": errors.ModelNotFoundError,
    "rate_limit_error": errors.RateLimitedError,
    "overloaded_error": errors.OverloadedError,
    "api_error": errors.UnavailableError,
    "request_too_large": errors.RequestTooLargeError,
}


def mapped(record: Record) -> AdapterError:
    response = record["response"]
    headers = {name.lower(): value for name, value in response["headers"].items()}
    return error_from_body(response["status"], headers, body_of(record))


@pytest.mark.parametrize("record", params(iter(FAILED)))
def test_a_recorded_failure_means_what_it_says(record: Record) -> None:
    """Class, code, status, request id and whether to retry are those of the recorded answer."""
    error = mapped(record)
    told = json.loads(body_of(record))
    headers = record["response"]["headers"]
    spent = "spend_cap" in str(record.get("kind", ""))
    assert type(error) is (errors.BillingError if spent else MEANT[told["error"]["type"]])
    assert error.provider_status == record["response"]["status"]
    assert error.provider_request_id == told.get("request_id", headers.get("request-id", ""))
    assert told["error"]["message"] in error.message
    assert error.retry_after == (float(headers["retry-after"]) if "retry-after" in headers else None)
    if "x-should-retry" in headers:
        assert error.retryable == (headers["x-should-retry"] == "true")
    else:
        assert error.retryable == (error.provider_status >= 500)


def failure(status: int, kind: str = "", message: str = "m", code: str = "", **headers: str) -> AdapterError:
    error = {"type": kind, "message": message, "details": {"error_code": code} if code else None}
    body = json.dumps({"type": "error", "error": error}).encode()
    return error_from_body(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


@pytest.mark.parametrize(
    ("error", "cls", "retryable"),
    [
        (failure(400, "invalid_request_error"), errors.InvalidRequestError, False),
        (failure(400, "invalid_request_error", "prompt is too long: 9 > 8"), errors.ContextLengthError, False),
        (failure(400, "exceed_context_size_error"), errors.ContextLengthError, False),
        (failure(400, "invalid_request_error", "Your credit balance is too low"), errors.BillingError, False),
        (failure(402, "billing_error"), errors.BillingError, False),
        (failure(403, "permission_error"), errors.ForbiddenError, False),
        (failure(404, "not_found_error", "model: x"), errors.ModelNotFoundError, False),
        (failure(404, "not_found_error", "File not found: file_1"), errors.NotFoundError, False),
        (failure(408), errors.ProviderTimeoutError, True),
        (failure(413, "request_too_large"), errors.RequestTooLargeError, False),
        (failure(429, "rate_limit_error", retry_after="7"), errors.RateLimitedError, True),
        (failure(429, "rate_limit_error"), errors.RateLimitedError, False),
        (failure(429, "rate_limit_error", x_should_retry="true"), errors.RateLimitedError, True),
        (failure(429, "rate_limit_error", code="contract_spend_limit_reached"), errors.BillingError, False),
        (failure(429, "rate_limit_error", retry_after="7", x_should_retry="false"), errors.RateLimitedError, False),
        (failure(500, "api_error"), errors.UnavailableError, True),
        (failure(501, "not_supported_error"), errors.NotSupportedError, False),
        (failure(503, "unavailable_error"), errors.OverloadedError, True),
        (failure(503, "invalid_request_error"), errors.OverloadedError, True),
        (failure(504, "timeout_error"), errors.ProviderTimeoutError, True),
        (failure(529, "overloaded_error"), errors.OverloadedError, True),
        (failure(200, "api_error"), errors.UnavailableError, True),
        (failure(200, "invalid_request_error"), errors.InvalidRequestError, False),
        (failure(200, "of_the_future"), errors.UnavailableError, True),
        (failure(500, "api_error", x_should_retry="false"), errors.UnavailableError, False),
    ],
)
def test_status_type_and_words_decide_together(error: AdapterError, cls: type[AdapterError], retryable: bool) -> None:
    """The type is more exact than the status, money is not a rate, and x-should-retry has the last word."""
    assert (type(error), error.retryable) == (cls, retryable)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"null",
        b"[]",
        b'"text"',
        b"{}",
        b'{"error":null}',
        b'{"error":"plain"}',
        b'{"error":{"type":null,"message":null,"details":[]}}',
        b'{"error":{"code":500,"message":"m"}}',
        b'[{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED"}}]',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
@pytest.mark.parametrize("status", [200, 302, 400, 418, 429, 451, 500, 529, 599])
def test_any_status_with_any_body_has_a_meaning(status: int, body: bytes) -> None:
    """The mapping is total: whatever comes, there is one error with the status in it."""
    error = error_from_body(status, {}, body)
    assert error.provider_status == status
    assert len(error.message) < 1024


def sdk_classes() -> list[type[anthropic.AnthropicError]]:
    found = [anthropic.AnthropicError]
    for cls in found:
        found += cls.__subclasses__()
    return sorted(set(found), key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", sdk_classes(), ids=lambda cls: cls.__name__)
def test_every_error_of_the_sdk_has_a_meaning(cls: type[anthropic.AnthropicError]) -> None:
    """Each class that the SDK can raise becomes one of ours, those with a status by that status."""
    request = httpx2.Request("POST", "https://api.example/v1/messages")
    error = cls.__new__(cls)
    status = 0
    if issubclass(cls, anthropic.APIStatusError):
        status = getattr(cls, "status_code", 500)
        error = cls("m", response=httpx2.Response(status, request=request, json={"error": {}}), body=None)
    ours = error_from_sdk(error)
    assert type(ours) is not AdapterError
    assert ours.provider_status == status
    if status:
        assert type(ours) is (errors.NotSupportedError if status == 501 else errors.error_for_status(status))


def test_the_headers_tell_the_rate_limits() -> None:
    """Limits by name, with what is left and when they are full again; other headers say nothing."""
    headers = {
        "anthropic-ratelimit-requests-limit": "50",
        "anthropic-ratelimit-requests-remaining": "0",
        "anthropic-ratelimit-requests-reset": "2026-01-01T00:00:37Z",
        "Anthropic-RateLimit-Input-Tokens-Limit": "20000",
        "anthropic-ratelimit-unified-5h-status": "allowed_warning",
        "anthropic-ratelimit-unified-5h-reset": "1767225600",
        "anthropic-priority-output-tokens-remaining": "7",
        "anthropic-ratelimit-requests-novelty": "1",
        "anthropic-ratelimit-odd-limit": "many",
        "anthropic-ratelimit-odd-reset": "tomorrow",
        "retry-after": "3",
    }
    requests, input_tokens, unified, priority, odd = rate_limits(headers)
    assert (requests.name, requests.limit, requests.remaining) == ("requests", 50, 0)
    assert requests.HasField("remaining")
    assert requests.reset_time.seconds == 1767225637
    assert (input_tokens.name, input_tokens.limit, input_tokens.HasField("remaining")) == ("input-tokens", 20000, False)
    assert (unified.name, unified.status, unified.reset_time.seconds) == ("unified-5h", "allowed_warning", 1767225600)
    assert (priority.name, priority.remaining) == ("priority-output-tokens", 7)
    assert (odd.HasField("limit"), odd.HasField("reset_time")) == (False, False)


@pytest.mark.parametrize(
    "record", params(r for r in records("open", "anthropic") if "ratelimit_headers" in r["features"])
)
def test_recorded_headers_tell_their_limits(record: Record) -> None:
    """Each recorded limit comes with its number, what is left and its reset."""
    headers = record["response"]["headers"]
    snapshots = {snapshot.name: snapshot for snapshot in rate_limits(headers)}
    for name, value in headers.items():
        kind, _, part = name.removeprefix("anthropic-ratelimit-").rpartition("-")
        if not name.startswith("anthropic-ratelimit-") or "XXX" in value:
            continue  # some recorders put a placeholder in the value's place
        if part in {"limit", "remaining"}:
            assert getattr(snapshots[kind], part) == int(value)
        elif part == "reset":
            assert snapshots[kind].HasField("reset_time")
