"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_UNENDED = "phase IN ('pending', 'in_progress', 'waiting_for_approval')"


def upgrade() -> None:
    """Make agents, sessions, executions, events and idempotency keys."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "agents",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False, comment="JSON, camelCase"),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_agents"),
    )
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("workspace", sa.Text),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("session_id", name="pk_sessions"),
    )
    _create_executions(time)
    op.create_table(
        "events",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False),
        sa.Column("recorded_at", time, nullable=False),
        sa.Column("attempt", sa.Integer),
        sa.Column("append_id", sa.String(64)),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("body", sa.Text, nullable=False, comment="JSON of Event"),
        sa.PrimaryKeyConstraint("execution_id", "sequence", name="pk_events"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_events_execution_id_executions"
        ),
    )
    op.create_index("ix_events_execution_id_append_id", "events", ["execution_id", "append_id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("scope", sa.String(64), nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("body", sa.Text, nullable=False),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("scope", "key", name="pk_idempotency_keys"),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def _create_executions(time: sa.DateTime) -> None:
    op.create_table(
        "executions",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("agent_name", sa.String(63), nullable=False),
        sa.Column("model", sa.Text),
        sa.Column("phase", sa.String(32), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("last_sequence", sa.Integer, nullable=False),
        sa.Column("usage", sa.Text, nullable=False, comment="JSON of Usage"),
        sa.Column("output", sa.Text, comment="JSON of Payload"),
        sa.Column("error", sa.Text, comment="JSON of ExecutionError"),
        sa.Column("cancel_requested_at", time),
        sa.Column("cancel_reason", sa.Text),
        sa.Column("created_at", time, nullable=False),
        sa.Column("started_at", time),
        sa.Column("ended_at", time),
        sa.Column("deadline_at", time, comment="created_at and limits.duration"),
        sa.PrimaryKeyConstraint("execution_id", name="pk_executions"),
        sa.ForeignKeyConstraint(
            ["session_id"], ["sessions.session_id"], name="fk_executions_session_id_sessions"
        ),
    )
    for columns in (["session_id", "execution_id"], ["phase"], ["agent_name", "execution_id"]):
        op.create_index(f"ix_executions_{'_'.join(columns)}", "executions", columns)
    op.create_index(
        "uq_executions_session_id_unended",
        "executions",
        ["session_id"],
        unique=True,
        sqlite_where=sa.text(_UNENDED),
        postgresql_where=sa.text(_UNENDED),
    )
