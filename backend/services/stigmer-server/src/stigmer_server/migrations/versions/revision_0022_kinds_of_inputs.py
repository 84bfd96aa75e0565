"""Of which kind an input is, by which lists of them are filtered."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_BATCH = 500


def upgrade() -> None:
    """Add the column, and fill it from the logs."""
    op.add_column("inputs", sa.Column("kind", sa.String(32), comment="InputKind"))
    op.create_index("ix_inputs_kind_input_id", "inputs", ["kind", "input_id"])
    connection = op.get_bind()
    # In Python: PostgreSQL takes no JSON apart that holds a NUL character somewhere.
    some = sa.text(
        "SELECT inputs.input_id, events.body FROM inputs JOIN events"
        " ON events.execution_id = inputs.execution_id AND events.sequence = inputs.sequence"
        " WHERE inputs.input_id > :after ORDER BY inputs.input_id LIMIT :batch"
    )
    update = sa.text("UPDATE inputs SET kind = :kind WHERE input_id = :input_id")
    after = ""
    while rows := connection.execute(some, {"after": after, "batch": _BATCH}).all():
        found = [{"input_id": row.input_id, "kind": json.loads(row.body).get("kind")} for row in rows]
        connection.execute(update, found)
        after = rows[-1].input_id


def downgrade() -> None:
    """Forget it; the logs still have it."""
    op.drop_index("ix_inputs_kind_input_id", "inputs")
    op.drop_column("inputs", "kind")
