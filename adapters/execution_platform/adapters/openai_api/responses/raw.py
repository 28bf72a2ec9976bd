"""JSON objects whose values stay the text that the server wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from execution_platform.adapters.wire import decode_json, encode_json, json_text

__all__ = ["Fields", "elements_of", "fields_of", "joined", "plain", "text_of", "word"]

Fields = dict[str, msgspec.Raw]

_OBJECT: msgspec.json.Decoder[Fields] = msgspec.json.Decoder(Fields)
_LIST: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])


def fields_of(raw: msgspec.Raw | bytes | None) -> Fields:
    """Return the values of an object by key, each as it stands; nothing for anything but an object."""
    if not raw:
        return {}
    try:
        return _OBJECT.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = decode_json(bytes(raw))
        return {key: _made(each) for key, each in value.items()} if isinstance(value, dict) else {}


def elements_of(raw: msgspec.Raw | None) -> list[msgspec.Raw]:
    """Return the elements of a list, each as it stands; nothing for anything but a list."""
    if not raw:
        return []
    try:
        return _LIST.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        value = decode_json(bytes(raw))
        return [_made(each) for each in value] if isinstance(value, list) else []


def _made(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json_text(value).encode())


def plain(raw: msgspec.Raw | None) -> Any:
    """Return the value as Python has it; None where there is none."""
    return decode_json(bytes(raw)) if raw else None


def word(raw: msgspec.Raw | None) -> str:
    """Return a string that a proto field can hold; nothing for anything but a string."""
    value = plain(raw)
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def text_of(raw: msgspec.Raw | bytes | None) -> str:
    """Return the JSON text as it stands."""
    return bytes(raw).decode("utf-8", "replace") if raw else ""


def joined(fields: Mapping[str, Any]) -> str:
    """Return the values as one JSON object; nothing for none."""
    return encode_json(fields).decode("utf-8", "replace") if fields else ""
