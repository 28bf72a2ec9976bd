"""Find windows that have ended long ago, to forget them."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the index."""
    op.create_index("ix_budget_windows_ends_at", "budget_windows", ["ends_at"])


def downgrade() -> None:
    """Drop the index."""
    op.drop_index("ix_budget_windows_ends_at", "budget_windows")
