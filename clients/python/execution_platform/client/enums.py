"""Names of the contract's enum values without their prefix: ``STOP`` for ``FINISH_REASON_STOP``."""

from __future__ import annotations

from google.protobuf.descriptor import EnumDescriptor

__all__ = ["number_of", "short_name"]


def short_name(enum: EnumDescriptor, number: int) -> str:
    """Return a value's name; a number that this client does not know yet comes as its digits."""
    value = enum.values_by_number.get(number)
    return value.name.removeprefix(_prefix(enum)) if value is not None else str(number)


def number_of(enum: EnumDescriptor, name: str) -> int:
    """Return a value's number, given its name without the prefix, in upper or lower case.

    Raises:
        ValueError: there is no such value.
    """
    value = enum.values_by_name.get(_prefix(enum) + name.upper())
    if value is None:
        known = ", ".join(short_name(enum, each.number).lower() for each in enum.values if each.number)
        raise ValueError(f"{name!r} is not one of {known}")
    return value.number


def _prefix(enum: EnumDescriptor) -> str:
    return enum.values_by_number[0].name.removesuffix("UNSPECIFIED")
