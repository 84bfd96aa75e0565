"""A leg is granted once for each attempt of its activity, and a death is what was seen to be one."""

import base64
from typing import Any

from server_process import RUNNER_TOKEN, ServerApi, ServerProcess, responded
from stigmer_contract.events import LOG_FORMAT
from stigmer_contract.runner_names import new_runner_name


def take(api: ServerApi, execution_id: str, runner: str, key: str | None = None) -> Any:
    """Take the execution; gives the answer as it is."""
    request = {"runner": runner, "runner_version": "0", "log_format": LOG_FORMAT, "key": key}
    return api.http.post(f"/v1/executions/{execution_id}/legs", json=request)


def types(api: ServerApi, execution_id: str) -> list[str]:
    """The kinds of the log's events."""
    return [event["event"]["type"] for event in api.read_log(execution_id)]


def losses(api: ServerApi, execution_id: str) -> list[tuple[int, str]]:
    """Attempts that were lost, and why."""
    events = [event["event"] for event in api.read_log(execution_id)]
    return [(event["attempt"], event["cause"]) for event in events if event["type"] == "leg.lost"]


def test_a_leg_that_is_taken_again_with_the_same_key_is_the_same_attempt(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    first, again = (take(api, execution_id, "a", "run/1/1").json() for _ in range(2))

    assert (first["attempt"], again["attempt"]) == (1, 1)
    assert again["lease"] == first["lease"]
    assert types(api, execution_id) == ["execution.started", "leg.started"]


def test_another_key_or_another_runner_is_another_attempt(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    attempts = [
        take(api, execution_id, runner, key).json()["attempt"]
        for runner, key in (("a", "run/1/1"), ("a", "run/1/2"), ("b", "run/1/2"))
    ]

    assert attempts == [1, 2, 3]
    assert losses(api, execution_id) == [(1, "taken_again"), (2, "runner_silent")]


def test_a_leg_that_was_given_on_is_not_granted_again(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    take(api, execution_id, "a", "run/1/1")
    take(api, execution_id, "b", "run/1/2")

    late = take(api, execution_id, "a", "run/1/1")

    assert (late.status_code, late.json()["code"]) == (409, "attempt_superseded")
    assert types(api, execution_id).count("leg.started") == 2


def test_answers_that_are_lost_without_end_are_no_deaths(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    for _ in range(20):
        assert take(api, execution_id, "a", "run/1/1").status_code == 201

    assert api.get_execution(execution_id)["attempt"] == 1


def test_a_runner_that_lives_and_takes_the_execution_anew_never_counts_as_dead(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    pauses = [
        take(api, execution_id, "a", f"run/1/{attempt}").json()["pause_seconds"] for attempt in range(1, 10)
    ]

    assert api.get_execution(execution_id)["phase"] == "in_progress"
    assert pauses == [0, 0, 1, 2, 4, 8, 16, 30, 30]


def test_runners_that_are_missed_and_never_heard_from_again_are_deaths(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    answers = [take(api, execution_id, f"runner-{number}", "run/1/1") for number in range(6)]

    assert [answer.status_code for answer in answers] == [201] * 5 + [409]
    error = api.get_execution(execution_id)["error"]
    assert error["code"] == "runner_lost"
    assert error["message"] == (
        "5 runners died one after the other without getting any further: Temporal missed its heartbeat, and "
        "nothing was heard of it again (5 times)"
    )


def test_runners_that_are_missed_and_heard_from_again_are_none(api: ServerApi) -> None:
    execution_id, other = (api.create_execution()["execution_id"] for _ in range(2))
    for number in range(5):
        take(api, execution_id, f"runner-{number}", "run/1/1")
    for number in range(5):
        take(api, other, f"runner-{number}", "run/1/1")

    answer = take(api, execution_id, "runner-5", "run/1/1")

    assert (answer.status_code, answer.json()["attempt"]) == (201, 6)


def test_a_step_makes_all_losses_before_it_forgotten(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    for attempt in range(1, 12):
        grant = take(api, execution_id, f"runner-{attempt}", "run/1/1").json()
        assert (grant["attempt"], grant["pause_seconds"]) == (attempt, 0)
        api.append(execution_id, [responded(attempt)], attempt=attempt)

    assert api.get_execution(execution_id)["phase"] == "in_progress"


def test_whoever_started_a_runner_ends_its_legs_and_nobody_else_can(
    server: ServerProcess, api: ServerApi
) -> None:
    name, proof = new_runner_name("here")
    _, strange = new_runner_name("here")
    executions = [api.create_execution()["execution_id"] for _ in range(3)]
    for execution_id in executions[:2]:
        take(api, execution_id, name, "run/1/1")
    take(api, executions[2], "another", "run/1/1")
    report = {"runner": name, "how": "it was ended by signal 9"}

    with server.client(RUNNER_TOKEN) as starter:
        refused = starter.http.post("/v1/runners/ended", json=report | {"proof": strange})
        answer = starter.http.post("/v1/runners/ended", json=report | {"proof": proof})
        again = starter.http.post("/v1/runners/ended", json=report | {"proof": proof})

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
    assert sorted(answer.json()["execution_ids"]) == sorted(executions[:2])
    assert again.json()["execution_ids"] == []
    assert [losses(api, execution_id) for execution_id in executions] == [
        [(1, "runner_ended")],
        [(1, "runner_ended")],
        [],
    ]
    assert take(api, executions[0], "next", "run/2/1").json()["pause_seconds"] == 0


def test_the_end_of_a_crash_loop_says_how_the_runners_ended(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    for number in range(5):
        name, proof = new_runner_name("here")
        take(api, execution_id, name, "run/1/1")
        how = "it was ended by signal 9" if number else "it ended with exit code 1"
        api.http.post("/v1/runners/ended", json={"runner": name, "proof": proof, "how": how})

    assert take(api, execution_id, "next", "run/1/1").status_code == 409
    assert api.get_execution(execution_id)["error"]["message"] == (
        "5 runners died one after the other without getting any further: it ended with exit code 1; "
        "it was ended by signal 9 (4 times)"
    )


def test_a_leg_that_froze_its_runner_twice_is_failed_with_that_reason(api: ServerApi) -> None:
    frozen, beside = (api.create_execution()["execution_id"] for _ in range(2))
    how = "it did not answer for 30 s while it worked on turn 1"
    for _ in range(2):
        name, proof = new_runner_name("here")
        take(api, frozen, name, "run/1/1")
        take(api, beside, name, "run/1/1")
        report = {"runner": name, "proof": proof, "how": how, "hung": True, "frozen_by": frozen}
        assert api.http.post("/v1/runners/ended", json=report).status_code == 200

    take(api, frozen, "next", "run/1/1")

    error = api.get_execution(frozen)["error"]
    assert (error["code"], how in error["message"]) == ("runner_lost", True)
    assert take(api, beside, "next", "run/1/1").status_code == 201


def test_a_task_token_that_is_none_of_temporals_does_no_harm(api: ServerApi) -> None:
    name, proof = new_runner_name("here")
    execution_id = api.create_execution()["execution_id"]
    request = {"runner": name, "runner_version": "0", "log_format": LOG_FORMAT, "key": "run/1/1"}
    token = base64.b64encode(b"nonsense").decode()
    api.http.post(f"/v1/executions/{execution_id}/legs", json=request | {"task_token": token})

    answer = api.http.post("/v1/runners/ended", json={"runner": name, "proof": proof, "how": "gone"})

    assert answer.json()["execution_ids"] == [execution_id]
