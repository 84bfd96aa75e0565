"""Tokens, the server's own keys, and the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make tokens, server keys and audit entries."""
    time = sa.DateTime(timezone=True)
    op.create_table(
        "tokens",
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, comment="SHA-256 of the token"),
        sa.Column("created_at", time, nullable=False),
        sa.Column("created_by", sa.String(63), nullable=False),
        sa.Column("expires_at", time),
        sa.Column("revoked_at", time),
        sa.Column("last_used_at", time),
        sa.PrimaryKeyConstraint("token_id", name="pk_tokens"),
    )
    op.create_index("uq_tokens_digest", "tokens", ["digest"], unique=True)
    op.create_index(
        "uq_tokens_name_unrevoked",
        "tokens",
        ["name"],
        unique=True,
        sqlite_where=sa.text("revoked_at IS NULL"),
        postgresql_where=sa.text("revoked_at IS NULL"),
    )
    op.create_table(
        "server_keys",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("value", sa.String(64), nullable=False, comment="32 random bytes, hexadecimal"),
        sa.Column("created_at", time, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_server_keys"),
    )
    op.create_table(
        "audit_entries",
        sa.Column("sequence", sa.Integer, nullable=False, autoincrement=True),
        sa.Column("recorded_at", time, nullable=False),
        sa.Column("actor", sa.String(63)),
        sa.Column("scope", sa.String(16)),
        sa.Column("action", sa.String(128), nullable=False),
        sa.Column("target", sa.String(255)),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("peer", sa.String(64)),
        sa.PrimaryKeyConstraint("sequence", name="pk_audit_entries"),
    )
