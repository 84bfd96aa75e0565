"""Several servers on one PostgreSQL, and a PostgreSQL that goes away for a moment."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import httpx
import pytest
from sqlalchemy import Connection, make_url, text

from needed import skip_outside_ci
from postgres_server import PostgresServer, find_postgres_binaries
from server_process import WAIT_SECONDS, ServerApi, ServerProcess, completed, responded, wait_until
from stigmer_contract.events import LOG_FORMAT
from stigmer_server.database.postgres import IDLE_IN_TRANSACTION_SECONDS, PostgresDatabase
from stigmer_server.database.transactions import Work
from stigmer_server.errors import Unavailable
from stigmer_server.leg_holds import LegHolds
from stigmer_server.migrations import migrate

pytestmark = pytest.mark.postgres

LOCK = text("SELECT pg_advisory_xact_lock(1)")


@pytest.fixture
def url(make_database: Callable[[str], str | None]) -> str:
    url = make_database("postgresql")
    assert url is not None
    return url


async def disconnect_everybody(url: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    finally:
        await connection.close()


def test_a_server_that_is_frozen_in_a_transaction_holds_nobody_up(url: str) -> None:
    holds, is_free = threading.Event(), threading.Event()

    def hold_on(connection: Connection) -> None:
        limit = connection.execute(text("SHOW idle_in_transaction_session_timeout")).scalar_one()
        assert limit == f"{IDLE_IN_TRANSACTION_SECONDS:.0f}s"
        connection.execute(LOCK)
        # Only now, when there is nothing more to do in time.
        connection.execute(text("SET idle_in_transaction_session_timeout = '200ms'"))
        holds.set()
        # Like a process that is stopped: its event loop does nothing meanwhile.
        assert is_free.wait(WAIT_SECONDS)
        connection.execute(LOCK)

    async def write(work: Work[object]) -> None:
        database = PostgresDatabase(make_url(url))
        try:
            await database.write(work)
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(asyncio.run, write(hold_on))
        assert holds.wait(WAIT_SECONDS)
        asyncio.run(write(lambda connection: connection.execute(LOCK)))
        is_free.set()
        with pytest.raises(Unavailable):
            frozen.result(WAIT_SECONDS)


async def test_a_database_that_only_reads_is_told_and_over_with_the_next_write(url: str) -> None:
    database = PostgresDatabase(make_url(url))

    def write(connection: Connection) -> None:
        connection.execute(text("CREATE TABLE something (name TEXT)"))

    def write_to_a_standby(connection: Connection) -> None:
        connection.execute(text("SET TRANSACTION READ ONLY"))
        write(connection)

    try:
        with pytest.raises(Unavailable):
            await database.write(write_to_a_standby)
        assert "cannot be written" in (database.condition.find_problem() or "")

        await database.write(write)
        assert database.condition.find_problem() is None
    finally:
        await database.close()


def test_two_servers_fence_and_order_one_execution_s_appends(url: str, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path / "a", database_url=url) as first,
        ServerProcess(tmp_path / "b", database_url=url) as second,
        first.client() as api,
        second.client() as other_api,
    ):
        execution_id = api.create_execution()["execution_id"]
        api.start_leg(execution_id)

        def write(client: ServerApi) -> list[int]:
            return [client.append(execution_id, [responded(1)]).json()["last_sequence"] for _ in range(30)]

        with ThreadPoolExecutor(2) as pool:
            written = [sequence for part in pool.map(write, (api, other_api)) for sequence in part]
        assert sorted(written) == list(range(3, 63))

        assert other_api.start_leg(execution_id)["attempt"] == 2
        refused = api.append(execution_id, [responded(1)], attempt=1)
        live = api.publish(execution_id, [{"type": "model.delta", "turn": 1, "text": "x"}], attempt=2)
        assert refused.json()["code"] == "attempt_superseded"
        assert live.status_code == 204
        # `leg.lost` and `leg.started` stand between.
        assert api.append(execution_id, [completed()], attempt=2).json()["last_sequence"] == 65
        assert other_api.get_execution(execution_id)["usage"]["requests"] == 60


def test_a_leg_that_a_runner_holds_at_one_server_is_held_at_the_other(url: str, tmp_path: Path) -> None:
    patient = "from stigmer_server import __main__, leg_holds; leg_holds.HOLD_SECONDS = {}; __main__.main()"
    with (
        ServerProcess(tmp_path / "one", database_url=url, program=patient.format(3600.0)) as first,
        ServerProcess(tmp_path / "two", database_url=url, program=patient.format(3600.0)) as second,
        ServerProcess(tmp_path / "three", database_url=url, program=patient.format(0.0)) as hasty,
        first.client() as api,
        second.client() as other_api,
        hasty.client() as hasty_api,
    ):
        execution_id = api.create_execution()["execution_id"]
        path = f"/v1/executions/{execution_id}"

        def take(client: ServerApi) -> httpx.Response:
            request = {"runner": "another", "runner_version": "0", "log_format": LOG_FORMAT}
            return client.http.post(f"{path}/legs", json=request)

        api.start_leg(execution_id)
        assert not api.http.post(f"{path}/hold", json={"attempt": 1}).json()["is_wanted"]

        refused = take(other_api)

        assert (refused.status_code, refused.json()["code"]) == (503, "unavailable")
        assert api.http.post(f"{path}/hold", json={"attempt": 1}).json()["is_wanted"]
        # Who says no more is passed over, by a server that it never spoke to as well.
        assert take(hasty_api).status_code == 503
        assert take(hasty_api).json()["attempt"] == 2
        assert api.append(execution_id, [responded(1)], attempt=1).json()["code"] == "attempt_superseded"


async def test_whoever_forgets_holds_that_are_over_waits_for_no_other_server(url: str) -> None:
    """Which may have one of them in hand, and wait for the one that this server has."""
    database = PostgresDatabase(make_url(url))
    other = await asyncpg.connect(url)
    try:
        await migrate(database)
        holds = LegHolds(database)
        await holds.hold("exe_over", 1)
        in_hand = other.transaction()
        await in_hand.start()
        await other.execute("UPDATE leg_holds SET wants = wants + 1 WHERE execution_id = 'exe_over'")

        async with asyncio.timeout(WAIT_SECONDS):
            await holds.hold("exe_new", 1)

        await in_hand.rollback()
        await holds.hold("exe_newest", 1)
        rows = await other.fetch("SELECT execution_id FROM leg_holds")
        assert [row["execution_id"] for row in rows] == ["exe_newest"]
    finally:
        await other.close()
        await database.close()


def test_however_often_the_database_hangs_up_each_append_is_written_once(url: str, tmp_path: Path) -> None:
    with (
        ServerProcess(tmp_path, database_url=url) as server,
        server.client() as api,
        ThreadPoolExecutor(1) as pool,
    ):
        execution_id = api.create_execution()["execution_id"]
        api.start_leg(execution_id)

        for number in range(60):
            if number % 3 == 0:
                pool.submit(asyncio.run, disconnect_everybody(url))
            append_until_written(api, execution_id, number)
        pool.shutdown()

        path = f"/v1/executions/{execution_id}"
        wait_until(lambda: api.http.get(path).status_code == 200, "the database is back")
        assert api.get_execution(execution_id)["usage"]["requests"] == 60
        assert [event["sequence"] for event in api.read_log(execution_id)] == list(range(1, 63))


def test_an_append_waits_for_tables_that_somebody_has_locked(url: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, database_url=url) as server, server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        api.start_leg(execution_id)

        async def append_behind_a_lock() -> int:
            locker = await asyncpg.connect(url)
            watcher = await asyncpg.connect(url)
            try:
                async with asyncio.timeout(60), locker.transaction():
                    await locker.execute("LOCK TABLE executions IN ACCESS EXCLUSIVE MODE")
                    appending = asyncio.create_task(
                        asyncio.to_thread(api.append, execution_id, [responded(1)], append_id="behind")
                    )
                    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
                    while not await watcher.fetchval(waiting):  # noqa: ASYNC110 - PostgreSQL tells nobody
                        await asyncio.sleep(0.02)
                    assert not appending.done()
                return (await appending).status_code
            finally:
                await locker.close()
                await watcher.close()

        assert asyncio.run(append_behind_a_lock()) == 200
        assert [event["sequence"] for event in api.read_log(execution_id)] == [1, 2, 3]


def test_a_frozen_database_makes_the_server_unready_and_loses_no_append(tmp_path: Path) -> None:
    binaries = find_postgres_binaries()
    if binaries is None:
        skip_outside_ci("the binaries of PostgreSQL are not installed")
    with PostgresServer(binaries) as postgres:
        url = asyncio.run(postgres.create_database())
        with (
            ServerProcess(tmp_path, database_url=url) as server,
            server.client() as api,
            ThreadPoolExecutor(1) as pool,
        ):
            execution_id = api.create_execution()["execution_id"]
            api.start_leg(execution_id)
            postgres.freeze()
            try:
                appended = pool.submit(append_until_written, api, execution_id, 0)
                with pytest.raises(httpx.TimeoutException):
                    httpx.get(f"{server.url}/readyz", timeout=1, trust_env=False)
                assert not appended.done()
            finally:
                postgres.thaw()
            appended.result()
            assert [event["sequence"] for event in api.read_log(execution_id)] == [1, 2, 3]


def append_until_written(api: ServerApi, execution_id: str, number: int) -> None:
    """Append with one id, however often the server says that the database is away."""

    def append() -> bool:
        response = api.append(execution_id, [responded(number + 1)], append_id=f"append-{number}")
        assert response.status_code in (200, 503), response.text
        return response.status_code == 200

    wait_until(append, "the append is written")


def test_tokens_and_leases_of_one_server_hold_on_another_until_they_are_revoked(
    url: str, tmp_path: Path
) -> None:
    with (
        ServerProcess(tmp_path / "a", database_url=url) as first,
        ServerProcess(tmp_path / "b", database_url=url) as second,
        first.client() as api,
    ):
        token = api.http.post("/v1/tokens", json={"name": "shared", "scope": "runner"}).json()["token"]
        execution_id = api.create_execution()["execution_id"]
        with first.client(token) as runner, second.client(token) as elsewhere:
            lease = runner.start_leg(execution_id)["lease"]
            elsewhere.http.headers["Stigmer-Lease"] = lease

            def status() -> int:
                return elsewhere.http.get("/v1/tokens/self").status_code

            wait_until(lambda: status() == 200, "the other server knows the token")
            assert elsewhere.append(execution_id, [responded(1)]).status_code == 200
            api.http.delete("/v1/tokens/shared").raise_for_status()
            wait_until(lambda: status() == 401, "the other server knows that it was revoked")
            assert elsewhere.append(execution_id, [responded(1)]).status_code == 401
