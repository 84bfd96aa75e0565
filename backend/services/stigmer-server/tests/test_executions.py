"""Executions over HTTP: how they are made, found, cancelled, and what is refused."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from server_process import ServerApi, completed, manifest, responded


def test_creating_an_execution_writes_its_first_event(api: ServerApi) -> None:
    execution = api.create_execution(input="count the rows", model="replay:count.yaml")

    assert execution["phase"] == "pending"
    assert execution["last_sequence"] == 1
    assert execution["model"] == "replay:count.yaml"
    (event,) = api.read_log(execution["execution_id"])
    assert (event["sequence"], event["attempt"]) == (1, None)
    assert event["event"]["type"] == "execution.started"
    assert event["event"]["session_id"] == execution["session_id"]
    assert event["event"]["input"] == {"kind": "inline", "value": "count the rows"}
    assert event["event"]["spec"]["limits"]["toolTimeout"] == "10m"


def test_an_execution_keeps_the_agent_as_it_was_when_it_began(api: ServerApi) -> None:
    name = f"agent-{uuid4().hex[:8]}"
    api.http.put(f"/v1/agents/{name}", json=manifest(name, instructions="first"))
    execution = api.create_execution(agent=name)

    api.http.put(f"/v1/agents/{name}", json=manifest(name, instructions="second"))

    assert api.start_leg(execution["execution_id"])["spec"]["instructions"] == "first"


def test_a_large_input_goes_to_the_blob_store(api: ServerApi) -> None:
    text = "é" * 40_000

    execution = api.create_execution(input=text)

    payload = api.start_leg(execution["execution_id"])["input"]
    assert payload["kind"] == "blob"
    content = api.http.get(f"/v1/blobs/{payload['sha256']}").content
    assert len(content) == payload["size_bytes"]
    assert json.loads(content) == text


@pytest.mark.parametrize(
    ("request_body", "status", "code"),
    [
        ({"input": "x"}, 422, "invalid_request"),
        ({"input": "x", "agent": "a", "manifest": manifest()}, 422, "invalid_request"),
        ({"input": "x", "agent": "nobody"}, 404, "not_found"),
        ({"input": "x", "manifest": manifest(), "session_id": "ses_none"}, 404, "not_found"),
        ({"input": "", "manifest": manifest()}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(), "model": "gpt-5"}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(), "workspace": "here"}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(), "workspace": "/a\0b"}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(), "surprise": 1}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(subAgents=["s"])}, 422, "feature_not_yet"),
        ({"input": "x", "manifest": manifest(skills=["./s"])}, 422, "invalid_request"),
        ({"input": "x", "manifest": manifest(tools=["teleport"])}, 422, "invalid_manifest"),
        ({"input": "x", "manifest": manifest("Not A Label")}, 422, "invalid_manifest"),
        (
            {"input": "x", "session_id": "s", "workspace": "/w", "manifest": manifest()},
            422,
            "invalid_request",
        ),
    ],
)
def test_an_execution_that_makes_no_sense_is_refused(
    api: ServerApi, request_body: dict[str, Any], status: int, code: str
) -> None:
    response = api.http.post("/v1/executions", json=request_body)

    assert (response.status_code, response.json()["code"]) == (status, code)


def test_a_field_whose_feature_comes_later_is_named(api: ServerApi) -> None:
    later = manifest(subAgents=["other"])

    response = api.http.post("/v1/executions", json={"input": "x", "manifest": later})

    assert response.json()["detail"] == "spec.subAgents: not yet supported"


def test_executions_of_a_session_come_one_after_the_other(api: ServerApi) -> None:
    first = api.create_execution()
    busy = api.http.post(
        "/v1/executions", json={"input": "y", "manifest": manifest(), "session_id": first["session_id"]}
    )
    assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")

    api.start_leg(first["execution_id"])
    api.append(first["execution_id"], [completed()])
    second = api.create_execution(session_id=first["session_id"])

    assert api.start_leg(second["execution_id"])["previous_execution_ids"] == [first["execution_id"]]


def test_executions_made_at_once_in_one_session_leave_one(api: ServerApi) -> None:
    session_id = api.http.post("/v1/sessions", json={}).json()["session_id"]

    def create(_: int) -> int:
        body = {"input": "x", "manifest": manifest(), "session_id": session_id}
        return api.http.post("/v1/executions", json=body).status_code

    with ThreadPoolExecutor(8) as pool:
        statuses = sorted(pool.map(create, range(8)))

    assert statuses == [201, *[409] * 7]


def test_the_same_idempotency_key_makes_one_execution(api: ServerApi) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    body = {"input": "x", "manifest": manifest()}

    def create(_: int) -> tuple[int, str]:
        response = api.http.post("/v1/executions", json=body, headers=headers)
        return response.status_code, response.text

    with ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(create, range(8)))

    ((status, text),) = answers
    assert status == 201
    api.start_leg(json.loads(text)["execution_id"])
    assert create(0) == (status, text)


def test_an_idempotency_key_is_not_for_another_request(api: ServerApi) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    api.http.post("/v1/executions", json={"input": "x", "manifest": manifest()}, headers=headers)

    response = api.http.post("/v1/executions", json={"input": "y", "manifest": manifest()}, headers=headers)

    assert (response.status_code, response.json()["code"]) == (422, "idempotency_key_reused")


def test_a_refused_call_does_not_use_its_idempotency_key_up(api: ServerApi) -> None:
    headers = {"Idempotency-Key": uuid4().hex}
    name = f"late-{uuid4().hex[:8]}"
    body = {"input": "x", "agent": name}
    assert api.http.post("/v1/executions", json=body, headers=headers).status_code == 404

    api.http.put(f"/v1/agents/{name}", json=manifest(name))

    assert api.http.post("/v1/executions", json=body, headers=headers).status_code == 201


def test_executions_are_listed_newest_first_in_pages(api: ServerApi) -> None:
    name = f"listed-{uuid4().hex[:8]}"
    api.http.put(f"/v1/agents/{name}", json=manifest(name))
    ids = [api.create_execution(agent=name)["execution_id"] for _ in range(5)]

    pages: list[list[str]] = []
    cursor: str | None = None
    while True:
        parameters = {"agent": name, "limit": "2"} | ({"cursor": cursor} if cursor else {})
        page = api.http.get("/v1/executions", params=parameters).json()
        pages.append([item["execution_id"] for item in page["items"]])
        cursor = page["next_cursor"]
        if cursor is None:
            break

    newest_first = sorted(ids, reverse=True)
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]


def test_executions_are_filtered_by_session_and_phase(api: ServerApi) -> None:
    first = api.create_execution()
    api.start_leg(first["execution_id"])
    api.append(first["execution_id"], [completed()])
    second = api.create_execution(session_id=first["session_id"])

    def ids(**filters: str) -> list[str]:
        items = api.http.get("/v1/executions", params={"session_id": first["session_id"], **filters}).json()
        return [item["execution_id"] for item in items["items"]]

    assert ids() == [second["execution_id"], first["execution_id"]]
    assert ids(phase="completed") == [first["execution_id"]]
    assert ids(phase="pending") == [second["execution_id"]]
    assert ids(agent="another") == []


@pytest.mark.parametrize("cursor", ["%%%", "4", "ÿ"])
def test_a_cursor_of_ones_own_making_is_refused(api: ServerApi, cursor: str) -> None:
    response = api.http.get("/v1/executions", params={"cursor": cursor})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_an_execution_tells_its_usage_output_and_times(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    api.append(execution_id, [responded(1, input_tokens=10, output_tokens=2, cost_usd="0.01")])
    api.append(
        execution_id, [responded(2, input_tokens=20, output_tokens=3, cost_usd="0.02"), completed("42")]
    )

    execution = api.get_execution(execution_id)

    assert execution["phase"] == "completed"
    assert execution["output"] == {"kind": "inline", "value": "42"}
    assert execution["usage"] == {
        "requests": 2,
        "input_tokens": 30,
        "output_tokens": 5,
        "cache_read_tokens": 0,
        "cache_write_tokens": 0,
        "cost_usd": "0.03",
        "estimated": False,
    }
    assert execution["created_at"] <= execution["started_at"] <= execution["ended_at"]
    assert execution["pending_reason"] is None


def test_a_failed_execution_tells_why(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    failure = {
        "code": "model_rejected",
        "message": "could not ask the model: wrong key",
        "hint": "set the key",
    }

    api.append(execution_id, [{"type": "execution.failed", **failure}])

    execution = api.get_execution(execution_id)
    assert (execution["phase"], execution["error"]) == ("failed", failure)


def test_without_a_runner_a_pending_execution_says_so(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    assert api.get_execution(execution_id)["pending_reason"] == "no runner is connected"


def test_cancelling_an_execution_that_no_runner_has_taken_ends_it_at_once(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    response = api.http.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "not needed"})

    assert (response.status_code, response.json()["phase"]) == (202, "cancelled")
    assert api.read_log(execution_id)[-1]["event"] == {"type": "execution.cancelled", "reason": "not needed"}
    refused = api.http.post(
        f"/v1/executions/{execution_id}/legs", json={"runner": "1@a", "runner_version": "0"}
    )
    assert (refused.status_code, refused.json()["code"]) == (409, "execution_ended")


def test_cancelling_a_running_execution_tells_its_runner(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)

    for _ in range(2):
        response = api.http.post(f"/v1/executions/{execution_id}/cancel")
        assert (response.json()["phase"], response.json()["cancel_requested"]) == ("in_progress", True)

    assert api.append(execution_id, [responded()]).json()["cancel_requested"] is True


def test_cancelling_what_has_ended_is_refused_unless_it_was_cancelled(api: ServerApi) -> None:
    done, cancelled = (api.create_execution()["execution_id"] for _ in range(2))
    api.start_leg(done)
    api.append(done, [completed()])
    api.http.post(f"/v1/executions/{cancelled}/cancel")

    refused = api.http.post(f"/v1/executions/{done}/cancel")
    again = api.http.post(f"/v1/executions/{cancelled}/cancel")

    assert (refused.status_code, refused.json()["code"]) == (409, "execution_ended")
    assert (again.status_code, again.json()["phase"]) == (202, "cancelled")


def test_an_unknown_execution_is_not_found_anywhere(api: ServerApi) -> None:
    path = "/v1/executions/exe_none"
    leg = {"runner": "1@a", "runner_version": "0"}
    responses = [
        api.http.get(path),
        api.http.get(f"{path}/events"),
        api.http.get(f"{path}/events", headers={"Accept": "text/event-stream"}),
        api.http.post(f"{path}/cancel"),
        api.http.post(f"{path}/legs", json=leg),
        api.append("exe_none", [responded()]),
        api.publish("exe_none", [{"type": "model.delta", "turn": 1, "text": "x"}]),
    ]

    assert [response.status_code for response in responses] == [404] * 7


def test_an_identifier_that_no_database_can_hold_is_refused(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)

    answers = [
        api.http.get("/v1/executions/a%00b"),
        api.append("a%00b", [responded()]),
        api.append(execution_id, [responded()], append_id="a\0b"),
        api.http.get("/v1/executions", params={"session_id": "a\0b"}),
        api.http.get(f"/v1/executions/{'x' * 65}"),
    ]

    refused = {(answer.status_code, answer.json().get("code")) for answer in answers[:3] + answers[4:]}
    assert refused == {(422, "invalid_request")}
    assert answers[3].status_code in (200, 422)
