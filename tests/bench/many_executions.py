"""How long lists of 100,000 executions take over HTTP with each filter, on SQLite and on PostgreSQL.

Called alone: `PYTHONPATH=tests/support .venv/bin/python tests/bench/many_executions.py`. The rows are copies
of one execution that a server made, written past it: only what lists read is filled.
"""

import asyncio
import os
import statistics
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy
from figures import Bound, Table
from sqlalchemy.ext.asyncio import create_async_engine

from postgres_server import PostgresServer, find_postgres_binaries
from server_process import ServerApi, ServerProcess
from stigmer_contract.identifiers import EXECUTION_PREFIX, SESSION_PREFIX, first_id
from stigmer_server.search_index import terms_of
from stigmer_server.tables import executions, search_documents, sessions

ROWS: Final = 100_000
BATCH: Final = 5_000
TIMES: Final = 15
BOUND: Final = Bound(50, "<= 50 ms")
OWNERS: Final = ("administrator", "person", "other", "rare")
PHASES: Final = ("completed", "completed", "completed", "failed", "cancelled")


def bench_many_executions(table: Table) -> None:
    """Both databases, where the machine has PostgreSQL."""
    with tempfile.TemporaryDirectory() as folder:
        _bench(table, "SQLite", Path(folder), None)
    binaries = find_postgres_binaries()
    if binaries is None:
        table.add("lists on PostgreSQL", "there is none")
        return
    with tempfile.TemporaryDirectory() as folder, PostgresServer(binaries) as postgres:
        _bench(table, "PostgreSQL", Path(folder), asyncio.run(postgres.create_database()))


def _bench(table: Table, name: str, home: Path, database_url: str | None) -> None:
    with ServerProcess(home, database_url=database_url) as server, server.client() as admin:
        template: str = admin.create_execution(input="the template")["execution_id"]
        made = (
            admin.http.post("/v1/tokens", json={"name": "person", "scope": "user"}).raise_for_status().json()
        )
        server.stop()
        _fill(home, database_url, template)
        server.start()
        with server.client(made["token"]) as person:
            for who, api in (("administrator", admin), ("a person", person)):
                for what, params in _filters().items():
                    milliseconds = _measure(api, params)
                    table.add(
                        f"list of {ROWS:,}, {name}, {who}: {what}",
                        f"{milliseconds:.1f} ms",
                        milliseconds,
                        BOUND,
                    )


def _filters() -> dict[str, dict[str, str]]:
    recently = (datetime.now(UTC) - timedelta(hours=12)).isoformat()
    return {
        "none": {},
        "second page": {"cursor": "page"},
        "phase, a fifth": {"phase": "failed"},
        "phase, nobody": {"phase": "waiting"},
        "agent, a thousandth": {"agent": "agent-7"},
        "owner, one of 100,000": {"owner": "rare"},
        "since": {"since": recently},
        "until": {"until": recently},
        "cost, most": {"min_cost_usd": "0.001"},
        "cost, a thousandth": {"min_cost_usd": "0.999"},
        "cost, none": {"min_cost_usd": "5"},
        "agent and cost, none": {"agent": "agent-7", "min_cost_usd": "5"},
        "phase and cost, none": {"phase": "failed", "min_cost_usd": "5"},
        "a word of all": {"text": "report"},
        "a word of few": {"text": "needle"},
        "a word of none": {"text": "nowhere"},
    }


def _measure(api: ServerApi, params: dict[str, str]) -> float:
    """The median in milliseconds, of a page of 100."""
    asked = {"limit": "100", **params}
    if "cursor" in asked:
        asked["cursor"] = api.http.get("/v1/executions", params={"limit": "100"}).json()["next_cursor"]
    taken: list[float] = []
    for _ in range(TIMES):
        began = time.perf_counter()
        api.http.get("/v1/executions", params=asked).raise_for_status()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken) * 1000


def _fill(home: Path, database_url: str | None, template: str) -> None:
    if database_url is not None:
        asyncio.run(_fill_postgres(database_url, template))
        return
    engine = sqlalchemy.create_engine(f"sqlite:///{home}/data/stigmer.db")
    with engine.begin() as connection:
        _write(connection, template)
        connection.execute(sqlalchemy.text("ANALYZE"))
    engine.dispose()


async def _fill_postgres(database_url: str, template: str) -> None:
    engine = create_async_engine(
        sqlalchemy.make_url(database_url).set(drivername="postgresql+asyncpg"), isolation_level="AUTOCOMMIT"
    )
    async with engine.connect() as connection:
        await connection.run_sync(_write, template)
        await connection.execute(sqlalchemy.text("VACUUM ANALYZE"))
    await engine.dispose()


def _write(connection: sqlalchemy.Connection, template: str) -> None:
    begin = datetime.now(UTC) - timedelta(days=1)
    execution = _row(connection, executions, executions.c.execution_id == template)
    session = _row(connection, sessions, sessions.c.session_id == execution["session_id"])
    for first in range(0, ROWS, BATCH):
        numbers = range(first, first + BATCH)
        copies = [_copy(number, begin, execution) for number in numbers]
        kept = ("session_id", "owner", "created_at")
        connection.execute(
            sessions.insert(), [session | {name: each[name] for name in kept} for each in copies]
        )
        connection.execute(executions.insert(), copies)
        documents = [
            {
                "execution_id": each["execution_id"],
                "session_id": each["session_id"],
                "sequence": 1,
                "terms": " ".join(terms_of(f"write the report {number}" + " needle" * (number % 1000 == 3))),
            }
            for number, each in zip(numbers, copies, strict=True)
        ]
        connection.execute(search_documents.insert(), documents)


def _copy(number: int, begin: datetime, template: dict[str, Any]) -> dict[str, Any]:
    created_at = begin + timedelta(milliseconds=800 * number)
    owner = "rare" if number == ROWS // 2 else OWNERS[number % 3]
    return template | {
        "execution_id": _id(EXECUTION_PREFIX, created_at, number),
        "session_id": _id(SESSION_PREFIX, created_at, number),
        "agent_name": f"agent-{number % 1000}",
        "phase": PHASES[number % len(PHASES)],
        "owner": owner,
        "created_at": created_at,
        "ended_at": created_at,
        "cost_nanos": number % 1000 * 1_000_000,
        "workflow_id": None,
    }


def _id(prefix: str, time_of_it: datetime, number: int) -> str:
    first = first_id(prefix, time_of_it)
    return first[:-6] + f"{number:06d}"


def _row(connection: sqlalchemy.Connection, table: sqlalchemy.Table, condition: Any) -> dict[str, Any]:
    return dict(connection.execute(table.select().where(condition)).mappings().one())


def main() -> None:
    """Print the table."""
    print(f"load at the start: {os.getloadavg()[0]:.1f}\n")
    table = Table()
    bench_many_executions(table)
    table.conclude()


if __name__ == "__main__":
    main()
