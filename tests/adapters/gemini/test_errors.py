"""Every failure of the Gemini API is the error that says what to do about it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.adapters.gemini.answers import APIS
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters import errors
from execution_platform.adapters.gemini.errors import Failure, blocked_prompt, error_of, failure_of


def failures() -> Iterator[Record]:
    for split in ("open", "documented"):
        for record in records(split, "gemini"):
            if record["response"]["status"] != 200 and (record["api"] in APIS or split == "open"):
                yield record


#: What must come out, by a word of the body that no other body has.
WANTED: tuple[tuple[str, type[errors.AdapterError]], ...] = (
    ("API_KEY_INVALID", errors.CredentialsError),
    ("unregistered callers", errors.CredentialsError),
    ("SERVICE_DISABLED", errors.ForbiddenError),
    ("IAM_PERMISSION_DENIED", errors.ForbiddenError),
    ("User location", errors.ForbiddenError),
    ("CachedContent not found", errors.NotFoundError),
    ("cache content metadata", errors.NotFoundError),
    ("<!DOCTYPE html>", errors.NotFoundError),
    ("is not found for API version", errors.ModelNotFoundError),
    ("Maximum request body size", errors.RequestTooLargeError),
    ("RESOURCE_EXHAUSTED", errors.RateLimitedError),
    ("UNAVAILABLE", errors.OverloadedError),
    ("INTERNAL", errors.UnavailableError),
    ("INVALID_ARGUMENT", errors.InvalidRequestError),
    ("FAILED_PRECONDITION", errors.InvalidRequestError),
)


@pytest.mark.parametrize("record", params(failures()))
def test_recorded_failures(record: Record) -> None:
    """A recorded or documented error body is the right error, with status, code and message."""
    status, body = record["response"]["status"], body_of(record)
    error = error_of(failure_of(body, status), record["response"]["headers"])
    wanted = next(kind for word, kind in WANTED if word in body.decode())
    assert type(error) is wanted
    assert error.provider_status == status
    assert error.message
    assert "<" not in error.message
    if body.lstrip().startswith(b"{"):
        said = json.loads(body)["error"]
        assert error.message.startswith(said["message"].split()[0])
        assert error.provider_code in body.decode()


def failure(status: int, message: str = "m", word: str = "", *details: dict[str, Any]) -> Failure:
    body = {"error": {"code": status, "message": message, "status": word, "details": list(details)}}
    return failure_of(json.dumps(body).encode(), status)


def info(reason: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason, "domain": "googleapis.com"}


def retry(delay: str) -> dict[str, Any]:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


def quota(quota_id: str, value: str = "10") -> dict[str, Any]:
    violation = {"quotaId": quota_id, "quotaMetric": "generate_content_free_tier_requests", "quotaValue": value}
    return {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [violation]}


def test_every_status_is_some_error() -> None:
    """The mapping is total: each status gives an AdapterError that carries it, with and without a body."""
    for status in range(1_000):
        for body in (b"", b"{}", b"[]", b'{"error":null}', b'{"error":{"details":[1]}}', b"no json", b"\xff"):
            error = error_of(failure_of(body, status))
            assert isinstance(error, errors.AdapterError)
            assert error.provider_status == (status or 500)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (failure(401, "m", "UNAUTHENTICATED"), errors.CredentialsError),
        (failure(403, "m", "PERMISSION_DENIED", info("API_KEY_SERVICE_BLOCKED")), errors.ForbiddenError),
        (failure(400, "API key expired. Please renew the API key."), errors.CredentialsError),
        (failure(403, "Your API key was reported as leaked."), errors.CredentialsError),
        (failure(403, "m", "PERMISSION_DENIED", info("BILLING_DISABLED")), errors.BillingError),
        (failure(429, "Your prepayment credits are depleted."), errors.BillingError),
        (failure(429, "Your project has exceeded its monthly spending cap."), errors.BillingError),
        (
            failure(400, "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576)."),
            errors.ContextLengthError,
        ),
        (failure(400, "Request payload size exceeds the limit: 20971520 bytes."), errors.RequestTooLargeError),
        (failure(403, "You do not have permission to access the File abc or it may not exist."), errors.NotFoundError),
        (failure(404, "Requested entity was not found."), errors.NotFoundError),
        (failure(404, "models/x is not found for API version v1beta"), errors.ModelNotFoundError),
        (failure(499, "The operation was cancelled.", "CANCELLED"), errors.UnavailableError),
        (failure(504, "Deadline expired.", "DEADLINE_EXCEEDED"), errors.ProviderTimeoutError),
    ],
)
def test_failures_by_their_words(found: Failure, wanted: type[errors.AdapterError]) -> None:
    """Details and messages that say more than the status decide."""
    assert type(error_of(found)) is wanted


@pytest.mark.parametrize(
    ("found", "retryable", "after"),
    [
        (failure(429, "m", "", retry("34.4s")), True, 34.4),
        (failure(429, "m", "", retry("0s")), True, 0.0),
        (failure(429, "Please retry in 12.5s."), True, 12.5),
        (failure(429, "Please retry in 250.5ms."), True, 0.2505),
        (failure(429, "m", "", quota("GenerateRequestsPerMinutePerProjectPerModel"), retry("7s")), True, 7.0),
        (failure(429, "m", "", quota("GenerateRequestsPerDayPerProjectPerModel"), retry("7s")), False, 7.0),
        (failure(429, "m", "", quota("GenerateRequestsPerMinutePerProjectPerModel", "0")), False, None),
        (failure(429, "Quota exceeded for metric x, limit: 0"), False, None),
        (failure(503, "m"), True, None),
        (failure(500, "m"), True, None),
        (failure(400, "m"), False, None),
    ],
)
def test_what_may_be_tried_again_and_when(found: Failure, retryable: bool, after: float | None) -> None:
    """Rate limits come back when RetryInfo says so; a quota per day, or one of zero, does not within a chat."""
    error = error_of(found)
    assert (error.retryable, error.retry_after) == (retryable, after)


def test_a_header_tells_the_wait_where_the_body_does_not() -> None:
    """retry-after counts when there is no RetryInfo."""
    assert error_of(failure(503), {"retry-after": "3"}).retry_after == 3.0
    assert error_of(failure(503, "m", "", retry("5s")), {"retry-after": "3"}).retry_after == 5.0


def test_an_error_without_a_number_takes_the_status_of_its_word() -> None:
    """Inside a stream the google.rpc code decides where no number is given, and the answer's status is 200."""
    found = failure_of(b'{"error":{"status":"RESOURCE_EXHAUSTED","message":"m"}}')
    error = error_of(found, in_stream=True)
    assert isinstance(error, errors.RateLimitedError)
    assert (error.provider_status, error.provider_code) == (200, "RESOURCE_EXHAUSTED")


def test_a_key_in_a_message_is_hidden() -> None:
    """A key that Google repeats is not handed on."""
    key = "AIza" + "Sy" + "0" * 33
    assert key not in error_of(failure(400, f"API key {key} expired")).message


@pytest.mark.parametrize(
    ("found", "blocked"),
    [
        (failure(400, "The prompt could not be submitted: it violates our Responsible AI practices."), True),
        (failure(400, "The request was blocked by a safety filter."), True),
        (failure(400, "Request contains an invalid argument."), False),
        (
            failure(403, "Requests to this API are blocked.", "PERMISSION_DENIED", info("API_KEY_SERVICE_BLOCKED")),
            False,
        ),
    ],
)
def test_a_filter_that_answers_with_an_error_is_told_from_errors(found: Failure, blocked: bool) -> None:
    """Only an invalid argument whose words name a filter counts as a blocked prompt."""
    assert blocked_prompt(found) is blocked
