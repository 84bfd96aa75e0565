"""Executions that are paused: nothing wakes them but that they are resumed, and nothing of theirs is lost."""

from typing import Any

import httpx
import pytest

from server_process import ServerApi, completed, failed, responded


def act(api: ServerApi, execution_id: str, what: str, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.http.post(f"/v1/executions/{execution_id}/{what}", json=body or None, headers=headers)


def waiting(api: ServerApi, execution_id: str, kind: str, attempt: int = 1) -> httpx.Response:
    """The leg ends, and the execution waits for that."""
    seen = api.get_execution(execution_id)["last_sequence"]
    return api.append(
        execution_id,
        [
            {
                "type": "leg.ended",
                "attempt": attempt,
                "reason": "waiting",
                "waiting_for": [{"kind": kind}],
                "seen": seen,
            }
        ],
        attempt=attempt,
    )


def types_of(api: ServerApi, execution_id: str) -> list[str]:
    return [each["event"]["type"] for each in api.read_log(execution_id)]


@pytest.fixture
def running(api: ServerApi) -> str:
    """An execution that a runner has in hand."""
    execution_id: str = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    return execution_id


def test_the_runner_is_told_of_a_pause_and_the_execution_waits_until_it_is_resumed(
    api: ServerApi, running: str
) -> None:
    paused = act(api, running, "pause", reason="lunch")
    assert (paused.status_code, paused.json()["phase"]) == (202, "in_progress")
    assert paused.json()["paused_at"] is not None
    assert api.read_log(running)[-1]["event"] == {
        "type": "execution.paused",
        "paused_by": "administrator",
        "reason": "lunch",
    }

    assert api.append(running, [responded()]).json()["is_paused"] is True
    assert waiting(api, running, "pause").is_success
    assert api.get_execution(running)["phase"] == "waiting"

    resumed = act(api, running, "resume")
    assert (resumed.status_code, resumed.json()["phase"]) == (202, "in_progress")
    assert resumed.json()["paused_at"] is None
    leg = api.start_leg(running)
    assert leg["execution"]["paused_at"] is None
    assert api.append(running, [completed()], attempt=2).json()["is_paused"] is False


def test_what_comes_while_it_is_paused_wakes_it_only_when_it_is_resumed(api: ServerApi, running: str) -> None:
    assert waiting(api, running, "message").is_success
    act(api, running, "pause").raise_for_status()
    api.http.post(f"/v1/executions/{running}/messages", json={"text": "x"}).raise_for_status()
    assert api.get_execution(running)["phase"] == "waiting"
    assert act(api, running, "resume").json()["phase"] == "in_progress"
    assert types_of(api, running)[-3:] == ["execution.paused", "message.received", "execution.resumed"]


def test_a_leg_that_does_not_know_that_it_was_resumed_may_not_wait(api: ServerApi, running: str) -> None:
    seen = api.get_execution(running)["last_sequence"]
    act(api, running, "pause").raise_for_status()
    act(api, running, "resume").raise_for_status()
    ended = {
        "type": "leg.ended",
        "attempt": 1,
        "reason": "waiting",
        "waiting_for": [{"kind": "pause"}],
        "seen": seen,
    }
    refused = api.append(running, [ended])
    assert (refused.status_code, refused.json()["code"]) == (409, "woken")


def test_pausing_again_changes_nothing_and_resuming_twice_is_said(api: ServerApi, running: str) -> None:
    for _ in range(2):
        assert act(api, running, "pause").status_code == 202
    assert types_of(api, running).count("execution.paused") == 1
    assert [act(api, running, "resume", key="k").status_code for _ in range(2)] == [202, 202]
    again = act(api, running, "resume")
    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert "is not paused" in again.json()["detail"]
    assert types_of(api, running).count("execution.resumed") == 1


def test_a_paused_execution_can_be_cancelled_at_once(api: ServerApi, running: str) -> None:
    act(api, running, "pause").raise_for_status()
    assert waiting(api, running, "pause").is_success
    assert act(api, running, "cancel").json()["phase"] == "cancelled"
    refused = [act(api, running, what) for what in ("pause", "resume")]
    assert [(each.status_code, each.json()["code"]) for each in refused] == [(409, "execution_ended")] * 2


def test_one_that_no_runner_has_had_yet_tells_the_first_one(api: ServerApi) -> None:
    execution_id: str = api.create_execution()["execution_id"]
    act(api, execution_id, "pause").raise_for_status()
    assert api.start_leg(execution_id)["execution"]["paused_at"] is not None


def test_an_execution_that_is_retried_is_paused_no_more(api: ServerApi, running: str) -> None:
    act(api, running, "pause").raise_for_status()
    assert api.append(running, [failed()]).is_success
    assert act(api, running, "retry").json()["paused_at"] is None


@pytest.mark.parametrize("kind", ["execution.paused", "execution.resumed"])
def test_no_runner_pauses_or_resumes(api: ServerApi, running: str, kind: str) -> None:
    refused = api.append(running, [{"type": kind}])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
