"""What executions ask of people: an index over their logs."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. No execution of before has asked anything."""
    op.add_column(
        "executions", sa.Column("open_inputs", sa.Text, comment="JSON list of OpenInput; NULL: none")
    )
    op.create_table(
        "inputs",
        sa.Column("input_id", sa.String(64), nullable=False),
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer, nullable=False, comment="of the event that asks"),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("remind_at", sa.DateTime(timezone=True)),
        sa.Column("resolved_sequence", sa.Integer, comment="of the event that resolves it; NULL: it waits"),
        sa.PrimaryKeyConstraint("input_id", name="pk_inputs"),
        sa.ForeignKeyConstraint(
            ["execution_id"], ["executions.execution_id"], name="fk_inputs_execution_id_executions"
        ),
    )
    op.create_index("ix_inputs_execution_id", "inputs", ["execution_id"])
    is_open = sa.text("resolved_sequence IS NULL")
    op.create_index("ix_inputs_open", "inputs", ["input_id"], sqlite_where=is_open, postgresql_where=is_open)
    op.create_index(
        "ix_inputs_expires_at", "inputs", ["expires_at"], sqlite_where=is_open, postgresql_where=is_open
    )


def downgrade() -> None:
    """Drop the table; the log still says what was asked."""
    op.drop_table("inputs")
    op.drop_column("executions", "open_inputs")
