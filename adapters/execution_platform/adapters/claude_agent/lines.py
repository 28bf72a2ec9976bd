"""Cuts newline-delimited JSON into lines, whatever the pieces in which it comes. Pure."""

from __future__ import annotations

from execution_platform.adapters.errors import ProtocolError
from execution_platform.adapters.wire import MAX_EVENT_BYTES

__all__ = ["LineDecoder"]


class LineDecoder:
    """Cuts bytes into lines; blank ones are passed over.

    Args:
        limit: most bytes of one line.
    """

    def __init__(self, limit: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._waiting = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines that are complete, without their ends.

        Raises:
            ProtocolError: a line is larger than the limit.
        """
        *complete, rest = data.split(b"\n")
        if complete and self._parts:
            # A line of many pieces, such as an image, is joined once and not with every piece.
            complete[0] = b"".join([*self._parts, complete[0]])
            self._parts, self._waiting = [], 0
        if rest:
            self._parts.append(rest)
            self._waiting += len(rest)
        if self._waiting > self._limit or any(len(line) > self._limit for line in complete):
            raise ProtocolError(f"the provider sent a line that is larger than {self._limit} bytes")
        return [stripped for line in complete if (stripped := line.strip())]

    def end(self) -> list[bytes]:
        """Tell that the bytes are over; return a last line whose end never came."""
        last = b"".join(self._parts).strip()
        self._parts, self._waiting = [], 0
        return [last] if last else []
