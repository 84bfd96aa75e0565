"""An execution that failed goes on from its log: who may let it, when, and what becomes of its workflow."""

import asyncio
import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from temporalio.client import Client, WorkflowExecutionStatus

from server_process import ServerApi, completed, failed, manifest, responded, wait_until
from temporal_server import TemporalServer

RUNNING, TERMINATED = WorkflowExecutionStatus.RUNNING, WorkflowExecutionStatus.TERMINATED


def retry(api: ServerApi, execution_id: str, *, key: str | None = None, **limits: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"limits": limits} if limits else {}
    return api.http.post(f"/v1/executions/{execution_id}/retry", json=body, headers=headers)


def start_failed(api: ServerApi, **limits: Any) -> str:
    """The id of an execution that has an answer in its log, and failed."""
    execution_id: str = api.create_execution(manifest=manifest(limits=limits))["execution_id"]
    api.start_leg(execution_id)
    assert api.append(execution_id, [responded(), failed()]).is_success
    return execution_id


def types_of(api: ServerApi, execution_id: str) -> list[str]:
    return [each["event"]["type"] for each in api.read_log(execution_id)]


def test_a_failed_execution_goes_on_from_its_log(api: ServerApi) -> None:
    execution_id = start_failed(api)
    assert api.get_execution(execution_id)["error"]["code"] == "model_unavailable"

    answer = retry(api, execution_id)

    assert (answer.status_code, answer.json()["phase"], answer.json()["error"]) == (202, "in_progress", None)
    grant = api.start_leg(execution_id)
    told = [each["event"]["type"] for each in grant["events"]]
    assert told[-3:] == ["execution.failed", "execution.retried", "leg.started"]
    assert "model.responded" in told
    assert api.append(execution_id, [completed()], attempt=grant["attempt"]).is_success
    after = api.get_execution(execution_id)
    assert (after["phase"], after["usage"]["requests"]) == ("completed", 1)


def test_a_runner_of_before_writes_nothing_into_what_was_retried(api: ServerApi) -> None:
    execution_id = start_failed(api)
    retry(api, execution_id)

    late = api.append(execution_id, [completed()], attempt=1)

    assert (late.status_code, late.json()["code"]) == (409, "attempt_superseded")
    assert api.get_execution(execution_id)["phase"] == "in_progress"


def test_a_retry_that_comes_twice_changes_nothing_the_second_time(api: ServerApi) -> None:
    execution_id, key = start_failed(api), uuid4().hex

    answers = [retry(api, execution_id, key=key), retry(api, execution_id, key=key), retry(api, execution_id)]

    assert [answer.status_code for answer in answers] == [202] * 3
    assert types_of(api, execution_id).count("execution.retried") == 1
    api.fail_execution(execution_id)
    assert retry(api, execution_id, key=key).json()["phase"] == "failed"
    assert retry(api, execution_id).json()["phase"] == "in_progress"


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_what_was_not_a_failure_stays_final(api: ServerApi, end: str) -> None:
    execution_id: str = api.create_execution()["execution_id"]
    if end == "completed":
        api.start_leg(execution_id)
        api.append(execution_id, [completed()])
    else:
        api.http.post(f"/v1/executions/{execution_id}/cancel").raise_for_status()

    refused = retry(api, execution_id)

    assert (refused.status_code, refused.json()["code"]) == (409, "execution_ended")
    assert api.get_execution(execution_id)["phase"] == end


def test_what_runs_is_not_retried(api: ServerApi) -> None:
    execution_id: str = api.create_execution()["execution_id"]
    api.start_leg(execution_id)

    refused = retry(api, execution_id)

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "has not failed" in refused.json()["detail"]


@pytest.mark.parametrize("newer_has_ended", [True, False])
def test_only_the_newest_of_a_session_can_go_on(api: ServerApi, newer_has_ended: bool) -> None:
    older = start_failed(api)
    newer = api.create_execution(session_id=api.get_execution(older)["session_id"])["execution_id"]
    if newer_has_ended:
        api.fail_execution(newer)

    refused = retry(api, older)

    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert "newest of its session" in refused.json()["detail"]
    assert api.get_execution(older)["phase"] == "failed"


def test_a_session_takes_no_other_execution_while_one_that_failed_goes_on(api: ServerApi) -> None:
    execution_id = start_failed(api)
    retry(api, execution_id)
    session_id = api.get_execution(execution_id)["session_id"]

    refused = api.http.post(
        "/v1/executions", json={"input": "hello", "manifest": manifest(), "session_id": session_id}
    )

    assert (refused.status_code, refused.json()["code"]) == (409, "session_busy")


def test_limits_can_be_raised_and_the_others_stay(api: ServerApi) -> None:
    execution_id = start_failed(api, turns=3, tokens=1000)

    assert retry(api, execution_id, turns=9).is_success

    limits = api.start_leg(execution_id)["spec"]["limits"]
    assert (limits["turns"], limits["tokens"]) == (9, 1000)
    [retried] = [each["event"] for each in api.read_log(execution_id) if "limits" in each["event"]]
    assert retried["limits"]["turns"] == 9


def test_time_since_the_failure_does_not_count_and_more_of_it_can_be_given(api: ServerApi) -> None:
    execution_id = start_failed(api, duration="1h")
    retry(api, execution_id)
    left = api.start_leg(execution_id)["seconds_left"]
    api.append(execution_id, [failed()], attempt=3)

    retry(api, execution_id, duration="3h")

    assert 0 < left <= 3600
    assert 3600 < api.start_leg(execution_id)["seconds_left"] <= 3 * 3600


def test_a_retry_ends_the_wait_for_a_model(api: ServerApi) -> None:
    execution_id: str = api.create_execution()["execution_id"]
    seen = api.start_leg(execution_id)["execution"]["last_sequence"]
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    reason = {"kind": "model", "key": "openai:gpt-5", "until": until, "detail": "503: overloaded"}
    ended = {
        "type": "leg.ended",
        "attempt": 1,
        "reason": "waiting",
        "waiting_for": [reason],
        "seen": seen,
    }
    assert api.append(execution_id, [ended]).is_success
    assert api.get_execution(execution_id)["waiting_for"][0]["detail"] == "503: overloaded"

    answer = retry(api, execution_id)

    assert (answer.json()["phase"], answer.json()["waiting_for"]) == ("in_progress", [])


def test_a_log_is_followed_beyond_a_failure_that_was_not_the_end(api: ServerApi) -> None:
    execution_id = start_failed(api)
    retry(api, execution_id)
    attempt = api.start_leg(execution_id)["attempt"]
    api.append(execution_id, [completed()], attempt=attempt)

    answer = api.http.get(f"/v1/executions/{execution_id}/events", headers={"Accept": "text/event-stream"})

    followed = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert [each["event"]["type"] for each in followed] == types_of(api, execution_id)
    assert followed[-1]["event"]["type"] == "execution.completed"


def test_another_persons_execution_in_a_shared_session_is_not_theirs_to_retry(api: ServerApi) -> None:
    execution_id = start_failed(api)
    session_id = api.get_execution(execution_id)["session_id"]
    api.http.put(f"/v1/sessions/{session_id}/owner", json={"shared_with": "everybody"}).raise_for_status()
    name = f"bob-{uuid4().hex[:8]}"
    token = api.http.post("/v1/tokens", json={"name": name, "scope": "user", "owner": name}).json()["token"]

    with ServerApi(str(api.http.base_url), token) as other:
        refused = retry(other, execution_id)

    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


@pytest.mark.parametrize(
    ("policy", "told"),
    [
        ({"allow_network": ["none"]}, "does not allow spec.network 'web'"),
        ({"approve": "deny"}, "says 'deny' at least"),
        ({"approve": "ask"}, None),
    ],
)
def test_a_token_that_may_not_start_it_may_not_retry_it(
    api: ServerApi, policy: dict[str, Any], told: str | None
) -> None:
    name = f"carol-{uuid4().hex[:8]}"

    def token(number: int, **policy: Any) -> str:
        body: dict[str, Any] = {"name": f"{name}-{number}", "scope": "user", "owner": name}
        body |= {"policy": policy} if policy else {}
        answer = api.http.post("/v1/tokens", json=body)
        assert answer.is_success, answer.text
        made: str = answer.json()["token"]
        return made

    with ServerApi(str(api.http.base_url), token(1)) as own:
        execution_id: str = own.create_execution(manifest=manifest(network="web"), approve="ask")[
            "execution_id"
        ]
    api.fail_execution(execution_id)

    with ServerApi(str(api.http.base_url), token(2, **policy)) as bounded:
        answer = retry(bounded, execution_id)

    assert answer.status_code == (202 if told is None else 403)
    assert told is None or told in answer.json()["detail"]


async def _runs(
    temporal: TemporalServer, execution_id: str, *, ending: bool
) -> list[WorkflowExecutionStatus | None]:
    client = await Client.connect(temporal.address)
    found = [run async for run in client.list_workflows(f'WorkflowId STARTS_WITH "{execution_id}"')]
    if ending:
        [run] = found
        await client.get_workflow_handle(run.id).terminate()
    return [run.status for run in found]


def wait_for_runs(temporal: TemporalServer, execution_id: str, *statuses: WorkflowExecutionStatus) -> None:
    """Wait until Temporal knows of these runs of the workflow, and of no others."""
    wait_until(
        lambda: Counter(asyncio.run(_runs(temporal, execution_id, ending=False))) == Counter(statuses),
        f"the workflow's runs are {statuses}",
    )


def test_a_retry_has_one_open_workflow(api: ServerApi, temporal: TemporalServer) -> None:
    execution_id = start_failed(api)
    wait_for_runs(temporal, execution_id, RUNNING)  # nobody works on its end

    assert retry(api, execution_id).is_success

    wait_for_runs(temporal, execution_id, TERMINATED, RUNNING)


def test_a_workflow_that_was_ended_before_the_retry_does_not_end_the_execution_again(
    api: ServerApi, temporal: TemporalServer
) -> None:
    execution_id = start_failed(api)
    wait_for_runs(temporal, execution_id, RUNNING)
    asyncio.run(_runs(temporal, execution_id, ending=True))
    wait_for_runs(temporal, execution_id, TERMINATED)

    assert retry(api, execution_id).is_success

    wait_for_runs(temporal, execution_id, TERMINATED, RUNNING)
    assert api.get_execution(execution_id)["phase"] == "in_progress"
