"""What one transaction of the ledger does: chats reserve, extend, settle and renew, all that wait together.

The order of the steps is what keeps windows true, whoever writes beside us:

1. The set of budgets is held still (:mod:`..budgets.budget_set`).
2. What settled chats held is taken out, and told by the database itself.
3. Records are added. Only those that were not there before count from here on.
4. The windows of everything touched are locked, in one order. One that is missing begins with what the ledger holds
   for it; whoever else makes it at the same time waits here.
5. Reservations are decided in the order of arrival, on the locked windows.
6. Observers look; windows are written; the records' entries and the new holds are added.

So a window's `spent` is always the sum of the entries that match its budget, and its `reserved` that of its leases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from execution_platform.adapters.errors import AdapterError
from execution_platform.server.ledger.alerts.observer import Observer, Refusal, Seen
from execution_platform.server.ledger.budgets.budget_set import SET_NAME, load_budgets, lock_shared
from execution_platform.server.ledger.budgets.matching import Budgets
from execution_platform.server.ledger.budgets.refusals import only_held, refusal_of, unpriced_refusal_of
from execution_platform.server.ledger.budgets.window_book import WindowBook
from execution_platform.server.ledger.budgets.windowed import WindowKey
from execution_platform.server.ledger.facts import Demand, Facts
from execution_platform.server.ledger.store.statements import statements_of
from execution_platform.server.ledger.writing.corrections import lost_corrected
from execution_platform.server.ledger.writing.entries import Row
from execution_platform.server.ledger.writing.posting import Posting

__all__ = ["KnownBudgets", "Operation", "Renew", "Reserve", "RunAgainError", "Settle", "run"]


class RunAgainError(Exception):
    """Something is there already that should not be; run it all again with `again`."""


@dataclass(slots=True)
class Reserve:
    """Hold the worst case of an attempt. The result is what is held, or why nothing is.

    Attributes:
        facts: of the chat.
        attempt: its number within the chat.
        provider: who is asked.
        model: its model.
        demand: what it may spend.
        data: the chat's record, as it would be if nothing more were heard, serialized.
        until: when it expires, in microseconds since the epoch.
        extends: the attempt holds something already, in place of which this is.
        least: what to hold where there is no room for the demand; None: then nothing is.
    """

    facts: Facts
    attempt: int
    provider: str
    model: str
    demand: Demand
    data: bytes
    until: int
    extends: bool = False
    least: Demand | None = None


@dataclass(slots=True)
class Settle:
    """Write a record and give back what its chat holds. The result is whether the record is new.

    Attributes:
        posting: the record.
        holds: the chat may hold something.
    """

    posting: Posting
    holds: bool = False


@dataclass(slots=True)
class Renew:
    """Tell that chats still run. The result is None.

    Attributes:
        chats: `chat`: its id, `until`: microseconds since the epoch, `now`: its record.
    """

    chats: list[Row]


Operation = Reserve | Settle | Renew
_Op = TypeVar("_Op", Reserve, Settle, Renew)


class KnownBudgets(Protocol):
    """The budgets that this process knows; replaced where a transaction finds that there are others."""

    budgets: Budgets


def run(
    connection: Connection,
    operations: Sequence[Operation],
    known: KnownBudgets,
    observers: Sequence[Observer],
    now: int,
    *,
    again: bool = False,
) -> list[object]:
    """Do operations, in their order.

    Args:
        connection: within a transaction that writes.
        operations: what to do.
        known: the budgets as they were last time.
        observers: see what is done.
        now: microseconds since the epoch.
        again: they may have been done before.

    Returns:
        The result of each.

    Raises:
        RunAgainError: the transaction is to be rolled back, and run again with `again`.
    """
    lock_shared(connection)
    if _version(connection) != known.budgets.version:
        known.budgets = load_budgets(connection)
    return _Round(connection, known.budgets, now, again=again).run(operations, observers)


def _version(connection: Connection) -> int:
    statements = statements_of(connection)
    row = statements.execute(connection, statements.version, {"which": SET_NAME}).fetchone()
    return int(row[0]) if row else 0


class _Round:
    """One transaction."""

    def __init__(self, connection: Connection, budgets: Budgets, now: int, *, again: bool) -> None:
        self._connection = connection
        self._statements = statements_of(connection)
        self._book = WindowBook(connection, budgets, now)
        self._budgets = budgets
        self._now = now
        self._again = again
        self._held: dict[tuple[str, int], dict[WindowKey, tuple[int, int]]] = {}
        self._chats: dict[str, Row] = {}
        self._leases: dict[tuple[str, int, WindowKey], Row] = {}
        self._refusals: list[Refusal] = []

    def run(self, operations: Sequence[Operation], observers: Sequence[Observer]) -> list[object]:
        settles = _of(operations, Settle)
        reserves = _of(operations, Reserve)
        # First of all, as whoever settles for a lost server does, too: so the two never wait for each other.
        self._end_chats([each.posting.record.id for each in settles if each.holds])
        new = self._add_records([each.posting for each in settles]) if settles else []
        spent = [(self._book.want(posting.facts, row), row) for posting in new for row in posting.spending()]
        touched = {id(each): self._touched(each) for each in reserves}
        if reserves:
            self._find_held(reserves)
        self._book.open()
        for windows, row in spent:
            self._book.spend(windows, row)
        added = {id(each) for each in new}
        results = [self._result(each, added, touched) for each in operations]
        if new or self._refusals:
            seen = Seen([each.record for each in new], self._book.spent(), self._refusals)
            for observer in observers:
                observer.observe(self._connection, seen)
        self._book.write()
        self._write(new, _of(operations, Renew))
        return results

    def _result(self, operation: Operation, added: set[int], touched: dict[int, list[WindowKey]]) -> object:
        if isinstance(operation, Reserve):
            return self._reserve(operation, touched[id(operation)])
        return id(operation.posting) in added if isinstance(operation, Settle) else None

    def _add_records(self, postings: Sequence[Posting]) -> list[Posting]:
        """Add records; return those that were not there."""
        new = self._insert(postings, again=self._again)
        if len(new) < len(postings):
            added = {id(each) for each in new}
            late = [each for each in postings if id(each) not in added]
            if corrections := lost_corrected(self._connection, late):
                new += self._insert(corrections, again=True)
        return new

    def _insert(self, postings: Sequence[Posting], *, again: bool) -> list[Posting]:
        statements, connection = self._statements, self._connection
        if connection.dialect.name == "postgresql":
            rows = [each.row for each in postings]
            added = set(statements.add(connection, statements.new_records, rows).scalars())
            # The first of two with the same id is the one that was added.
            first = {each.record.id: each for each in reversed(postings)}
            return [each for each in postings if each.record.id in added and first[each.record.id] is each]
        if again:
            postings = self._unknown(postings)
        rows = [each.row for each in postings]
        if rows and statements.add(connection, statements.new_records, rows).rowcount != len(rows):
            raise RunAgainError
        return list(postings)

    def _unknown(self, postings: Sequence[Posting]) -> list[Posting]:
        """Return the postings whose records are not there, each once."""
        statements = self._statements
        keys = [each.row["idempotency_key"] for each in postings if each.row["idempotency_key"]]
        ids = [each.record.id for each in postings]
        wanted = {"ids": statements.many(ids), "keys": statements.many(keys)}
        taken: set[str | None] = set()
        for record, key in statements.execute(self._connection, statements.known_records, wanted):
            taken |= {record, key}
        unknown: list[Posting] = []
        for each in postings:
            names: set[str | None] = {each.record.id, each.row["idempotency_key"]} - {None}
            if not names & taken:
                unknown.append(each)
                taken |= names
        return unknown

    def _end_chats(self, ids: list[str]) -> None:
        """Take out chats and what they hold."""
        if not ids:
            return
        statements = self._statements
        parameters = {"ids": statements.many(ids)}
        statements.execute(self._connection, statements.end_chats, parameters)
        for budget, start, nanos, tokens in statements.execute(self._connection, statements.end_leases, parameters):
            self._book.release((budget, start), nanos, tokens)

    def _touched(self, reserve: Reserve) -> list[WindowKey]:
        facts = reserve.facts
        return self._book.want_for(facts.started, self._budgets.touched(facts, reserve.provider, reserve.model))

    def _find_held(self, reserves: Iterable[Reserve]) -> None:
        """Find out what attempts hold that ask for something else in its place, or whose answer may have been lost."""
        ids = [each.facts.id for each in reserves if each.extends or self._again]
        if not ids:
            return
        statements = self._statements
        parameters = {"ids": statements.many(ids)}
        for row in statements.execute(self._connection, statements.held_leases, parameters):
            chat, attempt, budget, start, nanos, tokens = row
            self._held.setdefault((chat, attempt), {})[budget, start] = (nanos, tokens)

    def _reserve(self, reserve: Reserve, keys: Sequence[WindowKey]) -> AdapterError | Demand:
        held = self._held.get((reserve.facts.id, reserve.attempt), {})
        demand = reserve.demand
        if reserve.least is not None and not self._fits(_more(demand, keys, held)):
            demand = reserve.least
        more = _more(demand, keys, held)
        if error := self._refused(reserve, demand, more):
            return error
        nanos, tokens = demand.nanos or 0, demand.tokens
        for key, amounts in more.items():
            self._book.windows[key].hold(*amounts)
            self._leases[reserve.facts.id, reserve.attempt, key] = {
                "chat_id": reserve.facts.id,
                "attempt": reserve.attempt,
                "budget_id": key[0],
                "window_started_at": key[1],
                "nanos": nanos,
                "tokens": tokens,
                "provider": reserve.provider,
                "model": reserve.model,
            }
        if more:
            self._chats[reserve.facts.id] = {
                "id": reserve.facts.id,
                "expires_at": reserve.until,
                "data": reserve.data,
            }
        return demand

    def _fits(self, more: Mapping[WindowKey, tuple[int, int]]) -> bool:
        return all(self._book.windows[key].has_room(*amounts) for key, amounts in more.items())

    def _refused(
        self, reserve: Reserve, demand: Demand, more: Mapping[WindowKey, tuple[int, int]]
    ) -> AdapterError | None:
        """Return why an attempt cannot be: for the sake of the budget that begins anew the latest."""
        last: tuple[int, AdapterError] | None = None
        for key, amounts in more.items():
            window = self._book.windows[key]
            if demand.nanos is None and window.terms.refuses_unpriced:
                error = unpriced_refusal_of(window, reserve.provider, reserve.model)
            elif not window.has_room(*amounts):
                error = refusal_of(window, demand, self._now)
            else:
                continue
            # What only waits for others to end is nobody's concern but its caller's.
            if reserve.extends or not only_held(window, demand):
                self._refusals.append(Refusal(window, reserve.facts, reserve.provider, reserve.model, reserve.extends))
            if last is None or window.ends_at > last[0]:
                last = (window.ends_at, error)
        return None if last is None else last[1]

    def _write(self, new: Sequence[Posting], renewals: Sequence[Renew]) -> None:
        statements, connection = self._statements, self._connection
        if entries := [row for posting in new for row in posting.entries]:
            statements.add(connection, statements.new_entries, entries)
        if labels := [row for posting in new for row in posting.labels]:
            statements.add(connection, statements.new_labels, labels)
        if self._chats:
            statements.add(connection, statements.hold_chats, list(self._chats.values()))
            statements.add(connection, statements.hold_leases, list(self._leases.values()))
        if chats := [row for each in renewals for row in each.chats]:
            statements.execute(connection, statements.renew_chats, chats)


def _more(
    demand: Demand, keys: Iterable[WindowKey], held: Mapping[WindowKey, tuple[int, int]]
) -> dict[WindowKey, tuple[int, int]]:
    """Return how much more of each window is to be held, in nanos and tokens."""
    nanos, tokens = demand.nanos or 0, demand.tokens
    return {key: (nanos - (has := held.get(key, (0, 0)))[0], tokens - has[1]) for key in keys}


def _of(operations: Sequence[Operation], kind: type[_Op]) -> list[_Op]:
    return [each for each in operations if isinstance(each, kind)]
