"""The server as a process: how it starts, ends, is killed, and what it writes."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from needed import skip_outside_ci
from postgres_server import USER, PostgresServer, find_postgres_binaries
from server_process import TOKEN, ServerApi, ServerFactory, ServerProcess, completed, responded, wait_until

ENVIRONMENT = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}


def run_server(**variables: str) -> "subprocess.CompletedProcess[str]":
    """Run a server that cannot start, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "stigmer_server"],
        env=ENVIRONMENT | variables,
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )


def test_a_wrong_environment_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    ended = run_server(STIGMER_HOME=str(tmp_path), STIGMER_TOKEN="t", STIGMER_PORT="many")

    assert (ended.returncode, ended.stderr, ended.stdout) == (
        2,
        "error: STIGMER_PORT: 'many' is not a whole number from 0 to 65535\n",
        "",
    )


def test_a_taken_port_is_one_line_and_exit_code_3(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]

        ended = run_server(STIGMER_HOME=str(tmp_path), STIGMER_TOKEN="t", STIGMER_PORT=str(port))

    assert (ended.returncode, ended.stderr) == (3, f"error: port {port} on 127.0.0.1 is taken\n")


def test_a_file_that_is_no_database_is_one_line_and_exit_code_4(tmp_path: Path) -> None:
    path = tmp_path / "broken.db"
    path.write_bytes(b"this is not a database" * 100)

    ended = run_server(
        STIGMER_HOME=str(tmp_path),
        STIGMER_TOKEN="t",
        STIGMER_PORT="0",
        STIGMER_DATABASE_URL=f"sqlite:///{path}",
    )

    assert ended.returncode == 4
    assert ended.stderr.splitlines()[-1].startswith(
        f"error: the database {str(path)!r} is damaged: file is not a database; "
    )
    assert "Traceback" not in ended.stderr


@pytest.mark.postgres
def test_a_server_waits_for_a_database_that_is_away_and_says_so(tmp_path: Path) -> None:
    binaries = find_postgres_binaries()
    if binaries is None:
        skip_outside_ci("the binaries of PostgreSQL are not installed")
    postgres = PostgresServer(binaries)
    url = f"postgresql://{USER}:hunter2@127.0.0.1:{postgres.port}/postgres"
    with ServerProcess(tmp_path, database_url=url) as server:
        wait_until(lambda: " times, last reason: " in database_check(server), "it has tried twice")

        assert database_check(server).startswith("waiting for the database, tried ")
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        refused = httpx.get(f"{server.url}/v1/agents", headers={"Authorization": f"Bearer {TOKEN}"})
        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")

        with postgres, server.client() as api:
            wait_until(lambda: api.http.get("/v1/agents").status_code == 200, "it serves")
            execution_id = api.create_execution()["execution_id"]
            assert api.get_execution(execution_id)["phase"] == "pending"
    assert "hunter2" not in server.log_file.read_text(encoding="utf-8")


def database_check(server: ServerProcess) -> str:
    """What readiness says of the database."""
    checks = httpx.get(f"{server.url}/readyz").json()["checks"]
    return next(check["detail"] or "" for check in checks if check["name"] == "database")


def test_sigterm_ends_streams_and_the_process_in_good_order(start_server: ServerFactory) -> None:
    server = start_server()
    with server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        path = f"/v1/executions/{execution_id}/events"
        with api.http.stream("GET", path, headers={"Accept": "text/event-stream"}) as response:
            lines = response.iter_lines()
            next(lines)

            assert server.stop() == 0
            assert "execution.started" in "\n".join(lines)

    assert server.log_file.read_text(encoding="utf-8").splitlines()[-1].endswith("stopped")


def test_nothing_secret_and_nothing_that_was_said_is_logged(start_server: ServerFactory) -> None:
    server = start_server(environment={"LOG_FORMAT": "json", "TEMPORAL_API_KEY": "", "LOG_LEVEL": "info"})
    with server.client() as api:
        execution_id = api.create_execution(input="the-secret-prompt")["execution_id"]
        api.start_leg(execution_id)
        api.append(execution_id, [responded(text="the-secret-answer"), completed("the-secret-output")])
        api.http.get("/v1/agents", headers={"Authorization": "Bearer the-secret-guess"})
        api.http.post("/v1/executions", json={"input": 5, "manifest": "the-secret-manifest"})
    server.stop()

    text = server.log_file.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert {"time", "level", "logger", "message"} <= set(lines[0])
    assert "the-secret" not in text
    assert TOKEN not in text


def test_json_logs_hold_nothing_but_json(start_server: ServerFactory) -> None:
    """Also where Temporal's own part has something to say, and where the process cannot start."""
    server = start_server(environment={"LOG_FORMAT": "json", "LOG_LEVEL": "debug"})
    refused = subprocess.run(
        [sys.executable, "-m", "stigmer_server"],
        env=os.environ | {"LOG_FORMAT": "JSON", "STIGMER_TOKEN": TOKEN, "STIGMER_PORT": "none"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    server.stop()

    lines = [json.loads(line) for line in server.log_file.read_text(encoding="utf-8").splitlines()]
    assert all({"time", "level", "logger", "message"} <= set(line) for line in lines)
    [failure] = map(json.loads, refused.stderr.splitlines())
    assert (refused.returncode, failure["level"], failure["message"].partition(":")[0]) == (
        2,
        "error",
        "STIGMER_PORT",
    )


def test_the_home_is_readable_by_its_owner_alone(start_server: ServerFactory) -> None:
    server = start_server()

    data = server.home / "data"
    assert [path.stat().st_mode & 0o077 for path in (data, data / "stigmer.db", data / "blobs")] == [0, 0, 0]


def test_killed_while_it_appends_it_loses_nothing_that_it_acknowledged(
    database_url: str, tmp_path: Path
) -> None:
    """Four runners append as fast as they can while the server is killed and started again, five times."""
    enough = threading.Event()
    with ServerProcess(tmp_path, database_url=database_url) as server:
        with server.client() as api:
            ids = [api.create_execution()["execution_id"] for _ in range(4)]
            for execution_id in ids:
                api.start_leg(execution_id)

        def write(execution_id: str) -> dict[int, str]:
            """Append until it is enough, each append until it is answered; gives sequence → text."""
            acknowledged: dict[int, str] = {}
            with server.client() as api:
                while not enough.is_set():
                    text = f"{execution_id} {len(acknowledged)}"
                    acknowledged[append_until_answered(api, execution_id, text)] = text
            return acknowledged

        with ThreadPoolExecutor(4) as pool:
            writers = [pool.submit(write, execution_id) for execution_id in ids]
            try:
                for _ in range(5):
                    with server.client() as api:
                        before = api.get_execution(ids[0])["last_sequence"]
                        wait_until(
                            lambda: api.get_execution(ids[0])["last_sequence"] > before + 10,  # noqa: B023 - called here
                            "ten more events are written",
                        )
                    server.kill()
                    server.start()
            finally:
                enough.set()
            results = [writer.result() for writer in writers]

        with server.client() as api:
            for execution_id, acknowledged in zip(ids, results, strict=True):
                log = api.read_log(execution_id)
                assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
                texts = {event["sequence"]: event["event"] for event in log[2:]}
                assert {
                    sequence: event["response"]["value"]["parts"][0]["text"]
                    for sequence, event in texts.items()
                } == acknowledged
                assert api.get_execution(execution_id)["usage"]["requests"] == len(acknowledged)


def append_until_answered(api: ServerApi, execution_id: str, text: str) -> int:
    """Append one event, with one id, however often the server goes away meanwhile; gives its sequence."""
    append_id = text.replace(" ", "-")
    answers: list[int] = []

    def attempt() -> bool:
        try:
            response = api.append(execution_id, [responded(text=text)], append_id=append_id)
        except httpx.TransportError:
            return False
        if response.status_code == 503:
            return False
        assert response.status_code == 200, response.text
        answers.append(response.json()["last_sequence"])
        return True

    wait_until(attempt, "the append is answered")
    return answers[0]


def test_sqlite_is_told_to_be_durable(start_server: ServerFactory) -> None:
    server = start_server()

    with closing(sqlite3.connect(server.home / "data" / "stigmer.db")) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
