"""The state of rate limits, from an answer's headers.

Source: https://platform.claude.com/docs/en/api/rate-limits, "Response headers".
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping

from google.protobuf import timestamp_pb2

from execution_platform.v1 import usage_pb2

__all__ = ["rate_limits"]

_PREFIXES = ("anthropic-ratelimit-", "anthropic-priority-")


def rate_limits(headers: Mapping[str, str]) -> list[usage_pb2.RateLimitSnapshot]:
    """Return one snapshot for each limit that the headers tell of, in their order."""
    snapshots: dict[str, usage_pb2.RateLimitSnapshot] = {}
    for header, value in headers.items():
        prefix = next((prefix for prefix in _PREFIXES if header.lower().startswith(prefix)), None)
        if prefix is None:
            continue
        name, _, part = header.lower().removeprefix(prefix).rpartition("-")
        if part not in {"limit", "remaining", "reset", "status"} or not name:
            continue
        name = f"priority-{name}" if "priority" in prefix else name
        snapshot = snapshots.setdefault(name, usage_pb2.RateLimitSnapshot(name=name))
        _tell(snapshot, part, value)
    return list(snapshots.values())


def _tell(snapshot: usage_pb2.RateLimitSnapshot, part: str, value: str) -> None:
    if part == "status":
        snapshot.status = value
    elif part == "reset":
        moment = _moment(value)
        if moment is not None:
            snapshot.reset_time.CopyFrom(moment)
    elif value.isdecimal() and int(value) < 2**63:
        setattr(snapshot, part, int(value))


def _moment(value: str) -> timestamp_pb2.Timestamp | None:
    """Return a time that is told as RFC 3339 or, in the unified limits, as seconds since 1970."""
    try:
        if value.isdecimal():
            moment = dt.datetime.fromtimestamp(int(value), dt.UTC)
        else:
            moment = dt.datetime.fromisoformat(value)
    except (ValueError, OverflowError, OSError):
        return None
    timestamp = timestamp_pb2.Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp
