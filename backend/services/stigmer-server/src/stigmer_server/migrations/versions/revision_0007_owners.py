"""Owners of tokens, sessions, executions, agents and secrets; who holds which blob; policies of tokens.

What is there becomes the administrator's, and is shared with whoever has a token that holds.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ADMINISTRATOR = "administrator"
_SHARED = "shared_with <> 'nobody'"


def upgrade() -> None:
    """Give everything an owner."""
    for table in ("sessions", "executions", "tokens"):
        op.add_column(table, sa.Column("owner", sa.String(63), nullable=False, server_default=_ADMINISTRATOR))
    op.add_column(
        "sessions", sa.Column("shared_with", sa.String(16), nullable=False, server_default="nobody")
    )
    op.execute("UPDATE sessions SET shared_with = 'earlier'")
    op.add_column("executions", sa.Column("token_id", sa.String(64)))
    op.add_column("tokens", sa.Column("sees_earlier", sa.Boolean, nullable=False, server_default=sa.false()))
    op.add_column("tokens", sa.Column("policy", sa.Text, comment="JSON of TokenPolicy"))
    _give_tokens_owners()
    for table in ("agents", "secrets"):
        _key_by_owner(table, "name", is_shared=True)
        op.create_index(
            f"uq_{table}_name_shared",
            table,
            ["name"],
            unique=True,
            sqlite_where=sa.text(_SHARED),
            postgresql_where=sa.text(_SHARED),
        )
    _key_by_owner("idempotency_keys", "scope", "key", is_shared=False)
    for table, columns in (
        ("sessions", ["owner", "session_id"]),
        ("sessions", ["shared_with", "session_id"]),
        ("tokens", ["owner"]),
    ):
        op.create_index(f"ix_{table}_{'_'.join(columns)}", table, columns)
    op.create_table(
        "token_costs",
        sa.Column("token_id", sa.String(64), nullable=False),
        sa.Column("day", sa.String(10), nullable=False, comment="UTC, YYYY-MM-DD"),
        sa.Column("cost_usd", sa.Text, nullable=False, comment="decimal"),
        sa.PrimaryKeyConstraint("token_id", "day", name="pk_token_costs"),
    )
    op.create_table(
        "blob_grants",
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column(
            "holder", sa.String(80), nullable=False, comment="a session's id, or `owner:` and an owner"
        ),
        sa.PrimaryKeyConstraint("sha256", "holder", name="pk_blob_grants"),
    )
    op.create_index("ix_blob_grants_holder", "blob_grants", ["holder"])
    # Until now a runner could read what the logs of its session name, and users everything.
    op.execute(
        "INSERT INTO blob_grants (sha256, holder) SELECT DISTINCT r.sha256, x.session_id"
        " FROM blob_references AS r JOIN executions AS x ON x.execution_id = r.execution_id"
    )


def downgrade() -> None:
    """Refuse: what belongs to somebody would be everybody's again."""
    raise RuntimeError("a database with owners is not taken back; restore a backup from before the upgrade")


def _give_tokens_owners() -> None:
    """A token stands for its name; the administrator's own name is kept for administrators."""
    op.execute("UPDATE tokens SET owner = name")
    op.execute(
        "UPDATE tokens SET owner = 'user-administrator' WHERE name = 'administrator' AND scope = 'user'"
    )
    op.execute(sa.text("UPDATE tokens SET sees_earlier = :yes WHERE revoked_at IS NULL").bindparams(yes=True))


def _key_by_owner(table: str, *key: str, is_shared: bool) -> None:
    """Put the owner before a table's key. Nothing refers to these tables, so that they can be made anew."""
    with op.batch_alter_table(table) as batch:
        batch.add_column(sa.Column("owner", sa.String(63), nullable=False, server_default=_ADMINISTRATOR))
        if is_shared:
            batch.add_column(sa.Column("shared_with", sa.String(16), nullable=False, server_default="nobody"))
        batch.drop_constraint(f"pk_{table}", type_="primary")
        batch.create_primary_key(f"pk_{table}", ["owner", *key])
    if is_shared:
        op.execute(sa.table(table, sa.column("shared_with")).update().values(shared_with="earlier"))
