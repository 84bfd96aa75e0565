"""Sessions whose conversation somebody wants compacted."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column, empty for sessions that are there."""
    column = sa.Column(
        "compaction_asked_at",
        sa.DateTime(timezone=True),
        comment="for its next execution; NULL: nobody asked",
    )
    op.add_column("sessions", column)


def downgrade() -> None:
    """Take the column away: what was asked for is not done."""
    op.drop_column("sessions", "compaction_asked_at")
