"""How the input of each execution begins, for lists; what is there gets its own from its log."""

import json

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_BATCH = 500
_READ_CHARACTERS = 2000
_MAX_CHARACTERS = 120


def upgrade() -> None:
    """Read the first event of every log. An input in the blob store is out of reach here."""
    op.add_column(
        "executions",
        sa.Column("input_head", sa.Text, comment="how the input begins, in one line; NULL: not known"),
    )
    connection = op.get_bind()
    first = sa.text(
        "SELECT execution_id, body FROM events WHERE sequence = 1 AND execution_id > :after"
        " ORDER BY execution_id LIMIT :batch"
    )
    update = sa.text("UPDATE executions SET input_head = :head WHERE execution_id = :execution_id")
    after = ""
    while rows := connection.execute(first, {"after": after, "batch": _BATCH}).all():
        after = rows[-1].execution_id
        heads = [{"execution_id": row.execution_id, "head": _head_of(row.body)} for row in rows]
        if known := [head for head in heads if head["head"] is not None]:
            connection.execute(update, known)


def downgrade() -> None:
    """Forget them; the logs still have all of it."""
    op.drop_column("executions", "input_head")


def _head_of(body: str) -> str | None:
    try:
        text: object = json.loads(body)["input"]["value"]
    except (ValueError, KeyError, TypeError):
        return None
    if not isinstance(text, str):
        return None
    words = "".join(
        character if character.isprintable() else " " for character in text[:_READ_CHARACTERS]
    ).split()
    return " ".join(words)[:_MAX_CHARACTERS].rstrip()
