"""When the clock of each machine's start began, and since when an execution's duration does not count."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Executions that wait go on by the wall clock once more."""
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "machine_starts",
        sa.Column("boot_id", sa.String(64), primary_key=True),
        sa.Column("began_at", moment, nullable=False, comment="by the database's clock, at first sight"),
    )
    op.add_column(
        "executions",
        sa.Column("uncounted_since", moment, comment="limits.duration stands still; by the steady clock"),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_column("executions", "uncounted_since")
    op.drop_table("machine_starts")
