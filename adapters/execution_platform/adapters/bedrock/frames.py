"""Frames of ``application/vnd.amazon.eventstream``, both checksums checked. Pure.

A frame is: length of all, length of the headers, checksum of these eight bytes, headers, payload, checksum of all that
came before; numbers are big-endian, checksums CRC-32. A header is: length of its name (1 byte), name, type (1 byte),
value. botocore's own reader does the same five times slower and copies what waits with every frame and every piece.

Source: https://smithy.io/2.0/aws/amazon-eventstream.html, `botocore/eventstream.py` of botocore 1.44.5.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from zlib import crc32

from execution_platform.adapters.errors import ProtocolError, StreamBrokenError

__all__ = ["MAX_HEADER_BYTES", "MAX_PAYLOAD_BYTES", "Frame", "FrameDecoder", "HeaderValue", "read_headers"]

MAX_HEADER_BYTES = 128 * 1024
"""Most bytes of a frame's headers, as AWS's SDKs have it."""

MAX_PAYLOAD_BYTES = 24 * 1024 * 1024
"""Most bytes of a frame's payload, as AWS's SDKs have it."""

HeaderValue = bool | int | bytes | str
"""Times are milliseconds since the epoch, UUIDs their 16 bytes."""

_PRELUDE = struct.Struct(">III")
_CHECKSUM = struct.Struct(">I")
_LEAST = _PRELUDE.size + _CHECKSUM.size

#: Header blocks that are remembered: a stream repeats the same few.
_MOST_REMEMBERED = 64


class Frame(NamedTuple):
    """One frame: its headers by name, which belong to the decoder and are not to be changed, and its payload."""

    headers: Mapping[str, HeaderValue]
    payload: bytes


class FrameDecoder:
    """Cuts an event stream into frames, whatever the pieces in which it comes. Used once."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._waiting = 0
        self._needed = _PRELUDE.size
        self._begun = False
        self._remembered: dict[bytes, Mapping[str, HeaderValue]] = {}

    @property
    def waiting(self) -> int:
        """Bytes of a frame that is not complete."""
        return self._waiting

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take the next bytes and yield the frames that are complete. To be iterated to its end, or not fed again.

        Raises:
            ProtocolError: this is no event stream, or a frame of it is larger than any or cannot be read.
            StreamBrokenError: a checksum does not hold: bytes were lost or changed on the way.
        """
        self._parts.append(data)
        self._waiting += len(data)
        if self._waiting < self._needed:
            return  # pieces of a large frame are joined once, not with every piece
        buffer = b"".join(self._parts) if len(self._parts) > 1 else data
        at = 0
        self._needed = _PRELUDE.size
        while len(buffer) - at >= _PRELUDE.size:
            length, headers_length, checksum = _PRELUDE.unpack_from(buffer, at)
            if crc32(buffer[at : at + 8]) != checksum:
                raise self._damaged("prelude")
            _check_lengths(length, headers_length)
            self._begun = True
            end = at + length
            if end > len(buffer):
                self._needed = length
                break
            yield self._frame(buffer, at, headers_length, end)
            at = end
        self._parts = [buffer[at:]] if at < len(buffer) else []
        self._waiting = len(buffer) - at

    def _frame(self, buffer: bytes, at: int, headers_length: int, end: int) -> Frame:
        (checksum,) = _CHECKSUM.unpack_from(buffer, end - 4)
        if crc32(buffer[at : end - 4]) != checksum:
            raise self._damaged("message")
        body = at + 12 + headers_length
        raw = buffer[at + 12 : body]
        headers = self._remembered.get(raw)
        if headers is None:
            headers = read_headers(raw)
            if len(self._remembered) < _MOST_REMEMBERED:
                self._remembered[raw] = headers
        return Frame(headers, buffer[body : end - 4])

    def _damaged(self, what: str) -> ProtocolError | StreamBrokenError:
        if not self._begun:
            return ProtocolError(
                "the provider's answer is no event stream: does its base URL lead to Bedrock?", provider_status=200
            )
        return StreamBrokenError(
            f"the provider's stream was damaged on the way: the {what} checksum of a frame is wrong",
            provider_status=200,
        )


def _check_lengths(length: int, headers_length: int) -> None:
    payload_length = length - headers_length - _LEAST
    if payload_length < 0:
        raise ProtocolError("the provider sent a frame that is shorter than its headers", provider_status=200)
    if headers_length > MAX_HEADER_BYTES:
        raise ProtocolError(
            f"the provider sent a frame whose headers are larger than {MAX_HEADER_BYTES} bytes", provider_status=200
        )
    if payload_length > MAX_PAYLOAD_BYTES:
        raise ProtocolError(
            f"the provider sent a frame that is larger than {MAX_PAYLOAD_BYTES} bytes", provider_status=200
        )


#: Types of headers whose value has a fixed form, beside true (0) and false (1).
_FIXED: Mapping[int, struct.Struct] = {
    2: struct.Struct(">b"),
    3: struct.Struct(">h"),
    4: struct.Struct(">i"),
    5: struct.Struct(">q"),
    8: struct.Struct(">q"),
    9: struct.Struct(">16s"),
}
_BYTES, _STRING = 6, 7
_LENGTH = struct.Struct(">H")


def read_headers(raw: bytes) -> dict[str, HeaderValue]:
    """Return the headers of a frame.

    Raises:
        ProtocolError: they are cut short, repeat a name, are no UTF-8 or have a type that nobody knows.
    """
    headers: dict[str, HeaderValue] = {}
    at = 0
    try:
        while at < len(raw):
            name_end = at + 1 + raw[at]
            name = raw[at + 1 : name_end].decode()
            value, at = _value(raw[name_end], raw, name_end + 1)
            if name in headers:
                raise _unreadable(f"{name} comes twice")
            headers[name] = value
    except (struct.error, IndexError) as error:
        raise _unreadable("they are cut short") from error
    except UnicodeDecodeError as error:
        raise _unreadable("they are not UTF-8") from error
    return headers


def _value(kind: int, raw: bytes, at: int) -> tuple[HeaderValue, int]:
    """Return the value that begins at a place, and where it ends."""
    if kind in {_STRING, _BYTES}:
        start = at + _LENGTH.size
        end = start + _LENGTH.unpack_from(raw, at)[0]
        if end > len(raw):
            raise _unreadable("they are cut short")
        data = raw[start:end]
        return (data.decode() if kind == _STRING else data), end
    if kind in {0, 1}:
        return kind == 0, at
    form = _FIXED.get(kind)
    if form is None:
        raise _unreadable(f"{kind} is no type of theirs")
    value: int | bytes = form.unpack_from(raw, at)[0]
    return value, at + form.size


def _unreadable(why: str) -> ProtocolError:
    return ProtocolError(f"the headers of a frame cannot be read: {why}", provider_status=200)
