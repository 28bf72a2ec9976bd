"""What only Gemini's JSON needs: members that are null say nothing, enums may be numbers, and int64 is a string."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from execution_platform.adapters.fields import Fields, carried, fields_of, rest_of, value_of
from execution_platform.adapters.wire import json_text

__all__ = ["integer", "listed", "members", "word"]

_LIMIT = 2**63
#: An int64 as the JSON form of protobuf writes it.
_DIGITS = re.compile(r"-?[0-9]{1,19}")


def members(raw: bytes | msgspec.Raw) -> Fields:
    """Return the members of an object that are not null. Raises ProtocolError if it is no object."""
    return rest_of(fields_of(raw))


def word(raw: msgspec.Raw | None) -> str:
    """Return an enum's value as the provider wrote it: its name, or its number as digits."""
    found = value_of(raw)
    return carried(found) if isinstance(found, str) else "" if found is None else json_text(found)


def listed(raw: msgspec.Raw | None) -> list[Any]:
    """Return a decoded array; empty where there is none or it is something else. Raises ProtocolError."""
    found = value_of(raw)
    return found if isinstance(found, list) else []


def integer(found: Any) -> int | None:
    """Return a number that JSON writes as a number or, for int64, as a string; None for anything else, and beyond."""
    number: int | None = None
    if isinstance(found, int) and not isinstance(found, bool):
        number = found
    elif isinstance(found, str):
        number = int(found) if _DIGITS.fullmatch(found) else None
    elif isinstance(found, float) and found.is_integer():
        number = int(found)
    return number if number is not None and -_LIMIT <= number < _LIMIT else None
