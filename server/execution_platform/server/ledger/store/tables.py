"""What is stored. Money is whole nanos (1e-9 units), time whole microseconds since the epoch (UTC).

Rows of the ledger proper (`usage_records`, `usage_entries`, `usage_labels`) are only ever added.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

__all__ = [
    "METADATA",
    "alert_deliveries",
    "alerts",
    "budget_leases",
    "budget_windows",
    "budgets",
    "open_chats",
    "state",
    "usage_entries",
    "usage_labels",
    "usage_records",
]

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(32)
_NAME = String(512)

#: One row for each UsageRecord of the contract, which `data` holds as it was written.
usage_records = Table(
    "usage_records",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("kind", SmallInteger, nullable=False),
    Column("corrects", _ID, nullable=True),
    Column("request_id", _NAME, nullable=False),
    # Of an EXTERNAL record: tenant and request_id, so that it is there once. Null: nothing to be unique.
    Column("idempotency_key", String(1024), nullable=True, unique=True),
    Column("tenant", _NAME, nullable=False),
    Column("started_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("cost_status", SmallInteger, nullable=False),
    Column("price_version", _NAME, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Index("ix_usage_records_request_id", "request_id"),
    Index("ix_usage_records_corrects", "corrects"),
)

#: One row for each attempt of a record and currency: what sums are made of. A correction's hold differences.
usage_entries = Table(
    "usage_entries",
    METADATA,
    # Time comes first in the key: sums read a span of it as it lies there, and with SQLite the key is the table.
    Column("started_at", BigInteger, primary_key=True),
    Column("record_id", _ID, ForeignKey("usage_records.id"), primary_key=True),
    Column("number", SmallInteger, primary_key=True),
    Column("tenant", _NAME, nullable=False),
    Column("project", _NAME, nullable=False),
    Column("persona", _NAME, nullable=False),
    Column("end_user_id", _NAME, nullable=False),
    Column("session_id", _NAME, nullable=False),
    Column("provider", _NAME, nullable=False),
    Column("model", _NAME, nullable=False),
    Column("outcome", SmallInteger, nullable=False),
    Column("currency", String(3), nullable=False),
    Column("nanos", BigInteger, nullable=False),
    # 1: its price is not known. A correction that prices it has -1.
    Column("unpriced", SmallInteger, nullable=False),
    # 1 in the first entry of a record that is not a correction: their sum counts records.
    Column("records", SmallInteger, nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("failed_attempts", SmallInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("cache_read_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    sqlite_with_rowid=False,
)

#: Labels of records, for sums and filters by them.
usage_labels = Table(
    "usage_labels",
    METADATA,
    Column("record_id", _ID, ForeignKey("usage_records.id"), primary_key=True),
    Column("key", _NAME, primary_key=True),
    Column("value", _NAME, nullable=False),
    Index("ix_usage_labels_key_value", "key", "value"),
    sqlite_with_rowid=False,
)

#: Budgets as the contract tells them, without what the server tells of them.
budgets = Table(
    "budgets",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("etag", _ID, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
    # True: kept in step with the server's configuration.
    Column("configured", Boolean, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: What a window of a budget has seen. Made when it is first touched.
budget_windows = Table(
    "budget_windows",
    METADATA,
    Column("budget_id", String(128), primary_key=True),
    Column("started_at", BigInteger, primary_key=True),
    Column("ends_at", BigInteger, nullable=False),
    Column("spent_nanos", BigInteger, nullable=False),
    Column("spent_tokens", BigInteger, nullable=False),
    Column("reserved_nanos", BigInteger, nullable=False),
    Column("reserved_tokens", BigInteger, nullable=False),
    Column("unpriced", BigInteger, nullable=False),
    # Highest percentage that an alert was raised for, and whether one was for a refusal.
    Column("alerted_percent", Integer, nullable=False),
    Column("alerted_refusal", Boolean, nullable=False),
    Index("ix_budget_windows_ends_at", "ends_at"),
)

#: Chats that hold a part of a budget. One whose server has ended is settled by what is known here.
open_chats = Table(
    "open_chats",
    METADATA,
    # Id of the record to come.
    Column("id", _ID, primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    # What the record would be if nothing more were heard: a UsageRecord, as of the last renewal.
    Column("data", LargeBinary, nullable=False),
    Index("ix_open_chats_expires_at", "expires_at"),
)

#: What one attempt of a chat holds of one budget's window.
budget_leases = Table(
    "budget_leases",
    METADATA,
    Column("chat_id", _ID, primary_key=True),
    Column("attempt", SmallInteger, primary_key=True),
    Column("budget_id", String(128), primary_key=True),
    Column("window_started_at", BigInteger, primary_key=True),
    Column("nanos", BigInteger, nullable=False),
    Column("tokens", BigInteger, nullable=False),
    Column("provider", _NAME, nullable=False),
    Column("model", _NAME, nullable=False),
)

#: Alerts, in the same transaction as what raised them. `topic` is there once: an alert that was raised is not raised
#: again.
alerts = Table(
    "alerts",
    METADATA,
    Column("id", _ID, primary_key=True),
    Column("topic", String(512), nullable=False, unique=True),
    Column("kind", SmallInteger, nullable=False),
    Column("tenant", _NAME, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
)

#: Who is still to be told of an alert.
alert_deliveries = Table(
    "alert_deliveries",
    METADATA,
    Column("alert_id", _ID, ForeignKey("alerts.id"), primary_key=True),
    # Name of the target in the configuration, never its address, which may hold a secret.
    Column("target", String(128), primary_key=True),
    Column("attempts", Integer, nullable=False),
    Column("next_at", BigInteger, nullable=False),
    # Until when somebody is at it; 0: nobody.
    Column("taken_until", BigInteger, nullable=False),
    # Null: not yet.
    Column("delivered_at", BigInteger, nullable=True),
    Column("last_error", String(1024), nullable=False),
    Index("ix_alert_deliveries_next_at", "next_at"),
)

#: Numbers that processes agree on, such as `budgets`: the version of the set of budgets, which rises with each change.
state = Table(
    "state",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", BigInteger, nullable=False),
)
