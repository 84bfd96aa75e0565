"""On which task queue the legs of sessions and executions run."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns; what is there stays with the standing runners, until the server places it anew."""
    op.add_column(
        "sessions",
        sa.Column("placement", sa.String(255), comment="task queue of its legs; NULL: the standing runners'"),
    )
    op.add_column(
        "executions",
        sa.Column("leg_task_queue", sa.String(255), comment="of its legs; NULL: where the workflow runs"),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("executions", "leg_task_queue")
    op.drop_column("sessions", "placement")
