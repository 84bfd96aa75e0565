"""Importing a session over HTTP: it is the caller's, and gives them nothing that is somebody else's."""

import json
from datetime import UTC, datetime
from itertools import count
from typing import Any

import httpx
import pytest

from server_process import ServerApi, ServerProcess, completed, manifest, responded

NAMES = count()
AT = datetime(2026, 1, 2, tzinfo=UTC).isoformat()


def user(api: ServerApi, **more: Any) -> str:
    body = {"name": f"importer-{next(NAMES)}", "scope": "user", **more}
    token: str = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
    return token


def document(*more: dict[str, Any], model: str | None = None, **spec: Any) -> dict[str, Any]:
    """An exported session of one execution."""
    started = {
        "type": "execution.started",
        "session_id": "ses_elsewhere",
        "agent_name": "worker",
        "spec": manifest(**spec)["spec"],
        "model": model,
        "input": {"kind": "inline", "value": "Begin <b>here</b>."},
    }
    leg = {"type": "leg.started", "attempt": 1, "runner": "1@there", "runner_version": "0"}
    log = [started, leg, *more, responded(), completed()]
    events = [{"recorded_at": AT, "attempt": None, "event": event} for event in log]
    return {
        "format": "stigmer session",
        "version": 1,
        "exported_at": AT,
        "executions": [{"events": events}],
    }


def owners_of_sessions(api: ServerApi) -> list[str]:
    """Of what the caller sees; other tests share some of theirs with everybody."""
    return [each["owner"] for each in api.http.get("/v1/sessions").json()["items"]]


def import_it(api: ServerApi, exported: dict[str, Any]) -> httpx.Response:
    sha256 = api.store_blob(json.dumps(exported).encode())
    return api.http.post("/v1/sessions/import", json={"sha256": sha256})


def test_an_imported_session_is_the_callers_and_stands_as_its_log_says(
    api: ServerApi, server: ServerProcess
) -> None:
    with server.client(user(api)) as alice, server.client(user(api)) as bob:
        answer = import_it(alice, document())
        assert answer.status_code == 201, answer.text
        session_id = answer.json()["session_id"]
        assert answer.headers["location"] == f"/v1/sessions/{session_id}"
        assert bob.http.get(f"/v1/sessions/{session_id}").status_code == 404
        [execution] = alice.http.get("/v1/executions", params={"session_id": session_id}).json()["items"]
        assert (execution["phase"], execution["input_head"], execution["usage"]["requests"]) == (
            "completed",
            "Begin <b>here</b>.",
            1,
        )
        log = alice.read_log(execution["execution_id"])
        assert [each["event"]["type"] for each in log] == [
            "execution.started",
            "leg.started",
            "model.responded",
            "execution.completed",
        ]
        assert log[0]["event"]["session_id"] == session_id
        assert alice.create_execution(session_id=session_id)["phase"] == "pending"


def test_an_imported_session_is_found_by_what_was_said_in_it(api: ServerApi, server: ServerProcess) -> None:
    said = {"type": "message.received", "message": {"kind": "inline", "value": "Mind the turnstile"}}
    with server.client(user(api)) as alice, server.client(user(api)) as bob:
        session_id = import_it(alice, document(said)).raise_for_status().json()["session_id"]
        for text, client, found in (
            ("begin", alice, [session_id]),
            ("turnstile", alice, [session_id]),
            ("turnstile", bob, []),
        ):
            page = client.http.get("/v1/executions", params={"text": text}).raise_for_status().json()
            assert [item["session_id"] for item in page["items"]] == found, text


def test_a_blob_of_somebody_else_is_not_to_be_had_by_naming_it(api: ServerApi, server: ServerProcess) -> None:
    with server.client(user(api)) as alice, server.client(user(api)) as bob:
        foreign = alice.store_blob(b'"the words of alice"')
        payload = {"kind": "blob", "sha256": foreign, "size_bytes": 20}
        refused = import_it(bob, document({"type": "message.received", "message": payload}))
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert "was not brought along" in refused.json()["detail"]
        assert bob.http.get(f"/v1/blobs/{foreign}").status_code == 404
        own = bob.http.get("/v1/tokens/self").json()["owner"]
        assert own not in owners_of_sessions(bob)
        # Nor the document of somebody else.
        kept = alice.store_blob(json.dumps(document()).encode())
        assert bob.http.post("/v1/sessions/import", json={"sha256": kept}).status_code == 404


@pytest.mark.parametrize(
    ("exported", "code"),
    [
        (document(network="all"), "invalid_request"),
        (document(model="replay:/etc/passwd"), "forbidden"),
        ({**document(), "executions": []}, "invalid_request"),
        ({"format": "something else"}, "invalid_request"),
    ],
)
def test_what_the_caller_may_not_run_is_not_imported_either(
    api: ServerApi, server: ServerProcess, exported: dict[str, Any], code: str
) -> None:
    with server.client(user(api, policy={"allow_network": ["none"]})) as alice:
        refused = import_it(alice, exported)
        assert refused.status_code in (403, 422) and refused.json()["code"] == code
        own = alice.http.get("/v1/tokens/self").json()["owner"]
        assert own not in owners_of_sessions(alice)


def test_what_is_no_document_is_refused_in_one_line(api: ServerApi) -> None:
    for content in (b"", b"\x00", b"[" * 100_000, b"{}", b"null"):
        sha256 = api.store_blob(content)
        refused = api.http.post("/v1/sessions/import", json={"sha256": sha256})
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
        assert "\n" not in refused.json()["detail"]
