"""An execution waits between two legs: what ends the wait, and that nothing that ends one is missed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from server_process import ServerApi, manifest

MESSAGE = {"kind": "message"}


def waiting(seen: int, *reasons: dict[str, Any], attempt: int = 1) -> dict[str, Any]:
    """The event of a leg that ends waiting."""
    return {
        "type": "leg.ended",
        "attempt": attempt,
        "reason": "waiting",
        "waiting_for": list(reasons),
        "seen": seen,
    }


def send(api: ServerApi, execution_id: str, text: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.http.post(f"/v1/executions/{execution_id}/messages", json={"text": text}, headers=headers)


def start_waiting(api: ServerApi, *reasons: dict[str, Any], **limits: str) -> str:
    """The id of a new execution that waits."""
    execution_id = api.create_execution(manifest=manifest(limits=limits))["execution_id"]
    grant = api.start_leg(execution_id)
    seen: int = grant["execution"]["last_sequence"]
    assert api.append(execution_id, [waiting(seen, *reasons)]).is_success
    return execution_id


def test_an_execution_says_what_it_waits_for(api: ServerApi) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()

    execution_id = start_waiting(api, MESSAGE, {"kind": "time", "until": until})

    execution = api.get_execution(execution_id)
    assert execution["phase"] == "waiting"
    assert [reason["kind"] for reason in execution["waiting_for"]] == ["message", "time"]
    listed = api.http.get("/v1/executions", params={"phase": "waiting", "limit": 500}).json()["items"]
    assert execution_id in {each["execution_id"] for each in listed}
    assert api.read_metrics()['stigmer_executions{phase="waiting"}'] >= 1


def test_a_message_ends_the_wait_for_one(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE)

    sent = send(api, execution_id, "go on")

    told = {"execution_id": execution_id, "sequence": 4, "starts_execution": False}
    assert (sent.status_code, sent.json()) == (201, told)
    execution = api.get_execution(execution_id)
    assert (execution["phase"], execution["waiting_for"]) == ("in_progress", [])
    assert api.read_log(execution_id)[-1]["event"] == {
        "type": "message.received",
        "message": {"kind": "inline", "value": "go on"},
    }


def test_a_message_does_not_end_the_wait_for_a_time(api: ServerApi) -> None:
    until = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    execution_id = start_waiting(api, {"kind": "time", "until": until})

    assert send(api, execution_id, "hello").is_success

    assert api.get_execution(execution_id)["phase"] == "waiting"


def test_the_same_message_with_the_same_key_is_received_once(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE)
    key = uuid4().hex

    first, again = (send(api, execution_id, "go on", key) for _ in range(2))
    other = send(api, execution_id, "stop", key)

    assert first.json() == again.json()
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert [each["event"]["type"] for each in api.read_log(execution_id)].count("message.received") == 1


def test_a_leg_that_did_not_see_a_message_may_not_wait(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    seen = api.start_leg(execution_id)["execution"]["last_sequence"]
    sequence = send(api, execution_id, "quick").json()["sequence"]

    refused = api.append(execution_id, [waiting(seen, MESSAGE)])
    accepted = api.append(execution_id, [waiting(sequence, MESSAGE)])

    assert (refused.status_code, refused.json()["code"]) == (409, "woken")
    assert accepted.is_success
    assert api.get_execution(execution_id)["phase"] == "waiting"


@pytest.mark.parametrize(
    "event",
    [
        waiting(2),
        waiting(2, {"kind": "time"}),
        waiting(2, {"kind": "child", "key": "exe_1"}),
        waiting(99, MESSAGE),
        {"type": "leg.ended", "attempt": 1, "reason": "waiting", "waiting_for": [MESSAGE]},
    ],
)
def test_a_wait_that_nothing_would_end_is_refused(api: ServerApi, event: dict[str, Any]) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)

    refused = api.append(execution_id, [event])

    assert (refused.status_code, refused.json()["code"]) == (409, "illegal_move")


def test_the_next_leg_ends_the_wait(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE)

    grant = api.start_leg(execution_id)

    assert (grant["execution"]["phase"], grant["execution"]["waiting_for"]) == ("in_progress", [])


def test_time_spent_waiting_does_not_count_towards_the_duration(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE, duration="1h")

    grant = api.start_leg(execution_id)

    [waited_from] = [
        datetime.fromisoformat(each["recorded_at"])
        for each in grant["events"]
        if each["event"]["type"] == "leg.ended"
    ]
    created = datetime.fromisoformat(grant["execution"]["created_at"])
    worked = waited_from - created
    assert 3000 < grant["seconds_left"] <= 3600 - worked.total_seconds() + 1e-3


def test_cancelling_what_waits_ends_it_at_once(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE)

    cancelled = api.http.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "enough"}).json()

    assert (cancelled["phase"], cancelled["waiting_for"]) == ("cancelled", [])


def test_a_session_with_a_waiting_execution_takes_no_other(api: ServerApi) -> None:
    execution_id = start_waiting(api, MESSAGE)
    session_id = api.get_execution(execution_id)["session_id"]

    second = api.http.post(
        "/v1/executions", json={"input": "hello", "manifest": manifest(), "session_id": session_id}
    )

    assert (second.status_code, second.json()["code"]) == (409, "session_busy")
