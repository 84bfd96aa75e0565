"""Several servers on one PostgreSQL, and a PostgreSQL that goes away for a moment."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asyncpg
import pytest

from server_process import ServerApi, ServerProcess, completed, responded, wait_until

pytestmark = pytest.mark.postgres


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
        assert api.append(execution_id, [completed()], attempt=2).json()["last_sequence"] == 64
        assert other_api.get_execution(execution_id)["usage"]["requests"] == 60


def test_after_a_lost_connection_to_the_database_everything_goes_on(url: str, tmp_path: Path) -> None:
    with ServerProcess(tmp_path, database_url=url) as server, server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        api.start_leg(execution_id)

        for round_number in range(3):
            asyncio.run(disconnect_everybody(url))

            def append(append_id: str = f"append-{round_number}") -> bool:
                response = api.append(execution_id, [responded(1)], append_id=append_id)
                assert response.status_code in (200, 503), response.text
                return response.status_code == 200

            wait_until(append, "the append is written")

        assert api.get_execution(execution_id)["last_sequence"] == 5
        assert [event["sequence"] for event in api.read_log(execution_id)] == [1, 2, 3, 4, 5]
