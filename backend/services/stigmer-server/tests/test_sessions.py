"""Sessions over HTTP."""

from decimal import Decimal
from typing import Any
from uuid import uuid4

from server_process import ServerApi, completed, manifest, responded


def test_a_session_keeps_its_workspace_for_its_executions(api: ServerApi) -> None:
    session = api.http.post("/v1/sessions", json={"workspace": "/srv/project"}).json()

    execution = api.create_execution(session_id=session["session_id"])

    assert api.start_leg(execution["execution_id"])["workspace"] == "/srv/project"
    kept = api.http.get(f"/v1/sessions/{session['session_id']}").json()
    assert {**kept, "input_head": None, "agent_name": None, "execution_count": 0} == session


def test_a_session_says_how_it_began_who_works_in_it_and_what_it_cost(api: ServerApi) -> None:
    def run(costs: list[str | None], **request: Any) -> str:
        execution = api.create_execution(**request)
        api.start_leg(execution["execution_id"])
        answers = [responded(turn, cost_usd=cost) for turn, cost in enumerate(costs, 1)]
        api.append(execution["execution_id"], [*answers, completed()]).raise_for_status()
        session_id: str = execution["session_id"]
        return session_id

    session_id = run(["0.10", "0.0000001"], input="  Count\x00\x1b[31m\nthe\tfiles " + "x" * 300)
    run([None], session_id=session_id, manifest=manifest("second"))
    run(["0.2"], session_id=session_id, input="y" * 70_000)

    got = api.http.get(f"/v1/sessions/{session_id}").json()
    [listed] = [
        each
        for each in api.http.get("/v1/sessions", params={"limit": 500}).json()["items"]
        if each["session_id"] == session_id
    ]
    assert listed == got
    assert got["input_head"] == ("Count the files " + "x" * 300)[:120]
    assert (got["execution_count"], Decimal(got["cost_usd"])) == (3, Decimal("0.3000001"))
    heads = api.http.get("/v1/executions", params={"session_id": session_id}).json()["items"]
    assert [each["input_head"] for each in heads] == ["y" * 120, heads[1]["input_head"], got["input_head"]]


def test_the_same_idempotency_key_makes_one_session(api: ServerApi) -> None:
    headers = {"Idempotency-Key": uuid4().hex}

    first = api.http.post("/v1/sessions", json={}, headers=headers)
    again = api.http.post("/v1/sessions", json={}, headers=headers)
    other = api.http.post("/v1/sessions", json={"workspace": "/w"}, headers=headers)

    assert first.status_code == 201
    assert (again.status_code, again.json()) == (201, first.json())
    assert other.json()["code"] == "idempotency_key_reused"


def test_a_relative_workspace_is_refused(api: ServerApi) -> None:
    response = api.http.post("/v1/sessions", json={"workspace": "project"})

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_sessions_are_listed_newest_first(api: ServerApi) -> None:
    ids = {api.http.post("/v1/sessions", json={}).json()["session_id"] for _ in range(3)}

    listed = [
        item["session_id"] for item in api.http.get("/v1/sessions", params={"limit": 500}).json()["items"]
    ]

    assert listed == sorted(listed, reverse=True)
    assert ids <= set(listed)


def test_deleting_a_session_takes_its_executions_and_logs_along(api: ServerApi) -> None:
    execution = api.create_execution()
    session_path = f"/v1/sessions/{execution['session_id']}"
    api.start_leg(execution["execution_id"])
    busy = api.http.delete(session_path)
    api.append(execution["execution_id"], [completed()])

    assert (busy.status_code, busy.json()["code"]) == (409, "session_busy")
    assert api.http.delete(session_path).status_code == 204
    assert api.http.get(session_path).status_code == 404
    assert api.http.get(f"/v1/executions/{execution['execution_id']}").status_code == 404
    assert api.http.delete(session_path).status_code == 404
