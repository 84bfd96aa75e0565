"""Entries of the audit trail go when they are old enough, on SQLite and on PostgreSQL."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import func, select

from server_process import ServerFactory, wait_until
from stigmer_server.audit import EXPIRED_AT_ONCE, AuditTrail
from stigmer_server.database import open_database
from stigmer_server.migrations import migrate
from stigmer_server.tables import audit_entries

OLD = EXPIRED_AT_ONCE + 200
"""More than go at once."""


def entry(actor: str, age: timedelta) -> dict[str, Any]:
    return {
        "recorded_at": datetime.now(UTC) - age,
        "actor": actor,
        "scope": "user",
        "action": "POST /v1/executions",
        "status": 201,
    }


async def fill(database_url: str) -> None:
    """A trail of which most is older than two days."""
    old = [entry("old", timedelta(days=2, minutes=OLD - number)) for number in range(OLD)]
    database = open_database(database_url)
    try:
        await migrate(database)
        rows = [*old, entry("young", timedelta(days=1, hours=23))]
        await database.write(lambda connection: connection.execute(audit_entries.insert(), rows))
    finally:
        await database.close()


def test_entries_older_than_the_retention_are_deleted(database_url: str, start_server: ServerFactory) -> None:
    asyncio.run(fill(database_url))
    server = start_server(database_url=database_url, environment={"STIGMER_AUDIT_RETENTION_DAYS": "2"})
    with server.client() as api:

        def actors() -> set[str]:
            entries = api.http.get("/v1/audit", params={"limit": 500}).json()["items"]
            return {entry["actor"] for entry in entries} & {"old", "young"}

        wait_until(lambda: actors() == {"young"}, "the old entries are gone")


async def test_without_a_retention_all_are_kept(database_url: str) -> None:
    await fill(database_url)
    database = open_database(database_url)
    try:
        trail = AuditTrail(database, None)
        await trail.delete_expired()
        count = select(func.count()).select_from(audit_entries)
        kept = await database.read(lambda connection: connection.execute(count).scalar_one())
    finally:
        await database.close()
    assert kept == OLD + 1
