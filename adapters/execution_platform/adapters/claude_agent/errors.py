"""What the failures of a run mean.

A run that fails says so twice: in a message that the CLI made itself, with what it knows of the model's provider, and
in its result. Sources: `AssistantMessageError`, `ResultMessage` and `ResultError` of claude-agent-sdk 0.2.187; the
failures that its CLI 2.1.330 makes of the statuses in https://platform.claude.com/docs/en/api/errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from execution_platform.adapters.errors import (
    AdapterError,
    BillingError,
    ContextLengthError,
    CredentialsError,
    ForbiddenError,
    InvalidRequestError,
    ModelNotFoundError,
    NotFoundError,
    OverloadedError,
    ProviderTimeoutError,
    RateLimitedError,
    RequestTooLargeError,
    UnavailableError,
    error_for_status,
)
from execution_platform.adapters.fields import Fields, clean_text, elements_if_any, int_of

__all__ = [
    "OPTION_FIELDS",
    "blocked_by_filter",
    "error_from_refusal",
    "error_from_result",
    "option_fields",
    "words_of",
]

#: By the API's type of the error, which is the most exact.
_BY_TYPE: dict[str, type[AdapterError]] = {
    "authentication_error": CredentialsError,
    "billing_error": BillingError,
    "permission_error": ForbiddenError,
    "request_too_large": RequestTooLargeError,
    "rate_limit_error": RateLimitedError,
    "timeout_error": ProviderTimeoutError,
    "overloaded_error": OverloadedError,
}

#: By the CLI's own word.
_BY_WORD: dict[str, type[AdapterError]] = {
    "authentication_failed": CredentialsError,
    "oauth_org_not_allowed": ForbiddenError,
    "billing_error": BillingError,
    "rate_limit": RateLimitedError,
    "overloaded": OverloadedError,
    "model_not_found": ModelNotFoundError,
    "connection_failed": UnavailableError,
    "server_error": UnavailableError,
    "invalid_request": InvalidRequestError,
}

_SPENT = ("credit balance", "spend limit", "spend cap", "api usage limits", "insufficient credit", "out of extra usage")
_NO_SESSION = ("no conversation found", "no message found with message.uuid")
_FILTERED = ("content filtering policy",)
_MOST_WORDS = 900

#: How the CLI complains of an option.
_REFUSED = re.compile(r"^[Ee]rror: (?:option ')?(--[a-z-]+).*", re.MULTILINE)
OPTION_FIELDS: Mapping[str, str] = {
    "--allowedTools": "tools",
    "--effort": "reasoning.effort",
    "--json-schema": "output_format.json_schema.schema_json",
    "--model": "model",
}
"""Fields of a request that options of the CLI come from, where no provider option is given for them."""

#: Provider options that become options of the CLI.
_BY_OPTION = {
    "allowed_tools": "--allowedTools",
    "disallowed_tools": "--disallowedTools",
    "effort": "--effort",
    "fallback_model": "--fallback-model",
    "max_budget_usd": "--max-budget-usd",
    "max_thinking_tokens": "--max-thinking-tokens",
    "max_turns": "--max-turns",
    "mcp_servers": "--mcp-config",
    "permission_mode": "--permission-mode",
    "thinking": "--thinking",
    "tools": "--tools",
}

#: Keys and tokens, should the CLI ever repeat one.
_SECRET = re.compile(r"sk-ant-[\w-]+|(?i:bearer)\s+\S+")


def error_from_result(result: Fields, failure: Fields) -> AdapterError:
    """Return what a result that tells a failure means. Total.

    Args:
        result: the result's members.
        failure: members of the message that the CLI made about it; empty: it made none.
    """
    said = words_of(result)
    status = int_of(result.get("api_error_status")) or int_of(failure.get("api_error_status")) or 0
    kind = _told("api_error_type", result, failure)
    word = clean_text(failure.get("error"))
    cls = _class_of(status, kind, word, clean_text(result.get("terminal_reason")), said.lower())
    code = kind or _told("api_error", result, failure) or word or clean_text(result.get("subtype"))
    return cls(
        f"the run failed ({code or 'no code'}): {said or 'no explanation'}",
        provider_status=status,
        provider_code=code,
        provider_request_id=clean_text(failure.get("request_id")),
    )


def option_fields(paths: Mapping[str, str]) -> dict[str, str]:
    """Return the fields that options of the CLI come from.

    Args:
        paths: fields that provider options come from, by the option's name.
    """
    return {**OPTION_FIELDS, **{_BY_OPTION[name]: path for name, path in paths.items() if name in _BY_OPTION}}


def error_from_refusal(said: str, fields: Mapping[str, str]) -> InvalidRequestError | None:
    """Return what it means that the CLI ended over one of its options, before it did anything; None: it did not.

    Args:
        said: what it complained of.
        fields: fields of the request that options of the CLI come from.
    """
    refused = _REFUSED.search(said)
    if refused is None:
        return None
    field = fields.get(refused[1], "")
    return InvalidRequestError(f"{field or refused[1]} is refused by Claude Code: {refused[0]}", field=field)


def words_of(result: Fields) -> str:
    """Return what a result says in words, without secrets: its errors, else its text."""
    errors = [clean_text(error) for error in elements_if_any(result.get("errors"))]
    said = "; ".join(filter(None, errors)) or clean_text(result.get("result"))
    return _SECRET.sub("[secret]", said)[:_MOST_WORDS]


def blocked_by_filter(result: Fields) -> bool:
    """Return whether a result says that a filter of the model's provider stopped the answer."""
    said = words_of(result).lower()
    return any(part in said for part in _FILTERED)


def _told(name: str, result: Fields, failure: Fields) -> str:
    return clean_text(result.get(name)) or clean_text(failure.get(name))


def _class_of(status: int, kind: str, word: str, ended: str, said: str) -> type[AdapterError]:
    if ended == "prompt_too_long" or "prompt is too long" in said:
        return ContextLengthError
    if any(part in said for part in _NO_SESSION):
        return NotFoundError
    if any(part in said for part in _SPENT):
        return BillingError
    if word == "model_not_found":
        return ModelNotFoundError
    if kind in _BY_TYPE:
        return _BY_TYPE[kind]
    if status:
        return error_for_status(status)
    return _BY_WORD.get(word, UnavailableError)
