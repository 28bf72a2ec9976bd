"""JSON objects whose values stay as they stood: what the provider wrote is handed on, not written anew."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import msgspec

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.wire import decode_json, json_text

__all__ = [
    "Fields",
    "as_int",
    "as_text",
    "clean_text",
    "inner_fields",
    "is_told",
    "object_json",
    "raw_elements",
    "raw_fields",
    "raw_text",
    "rest_of",
]

#: A JSON object: each value is its JSON text.
Fields = dict[str, msgspec.Raw]

_TOO_LARGE = 2**63

_OBJECT = msgspec.json.Decoder(Fields)
_ARRAY = msgspec.json.Decoder(list[msgspec.Raw])


def raw_fields(data: bytes | msgspec.Raw) -> Fields:
    """Cut a JSON object into its members; their values are not decoded.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    try:
        return _OBJECT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode_json(bytes(data))
    if not isinstance(value, dict):
        raise ProtocolError("the provider sent something else than a JSON object where the format has one")
    return {key: _raw(element) for key, element in value.items()}


def inner_fields(fields: Fields, key: str) -> Fields:
    """Cut the object that a member holds. Raises ProtocolError where there is none."""
    if key not in fields:
        raise ProtocolError(f"the provider sent an event without its {key}")
    return raw_fields(fields[key])


def raw_elements(data: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Cut a JSON array into its elements; null and everything else that is no array has none."""
    try:
        return _ARRAY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode_json(bytes(data))
    return [_raw(element) for element in value] if isinstance(value, list) else []


def _raw(value: Any) -> msgspec.Raw:
    # Lone surrogates survive only as escapes.
    try:
        return msgspec.Raw(json.dumps(value, separators=(",", ":"), allow_nan=False).encode())
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the provider sent something that is not JSON: {error}") from error


def as_text(raw: msgspec.Raw | None) -> str:
    """Return a JSON string's value; anything else is empty. May hold lone surrogates."""
    value = None if raw is None else decode_json(bytes(raw))
    return value if isinstance(value, str) else ""


def as_int(raw: msgspec.Raw | None) -> int | None:
    """Return a JSON integer's value; None for anything else, also for what has more than 64 bits."""
    value = None if raw is None else decode_json(bytes(raw))
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_LARGE else None


def clean_text(raw: msgspec.Raw | None) -> str:
    """Return a JSON string's value for a field that is given whole; lone surrogates become U+FFFD."""
    text = as_text(raw)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def is_told(raw: msgspec.Raw | None) -> bool:
    """Return whether a member is there and not null."""
    return raw is not None and bytes(raw).strip() != b"null"


def raw_text(raw: msgspec.Raw) -> str:
    """Return the JSON text as it stood."""
    return bytes(raw).decode("utf-8", "replace").strip()


def rest_of(fields: Mapping[str, msgspec.Raw], known: Collection[str]) -> Fields:
    """Return the members that say something and have no field in the contract."""
    return {key: raw for key, raw in fields.items() if key not in known and is_told(raw)}


def object_json(members: Mapping[str, msgspec.Raw] | Iterable[tuple[str, msgspec.Raw]]) -> str:
    """Join members to the text of a JSON object; empty if there are none."""
    pairs = members.items() if isinstance(members, Mapping) else members
    text = ",".join(f"{json_text(key)}:{raw_text(raw)}" for key, raw in pairs)
    return f"{{{text}}}" if text else ""
