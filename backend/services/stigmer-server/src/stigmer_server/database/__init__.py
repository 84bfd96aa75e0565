"""Transactions on SQLite or PostgreSQL. Knows the engines' ways, and nothing of what the tables mean.

Work is a plain function over a SQLAlchemy `Connection`, so that one implementation serves both.
"""

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from stigmer_server.database.transactions import (
    Database,
    Work,
    insert_all_where_absent,
    insert_or_add,
    insert_where_absent,
)
from stigmer_server.errors import DatabaseUnusable

__all__ = [
    "Database",
    "Work",
    "insert_all_where_absent",
    "insert_or_add",
    "insert_where_absent",
    "open_database",
]


def open_database(url_text: str) -> Database:
    """The database at a URL. Nothing is connected yet.

    Raises:
        DatabaseUnusable: the URL makes no sense, or what speaks to PostgreSQL is not installed.
    """
    try:
        url = make_url(url_text)
    except ArgumentError as error:
        raise DatabaseUnusable("STIGMER_DATABASE_URL is not a database's URL") from error
    # Only the one in use is imported: the other takes a sixth of the time to start.
    if url.get_backend_name() == "sqlite":
        from stigmer_server.database.sqlite import SqliteDatabase

        return SqliteDatabase(url)
    try:
        from stigmer_server.database.postgres import PostgresDatabase
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        raise DatabaseUnusable(
            "could not use PostgreSQL: asyncpg is not installed; install Stigmer with its extra `postgresql`"
        ) from error
    return PostgresDatabase(url)
