"""Alembic's entry point: runs on the connection that `store.database.upgrade` passes in."""

from alembic import context

# A transaction a migration: what one has locked is free again before the next one waits for its own.
context.configure(
    connection=context.config.attributes["connection"], target_metadata=None, transaction_per_migration=True
)
with context.begin_transaction():
    context.run_migrations()
