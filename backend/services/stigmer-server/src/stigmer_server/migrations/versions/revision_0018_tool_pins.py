"""What MCP servers offered when their tools were pinned."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table. Executions in flight go by the lists in their logs, as before."""
    op.create_table(
        "tool_pins",
        sa.Column("owner", sa.String(63), nullable=False, comment="of the executions that are held to it"),
        sa.Column("agent_name", sa.String(63), nullable=False),
        sa.Column("server", sa.String(63), nullable=False),
        sa.Column("server_digest", sa.String(32), nullable=False, comment="of how it is started or reached"),
        sa.Column("tools", sa.Text, nullable=False, comment="JSON of ToolList"),
        sa.Column("found", sa.Text, comment="JSON of ToolList: what it offered since; NULL: the same"),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("owner", "agent_name", "server", "server_digest", name="pk_tool_pins"),
    )


def downgrade() -> None:
    """Drop the table: each server is asked anew, and what it offers then is taken."""
    op.drop_table("tool_pins")
