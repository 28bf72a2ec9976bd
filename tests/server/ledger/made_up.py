"""Made-up work for the ledger, and what it comes to by plain arithmetic that shares no code with the ledger's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import strategies as st
from sqlalchemy import Connection, insert

from execution_platform.server.ledger.store.database import Database
from execution_platform.server.ledger.store.tables import usage_entries, usage_labels, usage_records
from execution_platform.server.ledger.writing.entries import correction_entries, entries_of, labels_of, record_row
from execution_platform.v1 import chat_pb2, common_pb2, cost_pb2, usage_pb2

#: 2026-01-01T00:00:00Z, in microseconds since the epoch.
BEGIN = 1_767_225_600_000_000
DAY = 86_400_000_000
YEAR = 365 * DAY

_KINDS = {
    "input_tokens": usage_pb2.USAGE_KIND_INPUT,
    "cache_read_tokens": usage_pb2.USAGE_KIND_CACHE_READ,
    "cache_write_tokens": usage_pb2.USAGE_KIND_CACHE_WRITE,
    "output_tokens": usage_pb2.USAGE_KIND_OUTPUT,
    "reasoning_tokens": usage_pb2.USAGE_KIND_REASONING,
}


@dataclass(frozen=True)
class Try:
    """One attempt."""

    provider: str = "openai"
    model: str = "gpt"
    failed: bool = False
    #: In 1e-9 units by currency; None: no price is known.
    costs: tuple[tuple[str, int], ...] | None = (("USD", 1_000),)
    #: Of each kind, in the order of _KINDS.
    tokens: tuple[int, int, int, int, int] = (10, 0, 0, 5, 0)


@dataclass(frozen=True)
class Work:
    """One piece of work."""

    id: str
    started: int = BEGIN
    tenant: str = "default"
    project: str = ""
    persona: str = ""
    end_user_id: str = ""
    session_id: str = ""
    request_id: str = "r"
    labels: tuple[tuple[str, str], ...] = ()
    kind: cost_pb2.UsageRecordKind.ValueType = cost_pb2.USAGE_RECORD_KIND_CHAT
    outcome: cost_pb2.UsageOutcome.ValueType = cost_pb2.USAGE_OUTCOME_FINISHED
    tries: tuple[Try, ...] = (Try(),)
    #: What another record takes it to; None: nothing was wrong.
    corrected: tuple[Try, ...] | None = None

    def record(self) -> cost_pb2.UsageRecord:
        """As the contract tells it."""
        record = cost_pb2.UsageRecord(
            id=self.id,
            kind=self.kind,
            request_id=self.request_id,
            tenant=self.tenant,
            project=self.project,
            persona=self.persona,
            end_user_id=self.end_user_id,
            session_id=self.session_id,
            labels=dict(self.labels),
            outcome=self.outcome,
            attempts=[_attempt(each) for each in self.tries],
        )
        record.start_time.FromMicroseconds(self.started)
        record.end_time.FromMicroseconds(self.started + 1_500_000)
        _finish(record, self.tries)
        return record

    def correction(self) -> cost_pb2.UsageRecord:
        """The record that corrects it."""
        assert self.corrected is not None
        correction = self.record()
        correction.id = f"{int(self.id, 16) + 1:032x}"
        correction.kind = cost_pb2.USAGE_RECORD_KIND_CORRECTION
        correction.corrects = self.id
        del correction.attempts[:], correction.totals[:]
        for currency in sorted({*_costs(self.tries), *_costs(self.corrected)}):
            nanos = _costs(self.corrected)[currency] - _costs(self.tries)[currency]
            correction.totals.add(currency_code=currency, nanos=nanos)
        correction.cost.status = _status(self.corrected)
        return correction

    def rows(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
        """The rows of records, entries and labels, those of the correction among them."""
        record = self.record()
        records, entries, labels = [record_row(record)], entries_of(record), labels_of(record)
        if self.corrected is not None:
            correction = self.correction()
            after = entries_of(replace(self, tries=self.corrected).record())
            records.append(record_row(correction))
            entries += correction_entries(correction, entries_of(record), after)
            labels += labels_of(correction)
        return records, entries, labels


def _attempt(one: Try) -> chat_pb2.Attempt:
    attempt = chat_pb2.Attempt(
        provider=one.provider,
        model=one.model,
        outcome=chat_pb2.ATTEMPT_OUTCOME_FAILED if one.failed else chat_pb2.ATTEMPT_OUTCOME_FINISHED,
    )
    attempt.latency.FromMicroseconds(1_250_000)
    for kind, quantity in zip(_KINDS.values(), one.tokens, strict=True):
        attempt.usage.items.add(kind=kind, unit=usage_pb2.USAGE_UNIT_TOKEN, quantity=quantity)
    attempt.cost.status = _status([one])
    for currency, nanos in one.costs or ():
        attempt.cost.lines.add(amount=common_pb2.Money(currency_code=currency, nanos=nanos))
    return attempt


def _finish(record: cost_pb2.UsageRecord, tries: Sequence[Try]) -> None:
    record.cost.status = _status(tries)
    for currency, nanos in sorted(_costs(tries).items()):
        record.totals.add(currency_code=currency, nanos=nanos)


def _status(tries: Sequence[Try]) -> usage_pb2.CostStatus.ValueType:
    unpriced = any(one.costs is None for one in tries)
    return usage_pb2.COST_STATUS_UNPRICED if unpriced else usage_pb2.COST_STATUS_ESTIMATED


def _costs(tries: Iterable[Try]) -> Counter[str]:
    sums: Counter[str] = Counter()
    for one in tries:
        for currency, nanos in one.costs or ():
            sums[currency] += nanos
    return sums


@dataclass
class Plain:
    """A sum, by plain arithmetic."""

    costs: Counter[str] = field(default_factory=Counter)
    amounts: Counter[str] = field(default_factory=Counter)

    def add(self, one: Try, sign: int = 1) -> None:
        """Count an attempt, or take it out again."""
        for currency, nanos in one.costs or ():
            self.costs[currency] += sign * nanos
        self.amounts["unpriced"] += sign * (one.costs is None)
        self.amounts["attempts"] += sign
        self.amounts["failed_attempts"] += sign * one.failed
        for name, quantity in zip(_KINDS, one.tokens, strict=True):
            self.amounts[name] += sign * quantity

    @classmethod
    def told(cls, told: cost_pb2.UsageSum) -> Plain:
        """What the contract tells."""
        names = ("records", "unpriced", "attempts", "failed_attempts", *_KINDS)
        costs = Counter({money.currency_code: money.nanos for money in told.costs})
        return cls(costs, Counter({name: getattr(told, name) for name in names}))

    def __eq__(self, other: object) -> bool:
        """Compare; what is 0 says nothing."""
        if not isinstance(other, Plain):
            return NotImplemented
        return (+self.costs, -self.costs, +self.amounts, -self.amounts) == (
            *(+other.costs, -other.costs),
            *(+other.amounts, -other.amounts),
        )

    __hash__ = None  # type: ignore[assignment]  # it changes


def parts(works: Iterable[Work]) -> Iterable[tuple[Work, Try | None, int, int]]:
    """Each attempt of works as it counts by now: the work, the attempt, its sign, and 1 where it counts the work."""
    for work in works:
        for number, one in enumerate(work.tries):
            yield work, one, 1, number == 0
        if not work.tries:
            yield work, None, 1, 1
        if work.corrected is not None:
            for one in work.tries:
                yield work, one, -1, 0
            for one in work.corrected:
                yield work, one, 1, 0


def plain_sums(
    works: Iterable[Work], key: Callable[[Work, Try | None], Any], wanted: Callable[[Work, Try | None], bool]
) -> dict[Any, Plain]:
    """Sums of what is wanted, by a key."""
    sums: dict[Any, Plain] = {}
    for work, one, sign, counts in parts(works):
        if wanted(work, one):
            found = sums.setdefault(key(work, one), Plain())
            found.amounts["records"] += counts
            if one is not None:
                found.add(one, sign)
    return sums


def moment(micros: int) -> datetime:
    """A moment as datetime has it."""
    return datetime.fromtimestamp(micros / 1_000_000, UTC)


def id_of(number: int, started: int) -> str:
    """An id as facts.mint_id makes them, with a number in place of chance. Even: the correction's is the next one."""
    return f"{(started // 1000 << 80 | 0x7 << 76 | 0x2 << 62 | number << 1):032x}"


def insert_works(connection: Connection, works: Iterable[Work]) -> None:
    """Write works into the tables."""
    made = [work.rows() for work in works]
    records, entries, labels = ([row for rows in made for row in rows[at]] for at in range(3))
    for table, rows in ((usage_records, records), (usage_entries, entries), (usage_labels, labels)):
        if rows:
            connection.execute(insert(table), rows)


async def fill(database: Database, works: Iterable[Work]) -> None:
    """Write works into a database."""
    kept = list(works)
    await database.write(lambda connection: insert_works(connection, kept))


names = st.sampled_from(["", "a", "b", "Ünï"])
nanos = st.one_of(st.integers(0, 10**10), st.sampled_from([0, 1, 10**15]))
_codes = st.sampled_from(["USD", "EUR", "JPY"])
currencies: st.SearchStrategy[dict[str, int]] = st.dictionaries(_codes, nanos, min_size=1, max_size=2)
costs = st.one_of(st.none(), currencies.map(lambda costs: tuple(costs.items())))
tries = st.builds(
    Try,
    provider=st.sampled_from(["openai", "gemini"]),
    model=st.sampled_from(["small", "large"]),
    failed=st.booleans(),
    costs=costs,
    tokens=st.tuples(*[st.integers(1, 10**6)] * 5),
)
several_tries = st.lists(tries, max_size=3).map(tuple)


def _repriced(asked: Sequence[Try]) -> st.SearchStrategy[tuple[Try, ...]]:
    """The same attempts at other prices."""
    return st.tuples(*(st.builds(replace, st.just(one), costs=costs) for one in asked))


@st.composite
def works(draw: st.DrawFn, tenant: str, numbers: Iterator[int], most: int = 25) -> list[Work]:
    """Some works of a tenant, in the year 2026."""
    made = []
    for _ in range(draw(st.integers(0, most))):
        started = draw(st.one_of(st.integers(BEGIN, BEGIN + YEAR), st.sampled_from(EDGES)))
        made.append(
            Work(
                id=id_of(next(numbers), started),
                started=started,
                tenant=tenant,
                project=draw(names),
                persona=draw(names),
                end_user_id=draw(names),
                session_id=draw(names),
                request_id=draw(st.sampled_from(["r1", "r2"])),
                labels=tuple(draw(st.dictionaries(st.sampled_from(["team", "cost"]), names, max_size=2)).items()),
                kind=draw(st.sampled_from([cost_pb2.USAGE_RECORD_KIND_CHAT, cost_pb2.USAGE_RECORD_KIND_EXTERNAL])),
                outcome=draw(st.sampled_from(cost_pb2.UsageOutcome.values()[1:])),
                tries=(asked := draw(several_tries)),
                corrected=draw(st.one_of(st.none(), _repriced(asked))) if asked else None,
            )
        )
    return made


def micros(text: str) -> int:
    """A time in ISO 8601, in microseconds since the epoch."""
    return int(datetime.fromisoformat(text).timestamp()) * 1_000_000


#: Moments at which days, weeks, months and clocks change somewhere.
EDGES = [
    edge + shift
    for text in (
        "2026-03-29T01:00:00+00:00",
        "2026-10-25T01:00:00+00:00",
        "2026-03-08T07:00:00+00:00",
        "2026-11-01T06:00:00+00:00",
        "2026-02-01T00:00:00+00:00",
        "2026-06-01T00:00:00+02:00",
        "2026-06-01T00:00:00-04:00",
    )
    for edge in (micros(text),)
    for shift in (-1, 0, 1)
]
