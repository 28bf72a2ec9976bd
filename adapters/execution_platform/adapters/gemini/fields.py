"""Reads JSON field by field without touching the text of the values."""

from __future__ import annotations

from typing import Any

import msgspec

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.wire import decode_json, json_text

__all__ = ["Fields", "integer", "items", "json_of", "listed", "members", "text", "value", "word"]

#: The members of a JSON object; each value is its exact text.
Fields = dict[str, msgspec.Raw]

_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS = msgspec.json.Decoder(list[msgspec.Raw])
_NULL = b"null"


def members(raw: bytes | msgspec.Raw) -> Fields:
    """Return the members of an object that are not null.

    Raises:
        ProtocolError: it is not a JSON object.
    """
    try:
        found = _MEMBERS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _tolerant_members(bytes(raw))
    return {key: part for key, part in found.items() if part != _NULL}


def _tolerant_members(raw: bytes) -> Fields:
    # Half a surrogate pair is refused by msgspec; the values' texts are then made anew.
    decoded = decode_json(raw)
    if not isinstance(decoded, dict):
        raise ProtocolError("the provider sent something else where a JSON object belongs")
    return {key: msgspec.Raw(json_text(part).encode()) for key, part in decoded.items()}


def items(raw: bytes | msgspec.Raw) -> list[msgspec.Raw]:
    """Return the items of an array. Raises ProtocolError if it is none."""
    try:
        return _ITEMS.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = decode_json(bytes(raw))
    if not isinstance(decoded, list):
        raise ProtocolError("the provider sent something else where a JSON array belongs")
    return [msgspec.Raw(json_text(part).encode()) for part in decoded]


def value(raw: msgspec.Raw | None) -> Any:
    """Return a decoded value; None where there is none. Raises ProtocolError."""
    return None if raw is None else decode_json(bytes(raw))


def text(raw: msgspec.Raw | None) -> str:
    """Return a string; empty where there is none or it is something else."""
    found = value(raw)
    return found if isinstance(found, str) else ""


def word(raw: msgspec.Raw | None) -> str:
    """Return an enum's value as the provider wrote it: its name, or its number as digits."""
    found = value(raw)
    return found if isinstance(found, str) else "" if found is None else json_text(found)


def listed(raw: msgspec.Raw | None) -> list[Any]:
    """Return a decoded array; empty where there is none or it is something else. Raises ProtocolError."""
    found = value(raw)
    return found if isinstance(found, list) else []


def integer(found: Any) -> int | None:
    """Return a number that JSON writes as a number or, for int64, as a string; None for anything else."""
    if isinstance(found, bool):
        return None
    if isinstance(found, int):
        return found
    if isinstance(found, float) and found.is_integer():
        return int(found)
    if isinstance(found, str) and found.isascii() and found.isdigit():
        return int(found)
    return None


def json_of(fields: Fields) -> str:
    """Return members as the text of an object, each value verbatim; empty if there are none."""
    if not fields:
        return ""
    parts = (msgspec.json.encode(key).decode() + ":" + _text_of(part) for key, part in fields.items())
    return "{" + ",".join(parts) + "}"


def _text_of(raw: msgspec.Raw) -> str:
    return bytes(raw).decode("utf-8", "replace")
