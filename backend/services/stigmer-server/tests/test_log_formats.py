"""A log of version 0.1.0 in a database of that version: read for ever, in today's words, and gone on with."""

import asyncio
import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import Connection, text

import stigmer_server.migrations
from server_process import ServerApi, ServerFactory, ServerProcess, completed, responded
from stigmer_contract.api import LEASE_HEADER
from stigmer_server.database import Database, open_database

REPOSITORY: Final = Path(__file__).parents[4]
LOG: Final = json.loads(
    (REPOSITORY / "backend/libs/python/stigmer-contract/tests/logs/0.1.0.json").read_text(encoding="utf-8")
)
FIRST, SECOND = (row["execution_id"] for row in LOG["executions"])
SESSION: Final = LOG["sessions"][0]["session_id"]
LARGE: Final = next(iter(LOG["blobs"]))


def to_0_1_0(connection: Connection) -> None:
    """Make the tables that version 0.1.0 had, and what it wrote there."""
    from alembic import command
    from alembic.config import Config

    configuration = Config()
    folder = Path(stigmer_server.migrations.__file__).parent
    configuration.set_main_option("script_location", str(folder))
    configuration.attributes["connection"] = connection
    command.upgrade(configuration, "0003")
    for table in ("sessions", "executions", "events"):
        for row in LOG[table]:
            values = {name: _moment(name, value) for name, value in row.items()}
            columns = ", ".join(values)
            places = ", ".join(f":{name}" for name in values)
            connection.execute(text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), values)  # noqa: S608 - names of the sample's own tables


def _moment(name: str, value: Any) -> Any:
    is_time = name.endswith("_at") and value is not None
    return datetime.fromisoformat(f"{value}+00:00") if is_time else value


async def stored_bodies(database: Database) -> list[str]:
    def work(connection: Connection) -> list[str]:
        query = text("SELECT body FROM events WHERE execution_id = :id ORDER BY sequence")
        return list(connection.execute(query, {"id": FIRST}).scalars())

    return await database.read(work)


@pytest.fixture
def old_server(database_url: str, start_server: ServerFactory, tmp_path: Path) -> ServerProcess:
    async def prepare() -> None:
        database = open_database(database_url)
        try:
            await database.migrate(to_0_1_0)
        finally:
            await database.close()

    asyncio.run(prepare())
    for sha256, content in LOG["blobs"].items():
        file = tmp_path / "home" / "data" / "blobs" / sha256[:2] / sha256
        file.parent.mkdir(parents=True)
        file.write_text(content, encoding="utf-8")
    return start_server(database_url=database_url)


def payload_of(api: ServerApi, payload: dict[str, Any]) -> Any:
    if payload["kind"] == "inline":
        return payload["value"]
    return api.http.get(f"/v1/blobs/{payload['sha256']}").raise_for_status().json()


def test_an_old_log_is_read_in_the_newest_words_and_stays_as_it_is(
    old_server: ServerProcess, database_url: str
) -> None:
    with old_server.client() as api:
        log = api.read_log(FIRST)
        streamed = api.http.get(f"/v1/executions/{FIRST}/events", headers={"Accept": "text/event-stream"})
        results = [
            payload_of(api, event["event"]["result"])
            for event in log
            if event["event"]["type"] == "tool.finished"
        ]

    assert [event["sequence"] for event in log] == list(range(1, 25))
    assert log[2]["event"]["response"]["value"]["parts"][1] == {"kind": "text", "text": "I look."}
    assert [result["outcome"] for result in results] == [*["succeeded"] * 5, "unknown"]
    assert results[3]["content"][0]["text"].count("é") == 33_000
    assert '"kind":"text","text":"I look."' in streamed.text

    async def look() -> list[str]:
        database = open_database(database_url)
        try:
            return await stored_bodies(database)
        finally:
            await database.close()

    assert asyncio.run(look()) == [row["body"] for row in LOG["events"] if row["execution_id"] == FIRST]


def test_a_leg_of_an_old_session_reads_earlier_logs_and_what_they_keep_in_blobs(
    old_server: ServerProcess,
) -> None:
    with old_server.client() as api:
        token = api.http.post("/v1/tokens", json={"name": "r", "scope": "runner"}).json()["token"]
        execution_id = api.create_execution(session_id=SESSION)["execution_id"]
        with old_server.client(token) as runner:
            grant = runner.start_leg(execution_id)
            runner.http.headers[LEASE_HEADER] = grant["lease"]
            log = runner.read_log(FIRST)
            large = next(
                event["event"]["result"]
                for event in log
                if event["event"].get("result", {}).get("kind") == "blob"
            )
            told = payload_of(runner, large)
            old_blob = runner.http.get(f"/v1/blobs/{LARGE}")
            runner.append(execution_id, [responded(), completed()]).raise_for_status()

    assert grant["previous_execution_ids"] == [FIRST, SECOND]
    assert told["content"][0]["text"].count("é") == 33_000
    assert old_blob.status_code == 200


def test_a_runner_that_is_too_old_is_refused_without_an_attempt(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    refused = api.http.post(
        f"/v1/executions/{execution_id}/legs", json={"runner": "1@old", "runner_version": "0.1.0"}
    )

    assert (refused.status_code, refused.json()["code"]) == (409, "runner_too_old")
    assert api.get_execution(execution_id)["attempt"] == 0
    assert [event["event"]["type"] for event in api.read_log(execution_id)] == ["execution.started"]
    assert api.start_leg(execution_id)["attempt"] == 1


def test_what_an_old_runner_still_appends_is_kept_in_the_newest_words(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.http.headers["Stigmer-Lease"] = api.start_leg(execution_id)["lease"]
    picture = base64.b64encode(b"p" * 70_000).decode()
    large = json.dumps({"kind": "tool_return", "result": [{"kind": "binary", "data": picture}]}).encode()
    sha256 = api.store_blob(large)
    call = {"type": "tool.finished", "turn": 1, "call_id": "c", "tool": "look", "duration_seconds": 0.1}
    old = [
        responded() | {"response": inline({"parts": [{"part_kind": "text", "content": "Hello"}]})},
        {**call, "outcome": "retry", "result": inline({"kind": "model_retry", "message": "no such path"})},
        {**call, "outcome": "succeeded", "result": {"kind": "blob", "sha256": sha256, "size_bytes": 1}},
        {"type": "usage.updated", "total": {"requests": 1}},
        {"type": "leg.ended", "attempt": 1, "reason": "drained"},
    ]

    answer = api.http.post(
        f"/v1/executions/{execution_id}/events", json={"attempt": 1, "append_id": "old", "events": old}
    )

    assert answer.json() == {
        "last_sequence": 6,
        "cancel_requested": False,
        "message_sequence": 0,
        "is_paused": False,
    }
    log = [event["event"] for event in api.read_log(execution_id)][2:]
    assert [event["type"] for event in log] == [
        "model.responded",
        "tool.finished",
        "tool.finished",
        "leg.ended",
    ]
    assert log[0]["response"]["value"]["parts"] == [{"kind": "text", "text": "Hello"}]
    assert (log[1]["outcome"], log[1]["result"]["value"]["correctable"]) == ("failed", True)
    assert payload_of(api, log[2]["result"])["content"][0]["data"] == picture


def inline(value: object) -> dict[str, object]:
    return {"kind": "inline", "value": value}
