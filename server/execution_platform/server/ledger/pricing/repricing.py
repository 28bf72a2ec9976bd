"""Prices records anew: what had no price when it was written down, or has another one by now.

Records are never changed. What differs is a correction with a line for each line that is taken back or added, so that
a record with all its corrections adds up to what its usage costs at the prices of its own time. Each correction has a
key made of the record's id and of how many corrections came before it, and of a key there is one record at most: done
twice, by two at once, or broken off and begun again, a record is corrected once for each change of its price.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final, Protocol

from sqlalchemy import ColumnElement, Connection, exists, select, tuple_

from execution_platform.server.ledger.facts import mint_id
from execution_platform.server.ledger.reading.filters import Selection
from execution_platform.server.ledger.reading.records import Place, read_records
from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import usage_entries, usage_records
from execution_platform.server.ledger.writing.entries import correction_entries, entries_of, micros_of
from execution_platform.server.ledger.writing.posting import Posting
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

__all__ = ["PricesUsage", "Repriced", "Repricing"]

#: Records that are read, priced and corrected together.
_BATCH: Final = 100

#: Models that are named in an answer.
_NAMED: Final = 1_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_UNPRICED: Final = usage_pb2.COST_STATUS_UNPRICED


class PricesUsage(Protocol):
    """Knows what usages cost."""

    def cost(
        self, provider: str, model: str, usage: usage_pb2.Usage, *, served: str = "", at: datetime | None = None
    ) -> usage_pb2.Cost:
        """Return what a usage costs: with the model that really answered, where that is told, and at a time."""
        ...


@dataclass(slots=True)
class Repriced:
    """What came of it.

    Attributes:
        examined: records that were looked at.
        corrected: records that got a correction.
        still_unpriced: records for which there is still no price.
        difference: what the corrections come to, in 1e-9 units of each currency.
        unpriced_models: models for which there is still no price, as provider/model; not more than a thousand.
    """

    examined: int = 0
    corrected: int = 0
    still_unpriced: int = 0
    difference: dict[str, int] = field(default_factory=dict)
    unpriced_models: set[str] = field(default_factory=set)


class Repricing:
    """Prices records anew.

    Args:
        database: where they are.
        post: writes corrections, counts them in the windows of budgets within the same transaction, and tells of each
            whether it is new.
        prices: of now, for the times of the records.
        clock: microseconds since the epoch.
    """

    def __init__(
        self,
        database: Database,
        post: Callable[[Sequence[Posting]], Awaitable[list[bool]]],
        prices: PricesUsage,
        clock: Callable[[], int],
    ) -> None:
        self._database = database
        self._post = post
        self._prices = prices
        self._clock = clock

    async def run(self, selection: Selection, *, priced_too: bool = False, dry_run: bool = False) -> Repriced:
        """Price records anew, a batch at a time, each in a transaction of its own.

        What a provider has stated stays. A price that is no longer known is not taken away.

        Args:
            selection: which records; of theirs the attempts at the provider and the model that it names.
            priced_too: also those that have a price, where it is another one by now.
            dry_run: write nothing.

        Raises:
            LedgerUnavailableError: the database is away. What was corrected before stays; the rest is done next time.
        """
        found = Repriced()
        after: Place | None = None
        while True:
            batch = await self._database.read(partial(_batch, selection=selection, priced_too=priced_too, after=after))
            if batch.last is None:
                return found
            after = batch.last
            correct = partial(self._corrections, batch.held, selection, found, priced_too=priced_too)
            await self._write(await asyncio.to_thread(correct), found, dry_run=dry_run)

    def _corrections(
        self, batch: Sequence[_Held], selection: Selection, found: Repriced, *, priced_too: bool
    ) -> list[Posting]:
        """Return what corrects records. In a thread: a price is reckoned for each of their attempts."""
        postings = [self._correction(each, selection, found, priced_too=priced_too) for each in batch]
        return [each for each in postings if each is not None]

    def _correction(self, held: _Held, selection: Selection, found: Repriced, *, priced_too: bool) -> Posting | None:
        """Return what corrects a record; None: nothing has to."""
        found.examined += 1
        record = held.record
        at = _EPOCH + timedelta(microseconds=micros_of(record.start_time))
        after = list(held.costs)
        for index, attempt in enumerate(record.attempts):
            old = held.costs[index]
            if held.retold or not _is_meant(attempt, old, selection.filter, priced_too=priced_too):
                continue
            usage = _usage_of(attempt, old)
            new = self._prices.cost(attempt.provider, attempt.model, usage, served=attempt.served_model, at=at)
            if _says_more(new, old):
                after[index] = new
        unpriced = [
            f"{attempt.provider}/{attempt.model}"
            for attempt, cost in zip(record.attempts, after, strict=True)
            if cost.status == _UNPRICED
        ]
        found.still_unpriced += bool(unpriced)
        if len(found.unpriced_models) < _NAMED:
            found.unpriced_models.update(unpriced)
        if after == held.costs:
            return None
        return held.posting(after, mint_id(self._clock() // 1000))

    async def _write(self, postings: list[Posting], found: Repriced, *, dry_run: bool) -> None:
        new = [True] * len(postings) if dry_run or not postings else await self._post(postings)
        for posting, is_new in zip(postings, new, strict=True):
            # Else somebody else corrects these records at the same time.
            if is_new:
                found.corrected += 1
                for money in posting.record.totals:
                    found.difference[money.currency_code] = found.difference.get(money.currency_code, 0) + money.nanos


@dataclass(slots=True)
class _Held:
    """A record, and what its attempts cost with all corrections.

    Attributes:
        record: as it was written.
        corrections: how many there are.
        retold: a correction tells other usage than the record, and not which attempt's it is.
        costs: of each attempt.
    """

    record: cost_pb2.UsageRecord
    corrections: int
    retold: bool
    costs: list[usage_pb2.Cost]

    @classmethod
    def of(cls, record: cost_pb2.UsageRecord, corrections: Sequence[cost_pb2.UsageRecord]) -> _Held:
        """Add up a record and its corrections, the oldest first."""
        costs = [_cost_of(attempt) for attempt in record.attempts]
        retold = False
        for correction in corrections:
            retold = retold or len(correction.attempts) != len(costs)
            for cost, attempt in zip(costs, correction.attempts, strict=False):
                if attempt.HasField("cost"):
                    cost.status, cost.price_version = attempt.cost.status, attempt.cost.price_version
                    cost.lines.extend(attempt.cost.lines)
        return cls(record, len(corrections), retold, [_netted(cost) for cost in costs])

    def posting(self, after: Sequence[usage_pb2.Cost], correction_id: str) -> Posting:
        """Return the correction that makes these of the attempts' costs.

        It has an attempt for each of the record's, in their order, with a cost where that is another one now.
        """
        correction = _without_sums(self.record)
        correction.id, correction.corrects = correction_id, self.record.id
        correction.kind = cost_pb2.USAGE_RECORD_KIND_CORRECTION
        correction.note = "priced anew"
        versions: dict[str, None] = {}
        for attempt, old, new in zip(self.record.attempts, self.costs, after, strict=True):
            made = correction.attempts.add(
                provider=attempt.provider, model=attempt.model, region=attempt.region, outcome=attempt.outcome
            )
            if new == old:
                continue
            made.cost.status, made.cost.price_version = new.status, new.price_version
            made.cost.lines.extend(_difference(old, new))
            correction.cost.lines.extend(made.cost.lines)
            versions.update(dict.fromkeys(filter(None, new.price_version.split(", "))))
        correction.cost.status = _worst(after)
        correction.cost.price_version = ", ".join(versions)
        sums: dict[str, int] = {}
        for line in correction.cost.lines:
            sums[line.amount.currency_code] = sums.get(line.amount.currency_code, 0) + line.amount.nanos
        correction.totals.extend(common_pb2.Money(currency_code=code, nanos=nanos) for code, nanos in sums.items())
        entries = correction_entries(
            correction, entries_of(self._costing(self.costs)), entries_of(self._costing(after))
        )
        key = f"priced anew\n{self.record.id}\n{self.corrections}"
        return Posting.of(correction, entries=entries, idempotency_key=key)

    def _costing(self, costs: Sequence[usage_pb2.Cost]) -> cost_pb2.UsageRecord:
        """Return the record as if it had been written down with these costs."""
        record = cost_pb2.UsageRecord()
        record.CopyFrom(self.record)
        for attempt, cost in zip(record.attempts, costs, strict=True):
            attempt.cost.CopyFrom(cost)
        return record


@dataclass(frozen=True, slots=True)
class _Batch:
    """Some records in the order of time; `last` is the place of the last one that was looked at, None: none was."""

    held: list[_Held]
    last: Place | None


def _batch(connection: Connection, selection: Selection, *, priced_too: bool, after: Place | None) -> _Batch:
    place = (usage_entries.c.started_at, usage_entries.c.record_id)
    query = select(*place).where(*selection.conditions(), _is_asked(priced_too=priced_too)).distinct()
    if after is not None:
        query = query.where(tuple_(*place) > (after.started, after.id))
    places = [Place(*row) for row in connection.execute(query.order_by(*place).limit(_BATCH))]
    ids = [each.id for each in places]
    corrections: dict[str, list[cost_pb2.UsageRecord]] = {}
    columns = usage_records.c
    theirs = select(columns.corrects, columns.data).where(columns.corrects.in_(ids)).order_by(columns.id)
    for corrected, data in connection.execute(theirs):
        corrections.setdefault(corrected, []).append(cost_pb2.UsageRecord.FromString(data))
    records = [cost_pb2.UsageRecord.FromString(data) for data in read_records(connection, ids)]
    held = [_Held.of(record, corrections.get(record.id, ())) for record in records]
    return _Batch(held, places[-1] if places else None)


def _is_asked(*, priced_too: bool) -> ColumnElement[bool]:
    """Return what must hold of the records that entries are of: they are no corrections, and unpriced by now."""
    columns = usage_records.c
    asked = [columns.id == usage_entries.c.record_id, columns.kind != cost_pb2.USAGE_RECORD_KIND_CORRECTION]
    if not priced_too:
        correction = usage_records.alias()
        priced = exists().where(correction.c.corrects == columns.id, correction.c.cost_status != _UNPRICED)
        asked += [columns.cost_status == _UNPRICED, ~priced]
    return exists().where(*asked)


def _is_meant(
    attempt: chat_pb2.Attempt, cost: usage_pb2.Cost, wanted: cost_pb2.UsageFilter, *, priced_too: bool
) -> bool:
    """Return whether an attempt may get another price: it is asked for, and its provider has stated none."""
    if wanted.provider not in {"", attempt.provider} or wanted.model not in {"", attempt.model}:
        return False
    if any(line.source == usage_pb2.COST_SOURCE_PROVIDER for line in cost.lines):
        return False
    return cost.status == _UNPRICED or (priced_too and cost.status == usage_pb2.COST_STATUS_ESTIMATED)


def _says_more(new: usage_pb2.Cost, old: usage_pb2.Cost) -> bool:
    """Return whether a cost is better than another one: priced, or with more of its parts, or at other prices."""
    if new.status == _UNPRICED:
        return old.status == _UNPRICED and len(new.lines) > len(old.lines)
    return old.status == _UNPRICED or _amounts(new) != _amounts(old)


def _cost_of(attempt: chat_pb2.Attempt) -> usage_pb2.Cost:
    """Return what an attempt costs; UNPRICED where it used something and has no cost."""
    cost = usage_pb2.Cost()
    cost.CopyFrom(attempt.cost)
    used = attempt.outcome != chat_pb2.ATTEMPT_OUTCOME_SKIPPED and any(item.quantity for item in attempt.usage.items)
    if used and cost.status == usage_pb2.COST_STATUS_UNSPECIFIED:
        cost.status = _UNPRICED
    return cost


def _usage_of(attempt: chat_pb2.Attempt, cost: usage_pb2.Cost) -> usage_pb2.Usage:
    """Return what an attempt used; where it does not say, what its cost was reckoned from."""
    usage = usage_pb2.Usage()
    usage.CopyFrom(attempt.usage)
    if not usage.items:
        usage.items.extend(line.item for line in cost.lines if line.HasField("item"))
    return usage


def _amounts(cost: usage_pb2.Cost) -> dict[tuple[str, str], int]:
    """Return what a cost comes to by what it is for, in each currency; without what comes to nothing."""
    sums: dict[tuple[str, str], int] = {}
    for line in cost.lines:
        key = (line.description, line.amount.currency_code)
        sums[key] = sums.get(key, 0) + line.amount.nanos
    return {key: nanos for key, nanos in sums.items() if nanos}


def _netted(cost: usage_pb2.Cost) -> usage_pb2.Cost:
    """Return a cost without lines that a later one takes back."""
    left: list[usage_pb2.CostLine] = []
    for line in cost.lines:
        taken = next((each for each in left if _takes_back(line, each)), None)
        if taken is None:
            left.append(line)
        else:
            left.remove(taken)
    return usage_pb2.Cost(status=cost.status, price_version=cost.price_version, lines=left)


def _takes_back(line: usage_pb2.CostLine, earlier: usage_pb2.CostLine) -> bool:
    return line == _taken_back(earlier)


def _taken_back(line: usage_pb2.CostLine) -> usage_pb2.CostLine:
    """Return the line that takes back another one."""
    back = usage_pb2.CostLine()
    back.CopyFrom(line)
    back.amount.nanos = -line.amount.nanos
    if line.HasField("quantity"):
        back.quantity = -line.quantity
    return back


def _difference(old: usage_pb2.Cost, new: usage_pb2.Cost) -> Iterator[usage_pb2.CostLine]:
    """Yield the lines of a correction: those that are taken back, then those that are added."""
    kept = [line for line in old.lines if line in new.lines]
    yield from (_taken_back(line) for line in old.lines if line not in kept)
    yield from (line for line in new.lines if line not in kept)


def _worst(costs: Sequence[usage_pb2.Cost]) -> usage_pb2.CostStatus.ValueType:
    """Return how well the sum of costs is known: as its worst part."""
    statuses = {cost.status for cost in costs} - {usage_pb2.COST_STATUS_UNSPECIFIED}
    if _UNPRICED in statuses:
        return _UNPRICED
    return usage_pb2.COST_STATUS_EXACT if statuses == {usage_pb2.COST_STATUS_EXACT} else usage_pb2.COST_STATUS_ESTIMATED


def _without_sums(record: cost_pb2.UsageRecord) -> cost_pb2.UsageRecord:
    """Return whose a record is, and when and how it ended."""
    kept = cost_pb2.UsageRecord()
    kept.CopyFrom(record)
    del kept.attempts[:], kept.totals[:]
    kept.ClearField("cost")
    kept.input_tokens = kept.output_tokens = 0
    return kept
