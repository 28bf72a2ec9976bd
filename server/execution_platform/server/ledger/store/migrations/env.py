"""How Alembic runs the revisions: on the connection that it is handed, within that one's transaction."""

from alembic import context

from execution_platform.server.ledger.store.tables import METADATA

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=METADATA,
    # SQLite cannot alter much of a table: it is copied into a new one.
    render_as_batch=True,
)
context.run_migrations()
