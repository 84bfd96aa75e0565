"""Secrets."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table of secrets."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "secrets",
        sa.Column("name", sa.String(253), nullable=False),
        sa.Column("key_id", sa.String(16), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary, nullable=False, comment="AES-256-GCM: nonce, value, tag"),
        sa.Column("created_at", time, nullable=False),
        sa.Column("updated_at", time, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_secrets"),
    )
