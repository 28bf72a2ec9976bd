"""Checks what RecordUsage is told. Every refusal names the field and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.reading.filters import checked_micros
from execution_platform.v1 import cost_pb2, usage_pb2

__all__ = ["check_recorded"]

_PERSONA: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_CURRENCY: Final = re.compile(r"[A-Z]{3}")
_MOST_NAME: Final = 128
_MOST_LONG_NAME: Final = 512
_MOST_NOTE: Final = 256
_MOST_LABELS: Final = 32
_MOST_ITEMS: Final = 256
_MOST_JSON: Final = 64 * 1024
#: Of one item; of so many a budget's sums stay far below 64 bits.
_MOST_QUANTITY: Final = 10**15
#: Of one line: a billion units.
_MOST_NANOS: Final = 10**18

_DAY: Final = 86_400_000_000
_OLDEST: Final = 400 * _DAY
#: Microseconds by which a caller's clock may be before ours.
_AHEAD: Final = 60_000_000


def check_recorded(request: cost_pb2.RecordUsageRequest, now: int) -> None:
    """Check what was done elsewhere.

    Args:
        request: as it was told.
        now: microseconds since the epoch.

    Raises:
        InvalidRequestError: a field is wrong; the error's ``field`` is its path.
    """
    if not request.request_id or len(request.request_id) > _MOST_NAME or not request.request_id.isprintable():
        _refuse("request_id", f"must be 1 to {_MOST_NAME} printable characters: it is what makes a retry harmless")
    if request.persona and not _PERSONA.fullmatch(request.persona):
        _refuse("persona", "must be 1 to 128 letters, digits, '_', '-' or '.', or empty")
    for name in ("provider", "model"):
        if not getattr(request, name):
            _refuse(name, "must say who did it")
    for name in ("provider", "model", "end_user_id", "session_id"):
        _check_text(getattr(request, name), name, _MOST_LONG_NAME)
    _check_text(request.note, "note", _MOST_NOTE)
    _check_labels(request.labels)
    _check_times(request, now)
    if not request.usage.items and not request.HasField("cost"):
        _refuse("usage", "must tell what was used, unless cost tells what it cost")
    _check_usage(request.usage)
    if request.HasField("cost"):
        _check_cost(request.cost)


def _check_text(text: str, field: str, most: int) -> None:
    if len(text) > most:
        _refuse(field, f"is longer than {most} characters: write it shorter")
    if "\0" in text:
        _refuse(field, "holds a zero character: leave it out")


def _check_labels(labels: Mapping[str, str]) -> None:
    if len(labels) > _MOST_LABELS:
        _refuse("labels", f"are more than {_MOST_LABELS}: leave some out")
    for key, value in labels.items():
        if not key:
            _refuse("labels", "have an empty key: name the label")
        _check_text(key, "labels", _MOST_NAME)
        _check_text(value, "labels", _MOST_NAME)


def _check_times(request: cost_pb2.RecordUsageRequest, now: int) -> None:
    start = now
    if request.HasField("start_time"):
        start = checked_micros(request.start_time, "start_time")
        if start < now - _OLDEST:
            _refuse("start_time", "is more than 400 days ago: what is older cannot be recorded any more")
        if start > now + _AHEAD:
            _refuse("start_time", "is in the future: tell when the work began")
    if request.HasField("end_time"):
        end = checked_micros(request.end_time, "end_time")
        if not request.HasField("start_time"):
            _refuse("start_time", "must be told where end_time is")
        if end < start:
            _refuse("end_time", "is before start_time: tell when the work ended")
        if end > now + _AHEAD:
            _refuse("end_time", "is in the future: tell what was done once it has ended")


def _check_usage(usage: usage_pb2.Usage) -> None:
    if len(usage.items) > _MOST_ITEMS:
        _refuse("usage.items", f"are more than {_MOST_ITEMS}: add those of equal kind together")
    for index, item in enumerate(usage.items):
        path = f"usage.items[{index}]"
        _check_enum(item.kind, usage_pb2.UsageKind, f"{path}.kind")
        _check_enum(item.unit, usage_pb2.UsageUnit, f"{path}.unit")
        if not 0 <= item.quantity <= _MOST_QUANTITY:
            _refuse(f"{path}.quantity", f"must be 0 to {_MOST_QUANTITY}")
        if item.cache_ttl.seconds < 0 or item.cache_ttl.nanos < 0:
            _refuse(f"{path}.cache_ttl", "must not be negative")
        _check_text(item.model, f"{path}.model", _MOST_LONG_NAME)
        _check_text(item.tool, f"{path}.tool", _MOST_LONG_NAME)
    for name in ("service_tier", "speed", "region"):
        _check_text(getattr(usage, name), f"usage.{name}", _MOST_NAME)
    _check_text(usage.provider_usage_json, "usage.provider_usage_json", _MOST_JSON)


def _check_cost(cost: usage_pb2.Cost) -> None:
    if cost.status == usage_pb2.COST_STATUS_UNPRICED or cost.status not in usage_pb2.CostStatus.values():
        _refuse("cost.status", "must be EXACT or ESTIMATED; leave cost out where it is not known")
    if not 1 <= len(cost.lines) <= _MOST_ITEMS:
        _refuse("cost.lines", f"must be 1 to {_MOST_ITEMS} lines; leave cost out where it is not known")
    for index, line in enumerate(cost.lines):
        path = f"cost.lines[{index}]"
        if not _CURRENCY.fullmatch(line.amount.currency_code):
            _refuse(f"{path}.amount.currency_code", 'must be three capital letters, such as "USD"')
        if not 0 <= line.amount.nanos <= _MOST_NANOS:
            _refuse(f"{path}.amount.nanos", f"must be 0 to {_MOST_NANOS} of 1e-9 units")
        if line.source not in {usage_pb2.COST_SOURCE_UNSPECIFIED, usage_pb2.COST_SOURCE_PROVIDER}:
            _refuse(f"{path}.source", "must be PROVIDER, who said so; leave cost out to have it priced here")
        _check_text(line.description, f"{path}.description", _MOST_LONG_NAME)
    _check_text(cost.price_version, "cost.price_version", _MOST_NAME)


def _check_enum(value: int, enum: Any, field: str) -> None:
    if not value or value not in enum.values():
        _refuse(field, f"must be one of {', '.join(enum.keys()[1:])}")


def _refuse(field: str, why: str) -> NoReturn:
    raise InvalidRequestError(f"{field}: {why}", field=field)
