"""An index of the events that hold a session's history."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_IS_HISTORY = sa.text("type = 'history.stored'")


def upgrade() -> None:
    """Index them; older versions wrote none."""
    op.create_index(
        "ix_events_history",
        "events",
        ["execution_id", "sequence"],
        sqlite_where=_IS_HISTORY,
        postgresql_where=_IS_HISTORY,
    )


def downgrade() -> None:
    """Forget the index; the events themselves are passed over by versions that do not know them."""
    op.drop_index("ix_events_history", "events")
