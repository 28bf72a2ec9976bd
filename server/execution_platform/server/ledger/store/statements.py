"""The statements of the ledger's transactions, made once for each sort of database.

Each has the same text however many rows it is about, so that a database need not prepare it anew: lists travel as one
value, an array with PostgreSQL, JSON with SQLite. With SQLite the text goes to the driver itself: a statement takes it
a few microseconds, and SQLAlchemy's way to it ten times that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ClauseElement,
    Column,
    ColumnElement,
    Connection,
    Executable,
    String,
    Table,
    Text,
    any_,
    bindparam,
    case,
    delete,
    exists,
    func,
    literal_column,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

from execution_platform.server.ledger.budgets.windowed import CHANGES
from execution_platform.server.ledger.store.tables import (
    budget_leases,
    budget_windows,
    open_chats,
    state,
    usage_entries,
    usage_labels,
    usage_records,
)
from execution_platform.server.ledger.writing.entries import Row
from execution_platform.v1 import cost_pb2

if TYPE_CHECKING:
    import sqlite3

__all__ = ["Statements", "statements_of", "sum_of_scope", "sums_by_names"]


class Statements:
    """All statements for one sort of database."""

    def __init__(self, dialect: str) -> None:
        self._arrays = dialect == "postgresql"
        chats, leases, windows = open_chats.c, budget_leases.c, budget_windows.c
        self.new_records = self._insert(usage_records).on_conflict_do_nothing()
        if self._arrays:
            self.new_records = self.new_records.returning(usage_records.c.id)
        self.new_entries = self._insert(usage_entries)
        self.new_labels = self._insert(usage_labels)
        self.new_windows = self._insert(budget_windows).on_conflict_do_nothing()
        if self._arrays:
            self.new_windows = self.new_windows.returning(windows.budget_id, windows.started_at)
        chat = self._insert(open_chats)
        self.hold_chats = chat.on_conflict_do_update(
            index_elements=["id"], set_={name: chat.excluded[name] for name in ("expires_at", "data")}
        )
        lease = self._insert(budget_leases)
        self.hold_leases = lease.on_conflict_do_update(
            index_elements=[column.name for column in budget_leases.primary_key],
            set_={name: lease.excluded[name] for name in ("nanos", "tokens")},
        )
        self.renew_chats = (
            update(open_chats)
            .where(chats.id == bindparam("chat"))
            .values(expires_at=bindparam("until"), data=bindparam("now"))
        )
        self.version = select(state.c.value).where(state.c.name == bindparam("which"))
        self.known_records = select(usage_records.c.id, usage_records.c.idempotency_key).where(
            self._among(usage_records.c.id, "ids") | self._among(usage_records.c.idempotency_key, "keys")
        )
        self.end_chats = delete(open_chats).where(self._among(chats.id, "ids"))
        self.end_leases = (
            delete(budget_leases)
            .where(self._among(leases.chat_id, "ids"))
            .returning(leases.budget_id, leases.window_started_at, leases.nanos, leases.tokens)
        )
        held = (leases.chat_id, leases.attempt, leases.budget_id, leases.window_started_at, leases.nanos, leases.tokens)
        self.held_leases = select(*held).where(self._among(leases.chat_id, "ids")).with_for_update()
        self.windows = (
            select(budget_windows)
            .where(self._among(windows.budget_id, "ids"), self._among(windows.started_at, "times", BigInteger()))
            # One order for all, so that no two transactions wait for each other.
            .order_by(windows.budget_id, windows.started_at)
            .with_for_update()
        )
        self.change_windows = (
            update(budget_windows)
            .where(windows.budget_id == bindparam("of_budget"), windows.started_at == bindparam("of_time"))
            .values({name: bindparam(f"new_{name}") for name in CHANGES})
        )
        # Constants are part of the text: a parameter would have to be handed over each time.
        nothing: ColumnElement[int] = literal_column("0")
        self.window_leases = select(
            func.coalesce(func.sum(leases.nanos), nothing), func.coalesce(func.sum(leases.tokens), nothing)
        ).where(leases.budget_id == bindparam("budget"), leases.window_started_at == bindparam("time"))
        self.forget_windows = delete(budget_windows).where(
            windows.ends_at < bindparam("before"), windows.reserved_nanos == nothing, windows.reserved_tokens == nothing
        )
        self.expired_chats = (
            select(chats.id, chats.expires_at, chats.data)
            .where(chats.expires_at < bindparam("now"))
            .order_by(chats.expires_at)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
        )

        self._texts: dict[object, str] = {}
        if not self._arrays:
            made = [each for each in vars(self).values() if isinstance(each, ClauseElement)]
            self._texts = {each: self._text_of(each) for each in made}

    def many(self, values: Sequence[Any]) -> Any:
        """Return a list as the value of a parameter."""
        return list(values) if self._arrays else json.dumps(list(values))

    def execute(self, connection: Connection, statement: Executable, parameters: Row | list[Row]) -> Any:
        """Execute one of the statements above; return rows to iterate over, or to fetch.

        Args:
            connection: within a transaction.
            statement: which.
            parameters: by name; a list: once for each.
        """
        text = self._texts.get(statement)
        if text is None:
            return connection.execute(statement, parameters)
        driver = cast("sqlite3.Connection", connection.connection.dbapi_connection)
        execute = driver.executemany if isinstance(parameters, list) else driver.execute
        return execute(text, parameters)

    def add(self, connection: Connection, statement: Executable, rows: list[Row]) -> Any:
        """Insert rows with one of the statements above. All rows have the same columns."""
        if self._arrays:
            return connection.execute(statement, {name: [row[name] for row in rows] for name in rows[0]})
        return self.execute(connection, statement, rows)

    def _text_of(self, statement: ClauseElement) -> str:
        # Names of parameters are the same for SQLAlchemy's style `named` and for sqlite3.
        return str(statement.compile(dialect=sqlite.dialect(paramstyle="named")))

    def _insert(self, table: Table) -> Any:
        if not self._arrays:
            return sqlite.insert(table)
        values = [func.unnest(bindparam(column.name, type_=ARRAY(column.type))) for column in table.columns]
        return postgresql.insert(table).from_select(list(table.columns), select(*values))

    def _among(self, column: Column[Any], name: str, kind: Any = None) -> ColumnElement[bool]:
        if self._arrays:
            return column == any_(bindparam(name, type_=ARRAY(kind or String())))
        listed = func.json_each(bindparam(name, type_=Text())).table_valued("value")
        return column.in_(select(listed.c.value))


_STATEMENTS: Final = {dialect: Statements(dialect) for dialect in ("sqlite", "postgresql")}


def statements_of(connection: Connection) -> Statements:
    """Return the statements for a connection's database."""
    return _STATEMENTS[connection.dialect.name]


def sum_of_scope(connection: Connection, scope: cost_pb2.BudgetScope, start: int, end: int) -> tuple[int, int, int]:
    """Return what the ledger holds for a scope: nanos (1e-9 US dollars), tokens, unpriced attempts.

    Args:
        connection: within a transaction.
        scope: which attempts.
        start: microseconds since the epoch, of the beginning.
        end: of the end, which is not in it.
    """
    entry = usage_entries.c
    wanted = [entry.started_at >= start, entry.started_at < end]
    names = ("tenant", "project", "persona", "end_user_id", "provider", "model")
    wanted += [entry[name] == value for name in names if (value := getattr(scope, name))]
    label = usage_labels.c
    wanted += [
        exists().where(label.record_id == entry.record_id, label.key == key, label.value == value)
        for key, value in sorted(scope.labels.items())
    ]
    row = connection.execute(select(*_sums()).where(*wanted)).one()
    return int(row[0]), int(row[1]), int(row[2])


def sums_by_names(
    connection: Connection, names: Sequence[str], start: int, end: int
) -> Iterator[tuple[dict[str, str], tuple[int, int, int]]]:
    """Yield what the ledger holds, told apart by names: each combination, and the same sums as :func:`sum_of_scope`.

    Args:
        connection: within a transaction.
        names: columns such as ``tenant`` or ``model``; none: one sum.
        start: microseconds since the epoch, of the beginning.
        end: of the end, which is not in it.
    """
    entry = usage_entries.c
    columns = [entry[name] for name in names]
    found = select(*columns, *_sums()).where(entry.started_at >= start, entry.started_at < end).group_by(*columns)
    for row in connection.execute(found):
        sums = row[len(names) :]
        yield dict(zip(names, row, strict=False)), (int(sums[0]), int(sums[1]), int(sums[2]))


def _sums() -> list[ColumnElement[int]]:
    """Return the columns that budgets count: nanos, tokens, unpriced attempts."""
    entry = usage_entries.c
    tokens = (
        entry.input_tokens
        + entry.cache_read_tokens
        + entry.cache_write_tokens
        + entry.output_tokens
        + entry.reasoning_tokens
    )
    sums = (func.sum(case((entry.currency == "USD", entry.nanos), else_=0)), func.sum(tokens), func.sum(entry.unpriced))
    return [func.coalesce(each, 0) for each in sums]
