"""Executions that are paused, and inputs of which people are reminded."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns: nothing that is there is paused, and nobody was reminded of anything."""
    moment = sa.DateTime(timezone=True)
    op.add_column("executions", sa.Column("paused_at", moment, comment="while it is paused"))
    op.add_column("inputs", sa.Column("reminded_at", moment, comment="when people were reminded of it"))
    op.add_column(
        "inputs", sa.Column("escalated_to", sa.String(63), comment="who else may decide since then")
    )


def downgrade() -> None:
    """Take the columns away: what is paused waits on, until it is cancelled."""
    for table, name in (("inputs", "escalated_to"), ("inputs", "reminded_at"), ("executions", "paused_at")):
        op.drop_column(table, name)
