"""The tables that migrations make are those that the code uses, from empty and again."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, bindparam, text
from sqlalchemy.exc import IntegrityError

import stigmer_server.migrations
from stigmer_server.database import Database, open_database
from stigmer_server.errors import DatabaseUnusable
from stigmer_server.migrations import migrate
from stigmer_server.tables import SCHEMA_REVISION, UtcDateTime, metadata


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


async def test_a_waiting_execution_of_0_1_0_goes_on_and_stays_the_only_one_of_its_session(
    database_url: str,
) -> None:
    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0003"))
        await database.write(lambda connection: _insert(connection, "exe_1", "waiting_for_approval"))
        await migrate(database)
        phases = await database.read(
            lambda connection: connection.execute(text("SELECT phase FROM executions")).scalars().all()
        )
        assert phases == ["in_progress"]
        await database.write(
            lambda connection: connection.execute(text("UPDATE executions SET phase = 'waiting'"))
        )
        with pytest.raises(IntegrityError, match="session_id"):
            await database.write(lambda connection: _insert(connection, "exe_2", "waiting", place=2))
    finally:
        await database.close()


def _upgrade(connection: Connection, revision: str) -> None:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(stigmer_server.migrations.__file__).parent))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, revision)


def _insert(connection: Connection, execution_id: str, phase: str, **more: int) -> None:
    """An execution of session `ses_1`, as 0.1.0 would write it; `more` are later columns."""
    now = bindparam("now", datetime.now(UTC), type_=UtcDateTime)
    if connection.execute(text("SELECT count(*) FROM sessions")).scalar_one() == 0:
        session = text("INSERT INTO sessions (session_id, created_at) VALUES ('ses_1', :now)")
        connection.execute(session.bindparams(now))
    columns = {"execution_id": execution_id, "phase": phase, **more}
    execution = text(
        f"INSERT INTO executions ({', '.join(columns)}, session_id, agent_name, attempt, last_sequence,"  # noqa: S608 - names of columns of this file
        f" usage, created_at) VALUES ({', '.join(f':{name}' for name in columns)}, 'ses_1', 'worker', 1, 3,"
        " '{}', :now)"
    )
    connection.execute(execution.bindparams(now), columns)


async def _set_revision(database: Database, revision: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    await database.write(work)
