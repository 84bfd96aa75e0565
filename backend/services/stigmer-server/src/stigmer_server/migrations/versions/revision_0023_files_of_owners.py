"""What snapshots consist of is for the session's owner alone, whoever else sees the session."""

import json
from collections import defaultdict

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_FILES = "files:"


def upgrade() -> None:
    """Move the grants of what snapshots in the logs name from sessions to their owners."""
    connection = op.get_bind()
    taken = sa.text(
        "SELECT x.session_id, e.body FROM events AS e JOIN executions AS x"
        " ON x.execution_id = e.execution_id WHERE e.type = 'snapshot.taken'"
    )
    named: defaultdict[str, set[str]] = defaultdict(set)
    for session_id, body in connection.execute(taken):
        event = json.loads(body)
        named[session_id].update(blob["sha256"] for blob in (event["listing"], *event.get("contents", ())))
    move = sa.text("UPDATE blob_grants SET holder = :files WHERE sha256 = :sha256 AND holder = :session_id")
    for session_id, sha256s in sorted(named.items()):
        files = f"{_FILES}{session_id}"
        for sha256 in sorted(sha256s):
            connection.execute(move, {"files": files, "sha256": sha256, "session_id": session_id})


def downgrade() -> None:
    """Give them back to whoever sees the session."""
    connection = op.get_bind()
    held = sa.text("SELECT sha256, holder FROM blob_grants WHERE holder LIKE 'files:%'")
    move = sa.text("UPDATE blob_grants SET holder = :session_id WHERE sha256 = :sha256 AND holder = :files")
    for sha256, holder in connection.execute(held).all():
        session_id = holder.removeprefix(_FILES)
        connection.execute(move, {"session_id": session_id, "sha256": sha256, "files": holder})
