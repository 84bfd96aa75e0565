"""What executions ask of people: who sees it, who may decide, and that the first decision holds."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from asking import asked, decide, resolutions, start_asking
from server_process import ServerApi, ServerProcess, completed, manifest, responded, wait_until
from stigmer_contract.identifiers import INPUT_PREFIX, new_id

FORM: dict[str, Any] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["name"],
}


def test_an_answer_ends_the_wait_and_stands_in_the_log(api: ServerApi) -> None:
    question = asked()
    execution_id = start_asking(api, question)
    waiting = api.get_execution(execution_id)
    assert [each["kind"] for each in waiting["waiting_for"]] == ["answer"]

    answer = decide(api, question["input_id"], outcome="answered", answer="the red one", reason="It is mine.")

    assert answer.status_code == 200
    resolution = answer.json()["resolution"]
    assert (resolution["outcome"], resolution["resolved_by"]) == ("answered", "administrator")
    assert api.get_execution(execution_id)["phase"] == "in_progress"
    [event] = resolutions(api, execution_id)
    assert (event["answer"]["value"], event["reason"]) == ("the red one", "It is mine.")
    assert event["origin"] == "127.0.0.1"


def test_what_waits_is_listed_until_it_is_resolved(api: ServerApi) -> None:
    first = asked()
    second = asked("approval", input_id=new_id(INPUT_PREFIX, after=first["input_id"]))
    execution_id = start_asking(api, first, second)

    def listed(**query: Any) -> list[str]:
        page = api.http.get("/v1/inputs", params={"execution_id": execution_id, **query}).json()
        return [each["input_id"] for each in page["items"]]

    assert listed() == [first["input_id"], second["input_id"]]
    assert listed(kind="approval") == [second["input_id"]]
    page = api.http.get("/v1/inputs", params={"execution_id": execution_id, "limit": 1}).json()
    assert listed(cursor=page["next_cursor"]) == [second["input_id"]]
    decide(api, second["input_id"], outcome="denied").raise_for_status()
    assert (listed(), listed(state="resolved")) == ([first["input_id"]], [second["input_id"]])
    api.http.post(f"/v1/executions/{execution_id}/cancel").raise_for_status()
    assert listed() == []


def test_a_second_decision_is_told_who_was_first_and_when(api: ServerApi) -> None:
    approval = asked("approval")
    execution_id = start_asking(api, approval)
    decide(api, approval["input_id"], outcome="approved").raise_for_status()

    late = decide(api, approval["input_id"], outcome="denied")

    assert (late.status_code, late.json()["code"]) == (409, "input_resolved")
    assert "approved already, since 20" in late.json()["detail"]
    # In an installation of one person nobody needs to be told who that was.
    assert "administrator" not in late.json()["detail"]
    assert [event["outcome"] for event in resolutions(api, execution_id)] == ["approved"]


def test_the_same_decision_with_the_same_key_is_one(api: ServerApi) -> None:
    question, key = asked(), uuid4().hex
    execution_id = start_asking(api, question)

    first, again = (decide(api, question["input_id"], key, outcome="answered", answer="x") for _ in range(2))
    other = decide(api, question["input_id"], key, outcome="answered", answer="y")
    late = decide(api, question["input_id"], uuid4().hex, outcome="answered", answer="x")

    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 409)
    assert late.status_code == 409, "somebody else's, who only thinks the same"
    assert first.json() == again.json()
    assert len(resolutions(api, execution_id)) == 1


@pytest.mark.parametrize(
    ("event", "body"),
    [
        (asked(), {"outcome": "answered"}),
        (asked(), {"outcome": "answered", "answer": ""}),
        (asked(), {"outcome": "answered", "answer": 5}),
        (asked(), {"outcome": "approved"}),
        (asked(), {"outcome": "denied", "answer": "x"}),
        (asked(), {"outcome": "expired"}),
        (asked(), {"outcome": "answered", "answer": "x", "more": 1}),
        (asked(answer_schema=FORM), {"outcome": "answered", "answer": {"count": 1}}),
        (asked(answer_schema=FORM), {"outcome": "answered", "answer": {"name": "x", "count": "1"}}),
        (asked("approval"), {"outcome": "answered", "answer": "x"}),
        (asked("approval"), {"outcome": "denied", "arguments": {}}),
        (asked("approval"), {"outcome": "approved", "grants_kind": True}),
    ],
)
def test_what_is_no_answer_to_the_question_is_refused_and_it_waits_on(
    api: ServerApi, event: dict[str, Any], body: dict[str, Any]
) -> None:
    event = {**event, "input_id": new_id(INPUT_PREFIX)}
    execution_id = start_asking(api, event)

    refused = decide(api, event["input_id"], **body)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert api.get_execution(execution_id)["phase"] == "waiting"


@pytest.mark.parametrize("value", ["NaN", "[-Infinity]", "1e999"])
@pytest.mark.parametrize("field", ["answer", "arguments"])
def test_a_number_that_json_cannot_hold_is_refused_and_not_taken_for_none(
    api: ServerApi, field: str, value: str
) -> None:
    event = asked(answer_schema={}) if field == "answer" else asked("approval")
    start_asking(api, event)
    outcome = "answered" if field == "answer" else "approved"
    sent = value if field == "answer" else f'{{"command": {value}}}'

    refused = api.http.post(
        f"/v1/inputs/{event['input_id']}",
        content=f'{{"outcome": "{outcome}", "{field}": {sent}}}',
        headers={"Content-Type": "application/json"},
    )

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert api.http.get(f"/v1/inputs/{event['input_id']}").json()["resolution"] is None


def test_what_nobody_answers_in_time_expires_and_goes_on(api: ServerApi) -> None:
    question = asked(expires_at=(datetime.now(UTC) + timedelta(seconds=0.2)).isoformat())
    execution_id = start_asking(api, question)

    api.wait_for_phase(execution_id, "in_progress")

    [event] = resolutions(api, execution_id)
    assert (event["outcome"], event["resolved_by"]) == ("expired", None)
    late = decide(api, question["input_id"], outcome="answered", answer="x")
    assert (late.status_code, late.json()["code"]) == (409, "input_resolved")


def test_an_execution_that_ends_resolves_what_it_asks(api: ServerApi) -> None:
    first, second = asked(), asked()
    execution_id: str = api.create_execution(manifest=manifest(askUser=True))["execution_id"]
    api.start_leg(execution_id)

    assert api.append(execution_id, [responded(), first, second, completed()]).is_success

    kinds = [each["event"]["type"] for each in api.read_log(execution_id)]
    assert kinds[-3:] == ["input.resolved", "input.resolved", "execution.completed"]
    assert {event["outcome"] for event in resolutions(api, execution_id)} == {"cancelled"}
    late = decide(api, first["input_id"], outcome="answered", answer="x")
    assert (late.status_code, late.json()["code"]) == (409, "input_resolved")


def test_a_waiting_execution_that_is_cancelled_tells_what_became_of_each_call(api: ServerApi) -> None:
    execution_id: str = api.create_execution(manifest=manifest(askUser=True))["execution_id"]
    seen: int = api.start_leg(execution_id)["execution"]["last_sequence"]
    question = asked(call_id="call_2")
    calls = [("call_1", False), ("call_2", False), ("call_3", True), ("call_4", None)]
    answer = responded()
    answer["response"]["value"]["parts"] += [
        {"kind": "tool_call", "call_id": call_id, "tool": "run_command", "arguments": {}}
        for call_id, _ in calls
    ]
    starts: list[dict[str, Any]] = [
        {
            "type": "tool.started",
            "turn": 1,
            "call_id": call_id,
            "tool": "run_command",
            "toolset": "shell",
            "arguments": {"kind": "inline", "value": {}},
            "side_effects": has_effects,
        }
        for call_id, has_effects in calls
        if has_effects is not None
    ]
    done = {
        "type": "tool.finished",
        "turn": 1,
        "call_id": "call_1",
        "tool": "run_command",
        "outcome": "succeeded",
        "result": {"kind": "inline", "value": {"outcome": "succeeded"}},
        "duration_seconds": 0,
    }
    waiting = {
        "type": "leg.ended",
        "attempt": 1,
        "reason": "waiting",
        "waiting_for": [{"kind": "answer", "key": question["input_id"]}],
        "seen": seen,
    }
    assert api.append(execution_id, [answer, *starts, done, question, waiting]).is_success

    api.http.post(f"/v1/executions/{execution_id}/cancel").raise_for_status()

    ended = [each["event"] for each in api.read_log(execution_id)][-5:]
    assert [event["type"] for event in ended] == [
        *["tool.finished"] * 3,
        "input.resolved",
        "execution.cancelled",
    ]
    assert [(event["call_id"], event["outcome"]) for event in ended[:3]] == [
        ("call_2", "cancelled"),
        ("call_3", "unknown"),
        ("call_4", "cancelled"),
    ]
    assert "Outcome unknown" in ended[1]["result"]["value"]["content"][0]["text"]


def test_nobody_but_the_server_resolves_in_the_log(api: ServerApi) -> None:
    question = asked()
    execution_id = start_asking(api, question)
    attempt: int = api.start_leg(execution_id)["attempt"]
    forged = {"type": "input.resolved", "input_id": question["input_id"], "outcome": "answered"}

    refused = api.append(execution_id, [forged], attempt=attempt)

    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


def test_content_of_any_size_is_shown_in_full(api: ServerApi) -> None:
    import hashlib
    import json

    text = "long " * 20_000
    content = json.dumps({"text": text}).encode()
    sha256 = api.store_blob(content)
    assert hashlib.sha256(content).hexdigest() == sha256
    blob = {"kind": "blob", "sha256": sha256, "size_bytes": len(content)}
    question = asked(content=blob)
    start_asking(api, question)

    shown = api.http.get(f"/v1/inputs/{question['input_id']}").json()

    assert shown["content"]["value"]["text"] == text


@pytest.mark.parametrize(
    ("who", "status"),
    [("alice", 200), ("approver", 200), ("admin", 200), ("bob", 404), ("other", 404), ("runner", 403)],
)
def test_the_owner_and_who_may_approve_for_them_decide(
    people: dict[str, ServerApi], who: str, status: int
) -> None:
    approval = asked("approval")
    execution_id = start_asking(people["alice"], approval, runner=people["admin"])

    answer = decide(people[who], approval["input_id"], outcome="approved")

    assert answer.status_code == status
    assert len(resolutions(people["alice"], execution_id)) == (1 if status == 200 else 0)


def test_the_same_decision_with_the_same_key_is_one_from_wherever_it_comes(
    people: dict[str, ServerApi],
) -> None:
    approval, key = asked("approval"), uuid4().hex
    execution_id = start_asking(people["alice"], approval, runner=people["admin"])

    first = decide(people["alice"], approval["input_id"], key, outcome="approved")
    again = decide(people["approver"], approval["input_id"], key, outcome="approved")

    assert (first.status_code, again.status_code) == (200, 200)
    assert first.json() == again.json()
    assert len(resolutions(people["alice"], execution_id)) == 1


def test_whoever_sees_a_shared_session_does_not_decide_for_its_owner(people: dict[str, ServerApi]) -> None:
    approval = asked("approval")
    execution_id = start_asking(people["alice"], approval, runner=people["admin"])
    session_id = people["alice"].get_execution(execution_id)["session_id"]
    shared = {"shared_with": "everybody"}
    people["admin"].http.put(f"/v1/sessions/{session_id}/owner", json=shared).raise_for_status()

    seen = people["bob"].http.get(f"/v1/inputs/{approval['input_id']}")
    decided = decide(people["bob"], approval["input_id"], outcome="approved")

    assert seen.status_code == 200
    assert (decided.status_code, decided.json()["code"]) == (403, "forbidden")


def test_a_token_that_may_approve_may_do_nothing_else(people: dict[str, ServerApi]) -> None:
    for path in ("/v1/executions", "/v1/agents", "/v1/secrets", "/v1/sessions", "/v1/tokens"):
        assert people["approver"].http.get(path).status_code == 403
    assert people["approver"].http.get("/v1/inputs").status_code == 200


def test_a_decision_is_in_the_audit_trail(people: dict[str, ServerApi]) -> None:
    approval = asked("approval")
    start_asking(people["alice"], approval, runner=people["admin"])
    decide(people["approver"], approval["input_id"], outcome="approved").raise_for_status()

    def entries() -> list[dict[str, Any]]:
        page = people["admin"].http.get("/v1/audit", params={"limit": 500}).json()
        return [each for each in page["items"] if each["target"] == approval["input_id"]]

    wait_until(lambda: bool(entries()), "the decision is in the audit trail")
    [entry] = entries()
    assert (entry["scope"], entry["action"]) == ("approve", "POST /v1/inputs/{input_id}")


def test_of_many_who_decide_at_once_one_does(api: ServerApi, server: ServerProcess) -> None:
    """Answers, the expiry and a cancellation race; the log holds one resolution of each input."""
    expires = datetime.now(UTC) + timedelta(seconds=1)
    questions = [asked(expires_at=expires.isoformat()) for _ in range(6)]
    execution_ids = [start_asking(api, question) for question in questions]
    ready = threading.Barrier(4 * len(questions))

    def answer(question: dict[str, Any], number: int) -> int:
        with server.client() as client:
            ready.wait()
            return decide(client, question["input_id"], outcome="answered", answer=str(number)).status_code

    def cancel(execution_id: str) -> int:
        with server.client() as client:
            ready.wait()
            return client.http.post(f"/v1/executions/{execution_id}/cancel").status_code

    with ThreadPoolExecutor(4 * len(questions)) as pool:
        answers = [[pool.submit(answer, question, number) for number in range(3)] for question in questions]
        cancels = [pool.submit(cancel, execution_id) for execution_id in execution_ids]
        statuses = [Counter(each.result() for each in group) for group in answers]
        assert all(each.result() in (202, 409) for each in cancels)

    for execution_id, counted in zip(execution_ids, statuses, strict=True):
        [event] = resolutions(api, execution_id)
        assert counted[200] == (1 if event["outcome"] == "answered" else 0)
        assert counted[200] + counted[409] == 3
