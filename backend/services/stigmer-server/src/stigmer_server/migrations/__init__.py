"""Brings a database to this version's tables, at the start of every server. The steps are in `versions`.

A running database is never taken back; a newer one than this version knows is refused.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from stigmer_server.database import Database
from stigmer_server.errors import DatabaseNewer, DatabaseUnusable
from stigmer_server.tables import SCHEMA_REVISION


async def migrate(database: Database) -> None:
    """Migrate to the newest tables; only one process does so at a time.

    Raises:
        DatabaseUnusable: the database cannot be opened, or is of a newer version.
    """
    await database.migrate(_migrate)


def _migrate(connection: Connection) -> None:
    current = _current_revision(connection)
    if current == SCHEMA_REVISION:
        return
    if current is not None and current > SCHEMA_REVISION:  # they are numbers of four digits
        raise DatabaseNewer(
            f"the database is of a newer version of stigmer: its tables are of revision {current}, and this "
            f"version knows {SCHEMA_REVISION}; install the newer version again, or restore a backup"
        )
    # Alembic takes 0.3 s to import, so only a database that needs it pays for it.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    try:
        command.upgrade(configuration, "head")
    except CommandError as error:
        raise DatabaseUnusable(
            f"could not migrate the database from revision {_current_revision(connection)!r}: {error}"
        ) from error


def _current_revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
