"""Structured logs: JSON lines, or text on a terminal. Made in app.py and handed down.

No message, argument or key of a chat is ever logged: only names, ids, counts and times.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any, Literal, Protocol, TextIO, cast

import structlog

__all__ = ["LogFormat", "LogLevel", "Logger", "make_logger"]

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


class _LossyStream:
    """A stream whose failures cost lines of the log and nothing else: whoever reads it may be gone, the disk full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write what can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Hand on what has been written, if it can be."""
        with contextlib.suppress(OSError):
            self._stream.flush()


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
    logger = structlog.wrap_logger(
        structlog.PrintLogger(cast(TextIO, _LossyStream(target))),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
    )
    return cast(Logger, logger)
