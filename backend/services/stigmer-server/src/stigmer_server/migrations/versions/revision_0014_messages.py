"""What was said to an execution last, so that it does not complete without an answer to it."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column. Executions in flight do not look at messages of before, as they never did."""
    op.add_column(
        "executions",
        sa.Column(
            "message_sequence", sa.Integer, nullable=False, server_default="0", comment="its newest message"
        ),
    )


def downgrade() -> None:
    """Take the column away."""
    op.drop_column("executions", "message_sequence")
