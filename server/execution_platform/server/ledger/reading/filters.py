"""Which records are meant: a UsageFilter, checked, as conditions of SQL.

All conditions are on `usage_entries`, of which each record has at least one row. So a list, an export and a sum of the
same filter go over the same rows, in the order in which they lie.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn

from google.protobuf import timestamp_pb2
from sqlalchemy import ColumnElement, exists, select, tuple_

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.store.tables import usage_entries, usage_labels, usage_records
from execution_platform.v1 import cost_pb2, usage_pb2

__all__ = ["Selection", "checked_micros"]

#: Fields that are a name, which is a column of the same name.
_NAMES: Final = ("tenant", "project", "persona", "end_user_id", "session_id", "provider", "model")
_MOST_CHARACTERS: Final = 512
_MOST_LABELS: Final = 32
#: The times that a Timestamp may tell, in seconds: the years 1 to 9999.
_FIRST_SECOND: Final = -62_135_596_800
_LAST_SECOND: Final = 253_402_300_799


@dataclass(frozen=True, slots=True)
class Selection:
    """A filter that has been found to be right.

    Attributes:
        filter: as it was asked for.
        start: first moment that records may have begun at, in microseconds since the epoch; None: any.
        end: first moment that is too late; None: none is.
    """

    filter: cost_pb2.UsageFilter
    start: int | None = None
    end: int | None = None

    @classmethod
    def of(cls, usage_filter: cost_pb2.UsageFilter, path: str = "filter") -> Selection:
        """Check a filter.

        Args:
            usage_filter: the filter.
            path: of the request's field that holds it, for messages.

        Raises:
            InvalidRequestError: a field of it cannot be meant so; the message says how it can.
        """
        _check_names(usage_filter, path)
        _check_labels(usage_filter.labels, f"{path}.labels")
        _check_enums(usage_filter, path)
        span = usage_filter.time_range
        start = (
            checked_micros(span.start_time, f"{path}.time_range.start_time") if span.HasField("start_time") else None
        )
        end = checked_micros(span.end_time, f"{path}.time_range.end_time") if span.HasField("end_time") else None
        if start is not None and end is not None and start >= end:
            _refuse(f"{path}.time_range", "ends before it has begun: end_time must be later than start_time")
        kept = cost_pb2.UsageFilter()
        kept.CopyFrom(usage_filter)
        return cls(kept, start, end)

    @property
    def key(self) -> str:
        """What tells it from other filters, for page tokens."""
        return self.filter.SerializeToString(deterministic=True).hex()

    def conditions(self) -> list[ColumnElement[bool]]:
        """Return what must hold of rows of `usage_entries`."""
        return [*self.during(), *self.matching()]

    def during(self) -> list[ColumnElement[bool]]:
        """Return what must hold of their time."""
        return list(self._time())

    def matching(self) -> list[ColumnElement[bool]]:
        """Return what must hold of all else."""
        return [*self._names(), *self._labels(), *self._records()]

    def _time(self) -> Iterator[ColumnElement[bool]]:
        if self.start is not None:
            yield usage_entries.c.started_at >= self.start
        if self.end is not None:
            yield usage_entries.c.started_at < self.end

    def _names(self) -> Iterator[ColumnElement[bool]]:
        for name in _NAMES:
            if value := getattr(self.filter, name):
                yield usage_entries.c[name] == value
        if self.filter.outcomes:
            yield usage_entries.c.outcome.in_(sorted(self.filter.outcomes))

    def _labels(self) -> Iterator[ColumnElement[bool]]:
        columns = usage_labels.c
        for key, value in sorted(self.filter.labels.items()):
            yield exists().where(
                columns.record_id == usage_entries.c.record_id, columns.key == key, columns.value == value
            )

    def _records(self) -> Iterator[ColumnElement[bool]]:
        """Yield what is asked of whole records."""
        columns = usage_records.c
        if self.filter.request_id:
            # Those few are looked up first, and then their entries.
            yield tuple_(usage_entries.c.started_at, usage_entries.c.record_id).in_(
                select(columns.started_at, columns.id).where(columns.request_id == self.filter.request_id)
            )
        asked: list[ColumnElement[bool]] = []
        if self.filter.kinds:
            asked.append(columns.kind.in_(sorted(self.filter.kinds)))
        if self.filter.cost_statuses:
            asked.append(columns.cost_status.in_(sorted(self.filter.cost_statuses)))
        if asked:
            yield exists().where(columns.id == usage_entries.c.record_id, *asked)


def checked_micros(timestamp: timestamp_pb2.Timestamp, field: str) -> int:
    """Return a moment in microseconds since the epoch.

    Args:
        timestamp: the moment.
        field: path of the field that holds it, for messages.

    Raises:
        InvalidRequestError: it is no moment of the years 1 to 9999.
    """
    if not (_FIRST_SECOND <= timestamp.seconds <= _LAST_SECOND and 0 <= timestamp.nanos < 1_000_000_000):
        _refuse(field, "must be a time of the years 1 to 9999, with 0 to 999,999,999 nanos")
    return timestamp.seconds * 1_000_000 + timestamp.nanos // 1000


def _check_names(usage_filter: cost_pb2.UsageFilter, path: str) -> None:
    for name in (*_NAMES, "request_id"):
        _check_text(getattr(usage_filter, name), f"{path}.{name}")


def _check_labels(labels: Mapping[str, str], path: str) -> None:
    if len(labels) > _MOST_LABELS:
        _refuse(path, f"are more than {_MOST_LABELS}, and no record has so many: leave some out")
    for key, value in labels.items():
        if not key:
            _refuse(path, "have an empty key: name the label")
        _check_text(key, path)
        _check_text(value, path)


def _check_text(text: str, path: str) -> None:
    if len(text) > _MOST_CHARACTERS:
        _refuse(path, f"is longer than {_MOST_CHARACTERS} characters, as no record's is: write it shorter")
    if "\0" in text:
        _refuse(path, "holds a zero character, as no record's does: leave it out")


def _check_enums(usage_filter: cost_pb2.UsageFilter, path: str) -> None:
    for name, values, enum in (
        ("cost_statuses", usage_filter.cost_statuses, usage_pb2.CostStatus),
        ("kinds", usage_filter.kinds, cost_pb2.UsageRecordKind),
        ("outcomes", usage_filter.outcomes, cost_pb2.UsageOutcome),
    ):
        for index, value in enumerate(values):
            if value == 0 or value not in enum.values():
                _refuse(f"{path}.{name}[{index}]", f"must be one of {', '.join(enum.keys()[1:])}")


def _refuse(field: str, why: str) -> NoReturn:
    raise InvalidRequestError(f"{field}: {why}", field=field)
