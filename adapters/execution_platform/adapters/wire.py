"""Framing that providers share: server-sent events, streamed JSON arrays, and JSON with broken surrogates. Pure."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import msgspec

from execution_platform.adapters.errors import InvalidRequestError, ProtocolError

__all__ = [
    "MAX_EVENT_BYTES",
    "JsonArrayDecoder",
    "ServerSentEvent",
    "SseDecoder",
    "decode_json",
    "encode_json",
    "json_text",
    "merge_patch",
    "raw_json",
]


#: Most bytes of one event or element: no provider sends as much, and whatever never ends must not fill the memory.
MAX_EVENT_BYTES = 64 * 1024 * 1024


class ServerSentEvent(NamedTuple):
    """One event of a text/event-stream.

    Attributes:
        event: its name, empty if it has none.
        data: its data lines, joined by line feeds. UTF-8 is not checked.
    """

    event: str
    data: bytes


class SseDecoder:
    """Cuts a text/event-stream into events, whatever the pieces in which it comes.

    Line ends may be LF, CR or CRLF; comments and fields other than event and data are passed over; a byte order
    mark at the start is too. Source: WHATWG HTML, section 9.2.6.

    Args:
        limit: most bytes of one event.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._waiting = 0
        self._buffer = b""
        self._parts: list[bytes] = []
        self._event = ""
        self._data: list[bytes] = []
        self._fresh = True
        self._skip_lf = False

    def feed(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes and return the events that are complete.

        Raises:
            ProtocolError: an event is larger than the limit.
        """
        self._waiting += len(data)
        if self._waiting > self._limit:
            raise _too_large(self._limit)
        if self._skip_lf and data:
            # The CR before was a line end of its own unless this is its LF.
            self._skip_lf = False
            if data.startswith(b"\n"):
                data = data[1:]
        if not self._fresh and b"\n" not in data and b"\r" not in data:
            # A line of many pieces, such as an image, is joined once and not with every piece.
            self._parts.append(data)
            return []
        if self._parts:
            self._buffer += b"".join(self._parts)
            self._parts = []
        buffer = self._buffer + data if self._buffer else data
        if self._fresh:
            if len(buffer) < 3 and b"\xef\xbb\xbf".startswith(buffer):
                self._buffer = buffer
                return []
            self._fresh = False
            buffer = buffer.removeprefix(b"\xef\xbb\xbf")
        if buffer.endswith(b"\r"):
            self._skip_lf = True
        *lines, self._buffer = _split_lines(buffer)
        events = self._read(lines)
        if events or not self._data:
            self._waiting = len(self._buffer)
        return events

    def end(self) -> list[ServerSentEvent]:
        """Tell that the bytes are over; return an event whose closing blank line never came."""
        last = b"".join([self._buffer, *self._parts])
        self._buffer, self._parts = b"", []
        return self._read([last, b""] if last else [b""])

    def _read(self, lines: list[bytes]) -> list[ServerSentEvent]:
        events: list[ServerSentEvent] = []
        for line in lines:
            if not line:
                if self._data:
                    events.append(ServerSentEvent(self._event, b"\n".join(self._data)))
                self._event = ""
                self._data = []
                continue
            name, _, value = line.partition(b":")
            if name == b"data":
                self._data.append(value.removeprefix(b" "))
            elif name == b"event":
                self._event = value.removeprefix(b" ").decode("utf-8", "replace")
        return events


def _split_lines(buffer: bytes) -> list[bytes]:
    if b"\r" in buffer:
        buffer = buffer.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return buffer.split(b"\n")


def _too_large(limit: int) -> ProtocolError:
    return ProtocolError(f"the provider sent a piece of its stream that is larger than {limit} bytes")


class JsonArrayDecoder:
    """Cuts a JSON array that comes in pieces into its top-level elements.

    Args:
        limit: most bytes of one element.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._buffer = bytearray()
        self._at = 0
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._start = -1
        self.closed = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the elements (objects) that are complete, as they stand.

        Raises:
            ProtocolError: an element is larger than the limit.
        """
        self._buffer += data
        elements: list[bytes] = []
        while self._at < len(self._buffer):
            self._step(self._buffer[self._at], elements)
            self._at += 1
        keep_from = self._start if self._start >= 0 else self._at
        del self._buffer[:keep_from]
        self._at -= keep_from
        self._start = min(0, self._start)
        if len(self._buffer) > self._limit:
            raise _too_large(self._limit)
        return elements

    def _step(self, byte: int, elements: list[bytes]) -> None:
        if self._in_string:
            if self._escaped:
                self._escaped = False
            elif byte == 0x5C:
                self._escaped = True
            elif byte == 0x22:
                self._in_string = False
        elif byte == 0x22:
            self._in_string = True
        elif byte in b"{[":
            self._depth += 1
            if self._depth == 2:
                self._start = self._at
        elif byte in b"}]":
            self._depth -= 1
            if self._depth == 1:
                elements.append(bytes(self._buffer[self._start : self._at + 1]))
                self._start = -1
            elif self._depth == 0:
                self.closed = True


def decode_json(data: bytes | str) -> Any:
    """Decode JSON, also where it holds lone surrogates or bytes that are not UTF-8, which msgspec refuses.

    Raises:
        ProtocolError: it is not JSON.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    text = data if isinstance(data, str) else data.decode("utf-8", "replace")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"the provider sent something that is not JSON: {error}") from error


def encode_json(value: Any) -> bytes:
    """Encode JSON as compactly as providers take it; msgspec.Raw parts stand as they are."""
    return msgspec.json.encode(value)


def json_text(value: Any) -> str:
    """Return a decoded value as compact JSON text; lone surrogates stay escaped.

    Raises:
        ProtocolError: it is nested too deeply, or holds a number that JSON does not have.
    """
    try:
        try:
            return msgspec.json.encode(value).decode()
        except UnicodeEncodeError:
            return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except RecursionError as error:
        raise ProtocolError("JSON is nested too deeply") from error
    except ValueError as error:
        raise ProtocolError(f"the provider sent something that is not JSON: {error}") from error


def raw_json(text: str, field: str, *, must_be_object: bool = False) -> msgspec.Raw:
    """Return a caller's JSON text for a body, as it stands.

    Args:
        text: the caller's JSON.
        field: path of the field that holds it, for the error.
        must_be_object: refuse anything but an object.

    Raises:
        InvalidRequestError: it is not JSON, or not an object where one is needed.
    """
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidRequestError(f"{field}: not valid JSON ({error})", field=field) from error
    if must_be_object and not isinstance(value, dict):
        raise InvalidRequestError(f"{field}: must be a JSON object", field=field)
    return msgspec.Raw(text.encode())


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7396). Does not change its arguments.

    Raises:
        InvalidRequestError: the patch is nested too deeply.
    """
    try:
        return _merged(target, patch)
    except RecursionError as error:
        raise InvalidRequestError("options are nested too deeply") from error


def _merged(target: Any, patch: Any) -> Any:
    if not isinstance(patch, dict):
        return patch
    if isinstance(target, msgspec.Raw):
        target = msgspec.json.decode(target)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged
