"""Alembic's way in: the store hands over its connection, inside a transaction of its own."""

from __future__ import annotations

from alembic import context

from service.jobs.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,  # SQLite changes a column by copying the table
)
context.run_migrations()
