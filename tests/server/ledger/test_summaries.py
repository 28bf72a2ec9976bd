"""Sums of records, against plain arithmetic."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.server.ledger.made_up import (
    BEGIN,
    DAY,
    YEAR,
    Plain,
    Try,
    Work,
    fill,
    id_of,
    micros,
    moment,
    plain_sums,
    works,
)

from execution_platform.adapters.errors import InvalidRequestError
from execution_platform.server.ledger.reading.summaries import plan_of, summarize
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import cost_pb2, usage_pb2

#: Each example has a tenant and ids of its own: all of a test share a database.
_TENANTS = map("tenant-{}".format, itertools.count())
_NUMBERS = itertools.count()

_DIMENSIONS: dict[cost_pb2.UsageDimension.ValueType, Callable[[Work, Try | None], str]] = {
    cost_pb2.USAGE_DIMENSION_TENANT: lambda work, _: work.tenant,
    cost_pb2.USAGE_DIMENSION_PROJECT: lambda work, _: work.project,
    cost_pb2.USAGE_DIMENSION_PERSONA: lambda work, _: work.persona,
    cost_pb2.USAGE_DIMENSION_END_USER: lambda work, _: work.end_user_id,
    cost_pb2.USAGE_DIMENSION_SESSION: lambda work, _: work.session_id,
    cost_pb2.USAGE_DIMENSION_PROVIDER: lambda _, one: one.provider if one else "",
    cost_pb2.USAGE_DIMENSION_MODEL: lambda _, one: one.model if one else "",
    cost_pb2.USAGE_DIMENSION_OUTCOME: lambda work, _: cost_pb2.UsageOutcome.Name(work.outcome).removeprefix(
        "USAGE_OUTCOME_"
    ),
}

_PERSONA, _LABEL = cost_pb2.USAGE_DIMENSION_PERSONA, cost_pb2.USAGE_DIMENSION_LABEL

#: The span of sums that are not cut.
_EVER = datetime(1, 1, 1)  # noqa: DTZ001 - clocks of zones are compared

_ZONES = ["", "Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Pacific/Apia"]


def _span(granularity: cost_pb2.Granularity.ValueType, zone: str, started: int) -> datetime | None:
    """The beginning of the span that a moment lies in, as the zone's clock shows it."""
    local = moment(started).astimezone(ZoneInfo(zone or "UTC"))
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    if granularity == cost_pb2.GRANULARITY_HOUR:
        # The hour that comes twice is two hours: in UTC they differ.
        offset = local.utcoffset() or timedelta(0)
        shifted = moment(started) + offset
        return (shifted.replace(minute=0, second=0, microsecond=0) - offset).replace(tzinfo=None)
    return {
        cost_pb2.GRANULARITY_UNSPECIFIED: None,
        cost_pb2.GRANULARITY_DAY: midnight,
        cost_pb2.GRANULARITY_WEEK: midnight - timedelta(days=midnight.weekday()),
        cost_pb2.GRANULARITY_MONTH: midnight.replace(day=1),
    }[granularity]


def _told_span(granularity: cost_pb2.Granularity.ValueType, zone: str, told: cost_pb2.UsageSum) -> datetime | None:
    if not told.HasField("time_range"):
        return None
    return _span(granularity, zone, told.time_range.start_time.ToMicroseconds())


async def _summed(database: Database, request: cost_pb2.SummarizeUsageRequest) -> cost_pb2.SummarizeUsageResponse:
    summary = await database.read(lambda connection: summarize(connection, plan_of(request)))
    return summary.message()


def _named(name: str, value: str, work: Work, _: Try | None) -> bool:
    return bool(getattr(work, name) == value)


def _asked(name: str, value: str, _: Work, one: Try | None) -> bool:
    return one is not None and getattr(one, name) == value


def _filter(choice: st.DataObject, request: cost_pb2.UsageFilter) -> Callable[[Work, Try | None], bool]:
    """Draw a filter; return what it lets through."""
    checks: list[Callable[[Work, Try | None], bool]] = [lambda work, _: work.tenant == request.tenant]
    if choice.draw(st.booleans(), "time"):
        start, end = sorted(choice.draw(st.sets(st.integers(BEGIN, BEGIN + YEAR), min_size=2, max_size=2)))
        request.time_range.start_time.FromMicroseconds(start)
        request.time_range.end_time.FromMicroseconds(end)
        checks.append(lambda work, _: start <= work.started < end)
    for name in ("project", "persona", "end_user_id", "session_id"):
        if value := choice.draw(st.sampled_from(["", "", "", "a", "Ünï"]), name):
            setattr(request, name, value)
            checks.append(partial(_named, name, value))
    for name, values in (("provider", ["", "", "openai"]), ("model", ["", "", "small"])):
        if value := choice.draw(st.sampled_from(values), name):
            setattr(request, name, value)
            checks.append(lambda _, one, name=name, value=value: one is not None and getattr(one, name) == value)  # type: ignore[misc]
    if labels := choice.draw(st.dictionaries(st.sampled_from(["team", "cost"]), st.just("a"), max_size=2), "labels"):
        request.labels.update(labels)
        checks.append(lambda work, _: all(dict(work.labels).get(key) == value for key, value in labels.items()))
    if request_id := choice.draw(st.sampled_from(["", "", "r1"]), "request_id"):
        request.request_id = request_id
        checks.append(lambda work, _: work.request_id == request_id)
    if outcomes := choice.draw(st.sets(st.sampled_from(cost_pb2.UsageOutcome.values()[1:]), max_size=3), "outcomes"):
        request.outcomes.extend(outcomes)
        checks.append(lambda work, _: work.outcome in outcomes)
    return lambda work, one: all(check(work, one) for check in checks)


@settings(
    max_examples=50,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(choice=st.data())
async def test_sums_are_what_plain_arithmetic_says(database: Database, choice: st.DataObject) -> None:
    """Rows, their total and what the limit leaves out are the sums of records and corrections, to the nano."""
    tenant = next(_TENANTS)
    made = choice.draw(works(tenant, _NUMBERS))
    await fill(database, made)
    every = st.sampled_from([*_DIMENSIONS, cost_pb2.USAGE_DIMENSION_LABEL])
    dimensions = choice.draw(st.lists(every, unique=True, max_size=4))
    keys = ["team"] if cost_pb2.USAGE_DIMENSION_LABEL in dimensions else []
    another: bool = choice.draw(st.booleans(), "second label")
    if keys and another:
        dimensions.append(cost_pb2.USAGE_DIMENSION_LABEL)
        keys.append("cost")
    granularity = choice.draw(st.sampled_from(cost_pb2.Granularity.values()))
    zone = choice.draw(st.sampled_from(_ZONES))
    limit = choice.draw(st.sampled_from([0, 1, 3]))
    request = cost_pb2.SummarizeUsageRequest(
        dimensions=dimensions, label_keys=keys, granularity=granularity, time_zone=zone, limit=limit
    )
    request.filter.tenant = tenant
    wanted = _filter(choice, request.filter)
    response = await _summed(database, request)

    def key(work: Work, one: Try | None) -> Any:
        labels = iter(keys)
        values = tuple(
            dict(work.labels).get(next(labels), "") if each not in _DIMENSIONS else _DIMENSIONS[each](work, one)
            for each in dimensions
        )
        return _span(granularity, zone, work.started), values

    expected = plain_sums(made, key, wanted)
    told = {(_told_span(granularity, zone, row), tuple(row.values)): Plain.told(row) for row in response.rows}
    assert len(told) == len(response.rows) == min(len(expected), limit or 10_000)
    assert {each: expected[each] for each in told} == told
    assert Plain.told(response.total) == plain_sums(made, lambda *_: None, wanted).get(None, Plain())
    left = Plain()
    for each in expected.keys() - told.keys():
        left.costs.update(expected[each].costs)
        left.amounts.update(expected[each].amounts)
    assert response.HasField("others") == (len(expected) > len(told))
    assert Plain.told(response.others) == left

    def rank(each: Any) -> tuple[datetime, int]:
        return each[0] or _EVER, -expected[each].costs["USD"]

    ranks = [rank(each) for each in told]
    assert ranks == sorted(ranks)
    assert not ranks or all(rank(each) >= ranks[-1] for each in expected.keys() - told.keys())


@pytest.mark.parametrize("status", [usage_pb2.COST_STATUS_UNPRICED, usage_pb2.COST_STATUS_ESTIMATED])
async def test_records_are_chosen_as_written(database: Database, status: usage_pb2.CostStatus.ValueType) -> None:
    """A filter by status or kind means records as they were written: a correction has its own status and kind."""
    unpriced = Try(costs=None)
    made = [
        Work(id=f"{2:032x}", tries=(unpriced,), corrected=(replace(unpriced, costs=(("USD", 7),)),)),
        Work(id=f"{4:032x}", tries=(Try(costs=(("USD", 100),)),)),
    ]
    await fill(database, made)
    response = await _summed(
        database, cost_pb2.SummarizeUsageRequest(filter=cost_pb2.UsageFilter(cost_statuses=[status]))
    )
    priced = status == usage_pb2.COST_STATUS_ESTIMATED
    assert [money.nanos for money in response.total.costs] == [107 if priced else 0]
    assert (response.total.records, response.total.unpriced) == (1, -1 if priced else 1)
    kinds = [cost_pb2.USAGE_RECORD_KIND_CORRECTION]
    response = await _summed(database, cost_pb2.SummarizeUsageRequest(filter=cost_pb2.UsageFilter(kinds=kinds)))
    assert ([money.nanos for money in response.total.costs], response.total.records) == ([7], 0)


async def test_a_sum_may_pass_64_bits_on_its_way(database: Database) -> None:
    """A sum that is more than 64 bits on its way, and not at its end, is exact; one that ends so is refused clearly."""
    huge = 2**62
    made = [
        Work(
            id=id_of(number, BEGIN + number),
            started=BEGIN + number,
            persona="dear" if number % 2 else "cheap",
            tries=(Try(costs=(("USD", huge + number),)),),
            corrected=(Try(costs=(("USD", number),)),) if number else None,
        )
        for number in range(6)
    ]
    await fill(database, made)
    everything = cost_pb2.SummarizeUsageRequest()
    response = await _summed(database, everything)
    assert [money.nanos for money in response.total.costs] == [huge + sum(range(6))]
    written = cost_pb2.SummarizeUsageRequest(
        filter=cost_pb2.UsageFilter(kinds=[cost_pb2.USAGE_RECORD_KIND_CHAT]),
        dimensions=[cost_pb2.USAGE_DIMENSION_PERSONA],
    )
    with pytest.raises(InvalidRequestError, match="choose a shorter filter") as refused:
        await _summed(database, written)
    assert refused.value.field == "filter"


async def test_days_have_the_hours_that_clocks_give_them(database: Database) -> None:
    """Days of 23 and 25 hours are one span each, and the hour that comes twice is two."""
    first, last = micros("2026-10-24T00:00:00+02:00"), micros("2026-10-27T00:00:00+01:00")
    made = [
        Work(id=id_of(at, at), started=at, tries=(Try(costs=(("USD", 1),)),)) for at in range(first, last, DAY // 48)
    ]
    await fill(database, made)
    request = cost_pb2.SummarizeUsageRequest(granularity=cost_pb2.GRANULARITY_DAY, time_zone="Europe/Berlin")
    days = await _summed(database, request)
    assert [row.records for row in days.rows] == [48, 50, 48]
    spans = [(row.time_range.start_time.ToSeconds(), row.time_range.end_time.ToSeconds()) for row in days.rows]
    assert [end - start for start, end in spans] == [24 * 3600, 25 * 3600, 24 * 3600]
    request.granularity = cost_pb2.GRANULARITY_HOUR
    hours = await _summed(database, request)
    assert [row.records for row in hours.rows] == [2] * 73


async def test_spans_end_where_the_filter_does(database: Database) -> None:
    """The first and the last span tell the time that was summed, not more."""
    await fill(database, [Work(id=f"{2 * day:032x}", started=BEGIN + day * DAY + 5) for day in range(3)])
    request = cost_pb2.SummarizeUsageRequest(granularity=cost_pb2.GRANULARITY_WEEK)
    request.filter.time_range.start_time.FromMicroseconds(BEGIN + 3)
    request.filter.time_range.end_time.FromMicroseconds(BEGIN + 2 * DAY)
    (row,) = (await _summed(database, request)).rows
    assert (row.records, row.time_range) == (2, request.filter.time_range)


async def test_nothing_sums_to_nothing(database: Database) -> None:
    """An empty ledger, and a filter that lets nothing through, give no rows and an empty total."""
    request = cost_pb2.SummarizeUsageRequest(granularity=cost_pb2.GRANULARITY_DAY)
    empty = cost_pb2.SummarizeUsageResponse(total=cost_pb2.UsageSum())
    assert await _summed(database, request) == empty
    await fill(database, [Work(id=f"{2:032x}")])
    request.filter.persona = "nobody"
    assert await _summed(database, request) == empty


async def test_hours_of_a_long_time_are_refused(database: Database) -> None:
    """More spans than a sum may have are refused, by the time of the records that there are and not the filter's."""
    await fill(database, [Work(id=f"{2:032x}"), Work(id=f"{4:032x}", started=BEGIN + DAY)])
    request = cost_pb2.SummarizeUsageRequest(granularity=cost_pb2.GRANULARITY_HOUR)
    request.filter.time_range.start_time.FromMicroseconds(0)
    assert len((await _summed(database, request)).rows) == 2
    await fill(database, [Work(id=f"{6:032x}", started=BEGIN + 3 * YEAR)])
    with pytest.raises(InvalidRequestError, match="into more than 20000 spans: choose a longer one"):
        await _summed(database, request)


_Request = cost_pb2.SummarizeUsageRequest


@pytest.mark.parametrize(
    ("asked", "field", "words"),
    [
        (_Request(dimensions=[cost_pb2.USAGE_DIMENSION_UNSPECIFIED]), "dimensions[0]", "one of USAGE_DIMENSION_TENANT"),
        (_Request(dimensions=[_PERSONA, _PERSONA]), "dimensions[1]", "for the second time: leave one out"),
        (_Request(dimensions=[_LABEL]), "label_keys", "a key for each LABEL in dimensions: 1, not 0"),
        (_Request(label_keys=["team"]), "label_keys", "0, not 1"),
        (_Request(dimensions=[_LABEL] * 2, label_keys=["a", "a"]), "label_keys[1]", "another one"),
        (_Request(dimensions=[_LABEL] * 9, label_keys="abcdefghi"), "label_keys", "more than 8"),
        (_Request(granularity=9), "granularity", "must be one of"),  # type: ignore[arg-type]  # from newer callers
        (_Request(time_zone="Berlin"), "time_zone", 'write an IANA name such as "Europe/Berlin"'),
        (_Request(limit=-1), "limit", "must be 1 to 100000"),
        (_Request(limit=100_001), "limit", "must be 1 to 100000"),
    ],
)
def test_what_cannot_be_summed_is_refused(asked: cost_pb2.SummarizeUsageRequest, field: str, words: str) -> None:
    """A request that cannot be meant so names its field, and how it can."""
    with pytest.raises(InvalidRequestError) as refused:
        plan_of(asked)
    assert refused.value.field == field
    assert words in refused.value.message
