"""Who has a leg in hand, how legs were lost, and under which names Temporal has an execution."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty for executions that are there, and the table of runners."""
    for column in (
        sa.Column("leg_runner", sa.String(255), comment="who has the newest leg; NULL: nobody, it is over"),
        sa.Column("leg_task_token", sa.Text, comment="base64; ends that leg at Temporal"),
        sa.Column(
            "lost_legs", sa.Text, comment="JSON: legs lost one after the other without a step between them"
        ),
        sa.Column("workflow_id", sa.String(255), comment="NULL: the execution's id"),
        sa.Column(
            "task_queue",
            sa.String(255),
            comment="of the workflow; NULL: the one that the server is set to",
        ),
    ):
        op.add_column("executions", column)
    op.create_index(
        "ix_executions_leg_runner",
        "executions",
        ["leg_runner"],
        sqlite_where=sa.text("leg_runner IS NOT NULL"),
        postgresql_where=sa.text("leg_runner IS NOT NULL"),
    )
    op.create_table(
        "runners",
        sa.Column("name", sa.String(255), nullable=False),
        sa.Column("heard_at", sa.DateTime(timezone=True), nullable=False, comment="some seconds behind"),
        sa.PrimaryKeyConstraint("name", name="pk_runners"),
    )
