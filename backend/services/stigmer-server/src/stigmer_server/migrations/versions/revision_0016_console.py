"""How people sign in to the console."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "console_secrets",
        sa.Column(
            "digest", sa.String(64), nullable=False, comment="SHA-256 of a link's secret, or of a cookie"
        ),
        sa.Column("kind", sa.String(8), nullable=False, comment="link or session"),
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column(
            "proof", sa.String(64), nullable=False, comment="code of the token's digest by the page's secret"
        ),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_secrets"),
    )
    op.create_index("ix_console_secrets_token_id_kind", "console_secrets", ["token_id", "kind"])


def downgrade() -> None:
    """Drop the table: whoever is signed in has to do so again."""
    op.drop_table("console_secrets")
