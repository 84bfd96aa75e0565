"""Which executions bring their session back to a step, so that no leg looks for them in logs."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None

_INDEX = "ix_executions_rewinds"


def upgrade() -> None:
    """Mark those whose logs say so."""
    op.add_column(
        "executions",
        sa.Column(
            "is_rewind",
            sa.Boolean,
            nullable=False,
            server_default=sa.false(),
            comment="whether it brings its session back to a step",
        ),
    )
    connection = op.get_bind()
    began = sa.text("SELECT execution_id, body FROM events WHERE sequence = 1 AND body LIKE '%\"in_place\"%'")
    mark = sa.text("UPDATE executions SET is_rewind = :yes WHERE execution_id = :execution_id")
    for execution_id, body in connection.execute(began).all():
        fork = json.loads(body).get("fork")
        if fork and fork.get("in_place"):  # and nobody has only written of it
            connection.execute(mark, {"yes": True, "execution_id": execution_id})
    op.create_index(
        _INDEX,
        "executions",
        ["session_id", "place"],
        sqlite_where=sa.text("is_rewind = 1"),
        postgresql_where=sa.text("is_rewind"),
    )


def downgrade() -> None:
    """Forget it; the logs say it, too."""
    op.drop_index(_INDEX, "executions")
    op.drop_column("executions", "is_rewind")
