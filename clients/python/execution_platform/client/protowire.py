"""Reads protobuf's wire format without descriptors.

The `google.rpc` messages of a status and `grpc.health.v1` are read with this, because their Python packages are no
dependency of the client, and a second copy of their descriptors would clash with a caller's own.
Format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["bytes_field", "fields", "signed", "text"]

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield a message's fields in order, each as its number and its integer or bytes.

    Raises:
        ValueError: the bytes are no message.
    """
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case kind if kind in {_FIXED64, _LENGTH, _FIXED32}:
                size, at = _varint(data, at) if kind == _LENGTH else (8 if kind == _FIXED64 else 4, at)
                if at + size > len(data):
                    raise ValueError("the message is cut short")
                yield tag >> 3, data[at : at + size]
                at += size
            case kind:
                raise ValueError(f"wire type {kind} is not known")


def signed(value: int) -> int:
    """Return what an int32, int64 or enum field holds, given its varint."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: int | bytes) -> str:
    """Return what a string field holds.

    Raises:
        ValueError: it is not a string.
    """
    if isinstance(value, int):
        raise ValueError("a string was expected")  # noqa: TRY004 - one error for all that is malformed
    return value.decode()


def bytes_field(number: int, value: bytes) -> bytes:
    """Return a field of bytes, string or message, encoded."""
    return _encoded(number << 3 | _LENGTH) + _encoded(len(value)) + value


def _encoded(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise ValueError("the message is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
    raise ValueError("a number is longer than ten bytes")
