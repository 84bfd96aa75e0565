"""Sessions over HTTP."""

from uuid import uuid4

from server_process import ServerApi, completed


def test_a_session_keeps_its_workspace_for_its_executions(api: ServerApi) -> None:
    session = api.http.post("/v1/sessions", json={"workspace": "/srv/project"}).json()

    execution = api.create_execution(session_id=session["session_id"])

    assert api.start_leg(execution["execution_id"])["workspace"] == "/srv/project"
    assert api.http.get(f"/v1/sessions/{session['session_id']}").json() == session


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
