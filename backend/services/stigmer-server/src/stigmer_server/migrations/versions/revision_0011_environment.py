"""An index of the events that say what a session's agents were told of where they work."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_IS_ENVIRONMENT = sa.text("type = 'environment.described'")


def upgrade() -> None:
    """Index them; older versions wrote none."""
    op.create_index(
        "ix_events_environment",
        "events",
        ["execution_id", "sequence"],
        sqlite_where=_IS_ENVIRONMENT,
        postgresql_where=_IS_ENVIRONMENT,
    )


def downgrade() -> None:
    """Forget the index; the events themselves are passed over by versions that do not know them."""
    op.drop_index("ix_events_environment", "events")
