"""Each failure of Bedrock means one thing, wherever and however it is told."""

from __future__ import annotations

import json

import pytest
from botocore.retries.standard import ThrottledRetryableChecker
from hypothesis import given
from hypothesis import strategies as st
from tests.adapters.bedrock.reading import service_shapes

from execution_platform.adapters.bedrock.errors import (
    error_from_answer,
    error_from_error_frame,
    error_from_exception_frame,
    error_type,
    request_id_of,
)
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
    ProviderTimeoutError,
    RateLimitedError,
    RequestTooLargeError,
    UnavailableError,
    UnsupportedOptionError,
)

BEDROCKS: dict[str, type[AdapterError]] = {
    "AccessDeniedException": ForbiddenError,
    "ConflictException": UnavailableError,
    "InternalServerException": UnavailableError,
    "ModelErrorException": UnavailableError,
    "ModelNotReadyException": OverloadedError,
    "ModelStreamErrorException": UnavailableError,
    "ModelTimeoutException": ProviderTimeoutError,
    "ResourceNotFoundException": ModelNotFoundError,
    "ServiceQuotaExceededException": RateLimitedError,
    "ServiceUnavailableException": OverloadedError,
    "ThrottlingException": RateLimitedError,
    "ValidationException": InvalidRequestError,
}
AWSS: dict[str, tuple[int, type[AdapterError]]] = {
    "ExpiredTokenException": (403, CredentialsError),
    "ExpiredToken": (400, CredentialsError),
    "UnrecognizedClientException": (403, CredentialsError),
    "InvalidSignatureException": (403, CredentialsError),
    "SignatureDoesNotMatch": (403, CredentialsError),
    "IncompleteSignatureException": (403, CredentialsError),
    "MissingAuthenticationTokenException": (403, CredentialsError),
    "InvalidClientTokenId": (403, CredentialsError),
    "RequestExpired": (400, CredentialsError),
    "AccessDenied": (403, ForbiddenError),
    "NotAuthorized": (400, ForbiddenError),
    "OptInRequired": (403, ForbiddenError),
    "FTUFormNotFilled": (404, ForbiddenError),
    "TooManyRequestsException": (429, RateLimitedError),
    "InternalFailure": (500, UnavailableError),
    "ServiceUnavailable": (503, OverloadedError),
    "UnknownOperationException": (404, NotSupportedError),
    "SerializationException": (400, InvalidRequestError),
    "ValidationError": (400, InvalidRequestError),
    "RequestEntityTooLargeException": (413, RequestTooLargeError),
}


def answered(
    name: str, message: str = "words", status: int = 400, more: dict[str, object] | None = None
) -> AdapterError:
    headers = {"x-amzn-errortype": f"{name}:http://internal.amazon.com/coral/", "x-amzn-requestid": "aws-1"}
    return error_from_answer(status, headers, json.dumps({"message": message, **(more or {})}).encode())


def test_the_errors_are_those_of_the_service_model() -> None:
    """No error of botocore's model is without a meaning of its own here."""
    shapes = service_shapes()
    assert {name for name, shape in shapes.items() if shape.get("exception")} == set(BEDROCKS)
    streamed = {member["shape"] for member in shapes["ConverseStreamOutput"]["members"].values()}
    assert {name for name in streamed if shapes[name].get("exception")} <= set(BEDROCKS)


@pytest.mark.parametrize(("name", "meant"), BEDROCKS.items())
def test_each_type_means_the_same_in_an_answer_and_in_a_stream(name: str, meant: type[AdapterError]) -> None:
    """The type decides, whatever the status, and also as a stream spells it."""
    error = answered(name, status=400)
    in_stream = error_from_exception_frame(name[0].lower() + name[1:], b'{"message":"words"}')
    framed = error_from_error_frame(name, "words")
    assert type(error) is type(in_stream) is type(framed) is meant
    assert error.retryable == in_stream.retryable == framed.retryable
    assert (error.provider_status, error.provider_code, error.provider_request_id) == (400, name, "aws-1")
    assert (in_stream.provider_status, in_stream.provider_code) == (200, name[0].lower() + name[1:])
    assert error.message == f"the provider answered {name}: words"
    assert not error.unanswered


@pytest.mark.parametrize(("name", "status", "meant"), [(name, *told) for name, told in AWSS.items()])
def test_errors_of_every_service_of_aws_are_known(name: str, status: int, meant: type[AdapterError]) -> None:
    """Who asks, how much and what: the errors that AWS's front answers before Bedrock sees the request."""
    assert type(answered(name, status=status)) is meant


def test_what_botocore_takes_for_throttling_is_a_rate_limit() -> None:
    """Every code that botocore retries as throttling is a rate limit that passes."""
    for code in ThrottledRetryableChecker._THROTTLED_ERROR_CODES:
        error = answered(code)
        assert type(error) is RateLimitedError
        assert error.retryable


WORDS: list[tuple[str, str, type[AdapterError]]] = [
    ("ValidationException", "Input is too long for requested model.", ContextLengthError),
    ("ValidationException", "prompt is too long: 200049 tokens > 200000 maximum", ContextLengthError),
    ("ValidationException", "input length and `max_tokens` exceed context limit: 1 + 2 > 2", ContextLengthError),
    ("ValidationException", "The provided model identifier is invalid.", ModelNotFoundError),
    (
        "ValidationException",
        "Invocation of model ID x with on-demand throughput isn\u2019t supported. Retry your request with ...",
        ModelNotFoundError,
    ),
    ("ValidationException", "This model doesn't support tool use in streaming mode.", UnsupportedOptionError),
    ("ValidationException", "Operation not allowed", ForbiddenError),
    (
        "ValidationException",
        "Access to Anthropic models is not allowed from unsupported countries, regions, or territories.",
        ForbiddenError,
    ),
    ("ResourceNotFoundException", "Could not resolve the foundation model from the identifier.", ModelNotFoundError),
    ("ResourceNotFoundException", "The guardrail identifier or version does not exist.", NotFoundError),
    (
        "ResourceNotFoundException",
        "Model use case details have not been submitted for this account.",
        ForbiddenError,
    ),
    (
        "AccessDeniedException",
        "Model access is denied due to INVALID_PAYMENT_INSTRUMENT:A valid payment instrument must be provided.",
        BillingError,
    ),
    (
        "AccessDeniedException",
        "Model access is denied: no AWS Marketplace actions. Your AWS Marketplace subscription cannot be completed.",
        ForbiddenError,
    ),
    ("ValidationException", "This model's maximum context length is 202752 tokens.", ContextLengthError),
    ("ValidationException", "too many total text bytes: 1 > 0", ContextLengthError),
    ("AccessDeniedException", "Authentication failed: Please make sure your API Key is valid.", CredentialsError),
    ("AccessDeniedException", "Bearer Token has expired", CredentialsError),
    ("AccessDeniedException", "You don't have access to the model with the specified model ID.", ForbiddenError),
]


@pytest.mark.parametrize(("name", "message", "meant"), WORDS)
def test_where_a_type_stands_for_several_things_its_words_decide(
    name: str, message: str, meant: type[AdapterError]
) -> None:
    """What AWS tells by words alone: lengths, models, payment, keys of the API."""
    assert type(answered(name, message)) is meant
    assert type(error_from_exception_frame(name, json.dumps({"message": message}).encode())) is meant


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"x-amzn-errortype": "ThrottlingException"}, b""),
        ({"x-amzn-errortype": "com.amazon.coral.service#ThrottlingException:http://x"}, b"{}"),
        ({}, b'{"__type":"com.amazon.coral.service#ThrottlingException","message":"m"}'),
        ({}, b'{"code":"ThrottlingException","Message":"m"}'),
        ({}, b'{"Output":{"__type":"com.amazon.coral.service#ThrottlingException"},"Version":"1.0"}'),
    ],
)
def test_the_type_is_found_wherever_it_stands(headers: dict[str, str], body: bytes) -> None:
    """In the header with or without address and namespace, and in the body under any of its names."""
    assert error_type(headers, body) == "ThrottlingException"
    assert type(error_from_answer(400, headers, body)) is RateLimitedError


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        (400, InvalidRequestError),
        (401, CredentialsError),
        (403, ForbiddenError),
        (404, NotFoundError),
        (408, ProviderTimeoutError),
        (413, RequestTooLargeError),
        (424, UnavailableError),
        (429, RateLimitedError),
        (500, UnavailableError),
        (503, OverloadedError),
        (504, ProviderTimeoutError),
    ],
)
def test_without_a_known_type_the_status_decides(status: int, meant: type[AdapterError]) -> None:
    """What a proxy answers, or a type that nobody knows yet, means what its status says."""
    for headers in ({}, {"x-amzn-errortype": "BrandNewException"}):
        for body in (b"<html>no</html>", b"", b"[]", b'{"message":5}'):
            assert type(error_from_answer(status, headers, body)) is meant


def test_an_unknown_type_in_a_stream_is_a_failure_that_may_pass() -> None:
    """A frame of an unknown exception, or of none, is a failure of the provider's own."""
    for error in (error_from_exception_frame("brandNew", b""), error_from_error_frame("", "")):
        assert type(error) is UnavailableError
        assert error.retryable
        assert "no explanation" in error.message


@pytest.mark.parametrize(
    ("name", "message", "more", "retryable"),
    [
        ("ThrottlingException", "Too many requests, please wait before trying again.", {}, True),
        ("ThrottlingException", "Too many tokens per day, please wait before trying again.", {}, False),
        ("ServiceQuotaExceededException", "quota", {}, False),
        ("ModelNotReadyException", "not ready", {}, True),
        ("ModelErrorException", "it failed", {}, True),
        ("ModelErrorException", "it failed", {"originalStatusCode": 500}, True),
        ("ModelErrorException", "it failed", {"originalStatusCode": 400}, False),
        ("ModelErrorException", "it failed", {"originalStatusCode": [400]}, True),
        ("ModelTimeoutException", "late", {}, True),
        ("ValidationException", "no", {}, False),
    ],
)
def test_asking_again_where_it_makes_sense(name: str, message: str, more: dict[str, object], retryable: bool) -> None:
    """A quota of a day or an account does not pass in time, nor does what the model behind refused."""
    assert answered(name, message, more=more).retryable is retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"retry-after": "7"}, 7.0),
        ({"x-amz-retry-after": "soon", "retry-after": "7"}, None),
        ({}, None),
    ],
)
def test_the_wait_is_read_from_either_header(headers: dict[str, str], seconds: float | None) -> None:
    """AWS's own header counts milliseconds, the common one seconds."""
    assert error_from_answer(429, headers, b"{}").retry_after == seconds


def test_the_words_of_the_model_behind_are_told() -> None:
    """What the model itself answered stands behind what Bedrock says."""
    payload = b'{"message":"The stream broke","originalStatusCode":500,"originalMessage":"out of memory"}'
    error = error_from_exception_frame("modelStreamErrorException", payload)
    assert error.message == "the provider answered modelStreamErrorException: The stream broke: out of memory"


SIGNED = """The request signature we calculated does not match the signature you provided.

The Canonical String for this request should have been
'POST
/model/m/converse

host:bedrock
x-amz-security-token:SECRET

host;x-amz-security-token'

The String-to-Sign should have been
'AWS4-HMAC-SHA256
SECRET'
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "InvalidSignatureException",
            SIGNED,
        ),
        (
            "IncompleteSignatureException",
            "'SECRET' not a valid key=value pair (missing equal-sign) in Authorization header: 'Bearer SECRET'.",
        ),
        ("AccessDeniedException", "Invalid API Key format: 'SECRET'"),
    ],
)
def test_what_was_signed_is_not_repeated(name: str, message: str) -> None:
    """AWS answers a refused signature with what was signed, a session's token included: none of it is handed on."""
    error = answered(name, message, status=403)
    assert type(error) is CredentialsError
    assert "SECRET" not in error.message
    assert name in error.message


def test_the_request_id_is_awss() -> None:
    """The id comes from either header of AWS."""
    assert request_id_of({"x-amzn-requestid": "a"}) == request_id_of({"x-amz-request-id": "a"}) == "a"
    assert request_id_of({}) == ""


_NAMES = st.sampled_from([*BEDROCKS, *AWSS, ""]) | st.text(max_size=20)
_BODIES = st.binary(max_size=60) | st.dictionaries(
    st.sampled_from(["message", "Message", "__type", "code", "Output", "originalStatusCode", "originalMessage"]),
    st.none() | st.integers() | st.text(max_size=20) | st.lists(st.integers(), max_size=2) | st.just({"__type": 5}),
).map(lambda told: json.dumps(told).encode())


@given(st.integers(-1, 700), _NAMES, _BODIES)
def test_every_answer_means_something(status: int, name: str, body: bytes) -> None:
    """The mapping is total: any status, any type and any body give an AdapterError that says so."""
    told = [
        error_from_answer(status, {"x-amzn-errortype": name}, body),
        error_from_exception_frame(name, body),
        error_from_error_frame(name, body.decode("utf-8", "replace")),
    ]
    for error in told:
        assert isinstance(error, AdapterError)
        assert error.message.startswith("the provider answered ")
