"""The form of each event, the blobs that each log names, and the order of a session's executions."""

import re
from collections.abc import Iterator

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 1000
_DIGEST = re.compile(r'"sha256": ?"([0-9a-f]{64})"|replay:sha256:([0-9a-f]{64})')


def upgrade() -> None:
    """Note what older versions left to be found out by reading."""
    op.add_column("events", sa.Column("format", sa.SmallInteger, comment="NULL: 1, of version 0.1.0"))
    op.create_table(
        "blob_references",
        sa.Column("execution_id", sa.String(64), nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("execution_id", "sha256", name="pk_blob_references"),
    )
    op.create_index("ix_blob_references_sha256", "blob_references", ["sha256"])
    for rows in _batches(_find_references()):
        op.get_bind().execute(_REFERENCES.insert(), rows)
    op.add_column(
        "executions",
        sa.Column("place", sa.Integer, nullable=False, server_default="1", comment="in its session, from 1"),
    )
    # So far their ids, which begin with the time, stood for the order.
    op.execute(
        "UPDATE executions SET place = (SELECT COUNT(*) FROM executions AS earlier"
        " WHERE earlier.session_id = executions.session_id"
        " AND earlier.execution_id <= executions.execution_id)"
    )
    op.create_index("uq_executions_session_id_place", "executions", ["session_id", "place"], unique=True)


_REFERENCES = sa.table("blob_references", sa.column("execution_id"), sa.column("sha256"))
_EVENTS = sa.table("events", sa.column("execution_id"), sa.column("body", sa.Text))


def _find_references() -> Iterator[dict[str, str]]:
    seen: set[tuple[str, str]] = set()
    query = sa.select(_EVENTS).where(_EVENTS.c.body.contains("sha256")).order_by(_EVENTS.c.execution_id)
    for execution_id, body in op.get_bind().execute(query):
        for match in _DIGEST.finditer(body):
            found = (execution_id, match[1] or match[2])
            if found not in seen:
                seen.add(found)
                yield {"execution_id": execution_id, "sha256": found[1]}


def _batches(rows: Iterator[dict[str, str]]) -> Iterator[list[dict[str, str]]]:
    everything = list(rows)
    for start in range(0, len(everything), _ROWS_AT_ONCE):
        yield everything[start : start + _ROWS_AT_ONCE]
