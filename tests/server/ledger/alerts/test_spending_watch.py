"""Hours that are unusual or too dear are found in the ledger, by one process at a time, and told once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection, insert
from tests.server.ledger.alerts.things import DAY, HOUR, MINUTE, MONDAY, SECOND, USD, Clock, Log, outbox_of, raised

from execution_platform.server.config.alerts import AlertSettings
from execution_platform.server.ledger.alerts.anomalies import SpendingWatch, hourly_sums, take_turn
from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import usage_entries, usage_records
from execution_platform.v1 import cost_pb2

#: Hours before MONDAY's ten o'clock that have a history: eight weeks and a day.
HISTORY = 8 * 168 + 24


def spend(connection: Connection, spent: Sequence[tuple[int, str, int]]) -> None:
    """Write records: when each began, whose it is and what it cost in nanos."""
    ids = [mint_id(at // 1000) for at, _, _ in spent]
    rows = [(*each, record_id) for each, record_id in zip(spent, ids, strict=True)]
    connection.execute(insert(usage_records), [_record(*row) for row in rows])
    connection.execute(insert(usage_entries), [_entry(*row) for row in rows])


def _record(at: int, tenant: str, _nanos: int, record_id: str) -> Mapping[str, Any]:
    texts = {"request_id": record_id, "tenant": tenant, "price_version": "", "corrects": None, "idempotency_key": None}
    numbers = {"kind": 1, "started_at": at, "ended_at": at, "outcome": 1, "cost_status": 2}
    return {"id": record_id, **texts, **numbers, "data": b""}


def _entry(at: int, tenant: str, nanos: int, record_id: str) -> Mapping[str, Any]:
    names = ("project", "persona", "end_user_id", "session_id", "provider", "model")
    tokens = ("input", "cache_read", "cache_write", "output", "reasoning")
    return {
        "record_id": record_id,
        "number": 0,
        "started_at": at,
        "tenant": tenant,
        **dict.fromkeys(names, ""),
        "outcome": 1,
        "currency": "USD",
        "nanos": nanos,
        **dict.fromkeys(("unpriced", "failed_attempts"), 0),
        **dict.fromkeys(("records", "attempts"), 1),
        **{f"{name}_tokens": 0 for name in tokens},
    }


def history(tenant: str, nanos: int) -> list[tuple[int, str, int]]:
    """Return weeks of the same cost in each hour, up to the one that begins at MONDAY."""
    return [(MONDAY - hour * HOUR + MINUTE, tenant, nanos) for hour in range(1, HISTORY + 1)]


def watch_of(database: Database, clock: Clock, log: Log | None = None, **settings: Any) -> SpendingWatch:
    """Return the watch of one process."""
    made = AlertSettings.model_validate(settings)
    return SpendingWatch(database, outbox_of(clock, made), lambda: made, clock, (log or Log()).logger)


async def test_sums_are_those_of_the_hours(database: Database) -> None:
    """What began within an hour is summed for each tenant, in US dollars, and nothing beyond the times."""
    spent = [
        (MONDAY - 1, "acme", 1),
        (MONDAY, "acme", 2),
        (MONDAY + HOUR - 1, "acme", 3),
        (MONDAY + HOUR, "acme", 4),
        (MONDAY, "other", 5),
        (MONDAY + 2 * HOUR, "acme", 6),
    ]
    await database.write(partial(spend, spent=spent))
    hour = MONDAY // HOUR
    found = await database.read(partial(hourly_sums, start=MONDAY, end=MONDAY + 2 * HOUR))
    assert found == {"acme": {hour: 5, hour + 1: 4}, "other": {hour: 5}}


async def test_one_process_has_the_turn(database: Database) -> None:
    """Of two processes that look at the same time one has the turn; the next turn comes when its time has."""
    turns = await asyncio.gather(*(database.write(partial(take_turn, now=MONDAY, every=MINUTE)) for _ in range(2)))
    assert sorted(turns) == [False, True]
    assert not await database.write(partial(take_turn, now=MONDAY + MINUTE - 1, every=MINUTE))
    assert await database.write(partial(take_turn, now=MONDAY + MINUTE, every=MINUTE))


async def test_an_unusual_hour_is_told_while_it_runs(database: Database) -> None:
    """An hour that is far dearer than usual is told in its midst, once, for its tenant and for all together."""
    clock = Clock(MONDAY + 10 * MINUTE)
    await database.write(partial(spend, spent=[*history("acme", 2 * USD), *history("other", USD)]))
    first, second = watch_of(database, clock), watch_of(database, clock)
    assert await first.once()
    assert await database.read(raised) == []
    await database.write(partial(spend, spent=[(MONDAY + 5 * MINUTE, "acme", 40 * USD)]))
    for watch in (first, second, first):
        clock.go(3 * MINUTE)
        assert await watch.once()
    found = await database.read(raised)
    assert {alert.kind for alert in found} == {cost_pb2.ALERT_KIND_ANOMALY}
    assert sorted((each.tenant, each.observed.nanos, each.expected.nanos) for each in found) == [
        ("", 40 * USD, 3 * USD),
        ("acme", 40 * USD, 2 * USD),
    ]
    alert = next(each for each in found if each.tenant)
    assert alert.title == "Tenant acme spent 40.00 USD in an hour that usually costs 2.00 USD"
    assert alert.message == (
        "The hour began at 2026-11-23 10:00:00 UTC. The median of 8 comparable hours is 2.00 USD; "
        "up to 3.60 USD would not have been told."
    )


async def test_an_hour_is_judged_once_more_when_it_is_over(database: Database) -> None:
    """What came in the last minute of an hour, or was settled after it, is told in the next one."""
    clock = Clock(MONDAY + 59 * MINUTE)
    await database.write(partial(spend, spent=history("acme", 2 * USD)))
    watch = watch_of(database, clock)
    await watch.once()
    await database.write(partial(spend, spent=[(MONDAY + 59 * MINUTE + SECOND, "acme", 40 * USD)]))
    clock.go(MINUTE + SECOND)
    assert await watch.once()
    (alert,) = await database.read(raised)  # a single tenant is the whole: it is not told twice
    assert (alert.tenant, alert.observed.nanos) == ("acme", 40 * USD)


async def test_nothing_is_compared_where_that_is_switched_off(database: Database) -> None:
    """With `anomalies.enabled: false` no hour is told."""
    await database.write(partial(spend, spent=[*history("acme", USD), (MONDAY, "acme", 90 * USD)]))
    await watch_of(database, Clock(MONDAY + MINUTE), anomalies={"enabled": False}).once()
    assert await database.read(raised) == []


async def test_spending_above_the_rate_is_told_once_an_hour(database: Database) -> None:
    """More than the rate within 60 minutes is told for each tenant and for all, once in each hour of the clock."""
    clock = Clock(MONDAY + 30 * MINUTE)
    spent = [(MONDAY - 31 * MINUTE, "acme", 90 * USD), (MONDAY - 29 * MINUTE, "acme", 10 * USD)]
    spent += [(MONDAY + MINUTE, "acme", 1), (MONDAY, "other", 5 * USD), (MONDAY, "third", 5 * USD + 1)]
    await database.write(partial(spend, spent=spent))
    rates = {"whole": 20, "each_tenant": 5, "tenants": {"acme": 10}}
    watch = watch_of(database, clock, spend_rate=rates)
    for _ in range(3):
        await watch.once()
        clock.go(3 * MINUTE)
    found = await database.read(raised)
    assert {alert.kind for alert in found} == {cost_pb2.ALERT_KIND_SPEND_RATE}
    assert sorted((each.tenant, each.observed.nanos, each.expected.nanos) for each in found) == [
        ("", 20 * USD + 2, 20 * USD),
        ("acme", 10 * USD + 1, 10 * USD),
        ("third", 5 * USD + 1, 5 * USD),
    ]
    titles = {alert.title for alert in found}
    assert "All tenants together spent 20.000000002 USD in an hour, above 20.00 USD" in titles
    clock.go(DAY)
    await watch.once()
    assert len(await database.read(raised)) == 3


async def test_without_a_rate_nothing_is_too_fast(database: Database) -> None:
    """Without a configured rate no spending is told."""
    await database.write(partial(spend, spent=[(MONDAY, "acme", 10**6 * USD)]))
    await watch_of(database, Clock(MONDAY + MINUTE)).once()
    assert await database.read(raised) == []
