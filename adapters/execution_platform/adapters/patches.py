"""A caller's JSON on top of what was built: options of a provider, and of a tool. Values stay as they were written."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import msgspec

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.adapters.fields import Fields, fields_of
from execution_platform.adapters.wire import merge_patch, raw_json
from execution_platform.v1 import chat_pb2

__all__ = ["apply_patch", "apply_provider_options", "apply_tool_options", "config_fields", "patches_for"]


def apply_provider_options(
    body: dict[str, Any], request: chat_pb2.ChatRequest, names: Collection[str]
) -> dict[str, Any]:
    """Return a body with the request's options for a provider merged in (RFC 7396), in order.

    Args:
        body: as it was built; it is not changed.
        request: what is asked.
        names: of the provider and its family.

    Raises:
        InvalidRequestError: options are not a JSON object.
    """
    for _, patch in patches_for(request, names):
        body = merge_patch(body, patch)
    return body


def patches_for(request: chat_pb2.ChatRequest, names: Collection[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the request's options for any of these names: the path of the field that holds them, and the patch.

    A patch is nested as its objects are; every other value in it is raw JSON, but null is None.

    Raises:
        InvalidRequestError: options are not a JSON object.
    """
    for position, options in enumerate(request.provider_options):
        if options.provider in names:
            field = f"provider_options[{position}].options_json"
            yield field, _patch(options.options_json, field)


def apply_tool_options(definition: dict[str, Any], tool: chat_pb2.Tool, field: str) -> dict[str, Any]:
    """Return a tool's definition with the tool's own options merged in. Raises like apply_patch.

    Args:
        definition: as it was built; it is not changed.
        tool: what the caller says of it.
        field: path of the tool, for the error.
    """
    if not tool.provider_options_json:
        return definition
    return apply_patch(definition, tool.provider_options_json, f"{field}.provider_options_json")


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


def config_fields(config_json: str, field: str) -> Fields:
    """Return the members of a caller's JSON object, null among them; blank has none.

    Raises:
        InvalidRequestError: it is not a JSON object.
    """
    return fields_of(raw_json(config_json, field, must_be_object=True)) if config_json.strip() else {}


def _patch(patch_json: str, field: str) -> dict[str, Any]:
    try:
        members = msgspec.json.decode(patch_json, type=Fields)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidRequestError(f"{field}: must be a JSON object ({error})", field=field) from error
    return {key: _leaf(value, field) for key, value in members.items()}


def _leaf(value: msgspec.Raw, field: str) -> Any:
    text = bytes(value)
    if text == b"null":
        return None
    return _patch(text.decode(), field) if text.startswith(b"{") else value
