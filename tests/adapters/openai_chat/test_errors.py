"""Failures of servers of OpenAI's formats become the platform's errors, all of them."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.recordings import Record, body_of, params, records

from execution_platform.adapters import errors
from execution_platform.adapters.openai_api.errors import (
    error_in_stream,
    error_of_answer,
    finished_in_stream,
    finished_instead,
    map_error,
)
from execution_platform.v1 import chat_pb2

NOW = 1754667600.0
"""A minute before the reset that OpenRouter's recorded answer tells."""

EXPECTED: dict[str, tuple[type[errors.AdapterError], bool, float | None]] = {
    "openai-ee1fea8ed935a3": (errors.InvalidRequestError, False, None),
    "openai-cf7ed5b6992c5f": (errors.InvalidRequestError, False, None),
    "openai-cec132d2019483": (errors.ModelNotFoundError, False, None),
    "openai-94bd1554fa20aa": (errors.CredentialsError, False, None),
    "azure-5aea21e560addb": (errors.NotFoundError, False, None),
    "azure-b15e7c398525b2": (errors.CredentialsError, False, None),
    "azure-33178d637cba9a": (errors.RateLimitedError, True, 1.0),
    "openai_compatible-2c486e105ff576": (errors.InvalidRequestError, False, None),
    "openai_compatible-f103c34c3d8541": (errors.ModelNotFoundError, False, None),
    "openai_compatible-140051250aa329": (errors.CredentialsError, False, None),
    "openai_compatible-1efe151a99574a": (errors.ContextLengthError, False, None),
    "openai_compatible-5449d841ca8b47": (errors.RateLimitedError, True, 60.0),
    "doc-openai-1c45b02e5552": (errors.InvalidRequestError, False, None),
    "doc-openai-80771d7565f7": (errors.ModelNotFoundError, False, None),
    "doc-openai-6413eb38afc1": (errors.UnavailableError, True, None),
    "doc-openai-09aa01f4e64e": (errors.ModelNotFoundError, False, None),
    "doc-openai-2090fdf519e7": (errors.ForbiddenError, False, None),
    "doc-openai-d0191edc467f": (errors.InvalidRequestError, False, None),
    "doc-openai-bd8594ac2712": (errors.InvalidRequestError, False, None),
    "doc-openai-e0b0277c0394": (errors.OverloadedError, True, None),
    "doc-openai-cd8b5b413a78": (errors.RateLimitedError, True, 9.816),
    "doc-openai-6e666c06564b": (errors.RateLimitedError, False, None),
    "doc-azure-ed872507958b": (errors.RateLimitedError, True, 20.0),
    "doc-azure-307e2fc4bf4e": (errors.RateLimitedError, True, 2.0),
    "doc-openai_compatible-96d64c0cf9dd": (errors.ContextLengthError, False, None),
    "doc-openai_compatible-ebef376cf1cc": (errors.ContextLengthError, False, None),
}

ENDINGS = {
    "doc-openai-1eec8f16a7e5": chat_pb2.FINISH_REASON_MAX_TOKENS,
    "doc-azure-faabb6064b1c": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "doc-azure-48bf20a5f1e7": chat_pb2.FINISH_REASON_CONTENT_FILTER,
    "doc-azure-886d762e9bbc": chat_pb2.FINISH_REASON_CONTENT_FILTER,
}

REFUSED = [
    record
    for split in ("open", "documented")
    for provider in ("openai", "azure", "openai_compatible")
    for record in records(split, provider, api="chat.completions")
    if record["response"]["status"] != 200
]


def mapped(record: Record) -> errors.AdapterError:
    response = record["response"]
    return error_of_answer(response["status"], body_of(record), httpx2.Headers(response["headers"]), now=NOW)


@pytest.mark.parametrize("record", params(r for r in REFUSED if r["id"] not in ENDINGS))
def test_a_recorded_refusal_maps_to_its_reason(record: Record) -> None:
    """Each recorded and documented error answer has the class, the retry decision and the wait that it tells."""
    error = mapped(record)
    assert (type(error), error.retryable, error.retry_after) == EXPECTED[record["id"]]
    assert error.provider_status == record["response"]["status"]
    assert finished_instead(record["response"]["status"], body_of(record)) is None


@pytest.mark.parametrize("record", params(r for r in REFUSED if r["id"] in ENDINGS))
def test_an_ending_that_is_told_as_an_error_is_an_ending(record: Record) -> None:
    """A prompt that a filter stopped, and a limit reached before any output, are finished rather than failed."""
    finished = finished_instead(record["response"]["status"], body_of(record))
    assert finished is not None
    assert finished.reason == ENDINGS[record["id"]]
    if finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER:
        assert finished.refusal.prompt_blocked
        assert finished.refusal.category in {"hate", "jailbreak"}
        assert json.loads(finished.refusal.raw_json) == json.loads(body_of(record))["error"]


def body(**error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("status", "answer", "kind"),
    [
        (400, body(message="too long", code="context_length_exceeded"), errors.ContextLengthError),
        (400, body(message="x", type="exceed_context_size_error", code=400, n_ctx=512), errors.ContextLengthError),
        (500, body(message="the request exceeds the available context size", code=500), errors.ContextLengthError),
        (400, b'{"object":"error","message":"Invalid model: x","type":"invalid_model"}', errors.ModelNotFoundError),
        (400, body(message="x is not a valid model ID", code=400), errors.ModelNotFoundError),
        (404, body(message='model "x" not found, try pulling it first'), errors.ModelNotFoundError),
        (404, body(message="The API deployment does not exist", code="DeploymentNotFound"), errors.ModelNotFoundError),
        (400, body(message="Incorrect API key provided: xai-abcdefgh"), errors.CredentialsError),
        (402, body(message="Insufficient Balance"), errors.BillingError),
        (403, body(message="Your team has used all available credits"), errors.BillingError),
        (429, body(message="You exceeded your current quota", code="insufficient_quota"), errors.BillingError),
        (429, body(message="Upgrade at console/settings/billing", code="rate_limit_exceeded"), errors.RateLimitedError),
        (413, body(message="Request too large", code="rate_limit_exceeded"), errors.RequestTooLargeError),
        (498, body(message="flex tier capacity"), errors.OverloadedError),
        (503, body(message="Loading model", type="unavailable_error", code=503), errors.OverloadedError),
        (500, body(message="The model is overloaded"), errors.OverloadedError),
        (500, body(message="failed to parse grammar", code=500, type="server_error"), errors.InvalidRequestError),
        (500, body(message="std::bad_alloc", code=500, type="server_error"), errors.UnavailableError),
        (502, body(message="Provider returned error", code=502), errors.UnavailableError),
        (504, b"upstream timed out", errors.ProviderTimeoutError),
        (422, b'{"detail":[{"loc":["body","messages"],"msg":"Field required"}]}', errors.InvalidRequestError),
        (401, b'{"error_code":401,"message":"Credential was not sent"}', errors.CredentialsError),
        (429, b"<html>slow down</html>", errors.RateLimitedError),
        (400, b'[{"error":{"code":400,"message":"bad","status":"INVALID_ARGUMENT"}}]', errors.InvalidRequestError),
        (403, b'{"error_code":"PERMISSION_DENIED","message":"Invalid access token."}', errors.CredentialsError),
        (404, body(message="No endpoints found for some/model.", code=404), errors.ModelNotFoundError),
        (404, body(message="No endpoints found that support tool use.", code=404), errors.NotFoundError),
        (422, body(message="`inputs` tokens + `max_new_tokens` must be <= 4096"), errors.ContextLengthError),
        (429, body(message="Check your plan", type="exceeded_current_quota_error"), errors.BillingError),
        (429, body(message="Try again later", type="engine_overloaded_error"), errors.OverloadedError),
        (500, body(message="tools requires --jinja flag", code=500, type="server_error"), errors.InvalidRequestError),
        (501, body(message="No embeddings here", code=501, type="not_supported_error"), errors.NotSupportedError),
        (400, b'{"success":false,"errors":[{"code":7,"message":"prompt is too long"}]}', errors.ContextLengthError),
    ],
)
def test_what_the_body_says_decides_before_the_status(
    status: int, answer: bytes, kind: type[errors.AdapterError]
) -> None:
    """Codes, types and words of many servers map to the class that they mean."""
    assert type(error_of_answer(status, answer, {})) is kind


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Rate limit of 10 per 60s exceeded. Please wait 42 seconds before retrying.", 42.0),
        ("Limit reached. Please try again in 1m2.5s.", 62.5),
        ("Limit reached.", None),
    ],
)
def test_a_wait_that_is_told_in_words_is_kept(message: str, seconds: float | None) -> None:
    """Without a header the wait is what the message says."""
    assert error_of_answer(429, body(message=message, code="RateLimitReached"), {}).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, body(message="Content Exists Risk", type="invalid_request_error")),
        (403, body(message="Input flagged", code=403, metadata={"reasons": ["violence"], "flagged_input": "..."})),
        (400, body(message="blocked", code="content_policy_violation")),
        (400, body(message="System detected potentially unsafe or sensitive content", code="1301")),
    ],
)
def test_a_prompt_that_a_filter_stopped_is_an_answer(status: int, answer: bytes) -> None:
    """Filters of other servers are seen as well."""
    finished = finished_instead(status, answer)
    assert finished is not None
    assert finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


@pytest.mark.parametrize(
    ("told", "kind"),
    [
        ({"message": "x", "code": 429}, errors.RateLimitedError),
        ({"message": "x", "code": 502, "metadata": {}}, errors.UnavailableError),
        ({"message": "x", "code": "rate_limit_exceeded"}, errors.RateLimitedError),
        ({"message": "x", "code": "tool_use_failed", "status_code": 400}, errors.InvalidRequestError),
        ({"message": "x", "type": "server_error", "code": None}, errors.UnavailableError),
        ({"message": "KV cache exhausted", "type": "server_error", "code": 500}, errors.UnavailableError),
        ({"message": "x", "type": "invalid_request_error"}, errors.InvalidRequestError),
        ("thinking_budget is not supported", errors.InvalidRequestError),
        ("boom", errors.UnavailableError),
        (None, errors.UnavailableError),
        (17, errors.UnavailableError),
        ([], errors.UnavailableError),
    ],
)
def test_an_error_in_a_stream_is_decided_by_what_it_says(told: Any, kind: type[errors.AdapterError]) -> None:
    """The status that the error itself carries counts; the answer's own was 200."""
    error = error_in_stream(told, {"retry-after": "5", "x-request-id": "req_1"})
    assert type(error) is kind
    assert (error.provider_status, error.provider_request_id, error.retry_after) == (200, "req_1", None)


def test_a_call_that_the_server_could_not_read_may_be_tried_again() -> None:
    """Groq's tool_use_failed is about what the model wrote, which another attempt may write better."""
    assert error_in_stream({"message": "x", "code": "tool_use_failed", "status_code": 400}).retryable


def test_a_filter_in_the_middle_of_a_stream_is_an_ending() -> None:
    """A stream's error with a filter's code is an ending."""
    finished = finished_in_stream({"message": "filtered", "code": "content_filter"})
    assert finished is not None
    assert finished.reason == chat_pb2.FINISH_REASON_CONTENT_FILTER


def test_the_server_decides_whether_to_retry() -> None:
    """x-should-retry overrides the class."""
    assert not error_of_answer(503, b"", {"x-should-retry": "false"}).retryable
    assert error_of_answer(400, b"", {"x-should-retry": "true"}).retryable


def test_the_field_at_fault_is_the_callers() -> None:
    """The parameter that a server names is told as the path in ChatRequest."""
    answer = body(message="bad", param="top_logprobs", code="invalid_value")
    assert error_of_answer(400, answer, {}).field == "sampling.top_logprobs"
    assert error_of_answer(400, body(message="bad", param="messages[0].content"), {}).field == ""


def test_a_key_in_a_message_is_not_repeated() -> None:
    """A server that repeats a key in its words does not bring it into the error."""
    error = error_of_answer(401, body(message="Incorrect API key provided: sk-proj-abcdefghijklmnop."), {})
    assert "abcdefgh" not in error.message


REQUEST = httpx2.Request("POST", "https://example.com/v1/chat/completions")


def sdk_errors() -> list[Exception]:
    """One error of each class that the SDK raises for a request."""
    found: list[Exception] = [
        openai.APIConnectionError(request=REQUEST),
        openai.APITimeoutError(REQUEST),
        openai.APIResponseValidationError(httpx2.Response(200, request=REQUEST), None),
        openai.APIError("boom", REQUEST, body={"message": "boom", "code": "server_error"}),
        openai.OpenAIError("no key"),
        openai.LengthFinishReasonError(completion=_completion()),
        openai.ContentFilterFinishReasonError(),
    ]
    for status in (400, 401, 403, 404, 409, 422, 429, 500, 418):
        response = httpx2.Response(status, request=REQUEST, json={"error": {"message": "x"}})
        kind = openai._exceptions.__dict__.get(_CLASS_OF.get(status, ""), openai.APIStatusError)
        found.append(kind("x", response=response, body={"message": "x"}))
    return found


_CLASS_OF = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    409: "ConflictError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
}


def _completion() -> Any:
    return openai.types.chat.ChatCompletion.model_construct(usage=None)


def subclasses(kind: type[Exception]) -> set[type[Exception]]:
    return {kind} | {found for child in kind.__subclasses__() for found in subclasses(child)}


#: Errors of the SDK's other parts: webhooks, websockets and tokens of workload identities.
ELSEWHERE = {"WebSocketConnectionClosedError", "WebSocketQueueFullError", "SubjectTokenProviderError", "OAuthError"}


def test_every_error_of_the_sdk_is_mapped() -> None:
    """Each class of error that the SDK defines maps to an AdapterError, and those listed are all there are."""
    cases = sdk_errors()
    ours = {kind for kind in subclasses(openai.OpenAIError) if kind.__module__ == "openai._exceptions"}
    names = {kind.__name__ for kind in ours} - ELSEWHERE
    assert names <= {type(error).__name__ for error in cases}
    for error in cases:
        assert isinstance(map_error(error), errors.AdapterError)


def test_transport_faults_keep_their_meaning() -> None:
    """A timeout below the SDK is a timeout, a refused connection is unavailable, anything else is no crash."""
    assert isinstance(map_error(openai.APITimeoutError(REQUEST)), errors.ProviderTimeoutError)
    refused = openai.APIConnectionError(request=REQUEST)
    refused.__cause__ = httpx2.ConnectError("refused")
    assert isinstance(map_error(refused), errors.UnavailableError)
    assert isinstance(map_error(httpx2.ReadError("cut")), errors.UnavailableError)
    assert isinstance(map_error(ValueError("?")), errors.UnavailableError)


@given(
    status=st.integers(min_value=100, max_value=999),
    answer=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["error", "message", "code", "type", "param", "metadata", "innererror", "detail"]),
                    inner,
                    max_size=4,
                )
            ),
            max_leaves=12,
        ).map(lambda value: json.dumps(value).encode()),
    ),
)
def test_the_mapping_is_total(status: int, answer: bytes) -> None:
    """Whatever the status and the body, there is an error with a message that is not empty."""
    error = error_of_answer(status, answer, {})
    assert isinstance(error, errors.AdapterError)
    assert error.message
    finished_instead(status, answer)
