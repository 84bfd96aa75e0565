"""Executions that go on after they had failed."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, empty for executions that are there."""
    for column in (
        sa.Column(
            "retried_at",
            sa.DateTime(timezone=True),
            comment="when somebody let it go on the last time",
        ),
        sa.Column("limits", sa.Text, comment="JSON of Limits since it was retried; NULL: those of its agent"),
    ):
        op.add_column("executions", column)


def downgrade() -> None:
    """Take the columns away: what was retried goes on with the limits of its agent."""
    for name in ("limits", "retried_at"):
        op.drop_column("executions", name)
