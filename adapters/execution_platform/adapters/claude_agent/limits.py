"""The state of a subscription's limits, from the CLI's rate_limit_event.

Source: `RateLimitInfo` in `types.py` of claude-agent-sdk 0.2.187.
"""

from __future__ import annotations

import math

import msgspec
from google.protobuf import timestamp_pb2

from execution_platform.adapters.fields import Fields, clean_text, int_of, is_told, value_of
from execution_platform.v1 import usage_pb2

__all__ = ["read_limits"]

#: Seconds from 1970 that a Timestamp holds: to the end of the year 9999.
_LAST_SECOND = 253_402_300_799
_PERCENT = 100


def read_limits(info: Fields) -> list[usage_pb2.RateLimitSnapshot]:
    """Return what an event tells: the window that applies, and the one for paid extra usage if it is told of."""
    window = usage_pb2.RateLimitSnapshot(
        name=clean_text(info.get("rateLimitType")) or "unified", status=clean_text(info.get("status"))
    )
    _tell_reset(window, info.get("resetsAt"))
    _tell_utilization(window, info.get("utilization"))
    if not is_told(info.get("overageStatus")):
        return [window]
    overage = usage_pb2.RateLimitSnapshot(name="overage", status=clean_text(info.get("overageStatus")))
    _tell_reset(overage, info.get("overageResetsAt"))
    return [window, overage]


def _tell_reset(snapshot: usage_pb2.RateLimitSnapshot, raw: msgspec.Raw | None) -> None:
    seconds = int_of(raw)
    if seconds is not None and 0 <= seconds <= _LAST_SECOND:
        snapshot.reset_time.CopyFrom(timestamp_pb2.Timestamp(seconds=seconds))


def _tell_utilization(snapshot: usage_pb2.RateLimitSnapshot, raw: msgspec.Raw | None) -> None:
    """Tell a share of the window as percents of it; how much the window holds nobody says.

    While it is not used up for this account, which may buy extra usage, there is always something left.
    """
    share = value_of(raw)
    if isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= _PERCENT:
        least = 0 if snapshot.status == "rejected" else 1
        snapshot.limit = _PERCENT
        snapshot.remaining = max(least, _PERCENT - math.ceil(round(share * _PERCENT, 6)))
