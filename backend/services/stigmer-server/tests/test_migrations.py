"""The tables that migrations make are those that the code uses, from empty and again."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

import stigmer_server.migrations
from stigmer_server.database import Database, open_database
from stigmer_server.errors import DatabaseUnusable
from stigmer_server.migrations import migrate
from stigmer_server.tables import SCHEMA_REVISION, metadata


def _differences(connection: Connection) -> list[Any]:
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return compare_metadata(context, metadata)


def test_the_newest_revision_is_the_one_that_the_tables_name() -> None:
    scripts = ScriptDirectory(str(Path(stigmer_server.migrations.__file__).parent))

    assert scripts.get_heads() == [SCHEMA_REVISION]


async def test_an_empty_database_gets_the_tables_that_the_code_uses(database_url: str) -> None:
    database = open_database(database_url)
    try:
        await migrate(database)
        await migrate(database)
        assert await database.write(_differences) == []
    finally:
        await database.close()


async def test_servers_that_start_at_once_migrate_one_after_the_other(database_url: str) -> None:
    databases = [open_database(database_url) for _ in range(4)]
    try:
        await asyncio.gather(*(migrate(database) for database in databases))
        assert await databases[0].write(_differences) == []
    finally:
        await asyncio.gather(*(database.close() for database in databases))


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    database = open_database(database_url)
    try:
        await migrate(database)
        await _set_revision(database, "9999")
        with pytest.raises(DatabaseUnusable, match=r"could not migrate the database from revision '9999'"):
            await migrate(database)
    finally:
        await database.close()


async def _set_revision(database: Database, revision: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    await database.write(work)
