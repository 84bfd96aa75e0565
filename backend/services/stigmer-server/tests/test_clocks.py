"""The server's clock is set back an hour: the order of executions stays, and the difference is told."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from faked_clock import faked_clock
from server_process import RUNNER_TOKEN, ServerProcess, completed, failed, manifest, responded
from stigmer_contract.events import LOG_FORMAT

HOUR = 3600.0


@pytest.fixture
def hour_back() -> dict[str, str]:
    """What makes a process believe that it is an hour earlier; its monotonic clock is left alone."""
    return faked_clock("-1h")


def test_a_session_keeps_its_order_when_the_clock_is_set_back(
    tmp_path: Path, database_url: str, hour_back: dict[str, str]
) -> None:
    with ServerProcess(tmp_path, database_url=database_url) as server, server.client() as api:
        first = api.create_execution()
        session_id = first["session_id"]
        api.start_leg(first["execution_id"])
        api.append(first["execution_id"], [responded(), completed()])
    server = ServerProcess(tmp_path, database_url=database_url, environment=hour_back)
    with server, server.client() as api:
        second = api.create_execution(session_id=session_id)
        assert datetime.fromisoformat(second["created_at"]) < datetime.fromisoformat(first["created_at"])

        grant = api.start_leg(second["execution_id"])
        other = api.create_execution()

        assert grant["previous_execution_ids"] == [first["execution_id"]]
        listed = [each["execution_id"] for each in api.http.get("/v1/executions").json()["items"]]
        assert listed == [other["execution_id"], second["execution_id"], first["execution_id"]]
        sessions = [each["session_id"] for each in api.http.get("/v1/sessions").json()["items"]]
        assert sessions == [other["session_id"], session_id]


def test_the_duration_is_what_goes_by_whatever_the_clock_is_set_to(tmp_path: Path, database_url: str) -> None:
    """Set back an hour in a leg, and forward two in a wait: of three hours, seconds are used."""
    duration = timedelta(hours=3)
    usable = pytest.approx(duration.total_seconds() - HOUR / 4, abs=HOUR / 4)
    with ServerProcess(tmp_path, database_url=database_url) as server, server.client() as api:
        execution_id = api.create_execution(manifest=manifest(limits={"duration": "3h"}))["execution_id"]
        assert api.start_leg(execution_id)["seconds_left"] == usable
    server = ServerProcess(tmp_path, database_url=database_url, environment=faked_clock("-1h"))
    with server, server.client() as api:
        grant = api.start_leg(execution_id)
        assert grant["seconds_left"] == usable
        ended = {"type": "leg.ended", "attempt": 2, "reason": "waiting", "waiting_for": [{"kind": "message"}]}
        api.append(execution_id, [ended | {"seen": grant["events"][-1]["sequence"]}], attempt=2)
    server = ServerProcess(tmp_path, database_url=database_url, environment=faked_clock("+1h"))
    with server, server.client() as api:
        assert api.start_leg(execution_id)["seconds_left"] == usable
        # A server that looks for what is over looks by the same clock: this one is over neither way.
        assert api.get_execution(execution_id)["phase"] == "in_progress"
        api.append(execution_id, [failed()], attempt=3)
    with ServerProcess(tmp_path, database_url=database_url) as server, server.client() as api:
        api.http.post(f"/v1/executions/{execution_id}/retry", json={}).raise_for_status()
        assert api.start_leg(execution_id)["seconds_left"] == usable


def test_each_leg_tells_how_far_clocks_are_apart(tmp_path: Path, hour_back: dict[str, str]) -> None:
    with ServerProcess(tmp_path, environment=hour_back) as server, server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        assert api.http.get("/v1/installation").json()["clocks"] == []
        with server.client(RUNNER_TOKEN) as runner:
            leg = {
                "runner": "1@there",
                "runner_version": "0",
                "log_format": LOG_FORMAT,
                "sent_at": datetime.now(UTC).isoformat(),
                "ahead_of_temporal_seconds": 2 * HOUR,
            }
            assert runner.http.post(f"/v1/executions/{execution_id}/legs", json=leg).status_code == 201

        readings = api.http.get("/v1/installation").json()["clocks"]

    clocks = {reading["of"]: reading["ahead_seconds"] for reading in readings}
    assert clocks == {"runner 1@there": pytest.approx(HOUR, abs=60), "Temporal": pytest.approx(-HOUR, abs=60)}
