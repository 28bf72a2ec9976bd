"""Options that the commands about costs share: which records, since when, and how money is written."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated, TypeAlias
from zoneinfo import ZoneInfo

import typer
from google.protobuf.descriptor import EnumDescriptor

from execution_platform.client.cli_terminal import amount
from execution_platform.client.enums import number_of, short_name
from execution_platform.v1 import common_pb2, cost_pb2, usage_pb2

__all__ = [
    "SinceOption",
    "UntilOption",
    "WhereOption",
    "ZoneOption",
    "moment",
    "money",
    "moneys",
    "named",
    "nanos_of",
    "shown_time",
    "usage_filter",
    "word",
]

WhereOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        "-w",
        help="Only what is so: tenant=, project=, persona=, user=, session=, provider=, model=, label.KEY=, request=, "
        "status=, kind=, outcome=; may be given again.",
    ),
]
SinceOption: TypeAlias = Annotated[
    str, typer.Option("--since", help="From this time on: 2026-11-01, 2026-11-01T08:00, 7d, 24h, 30m, today or month.")
]
UntilOption: TypeAlias = Annotated[str, typer.Option("--until", help="Up to this time, written likewise.")]
ZoneOption: TypeAlias = Annotated[
    str, typer.Option("--time-zone", "-z", help="Where days begin, such as Europe/Berlin. [default: UTC]")
]

_SPAN = re.compile(r"(\d+)\s*([mhdw])\Z")
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

_NAMES = {
    "tenant": "tenant",
    "project": "project",
    "persona": "persona",
    "user": "end_user_id",
    "session": "session_id",
    "provider": "provider",
    "model": "model",
    "request": "request_id",
}


def usage_filter(
    where: Iterable[str] | None, since: str = "", until: str = "", zone: str = "", *, now: datetime | None = None
) -> cost_pb2.UsageFilter:
    """Return the filter that the options mean.

    Raises:
        typer.BadParameter: one of them means nothing.
    """
    found = cost_pb2.UsageFilter()
    for condition in where or ():
        _add(found, condition)
    span = common_pb2.TimeRange()
    if since:
        span.start_time.FromDatetime(moment(since, zone, "--since", now))
    if until:
        span.end_time.FromDatetime(moment(until, zone, "--until", now))
    if since or until:
        found.time_range.CopyFrom(span)
    return found


def _add(found: cost_pb2.UsageFilter, condition: str) -> None:
    name, equals, value = condition.partition("=")
    if not equals:
        raise typer.BadParameter(f"{condition!r}: write it as name=value", param_hint="--where")
    if name.startswith("label."):
        found.labels[name.removeprefix("label.")] = value
    elif name in _NAMES:
        setattr(found, _NAMES[name], value)
    elif name == "status":
        found.cost_statuses.append(
            usage_pb2.CostStatus.ValueType(named(usage_pb2.CostStatus.DESCRIPTOR, value, "--where"))
        )
    elif name == "kind":
        found.kinds.append(
            cost_pb2.UsageRecordKind.ValueType(named(cost_pb2.UsageRecordKind.DESCRIPTOR, value, "--where"))
        )
    elif name == "outcome":
        found.outcomes.append(
            cost_pb2.UsageOutcome.ValueType(named(cost_pb2.UsageOutcome.DESCRIPTOR, value, "--where"))
        )
    else:
        known = ", ".join([*_NAMES, "label.KEY", "status", "kind", "outcome"])
        raise typer.BadParameter(f"{name!r} is not one of {known}", param_hint="--where")


def named(enum: EnumDescriptor, name: str, option: str) -> int:
    """Return the number of an enum's value, given its name without the prefix. Raises typer.BadParameter."""
    try:
        return number_of(enum, name.replace("-", "_"))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from error


def moment(text: str, zone: str, option: str, now: datetime | None = None) -> datetime:
    """Return the time that somebody wrote.

    Args:
        text: a date or a time, a span before now, ``now``, ``today`` or ``month``.
        zone: where days begin; empty: UTC.
        option: that it stands in, for the complaint.
        now: the present time; default: the clock's.

    Raises:
        typer.BadParameter: it means nothing.
    """
    here = _zone(zone)
    now = (now or datetime.now(UTC)).astimezone(here)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    match text:
        case "now":
            return now.astimezone(UTC)
        case "today":
            return midnight.astimezone(UTC)
        case "month":
            return midnight.replace(day=1).astimezone(UTC)
        case _:
            pass
    span = _SPAN.match(text)
    if span is not None:
        return now.astimezone(UTC) - int(span[1]) * _UNITS[span[2]]
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(
            f"{text!r}: write 2026-11-01, 2026-11-01T08:00, 7d, 24h, 30m, today or month", param_hint=option
        ) from None
    return (at if at.tzinfo is not None else at.replace(tzinfo=here)).astimezone(UTC)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name) if name else UTC
    except (KeyError, OSError, ValueError) as error:
        raise typer.BadParameter(
            f"there is no time zone {name!r}; write it as Europe/Berlin", param_hint="--time-zone"
        ) from error


def money(sum_: common_pb2.Money) -> str:
    """Return an amount with its currency: ``USD 1.25``."""
    return f"{sum_.currency_code or 'USD'} {amount(sum_.nanos)}"


def moneys(sums: Iterable[common_pb2.Money]) -> str:
    """Return amounts of several currencies."""
    return " + ".join(money(each) for each in sums) or "USD 0"


def nanos_of(text: str, option: str) -> int:
    """Return an amount of dollars in 1e-9 dollars, exactly. Raises typer.BadParameter."""
    match = re.fullmatch(r"(\d{1,9})(?:\.(\d{1,9}))?", text)
    if match is None:
        raise typer.BadParameter(f"{text!r}: write dollars, such as 50 or 0.25", param_hint=option)
    return int(match[1]) * 1_000_000_000 + int((match[2] or "").ljust(9, "0"))


def shown_time(at: datetime, zone: str) -> str:
    """Return a time as people read it, in a time zone."""
    return f"{at.replace(tzinfo=UTC).astimezone(_zone(zone)):%Y-%m-%d %H:%M}"


def word(enum: EnumDescriptor, number: int) -> str:
    """Return an enum's value as a word: ``at risk``."""
    return short_name(enum, number).lower().replace("_", " ")
