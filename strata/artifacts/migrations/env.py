"""Alembic entry point: migrates on the given connection, inside its transaction."""

from alembic import context

from strata.artifacts.database.schema import schema

context.configure(
    connection=context.config.attributes["connection"], target_metadata=schema, transactional_ddl=False
)
context.run_migrations()
