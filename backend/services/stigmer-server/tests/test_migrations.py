"""The tables that migrations make are those that the code uses, from empty and again."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import ColumnClause, Connection, Table, bindparam, column, select, text
from sqlalchemy import table as sqlalchemy_table
from sqlalchemy.exc import IntegrityError

import stigmer_server.migrations
from stigmer_server import tables
from stigmer_server.blob_grants import may_read
from stigmer_server.database import Database, open_database
from stigmer_server.errors import DatabaseNewer
from stigmer_server.migrations import migrate
from stigmer_server.owners import THE_ADMINISTRATOR, Caller
from stigmer_server.tables import SCHEMA_REVISION, UtcDateTime, metadata


def _differences(connection: Connection) -> list[Any]:
    options = {"compare_type": True, "include_object": _is_of_every_database}
    context = MigrationContext.configure(connection, opts=options)
    return compare_metadata(context, metadata)


def _is_of_every_database(_item: object, name: str | None, kind: str, *_: object) -> bool:
    """But for what looks terms up, which each database has in a form of its own (revision 0020)."""
    is_fts5 = kind == "table" and (name or "").startswith("search_index")
    return not (is_fts5 or name == "ix_search_documents_terms")


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
        with pytest.raises(DatabaseNewer, match=r"its tables are of revision 9999"):
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


def _configuration(connection: Connection) -> Config:
    configuration = Config()
    configuration.set_main_option("script_location", str(Path(stigmer_server.migrations.__file__).parent))
    configuration.attributes["connection"] = connection
    return configuration


def _upgrade(connection: Connection, revision: str) -> None:
    command.upgrade(_configuration(connection), revision)


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


def _insert_event(connection: Connection, execution_id: str, sequence: int, body: str) -> None:
    connection.execute(
        text(
            "INSERT INTO events (execution_id, sequence, recorded_at, type, body)"
            " VALUES (:execution_id, :sequence, :now, :type, :body)"
        ).bindparams(bindparam("now", THEN, type_=UtcDateTime)),
        {"execution_id": execution_id, "sequence": sequence, "type": json.loads(body)["type"], "body": body},
    )


async def test_what_is_there_when_owners_come_is_the_administrators_and_shared_with_the_tokens_of_then(
    database_url: str,
) -> None:
    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0003"))
        await database.write(_fill_with_what_had_no_owner)
        await migrate(database)

        assert await database.write(_differences) == []
        earlier, later = (
            Caller("build-server", sees_earlier=True),
            Caller("newcomer"),
        )
        tokens_ = await database.read(_read_tokens)
        for table in (tables.agents, tables.secrets, tables.sessions):
            assert await database.read(_counter(table, THE_ADMINISTRATOR)) == (1, "administrator", "earlier")
            assert await database.read(_counter(table, earlier)) == (1, "administrator", "earlier")
            assert await database.read(_counter(table, later)) == (0, None, None)
        assert tokens_ == {
            "build-server": ("build-server", True),
            "administrator": ("user-administrator", True),
            "gone": ("gone", False),
        }
        assert await database.read(lambda connection: may_read(connection, BLOB, earlier))
        assert not await database.read(lambda connection: may_read(connection, BLOB, later))
        assert not await database.read(lambda connection: may_read(connection, "0" * 64, earlier))
    finally:
        await database.close()


async def test_what_is_there_gets_the_beginnings_of_its_inputs_from_the_logs(database_url: str) -> None:
    bodies = {
        "exe_1": '{"type":"execution.started","input":{"kind":"inline","value":" Count\\nthe\\u0000files"}}',
        "exe_2": f'{{"type":"execution.started","input":{{"kind":"blob","sha256":"{BLOB}","size_bytes":9}}}}',
        "exe_3": '{"type":"execution.started"}',
    }

    def fill(connection: Connection) -> None:
        for place, (execution_id, body) in enumerate(bodies.items(), 1):
            _insert(connection, execution_id, "completed", place=place)
            _insert_event(connection, execution_id, 1, body)

    def read(connection: Connection) -> dict[str, str | None]:
        rows = connection.execute(select(tables.executions.c.execution_id, tables.executions.c.input_head))
        return {row.execution_id: row.input_head for row in rows}

    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0008"))
        await database.write(fill)
        await migrate(database)
        assert await database.read(read) == {"exe_1": "Count the files", "exe_2": None, "exe_3": None}
        assert await database.write(_differences) == []
    finally:
        await database.close()


async def test_inputs_that_are_there_get_their_kinds_from_the_logs(database_url: str) -> None:
    kinds = {"inp_1": "question", "inp_2": "approval", "inp_3": "client_tool"}

    def fill(connection: Connection) -> None:
        _insert(connection, "exe_1", "waiting", place=1)
        for sequence, (input_id, kind) in enumerate(kinds.items(), 1):
            body = f'{{"type":"input.requested","kind":"{kind}","title":"a\\u0000b"}}'
            _insert_event(connection, "exe_1", sequence, body)
            connection.execute(
                text(
                    "INSERT INTO inputs (input_id, execution_id, sequence) VALUES (:id, 'exe_1', :sequence)"
                ),
                {"id": input_id, "sequence": sequence},
            )

    def read(connection: Connection) -> dict[str, str | None]:
        rows = connection.execute(select(tables.inputs.c.input_id, tables.inputs.c.kind))
        return {row.input_id: row.kind for row in rows}

    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0021"))
        await database.write(fill)
        await migrate(database)
        assert await database.read(read) == kinds
        assert await database.write(_differences) == []
    finally:
        await database.close()


async def test_what_was_used_before_is_added_up_from_the_logs(database_url: str) -> None:
    answered = (
        '{"type":"model.responded","model":"m:1","response":"\\u0000",'
        '"usage":{"requests":1,"cost_usd":"0.5"}}'
    )
    step = '{"type":"step.finished","usage":{"requests":2,"input_tokens":7,"cost_usd":null}}'
    bodies = [answered, answered, step, '{"type":"step.finished","usage":null}', '{"type":"tool.started"}']

    def fill(connection: Connection) -> None:
        _insert(connection, "exe_1", "completed", place=1)
        connection.execute(text("""UPDATE executions SET usage = '{"cost_usd":"1.0"}'"""))
        for sequence, body in enumerate(bodies, 1):
            _insert_event(connection, "exe_1", sequence, body)

    def read(connection: Connection) -> list[tuple[Any, ...]]:
        used = tables.usage_quarters.c
        query = select(used.model, used.quarter, used.requests, used.input_tokens, used.cost_nanos)
        return [tuple(row) for row in connection.execute(query.order_by(used.model))]

    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0016"))
        await database.write(fill)
        await migrate(database)
        quarter = int(THEN.timestamp()) // 900
        assert await database.read(read) == [("", quarter, 2, 7, None), ("m:1", quarter, 2, 0, 1_000_000_000)]
        costs = select(tables.executions.c.cost_nanos)
        assert await database.read(lambda connection: connection.execute(costs).scalar()) == 1_000_000_000
        assert await database.write(_differences) == []
    finally:
        await database.close()


async def test_what_snapshots_consist_of_becomes_the_owners_alone(database_url: str) -> None:
    other = "cd" * 32
    listing = {"kind": "blob", "sha256": BLOB, "size_bytes": 9}
    body = json.dumps({"type": "snapshot.taken", "listing": listing, "contents": []})

    def fill(connection: Connection) -> None:
        _insert(connection, "exe_1", "completed")
        _insert_event(connection, "exe_1", 1, body)
        connection.execute(text("UPDATE sessions SET owner = 'alice', shared_with = 'everybody'"))
        for sha256 in (BLOB, other):
            grant = text("INSERT INTO blob_grants (sha256, holder) VALUES (:sha256, 'ses_1')")
            connection.execute(grant, {"sha256": sha256})

    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0022"))
        await database.write(fill)
        for _ in range(2):
            await database.migrate(lambda connection: _upgrade(connection, "0023"))
            for caller, may in ((Caller("alice"), True), (Caller("bob"), False)):
                assert await database.read(partial(may_read, sha256=other, caller=caller))
                assert await database.read(partial(may_read, sha256=BLOB, caller=caller)) == may
            await database.migrate(lambda connection: command.downgrade(_configuration(connection), "0022"))
    finally:
        await database.close()


async def test_rewinds_that_are_there_are_found_in_the_logs(database_url: str) -> None:
    bodies = {
        "exe_1": {"type": "execution.started", "fork": {"in_place": True}},
        "exe_2": {"type": "execution.started", "fork": {"in_place": False}},
        "exe_3": {"type": "execution.started", "input": {"value": {"in_place": True}}, "fork": None},
    }

    def fill(connection: Connection) -> None:
        for place, (execution_id, body) in enumerate(bodies.items(), 1):
            _insert(connection, execution_id, "completed", place=place)
            _insert_event(connection, execution_id, 1, json.dumps(body, separators=(",", ":")))

    def read(connection: Connection) -> list[str]:
        executions = tables.executions
        found = connection.execute(select(executions.c.execution_id).where(executions.c.is_rewind))
        return list(found.scalars())

    database = open_database(database_url)
    try:
        await database.migrate(lambda connection: _upgrade(connection, "0026"))
        await database.write(fill)
        for _ in range(2):
            await migrate(database)
            assert await database.read(read) == ["exe_1"]
            assert await database.write(_differences) == []
            await database.migrate(lambda connection: command.downgrade(_configuration(connection), "0026"))
    finally:
        await database.close()


async def test_a_database_with_owners_is_not_taken_back(database_url: str) -> None:
    database = open_database(database_url)
    try:
        await migrate(database)
        with pytest.raises(RuntimeError, match="a database with owners is not taken back"):
            await database.migrate(lambda connection: command.downgrade(_configuration(connection), "0006"))
        await migrate(database)
        assert await database.write(_differences) == []
    finally:
        await database.close()


BLOB = "ab" * 32
THEN = datetime(2026, 11, 25, 12, tzinfo=UTC)


def _fill_with_what_had_no_owner(connection: Connection) -> None:
    """One of everything, as the version before owners wrote it."""

    def insert(table_name: str, **values: Any) -> None:
        columns: list[ColumnClause[Any]] = [column(name) for name in values]
        connection.execute(sqlalchemy_table(table_name, *columns).insert().values(values))

    times = {"created_at": THEN, "updated_at": THEN}
    insert("sessions", session_id="ses_1", created_at=THEN)
    insert("agents", name="old", version=1, manifest="{}", **times)
    insert("secrets", name="OLD", key_id="key", ciphertext=b"x", **times)
    ended = {"phase": "completed", "attempt": 1, "last_sequence": 3, "usage": "{}", "created_at": THEN}
    insert("executions", execution_id="exe_1", session_id="ses_1", agent_name="old", **ended)
    answer = {"request_digest": "digest", "status": 201, "body": "{}", "created_at": THEN}
    insert("idempotency_keys", scope="executions", key="key", **answer)
    bodies = ("{}", f'{{"kind":"blob","sha256":"{BLOB}","size_bytes":9}}', f'["{"0" * 64}"]')
    for sequence, body in enumerate(bodies, 1):
        event = {"sequence": sequence, "recorded_at": THEN, "type": "x", "body": body}
        insert("events", execution_id="exe_1", **event)
    for name, revoked_at in {"build-server": None, "administrator": None, "gone": THEN}.items():
        made = {"scope": "user", "created_at": THEN, "created_by": "x", "revoked_at": revoked_at}
        insert("tokens", token_id=f"tok_{name}", name=name, digest=f"digest of {name}", **made)


def _read_tokens(connection: Connection) -> dict[str, tuple[str, bool]]:
    rows = connection.execute(select(tables.tokens))
    return {row.name: (row.owner, row.sees_earlier) for row in rows}


def _counter(table: Table, caller: Caller) -> Callable[[Connection], tuple[int, str | None, str | None]]:
    """How many rows a caller sees, and whose the first is."""

    def count(connection: Connection) -> tuple[int, str | None, str | None]:
        rows = connection.execute(select(table).where(caller.may_see(table))).all()
        return (len(rows), rows[0].owner, rows[0].shared_with) if rows else (0, None, None)

    return count


async def _set_revision(database: Database, revision: str) -> None:
    def work(connection: Connection) -> None:
        connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})

    await database.write(work)
