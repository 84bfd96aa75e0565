"""People are reminded of what waits long, and others told; kinds of calls that were approved are revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from asking import asked, decide, start_asking
from server_process import ServerApi, completed, wait_until
from stigmer_contract.identifiers import INPUT_PREFIX, new_id

RULE = '{"tool":"shell","when":"git push *","policy":"allow"}'


def moment(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def events_of(api: ServerApi, execution_id: str, kind: str) -> list[dict[str, Any]]:
    return [each["event"] for each in api.read_log(execution_id) if each["event"]["type"] == kind]


def wait_until_reminded(api: ServerApi, execution_id: str) -> dict[str, Any]:
    wait_until(lambda: bool(events_of(api, execution_id, "input.reminded")), "the reminder")
    [reminded] = events_of(api, execution_id, "input.reminded")
    return reminded


def test_people_are_reminded_once_of_what_is_open(api: ServerApi) -> None:
    approval = asked("approval", remind_at=moment(-1))
    later = asked(
        "approval", input_id=new_id(INPUT_PREFIX, after=approval["input_id"]), remind_at=moment(900)
    )
    execution_id = start_asking(api, approval, later)

    reminded = wait_until_reminded(api, execution_id)

    assert (reminded["input_id"], reminded["escalated_to"]) == (approval["input_id"], None)
    shown = api.http.get(f"/v1/inputs/{approval['input_id']}").json()
    assert shown["reminded_at"] is not None
    # The next one is of a round that comes after that.
    second = start_asking(api, asked("approval", remind_at=moment(-1)))
    wait_until_reminded(api, second)
    assert len(events_of(api, execution_id, "input.reminded")) == 1
    assert decide(api, approval["input_id"], outcome="approved").is_success
    assert api.get_execution(execution_id)["phase"] == "in_progress"


def _escalated(person: ServerApi, owner: str) -> list[str]:
    """The ids of the inputs that are listed to the person because they were escalated to them."""
    items = person.http.get("/v1/inputs").raise_for_status().json()["items"]
    return [item["input_id"] for item in items if item["escalated_to"] == owner]


def test_whom_it_is_escalated_to_sees_it_from_then_on_and_may_decide(people: dict[str, ServerApi]) -> None:
    bob = people["bob"]
    owner = bob.http.get("/v1/tokens/self").json()["owner"]
    approval = asked("approval", remind_at=moment(900), escalate={"owner": owner})
    execution_id = start_asking(people["alice"], approval, runner=people["admin"])
    path = f"/v1/inputs/{approval['input_id']}"
    assert (bob.http.get(path).status_code, _escalated(bob, owner)) == (404, [])

    soon = asked("approval", remind_at=moment(-1), escalate={"owner": owner})
    execution_id = start_asking(people["alice"], soon, runner=people["admin"])
    assert wait_until_reminded(people["alice"], execution_id)["escalated_to"] == owner

    assert _escalated(bob, owner) == [soon["input_id"]]
    assert bob.http.get(f"/v1/executions/{execution_id}").status_code == 404
    decided = decide(people["other"], soon["input_id"], outcome="approved")
    assert decided.status_code == 200
    assert decided.json()["resolution"]["resolved_by"].startswith("other-")
    assert people["alice"].get_execution(execution_id)["phase"] == "in_progress"
    assert _escalated(bob, owner) == []


@pytest.mark.parametrize(
    "event",
    [{"type": "input.reminded", "input_id": "inp_1"}, {"type": "grant.revoked", "input_id": "inp_1"}],
    ids=["a reminder", "a revocation"],
)
def test_no_runner_reminds_or_revokes(api: ServerApi, event: dict[str, Any]) -> None:
    execution_id: str = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    refused = api.append(execution_id, [event])
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")


# --- kinds of calls ---------------------------------------------------------------------------


def start_granting(api: ServerApi, runner: ServerApi | None = None) -> tuple[str, str]:
    """An execution in which a kind of call was approved, and the approval."""
    content: dict[str, Any] = {"toolset": "shell", "tool": "run_command", "arguments": {}, "kind_rule": RULE}
    approval = asked("approval", content={"kind": "inline", "value": content})
    execution_id = start_asking(api, approval, runner=runner)
    decide(api, approval["input_id"], outcome="approved", grants_kind=True).raise_for_status()
    return execution_id, approval["input_id"]


def test_a_kind_that_was_approved_is_listed_and_revoked_once(api: ServerApi) -> None:
    execution_id, input_id = start_granting(api)
    path = f"/v1/executions/{execution_id}/grants"
    [granted] = api.http.get(path).json()["items"]
    assert (granted["input_id"], granted["rule"]["when"]) == (input_id, "git push *")
    assert (granted["granted_by"], granted["revoked_at"]) == ("administrator", None)

    revoked = [api.http.delete(f"{path}/{input_id}") for _ in range(2)]

    assert [each.status_code for each in revoked] == [200, 200]
    assert revoked[0].json() == revoked[1].json() == api.http.get(path).json()["items"][0]
    assert revoked[0].json()["revoked_by"] == "administrator"
    [event] = events_of(api, execution_id, "grant.revoked")
    assert (event["input_id"], event["origin"]) == (input_id, "127.0.0.1")


def test_approving_a_kind_approves_what_waits_of_it_already(api: ServerApi) -> None:
    def of_kind(rule: str | None, **fields: Any) -> dict[str, Any]:
        call: dict[str, Any] = {"toolset": "shell", "tool": "run_command", "arguments": {}}
        content = {"kind": "inline", "value": call | {"kind_rule": rule}}
        return asked("approval", content=content, **fields)

    long_ago = "2026-01-01T00:00:00Z"
    first, same, other, none, expired = (
        of_kind(RULE),
        of_kind(RULE),
        of_kind(RULE.replace("push", "pull")),
        of_kind(None),
        of_kind(RULE, expires_at=long_ago),
    )
    execution_id = start_asking(api, first, same, other, none, expired)
    key = uuid4().hex

    granted = decide(api, first["input_id"], key, outcome="approved", grants_kind=True)
    again = decide(api, first["input_id"], key, outcome="approved", grants_kind=True)
    late = decide(api, same["input_id"], outcome="denied")

    assert (granted.status_code, again.status_code, late.status_code) == (200, 200, 409)
    by_id = {event["input_id"]: event for event in events_of(api, execution_id, "input.resolved")}
    assert by_id.keys() - {expired["input_id"]} == {first["input_id"], same["input_id"]}
    assert by_id[same["input_id"]] == {
        "type": "input.resolved",
        "input_id": same["input_id"],
        "outcome": "approved",
        "resolved_by": "administrator",
        "origin": "127.0.0.1",
        "reason": None,
        "answer": None,
        "arguments": None,
        "grants": None,
        "granted_with": first["input_id"],
    }
    # Nobody approves what has expired; that is written down by whoever looks for it.
    assert by_id.get(expired["input_id"], {"outcome": "expired"})["outcome"] == "expired"


def test_what_was_never_granted_or_has_ended_is_said(api: ServerApi) -> None:
    execution_id, input_id = start_granting(api)
    path = f"/v1/executions/{execution_id}/grants"
    assert api.http.delete(f"{path}/inp_none").status_code == 404
    attempt: int = api.start_leg(execution_id)["attempt"]
    assert api.append(execution_id, [completed()], attempt=attempt).is_success
    late = api.http.delete(f"{path}/{input_id}")
    assert (late.status_code, late.json()["code"]) == (409, "execution_ended")


def test_a_leg_that_begins_behind_a_stored_piece_knows_what_was_revoked(api: ServerApi) -> None:
    execution_id, input_id = start_granting(api)
    leg = api.start_leg(execution_id)
    api.http.delete(f"/v1/executions/{execution_id}/grants/{input_id}").raise_for_status()
    piece: dict[str, Any] = {
        "type": "history.stored",
        "turn": 1,
        "messages": {"kind": "inline", "value": {"version": 1, "by": "x", "messages": []}},
        "replaces": True,
        "usage": {},
    }
    assert api.append(execution_id, [piece], attempt=leg["attempt"]).is_success
    types = [each["event"]["type"] for each in api.start_leg(execution_id)["events"]]
    assert types[:2] == ["input.resolved", "grant.revoked"]


def test_another_s_grants_are_not_there(people: dict[str, ServerApi]) -> None:
    execution_id, input_id = start_granting(people["alice"], people["admin"])
    path = f"/v1/executions/{execution_id}/grants"
    assert (people["bob"].http.get(path).status_code, people["bob"].http.delete(f"{path}/x").status_code) == (
        404,
        404,
    )
    assert people["approver"].http.delete(f"{path}/{input_id}").status_code == 200
