"""What failures of Bedrock mean: answers with an error status, and the frames of a stream that tell an error.

The type of an error decides, wherever it stands; where Bedrock gives one type to several things, its words do. Where
neither is known the status does.

Sources: the errors of `bedrock-runtime/2023-09-30/service-2.json` and the codes of throttling in `retries/standard.py`
of botocore 1.44.5; https://docs.aws.amazon.com/bedrock/latest/userguide/troubleshooting-api-error-codes.html ("error
codes" below);
https://docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html; recorded answers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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
    UnsupportedOptionError,
    error_for_status,
)
from execution_platform.adapters.transport import retry_after
from execution_platform.adapters.wire import decode_json

__all__ = [
    "blocked_by_filter",
    "error_from_answer",
    "error_from_error_frame",
    "error_from_exception_frame",
    "error_type",
    "request_id_of",
]

#: By type, in lower case and without the ending "exception", which not all services write.
_BY_TYPE: dict[str, type[AdapterError]] = {
    # Of Bedrock.
    "accessdenied": ForbiddenError,
    "conflict": UnavailableError,
    "internalserver": UnavailableError,
    "modelerror": UnavailableError,
    "modelnotready": OverloadedError,
    "modelstreamerror": UnavailableError,
    "modeltimeout": ProviderTimeoutError,
    # The model is what every request names.
    "resourcenotfound": ModelNotFoundError,
    "servicequotaexceeded": RateLimitedError,
    "serviceunavailable": OverloadedError,
    "throttling": RateLimitedError,
    "validation": InvalidRequestError,
    # Of every service of AWS: who asks.
    "authfailure": CredentialsError,
    "expiredtoken": CredentialsError,
    "incompletesignature": CredentialsError,
    "invalidaccesskeyid": CredentialsError,
    "invalidclienttokenid": CredentialsError,
    "invalidsignature": CredentialsError,
    "invalidtoken": CredentialsError,
    "missingauthenticationtoken": CredentialsError,
    "requestexpired": CredentialsError,
    "requesttimetooskewed": CredentialsError,
    "signaturedoesnotmatch": CredentialsError,
    "unauthorized": CredentialsError,
    "unrecognizedclient": CredentialsError,
    "ftuformnotfilled": ForbiddenError,
    "notauthorized": ForbiddenError,
    "optinrequired": ForbiddenError,
    "unauthorizedoperation": ForbiddenError,
    # How much.
    "bandwidthlimitexceeded": RateLimitedError,
    "ec2throttled": RateLimitedError,
    "limitexceeded": RateLimitedError,
    "priorrequestnotcomplete": RateLimitedError,
    "provisionedthroughputexceeded": RateLimitedError,
    "requestlimitexceeded": RateLimitedError,
    "requestthrottled": RateLimitedError,
    "slowdown": RateLimitedError,
    "throttled": RateLimitedError,
    "toomanyrequests": RateLimitedError,
    "transactioninprogress": RateLimitedError,
    # What.
    "invalidaction": NotSupportedError,
    "unknownoperation": NotSupportedError,
    "malformedquerystring": InvalidRequestError,
    "serialization": InvalidRequestError,
    "validationerror": InvalidRequestError,
    "requestentitytoolarge": RequestTooLargeError,
    "requesttoolarge": RequestTooLargeError,
    # Failures.
    "internalfailure": UnavailableError,
    "internalservererror": UnavailableError,
    "internalerror": UnavailableError,
    "requesttimeout": ProviderTimeoutError,
}

#: Words of which one decides, for types that stand for several things; the first that fits. All in lower case. AWS's
#: documentation has few of them: the others are from recordings, and from reports of those who got them, by repository.
_BY_WORDS: tuple[tuple[frozenset[type[AdapterError]], tuple[str, ...], type[AdapterError]], ...] = (
    (
        frozenset({ForbiddenError, InvalidRequestError}),
        (
            "api key is valid",  # anomalyco/opencode#47073
            "invalid api key",  # answered to a key of another form; no other request is told so
            "bearer token",  # the same: only credentials are called so
            "security token",  # recorded; vercel/ai#4163
            "signature expired",  # "Troubleshoot AWS API requests" of the IAM User Guide
        ),
        CredentialsError,
    ),
    (
        frozenset({ForbiddenError, InvalidRequestError, ModelNotFoundError}),
        # Not "marketplace subscription": it stands behind missing permissions, too (anthropic-on-aws#251).
        ("invalid_payment_instrument", "payment instrument"),  # "AWS Marketplace Agreement Failed": error codes
        BillingError,
    ),
    (
        frozenset({InvalidRequestError, UnavailableError}),
        (
            "input is too long",  # bedrock-chat#95
            "input tokens exceeded",  # recorded
            "input tokens exceeds",  # recorded
            "prompt is too long",  # strands-agents/harness-sdk#1663
            "exceed context limit",  # strands-agents/harness-sdk#3969, as the next two
            "too many total text bytes",
            "maximum context length",
        ),
        ContextLengthError,
    ),
    (
        frozenset({InvalidRequestError, ModelNotFoundError}),
        (
            "unsupported countries",  # generative-bi-using-rag#361
            "operation not allowed",  # the whole of what accounts are told that may not ask at all
            "use case details have not been submitted",  # FTUFormNotFilled: error codes
        ),
        ForbiddenError,
    ),
    (
        frozenset({InvalidRequestError}),
        (
            "model identifier is invalid",  # recorded
            "on-demand throughput isn",  # terricain/aioboto3#352
            "end of its life",  # gsd-build/gsd-2#5425, as the next
            "marked by provider as legacy",
        ),
        ModelNotFoundError,
    ),
    (frozenset({ModelNotFoundError}), ("guardrail",), NotFoundError),  # recorded
    # The type is a status's own, without a name: what is missing is the model, or its profile.
    (frozenset({NotFoundError}), ("model", "inference profile", "inference-profile"), ModelNotFoundError),
    # earendil-works/pi#3739; recorded
    (frozenset({InvalidRequestError}), ("model doesn't support", "model does not support"), UnsupportedOptionError),
)

#: Anthropic's own words for an answer that it stopped, which Bedrock hands on.
_FILTERED = ("content filtering policy",)

#: Statuses of the model behind Bedrock that asking again does not change.
_LASTING = frozenset({400, 401, 403, 404, 413, 422})

_MOST_WORDS = 900
#: A refused signature is answered with what was signed: headers, and so a session's token.
_QUOTED = re.compile(r"'[^']*'", re.DOTALL)
_SIGNED = re.compile(r"(?i)\bthe (?:canonical string|string[- ]to[- ]sign)\b.*", re.DOTALL)


def error_from_answer(status: int, headers: Mapping[str, str], body: bytes) -> AdapterError:
    """Return what an answer with an error status means. Total: any status, any body.

    Args:
        status: HTTP status.
        headers: of the answer; names in lower case, or looked up in any case.
        body: the answer's body.
    """
    told = _told(body)
    error = _error(status, error_type(headers, told), told)
    error.provider_request_id = request_id_of(headers)
    error.retry_after = _retry_after(headers)
    return error


def error_from_exception_frame(name: str, payload: bytes) -> AdapterError:
    """Return what a frame of type exception means. Total.

    Args:
        name: its ``:exception-type``.
        payload: its payload.
    """
    return _error(200, name, _told(payload))


def error_from_error_frame(code: str, message: str) -> AdapterError:
    """Return what a frame of type error means, of which the service has no model. Total.

    Args:
        code: its ``:error-code``.
        message: its ``:error-message``.
    """
    return _error(200, code, {"message": message})


def error_type(headers: Mapping[str, str], body: bytes | dict[str, Any]) -> str:
    """Return the type of an error without its namespace; empty: none is told."""
    told = body if isinstance(body, dict) else _told(body)
    named = headers.get("x-amzn-errortype") or _text(told, "__type", "code", "Code")
    return named.partition(":")[0].rpartition("#")[2].strip()


def blocked_by_filter(body: bytes) -> str:
    """Return the explanation if an error says that a filter stopped the answer, else an empty text."""
    message = _message(_told(body))
    return message if any(words in message.lower() for words in _FILTERED) else ""


def request_id_of(headers: Mapping[str, str]) -> str:
    """Return AWS's identifier of the request; empty: it gave none."""
    return headers.get("x-amzn-requestid") or headers.get("x-amz-request-id") or ""


def _error(status: int, name: str, told: dict[str, Any]) -> AdapterError:
    message = _message(told)
    cls = _class_of(status, name, message)
    return cls(
        f"the provider answered {name or f'HTTP {status}'}: {_said(cls, message)}",
        provider_status=status,
        provider_code=name,
        retryable=_retryable(name, message, told),
    )


def _class_of(status: int, name: str, message: str) -> type[AdapterError]:
    cls = _BY_TYPE.get(_plain(name))
    if cls is None:
        # A frame has no status: what it tells under an unknown name is a failure.
        cls = UnavailableError if status == 200 else error_for_status(status)
    words = message.lower()
    for candidates, telling, meant in _BY_WORDS:
        if cls in candidates and any(part in words for part in telling):
            return meant
    return cls


def _plain(name: str) -> str:
    return name.lower().removesuffix("exception")


def _retryable(name: str, message: str, told: dict[str, Any]) -> bool | None:
    """Return whether asking again makes sense where the type alone does not decide it; None: it does."""
    if _plain(name) == "servicequotaexceeded" or "per day" in message.lower():
        return False  # a quota of the account, which does not pass within the life of a chat
    original = told.get("originalStatusCode")
    return False if isinstance(original, int) and original in _LASTING else None


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait. AWS's own header is in milliseconds."""
    own = headers.get("x-amz-retry-after")
    return retry_after({"retry-after-ms": own}) if own else retry_after(headers)


def _told(body: bytes) -> dict[str, Any]:
    try:
        value = decode_json(body)
    except ProtocolError:
        return {"message": body[:_MOST_WORDS].decode("utf-8", "replace")}
    if not isinstance(value, dict):
        return {}
    # What AWS's front answers, with status 200, to a path that it does not know.
    output = value.get("Output")
    return output if isinstance(output, dict) and "__type" in output else value


def _message(told: dict[str, Any]) -> str:
    message = _text(told, "message", "Message", "errorMessage")
    original = _text(told, "originalMessage")
    return f"{message}: {original}" if message and original and original not in message else message or original


def _text(told: dict[str, Any], *names: str) -> str:
    return next((value for name in names if isinstance(value := told.get(name), str) and value), "")


def _said(cls: type[AdapterError], message: str) -> str:
    if cls is CredentialsError:
        message = _QUOTED.sub("'...'", _SIGNED.sub("", message)).strip()
    return message[:_MOST_WORDS] or "no explanation"
