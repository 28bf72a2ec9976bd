"""JSON whose values stay the text that a provider wrote: objects cut into members, arrays into elements.

What is kept for the caller is handed on digit by digit, not written anew. Only where msgspec refuses a text (half a
surrogate pair, bytes that are not UTF-8) are its values written anew, with the same meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, TypeGuard

import msgspec

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.wire import decode_json, encode_json, json_text

__all__ = [
    "Fields",
    "carried",
    "clean_text",
    "elements_if_any",
    "elements_of",
    "fields_if_any",
    "fields_of",
    "inner_fields",
    "int_of",
    "is_told",
    "json_of",
    "object_json",
    "rest_of",
    "text_of",
    "value_of",
]

#: A JSON object: each value is its JSON text.
Fields = dict[str, msgspec.Raw]

_TOO_LARGE = 2**63

_OBJECT: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)
_ARRAY: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def fields_of(data: bytes | msgspec.Raw) -> Fields:
    """Cut a JSON object into its members; their values are not decoded.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    found = _fields(data)
    if found is None:
        raise ProtocolError("the provider sent something else than a JSON object where the format has one")
    return found


def fields_if_any(data: bytes | msgspec.Raw | None) -> Fields:
    """Cut a JSON object into its members; nothing, and any other JSON, has none. Raises ProtocolError for no JSON."""
    return (_fields(data) or {}) if data else {}


def inner_fields(fields: Fields, key: str) -> Fields:
    """Cut the object that a member holds. Raises ProtocolError where there is none."""
    if key not in fields:
        raise ProtocolError(f"the provider sent an event without its {key}")
    return fields_of(fields[key])


def elements_of(data: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Cut a JSON array into its elements.

    Raises:
        ProtocolError: it is not a JSON array.
    """
    found = _elements(data)
    if found is None:
        raise ProtocolError("the provider sent something else than a JSON array where the format has one")
    return found


def elements_if_any(data: bytes | msgspec.Raw | None) -> list[msgspec.Raw]:
    """Cut a JSON array into its elements; nothing, and any other JSON, has none. Raises ProtocolError for no JSON."""
    return (_elements(data) or []) if data else []


def _fields(data: bytes | msgspec.Raw) -> Fields | None:
    try:
        return _OBJECT.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode_json(bytes(data))
    return {carried(key): _raw(each) for key, each in value.items()} if isinstance(value, dict) else None


def _elements(data: bytes | msgspec.Raw) -> list[msgspec.Raw] | None:
    try:
        return _ARRAY.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        value = decode_json(bytes(data))
    return [_raw(each) for each in value] if isinstance(value, list) else None


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json_text(value).encode())


def value_of(raw: msgspec.Raw | None) -> Any:
    """Return the decoded value; None where there is none. Raises ProtocolError for no JSON."""
    return decode_json(bytes(raw)) if raw else None


def text_of(raw: msgspec.Raw | None) -> str:
    """Return a JSON string's value; anything else is empty. May hold halves of surrogate pairs."""
    value = value_of(raw)
    return value if isinstance(value, str) else ""


def clean_text(raw: msgspec.Raw | None) -> str:
    """Return a JSON string's value for a field that is given whole; anything else is empty."""
    return carried(text_of(raw))


def carried(text: str) -> str:
    """Return a text as protobuf can carry it: half of a surrogate pair becomes U+FFFD."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def int_of(raw: msgspec.Raw | None) -> int | None:
    """Return a JSON integer's value; None for anything else, also for what has more than 64 bits."""
    value = value_of(raw)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < _TOO_LARGE else None


def is_told(raw: msgspec.Raw | None) -> TypeGuard[msgspec.Raw]:
    """Return whether a member is there and not null."""
    return raw is not None and bytes(raw) != b"null"


def json_of(raw: bytes | msgspec.Raw | None) -> str:
    """Return the JSON text as it stands; empty where there is none."""
    return bytes(raw).decode("utf-8", "replace") if raw else ""


def rest_of(fields: Mapping[str, msgspec.Raw], known: Collection[str] = ()) -> Fields:
    """Return the members that say something and are not among those that are known."""
    return {key: raw for key, raw in fields.items() if key not in known and is_told(raw)}


def object_json(members: Mapping[str, Any]) -> str:
    """Join members to the text of a JSON object, raw values as they stand; empty if there are none."""
    return encode_json(members).decode("utf-8", "replace") if members else ""
