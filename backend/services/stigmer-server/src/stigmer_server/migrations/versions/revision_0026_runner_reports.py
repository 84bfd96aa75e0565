"""What runners tell of themselves."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table: each runner tells it within a minute."""
    op.create_table(
        "runner_reports",
        sa.Column("name", sa.String(255), primary_key=True),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended", sa.Boolean, nullable=False),
        sa.Column(
            "report", sa.Text, comment="JSON, as the runner told it; NULL: others told that it has ended"
        ),
    )


def downgrade() -> None:
    """Forget it."""
    op.drop_table("runner_reports")
