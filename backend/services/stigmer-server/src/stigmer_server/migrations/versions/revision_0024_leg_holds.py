"""Which legs their runners hold, for all servers of a database."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table: what is held is said again within a second."""
    op.create_table(
        "leg_holds",
        sa.Column("execution_id", sa.String(64), primary_key=True),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("holds", sa.Integer, nullable=False, comment="how often its runner said that it works on"),
        sa.Column("wants", sa.Integer, nullable=False, comment="how often another one asked for it"),
    )


def downgrade() -> None:
    """Forget them."""
    op.drop_table("leg_holds")
