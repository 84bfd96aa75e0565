"""Alembic's entry: runs the steps on the connection that `migrate` hands over, in its transaction."""

from alembic import context

from stigmer_server.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
