"""The ledger: records, budgets, alerts."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "alerts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("topic", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=512), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
        sa.UniqueConstraint("topic", name=op.f("uq_alerts_topic")),
    )
    op.create_table(
        "budget_leases",
        sa.Column("chat_id", sa.String(length=32), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("budget_id", sa.String(length=128), nullable=False),
        sa.Column("window_started_at", sa.BigInteger(), nullable=False),
        sa.Column("nanos", sa.BigInteger(), nullable=False),
        sa.Column("tokens", sa.BigInteger(), nullable=False),
        sa.Column("provider", sa.String(length=512), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.PrimaryKeyConstraint("chat_id", "attempt", "budget_id", "window_started_at", name=op.f("pk_budget_leases")),
    )
    op.create_table(
        "budget_windows",
        sa.Column("budget_id", sa.String(length=128), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.Column("spent_nanos", sa.BigInteger(), nullable=False),
        sa.Column("spent_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reserved_nanos", sa.BigInteger(), nullable=False),
        sa.Column("reserved_tokens", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.BigInteger(), nullable=False),
        sa.Column("alerted_percent", sa.Integer(), nullable=False),
        sa.Column("alerted_refusal", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "started_at", name=op.f("pk_budget_windows")),
    )
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("etag", sa.String(length=32), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.Column("configured", sa.Boolean(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_budgets")),
    )
    op.create_table(
        "open_chats",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_open_chats")),
    )
    op.create_index("ix_open_chats_expires_at", "open_chats", ["expires_at"], unique=False)
    op.create_table(
        "state",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_state")),
    )
    op.create_table(
        "usage_records",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.SmallInteger(), nullable=False),
        sa.Column("corrects", sa.String(length=32), nullable=True),
        sa.Column("request_id", sa.String(length=512), nullable=False),
        sa.Column("idempotency_key", sa.String(length=1024), nullable=True),
        sa.Column("tenant", sa.String(length=512), nullable=False),
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("ended_at", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("cost_status", sa.SmallInteger(), nullable=False),
        sa.Column("price_version", sa.String(length=512), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage_records")),
        sa.UniqueConstraint("idempotency_key", name=op.f("uq_usage_records_idempotency_key")),
    )
    op.create_index("ix_usage_records_corrects", "usage_records", ["corrects"], unique=False)
    op.create_index("ix_usage_records_request_id", "usage_records", ["request_id"], unique=False)
    op.create_table(
        "alert_deliveries",
        sa.Column("alert_id", sa.String(length=32), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("taken_until", sa.BigInteger(), nullable=False),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("last_error", sa.String(length=1024), nullable=False),
        sa.ForeignKeyConstraint(["alert_id"], ["alerts.id"], name=op.f("fk_alert_deliveries_alert_id")),
        sa.PrimaryKeyConstraint("alert_id", "target", name=op.f("pk_alert_deliveries")),
    )
    op.create_index("ix_alert_deliveries_next_at", "alert_deliveries", ["next_at"], unique=False)
    op.create_table(
        "usage_entries",
        sa.Column("started_at", sa.BigInteger(), nullable=False),
        sa.Column("record_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.SmallInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=512), nullable=False),
        sa.Column("project", sa.String(length=512), nullable=False),
        sa.Column("persona", sa.String(length=512), nullable=False),
        sa.Column("end_user_id", sa.String(length=512), nullable=False),
        sa.Column("session_id", sa.String(length=512), nullable=False),
        sa.Column("provider", sa.String(length=512), nullable=False),
        sa.Column("model", sa.String(length=512), nullable=False),
        sa.Column("outcome", sa.SmallInteger(), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("nanos", sa.BigInteger(), nullable=False),
        sa.Column("unpriced", sa.SmallInteger(), nullable=False),
        sa.Column("records", sa.SmallInteger(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), nullable=False),
        sa.Column("failed_attempts", sa.SmallInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_read_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cache_write_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["usage_records.id"], name=op.f("fk_usage_entries_record_id")),
        sa.PrimaryKeyConstraint("started_at", "record_id", "number", name=op.f("pk_usage_entries")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "usage_labels",
        sa.Column("record_id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.String(length=512), nullable=False),
        sa.Column("value", sa.String(length=512), nullable=False),
        sa.ForeignKeyConstraint(["record_id"], ["usage_records.id"], name=op.f("fk_usage_labels_record_id")),
        sa.PrimaryKeyConstraint("record_id", "key", name=op.f("pk_usage_labels")),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_labels_key_value", "usage_labels", ["key", "value"], unique=False)
    op.execute("INSERT INTO state (name, value) VALUES ('budgets', 0)")


def downgrade() -> None:
    """Drop the tables."""
    op.drop_table("usage_labels")
    op.drop_table("usage_entries")
    op.drop_table("alert_deliveries")
    op.drop_table("usage_records")
    op.drop_table("state")
    op.drop_table("open_chats")
    op.drop_table("budgets")
    op.drop_table("budget_windows")
    op.drop_table("budget_leases")
    op.drop_table("alerts")
