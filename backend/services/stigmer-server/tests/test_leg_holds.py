"""A runner that goes on with a leg which Temporal has lost: others wait for it, and it hears of that."""

from pathlib import Path
from typing import Any, Final

from sqlalchemy import make_url

from server_process import ServerApi, ServerProcess, completed, responded
from stigmer_contract.events import LOG_FORMAT
from stigmer_server.database.sqlite import SqliteDatabase
from stigmer_server.leg_holds import HOLD_SECONDS, LegHolds
from stigmer_server.tables import metadata

PATIENT_SERVER: Final = """
from stigmer_server import __main__, leg_holds
leg_holds.HOLD_SECONDS = 3600.0
__main__.main()
"""
"""A server whose legs stay held, however slow the machine is."""


def take(api: ServerApi, execution_id: str, runner: str) -> Any:
    """Take the execution; gives the answer as it is."""
    request = {"runner": runner, "runner_version": "0", "log_format": LOG_FORMAT}
    return api.http.post(f"/v1/executions/{execution_id}/legs", json=request)


def hold(api: ServerApi, execution_id: str, attempt: int = 1, **more: str) -> Any:
    """Say that the leg goes on; gives the answer as it is."""
    return api.http.post(f"/v1/executions/{execution_id}/hold", json={"attempt": attempt, **more})


def test_who_asks_for_an_execution_waits_until_its_runner_has_handed_back(tmp_path: Path) -> None:
    with ServerProcess(tmp_path, program=PATIENT_SERVER) as server, server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        take(api, execution_id, "a")
        assert hold(api, execution_id).json() == {
            "cancel_requested": False,
            "is_paused": False,
            "is_wanted": False,
        }

        other = take(api, execution_id, "b")

        assert (other.status_code, other.json()["code"]) == (503, "unavailable")
        assert hold(api, execution_id).json()["is_wanted"]
        api.append(execution_id, [{"type": "leg.ended", "attempt": 1, "reason": "drained"}])
        assert take(api, execution_id, "b").json()["attempt"] == 2


def test_the_runner_itself_can_take_its_execution_anew(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    take(api, execution_id, "a")
    hold(api, execution_id)

    assert take(api, execution_id, "a").json()["attempt"] == 2


def test_a_leg_that_a_newer_attempt_has_fenced_off_is_not_held(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    take(api, execution_id, "a")
    take(api, execution_id, "b")

    late = hold(api, execution_id)

    assert (late.status_code, late.json()["code"]) == (409, "attempt_superseded")
    assert take(api, execution_id, "c").json()["attempt"] == 3


def test_a_leg_that_is_over_is_not_held(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    take(api, execution_id, "a")
    api.append(execution_id, [{"type": "leg.ended", "attempt": 1, "reason": "drained"}])
    assert hold(api, execution_id).json()["code"] == "attempt_superseded"

    take(api, execution_id, "a")
    api.append(execution_id, [responded(1), completed()], attempt=2)
    assert hold(api, execution_id, 2).json()["code"] == "execution_ended"


def test_a_runner_that_holds_its_leg_hears_that_it_is_to_stop(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    take(api, execution_id, "a")
    api.http.post(f"/v1/executions/{execution_id}/cancel", json={})

    assert hold(api, execution_id, task_token="bmV4dA==").json()["cancel_requested"]


async def test_a_runner_that_says_no_more_holds_nothing(tmp_path: Path) -> None:
    now = 0.0
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/x.db"))
    try:
        await database.write(metadata.create_all)
        holds = LegHolds(database, lambda: now)
        assert not await holds.hold("exe_1", 1)
        await holds.want("exe_1")
        assert await holds.find("exe_1") == 1
        assert await holds.hold("exe_1", 1)  # somebody waits
        now = HOLD_SECONDS
        assert await holds.find("exe_1") is None
        assert not await holds.hold("exe_1", 1)  # nobody waits any more, either
        assert await holds.find("exe_1") == 1
        assert not await holds.hold("exe_1", 2)
        assert await holds.find("exe_1") == 2
    finally:
        await database.close()


async def test_another_server_sees_by_its_own_clock_that_a_runner_says_no_more(tmp_path: Path) -> None:
    now = 0.0
    database = SqliteDatabase(make_url(f"sqlite:///{tmp_path}/x.db"))
    try:
        await database.write(metadata.create_all)
        here, there = LegHolds(database, lambda: now), LegHolds(database, lambda: now + 10_000)
        await here.hold("exe_1", 1)
        now = HOLD_SECONDS
        assert await there.find("exe_1") == 1  # it has just heard of it
        now = 1.5 * HOLD_SECONDS
        await here.hold("exe_1", 1)
        now = 2 * HOLD_SECONDS
        assert await there.find("exe_1") == 1
        now = 3 * HOLD_SECONDS
        assert await there.find("exe_1") is None
        assert await here.find("exe_2") is None
    finally:
        await database.close()
