"""JSON merge patches (RFC 7396) whose values stay as the caller wrote them, digit by digit."""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.openai_api.dialect import Dialect
from execution_platform.adapters.wire import merge_patch
from execution_platform.v1 import chat_pb2

__all__ = ["apply_patch", "apply_provider_options"]


def apply_provider_options(body: dict[str, Any], request: chat_pb2.ChatRequest, dialect: Dialect) -> dict[str, Any]:
    """Return a body with those of the request's provider options that are for this provider or its family.

    Raises:
        InvalidRequestError: options are not a JSON object.
    """
    for number, options in enumerate(request.provider_options):
        if options.provider in {dialect.provider, dialect.family}:
            body = apply_patch(body, options.options_json, f"provider_options[{number}].options_json")
    return body


def apply_patch(target: dict[str, Any], patch_json: str, field: str) -> dict[str, Any]:
    """Return an object with a caller's merge patch applied.

    Args:
        target: the object; it is not changed.
        patch_json: the patch.
        field: path of the field that holds it, for the error.

    Raises:
        InvalidRequestError: it is not a JSON object.
    """
    merged: dict[str, Any] = merge_patch(target, _patch(patch_json, field))
    return merged


def _patch(patch_json: str, field: str) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(patch_json, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequestError(f"{field}: must be a JSON object ({error})", field=field) from error
    return {key: _leaf(value, field) for key, value in members.items()}


def _leaf(value: msgspec.Raw, field: str) -> Any:
    text = bytes(value)
    if text == b"null":
        return None
    return _patch(text.decode(), field) if text.startswith(b"{") else value
