"""Structured logs: JSON lines, or text on a terminal. Made in app.py and handed down.

No message, argument or key of a chat is ever logged: only names, ids, counts and times.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator, MutableMapping
from functools import partial
from typing import Any, Literal, Protocol, TextIO, cast

import structlog

__all__ = ["HoldingLogger", "LogFormat", "LogLevel", "Logger", "make_logger"]

LogFormat = Literal["auto", "json", "text"]
LogLevel = Literal["debug", "info", "warning", "error"]


class Logger(Protocol):
    """What the server logs through: an event's name and its fields."""

    def debug(self, event: str, **fields: Any) -> Any:
        """Log a detail."""

    def info(self, event: str, **fields: Any) -> Any:
        """Log what is normal."""

    def warning(self, event: str, **fields: Any) -> Any:
        """Log what somebody should look at."""

    def error(self, event: str, **fields: Any) -> Any:
        """Log a fault."""

    def exception(self, event: str, **fields: Any) -> Any:
        """Log a fault with the exception that is being handled."""


class HoldingLogger:
    """Hands everything on to a logger, but for a while that is told: then it keeps it, in order, until the end of that.

    The first chat of a server streams to the same terminal; a line of the log in the middle of it helps nobody.
    """

    def __init__(self, logger: Logger) -> None:
        self._logger = logger
        self._held: list[Callable[[], object]] | None = None

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Keep what is logged until the context is left."""
        self._held = []
        try:
            yield
        finally:
            held, self._held = self._held, None
            for write in held:
                write()

    def debug(self, event: str, **fields: Any) -> None:
        """Log a detail."""
        self._do(partial(self._logger.debug, event, **fields))

    def info(self, event: str, **fields: Any) -> None:
        """Log what is normal."""
        self._do(partial(self._logger.info, event, **fields))

    def warning(self, event: str, **fields: Any) -> None:
        """Log what somebody should look at."""
        self._do(partial(self._logger.warning, event, **fields))

    def error(self, event: str, **fields: Any) -> None:
        """Log a fault."""
        self._do(partial(self._logger.error, event, **fields))

    def exception(self, event: str, **fields: Any) -> None:
        """Log a fault with the exception that is being handled, at once: later it is not being handled any more."""
        self._logger.exception(event, **fields)  # noqa: LOG004 - it is the caller who is in a handler

    def _do(self, write: Callable[[], object]) -> None:
        if self._held is None:
            write()
        else:
            self._held.append(write)


#: Milliseconds that a reader who has been reading is waited for, once; one that has stalled is not waited for again.
_PATIENCE_MS = 100


class _LossyLog:
    """Writes lines to a stream whose failures cost lines of the log and nothing else.

    Whoever reads it may be gone, the disk full; or the reader is there and does not read, which would stop the whole
    server in a write.

    Attributes:
        lost: lines lost since the last one that was written.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._file = _file_of(stream)
        self._poll = select.poll()
        if self._file is not None:
            self._poll.register(self._file, select.POLLOUT)
        self._torn = False
        self.lost = 0

    def write(self, line: str) -> None:
        """Write a line, or what of it can be written now."""
        text = ("\n" if self._torn else "") + line + "\n"
        if self._file is None:
            self._stream.write(text)
            return
        data = text.encode("utf-8", "backslashreplace")
        written = 0
        with contextlib.suppress(OSError):
            while written < len(data) and self._poll.poll(0 if self.lost else _PATIENCE_MS):
                # So much goes at once into a pipe that takes anything at all.
                written += os.write(self._file, data[written : written + select.PIPE_BUF])
        if written == len(data):
            self._torn, self.lost = False, 0
        else:
            self._torn = self._torn or written > 0
            self.lost += 1

    debug = info = warning = error = write


def _file_of(stream: TextIO) -> int | None:
    """Return the descriptor of a stream; None: it is no file, and keeps nobody waiting."""
    try:
        return stream.fileno()
    except (OSError, ValueError):
        return None


def make_logger(level: LogLevel = "info", log_format: LogFormat = "auto", stream: TextIO | None = None) -> Logger:
    """Make the process's logger.

    Args:
        level: lowest level that is written.
        log_format: ``json``, ``text``, or ``auto``: text on a terminal, else JSON.
        stream: where to write; default standard error, so that standard output stays the answer's.
    """
    target = sys.stderr if stream is None else stream
    as_text = log_format == "text" or (log_format == "auto" and target.isatty())
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=target.isatty())
        if as_text
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    log = _LossyLog(target)
    process = os.getpid()

    def tell_process(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        # Workers write to one stream.
        fields.setdefault("process", process)
        return fields

    def tell_lost(_: object, __: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if log.lost:
            fields["lines_lost_before"] = log.lost
        return fields

    logger = structlog.wrap_logger(
        log,
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            tell_process,
            tell_lost,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return cast(Logger, logger)
