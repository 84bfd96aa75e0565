"""Executions that wait: what for, since when, and when the next leg is due."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WAITING_FOR = "JSON list of WaitReason; null unless the phase is waiting"
_WAKE_AT = "when the next leg is due; null where none is"
_UNENDED = "phase IN ('pending', 'in_progress', 'waiting')"


def upgrade() -> None:
    """Rename the phase that waited for an approval, and hold one waiting execution a session too."""
    time = sa.DateTime(timezone=True)
    op.add_column("executions", sa.Column("waiting_for", sa.Text, comment=_WAITING_FOR))
    op.add_column("executions", sa.Column("waiting_since", time))
    op.add_column("executions", sa.Column("wake_at", time, comment=_WAKE_AT))
    op.add_column("executions", sa.Column("woken_sequence", sa.Integer, nullable=False, server_default="0"))
    op.drop_index("uq_executions_session_id_unended", "executions")
    # Nothing could end such a wait; its leg, if there is one, goes on.
    op.execute("UPDATE executions SET phase = 'in_progress' WHERE phase = 'waiting_for_approval'")
    op.create_index(
        "uq_executions_session_id_unended",
        "executions",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text(_UNENDED),
        postgresql_where=sa.text(_UNENDED),
    )
    op.create_index(
        "ix_executions_wake_at",
        "executions",
        ["wake_at"],
        sqlite_where=sa.text("wake_at IS NOT NULL"),
        postgresql_where=sa.text("wake_at IS NOT NULL"),
    )
