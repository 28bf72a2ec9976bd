"""Reading records: one with what corrects it, pages, and which ones a filter lets through."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.server.ledger.made_up import BEGIN, DAY, Try, Work, fill, id_of

from execution_platform.adapters.errors import InvalidRequestError, NotFoundError
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.records import Place, get_record, page_of
from execution_platform.server.ledger.store.database import Database
from execution_platform.v1 import cost_pb2, usage_pb2


async def _ids(database: Database, usage_filter: cost_pb2.UsageFilter) -> list[str]:
    """All records that a filter lets through, two a page."""
    found: list[str] = []
    selection, after = Selection.of(usage_filter), None
    while True:
        page = await database.read(partial(page_of, selection=selection, size=2, after=after))
        assert len(page.records) <= 2
        found += [cost_pb2.UsageRecord.FromString(data).id for data in page.records]
        if (after := page.next) is None:
            return found


async def _get(database: Database, **which: str) -> cost_pb2.GetUsageRecordResponse:
    request = cost_pb2.GetUsageRecordRequest(**which)
    return await database.read(partial(get_record, request=request))


async def test_a_record_comes_with_its_corrections(database: Database) -> None:
    """A corrected record stands as it was written; its totals and its status are what they have come to."""
    before = Try(costs=None)
    work = Work(id_of(1, BEGIN), tries=(before, Try(costs=(("EUR", 5),))))
    work = replace(work, corrected=(replace(before, costs=(("USD", 70), ("EUR", 2))), work.tries[1]))
    await fill(database, [work])
    found = await _get(database, id=work.id)
    assert found.record == work.record()
    assert list(found.corrections) == [work.correction()]
    assert [(money.currency_code, money.nanos) for money in found.totals] == [("EUR", 7), ("USD", 70)]
    assert found.record.cost.status == usage_pb2.COST_STATUS_UNPRICED
    assert found.cost_status == usage_pb2.COST_STATUS_ESTIMATED
    correction = await _get(database, id=found.corrections[0].id)
    assert (correction.record.corrects, len(correction.corrections)) == (work.id, 0)


async def test_what_is_still_unpriced_is_told(database: Database) -> None:
    """A record of which a part has no price yet is UNPRICED, whatever else has been corrected."""
    unknown, known = Try(costs=None), Try(costs=None, model="other")
    work = Work(id_of(1, BEGIN), tries=(unknown, known), corrected=(unknown, replace(known, costs=(("USD", 3),))))
    await fill(database, [work])
    assert (await _get(database, id=work.id)).cost_status == usage_pb2.COST_STATUS_UNPRICED


async def test_a_request_means_its_newest_run(database: Database) -> None:
    """By its request_id the newest record is found that is not a correction."""
    older = Work(id_of(1, BEGIN), BEGIN, request_id="twice")
    newer = Work(id_of(2, BEGIN + DAY), BEGIN + DAY, request_id="twice", corrected=(Try(costs=()),))
    await fill(database, [older, newer, Work(id_of(3, BEGIN + 2 * DAY), BEGIN + 2 * DAY)])
    assert (await _get(database, request_id="twice")).record.id == newer.id


async def test_exactly_one_record_is_asked_for(database: Database) -> None:
    """Neither id nor request_id, or both, are refused; one that is not there is not found, whatever its words."""
    for which in ({}, {"id": "a", "request_id": "b"}):
        with pytest.raises(InvalidRequestError, match="set either id or request_id, and not both"):
            await _get(database, **which)
    for field in ("id", "request_id"):
        with pytest.raises(NotFoundError, match="the ledger has no record of") as missing:
            await _get(database, **{field: "no\0such" * 20})
        assert missing.value.field == field


async def test_pages_are_whole_while_records_are_added(database: Database) -> None:
    """What is there when the first page is read is on the pages once, the newest first, whatever is added meanwhile."""
    there = [Work(id_of(number, BEGIN + number // 3), BEGIN + number // 3) for number in range(20)]
    await fill(database, there)
    seen: list[str] = []
    selection, after = Selection.of(cost_pb2.UsageFilter()), None
    for number in range(100, 200):
        page = await database.read(partial(page_of, selection=selection, size=3, after=after))
        seen += [cost_pb2.UsageRecord.FromString(data).id for data in page.records]
        # One in front of all, and one in the midst: corrections and told work may begin at any time.
        late = [Work(id_of(number, BEGIN + number), BEGIN + number), Work(id_of(number + 1_000, BEGIN), BEGIN + 3)]
        await fill(database, late)
        if (after := page.next) is None:
            break
    assert len(seen) == len(set(seen))
    ours = [record_id for record_id in seen if record_id in {work.id for work in there}]
    assert ours == [work.id for work in sorted(there, key=lambda work: (work.started, work.id), reverse=True)]


_NANO_TRY = Try(provider="gemini", model="large")
_PLAIN = Work(id_of(1, BEGIN), BEGIN)


@pytest.mark.parametrize(
    ("usage_filter", "other"),
    [
        (cost_pb2.UsageFilter(tenant="acme"), replace(_PLAIN, tenant="acme")),
        (cost_pb2.UsageFilter(project="web"), replace(_PLAIN, project="web")),
        (cost_pb2.UsageFilter(persona="reviewer"), replace(_PLAIN, persona="reviewer")),
        (cost_pb2.UsageFilter(end_user_id="ann"), replace(_PLAIN, end_user_id="ann")),
        (cost_pb2.UsageFilter(session_id="s"), replace(_PLAIN, session_id="s")),
        (cost_pb2.UsageFilter(provider="gemini"), replace(_PLAIN, tries=(Try(), _NANO_TRY))),
        (cost_pb2.UsageFilter(provider="gemini", model="large"), replace(_PLAIN, tries=(Try(), _NANO_TRY))),
        (cost_pb2.UsageFilter(labels={"team": "x", "b": ""}), replace(_PLAIN, labels=(("team", "x"), ("b", "")))),
        (cost_pb2.UsageFilter(request_id="q"), replace(_PLAIN, request_id="q")),
        (
            cost_pb2.UsageFilter(cost_statuses=[usage_pb2.COST_STATUS_UNPRICED]),
            replace(_PLAIN, tries=(Try(costs=None),)),
        ),
        (
            cost_pb2.UsageFilter(kinds=[cost_pb2.USAGE_RECORD_KIND_EXTERNAL]),
            replace(_PLAIN, kind=cost_pb2.USAGE_RECORD_KIND_EXTERNAL),
        ),
        (
            cost_pb2.UsageFilter(outcomes=[cost_pb2.USAGE_OUTCOME_LOST, cost_pb2.USAGE_OUTCOME_FAILED]),
            replace(_PLAIN, outcome=cost_pb2.USAGE_OUTCOME_LOST),
        ),
    ],
    ids=lambda value: next((field.name for field, _ in value.ListFields()), "") if hasattr(value, "ListFields") else "",
)
async def test_each_field_of_a_filter_chooses(
    database: Database, usage_filter: cost_pb2.UsageFilter, other: Work
) -> None:
    """A field lets those records through to which it applies, and no others; an empty filter all."""
    chosen = replace(other, id=id_of(2, BEGIN))
    await fill(database, [_PLAIN, chosen, replace(_PLAIN, id=id_of(3, BEGIN), labels=(("team", "y"),))])
    assert await _ids(database, usage_filter) == [chosen.id]
    assert await _ids(database, cost_pb2.UsageFilter()) == [id_of(3, BEGIN), chosen.id, _PLAIN.id]


async def test_a_time_holds_its_beginning_and_not_its_end(database: Database) -> None:
    """Records that began at the first moment of a time are in it, those of its end are not."""
    made = [Work(id_of(number, BEGIN + number), BEGIN + number) for number in range(4)]
    await fill(database, made)
    usage_filter = cost_pb2.UsageFilter()
    usage_filter.time_range.start_time.FromMicroseconds(BEGIN + 1)
    assert await _ids(database, usage_filter) == [work.id for work in made[:0:-1]]
    usage_filter.time_range.end_time.FromMicroseconds(BEGIN + 3)
    assert await _ids(database, usage_filter) == [made[2].id, made[1].id]


@pytest.mark.parametrize(
    ("usage_filter", "field", "words"),
    [
        ({"tenant": "x" * 513}, "filter.tenant", "is longer than 512 characters, as no record's is"),
        ({"persona": "a\0b"}, "filter.persona", "holds a zero character"),
        ({"request_id": "\0"}, "filter.request_id", "holds a zero character"),
        ({"labels": {"": "x"}}, "filter.labels", "name the label"),
        ({"labels": {str(number): "" for number in range(33)}}, "filter.labels", "are more than 32"),
        ({"labels": {"a": "\0"}}, "filter.labels", "holds a zero character"),
        ({"cost_statuses": [2, 0]}, "filter.cost_statuses[1]", "must be one of COST_STATUS_EXACT, "),
        ({"kinds": [17]}, "filter.kinds[0]", "must be one of USAGE_RECORD_KIND_CHAT, "),
        ({"outcomes": [0]}, "filter.outcomes[0]", "must be one of USAGE_OUTCOME_FINISHED, "),
        ({"time_range": {"start_time": {"seconds": 5}, "end_time": {"seconds": 5}}}, "filter.time_range", "later than"),
        ({"time_range": {"start_time": {"seconds": 10**12}}}, "filter.time_range.start_time", "years 1 to 9999"),
        ({"time_range": {"end_time": {"nanos": -1}}}, "filter.time_range.end_time", "0 to 999,999,999 nanos"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(usage_filter: dict[str, object], field: str, words: str) -> None:
    """A field that lets nothing through by mistake is refused, with its path and how it can be written."""
    with pytest.raises(InvalidRequestError) as refused:
        Selection.of(cost_pb2.UsageFilter(**usage_filter))  # type: ignore[arg-type]  # names and values of fields
    assert refused.value.field == field
    assert words in refused.value.message


def test_a_place_is_read_as_it_was_written() -> None:
    """A page token's place comes back as it was; other words are refused."""
    place = Place(-5, "01.f")
    assert Place.parse(str(place)) == place
    with pytest.raises(InvalidRequestError, match="is not of this list"):
        Place.parse("yesterday")
