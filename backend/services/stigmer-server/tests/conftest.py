"""Servers to test against: real processes, on SQLite and on PostgreSQL, with a real Temporal behind them."""

import asyncio
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from uuid import uuid4

import pytest

from needed import skip_outside_ci
from postgres_server import PostgresServer, find_postgres_binaries
from server_process import ServerApi, ServerFactory, ServerProcess
from temporal_server import TemporalServer

DatabaseFactory = Callable[[str], str | None]

DATABASES = [pytest.param("sqlite"), pytest.param("postgresql", marks=pytest.mark.postgres)]


@pytest.fixture(scope="session")
def temporal() -> Generator[TemporalServer]:
    with TemporalServer() as server:
        yield server


@pytest.fixture(scope="session")
def make_database() -> Iterator[DatabaseFactory]:
    """Gives the URL of an empty database of a kind; None for SQLite, where the server's home says it."""
    with ExitStack() as stack:
        started: list[PostgresServer] = []

        def make(kind: str) -> str | None:
            if kind == "sqlite":
                return None
            binaries = find_postgres_binaries()
            if binaries is None:
                skip_outside_ci("the binaries of PostgreSQL are not installed")
            if not started:
                started.append(stack.enter_context(PostgresServer(binaries)))
            return asyncio.run(started[0].create_database())

        yield make


@pytest.fixture(scope="session", params=DATABASES)
def server(
    request: pytest.FixtureRequest,
    make_database: DatabaseFactory,
    temporal: TemporalServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[ServerProcess]:
    """One server of each kind, shared by all tests that do not break it."""
    kind: str = request.param
    home = tmp_path_factory.mktemp(kind)
    with ServerProcess(home, temporal_address=temporal.address, database_url=make_database(kind)) as process:
        yield process


@pytest.fixture
def api(server: ServerProcess) -> Generator[ServerApi]:
    with server.client() as client:
        yield client


@pytest.fixture
def people(server: ServerProcess) -> Iterator[dict[str, ServerApi]]:
    """Clients of tokens by what they are."""
    stamp = uuid4().hex[:8]
    with ExitStack() as stack:
        admin = stack.enter_context(server.client())

        def client(name: str, scope: str, owner: str) -> ServerApi:
            body = {"name": f"{name}-{stamp}", "scope": scope, "owner": f"{owner}-{stamp}"}
            token: str = admin.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
            return stack.enter_context(server.client(token))

        yield {
            "admin": admin,
            "alice": client("alice", "user", "alice"),
            "approver": client("approver", "approve", "alice"),
            "bob": client("bob", "user", "bob"),
            "other": client("other", "approve", "bob"),
            "runner": client("runner", "runner", "runner"),
        }


@pytest.fixture
def start_server(tmp_path: Path, temporal: TemporalServer) -> Iterator[ServerFactory]:
    """Starts a server of the test's own on SQLite, unless told otherwise."""
    with ExitStack() as stack:

        def start(
            *,
            temporal_address: str = temporal.address,
            database_url: str | None = None,
            environment: Mapping[str, str] | None = None,
        ) -> ServerProcess:
            process = ServerProcess(
                tmp_path / "home",
                temporal_address=temporal_address,
                database_url=database_url,
                environment=environment,
            )
            return stack.enter_context(process)

        yield start


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, make_database: DatabaseFactory, tmp_path: Path) -> str:
    """An empty database of each kind."""
    return make_database(request.param) or f"sqlite:///{tmp_path / 'folder' / 'stigmer.db'}"


@pytest.fixture
def person(server: ServerProcess, api: ServerApi) -> Iterator[ServerApi]:
    """Somebody who sees nothing yet: what other tests shared with everybody is shared no more."""
    cursor = None
    while True:
        page = api.http.get("/v1/sessions", params={"limit": 500} | ({"cursor": cursor} if cursor else {}))
        for session in page.raise_for_status().json()["items"]:
            if session["shared_with"] != "nobody":
                api.http.put(f"/v1/sessions/{session['session_id']}/owner", json={}).raise_for_status()
        if (cursor := page.json()["next_cursor"]) is None:
            break
    answer = api.http.post("/v1/tokens", json={"name": f"p-{uuid4().hex[:12]}", "scope": "user"})
    with server.client(answer.raise_for_status().json()["token"]) as client:
        yield client
