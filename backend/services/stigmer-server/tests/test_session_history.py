"""A leg is granted the session's history in pieces, and only what comes after them as events."""

import json
from typing import Any

from server_process import ServerApi, completed, responded


def piece(turn: int, *messages: str, replaces: bool = False) -> dict[str, Any]:
    return {
        "type": "history.stored",
        "turn": turn,
        "messages": inline({"version": 1, "by": "a library", "messages": list(messages)}),
        "replaces": replaces,
        "usage": {"requests": turn},
        "counters": {"n": turn},
    }


def described(text: str) -> dict[str, Any]:
    return {
        "type": "environment.described",
        "text": text,
        "workspace": "/w",
        "time_zone": "UTC",
        "tools": [],
        "network": "none",
    }


def inline(value: object) -> dict[str, object]:
    return {"kind": "inline", "value": value}


def messages_in(grant: dict[str, Any]) -> list[list[str]]:
    return [payload["value"]["messages"] for payload in grant["history"]]


def types_in(grant: dict[str, Any]) -> list[str]:
    return [each for event in grant["events"] if (each := event["event"]["type"]) != "leg.lost"]


def run(api: ServerApi, session_id: str | None, *events: dict[str, Any]) -> dict[str, Any]:
    """An execution that appends these events, and ends."""
    more = {} if session_id is None else {"session_id": session_id}
    execution = api.create_execution(**more)
    api.start_leg(execution["execution_id"])
    api.append(execution["execution_id"], [*events, completed()]).raise_for_status()
    return execution


def test_a_leg_goes_on_behind_the_newest_piece(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    api.append(execution_id, [responded(1), piece(1, "a", replaces=True), responded(2), piece(2, "b")])
    api.append(execution_id, [responded(3)])

    grant = api.start_leg(execution_id)

    assert messages_in(grant) == [["a"], ["b"]]
    assert types_in(grant) == ["model.responded", "leg.started"]
    assert grant["events"][0]["sequence"] == 7
    assert (grant["resumption"]["turn"], grant["resumption"]["counters"]) == (2, {"n": 2})
    assert grant["resumption"]["usage"]["requests"] == 2
    assert grant["earlier"] == []


def test_the_sessions_next_execution_starts_from_the_pieces_and_what_they_do_not_hold(
    api: ServerApi,
) -> None:
    first = run(api, None, responded(1), piece(1, "a", replaces=True))
    session_id = first["session_id"]
    second = run(api, session_id, responded(1), piece(1, "b"), responded(2))
    third = run(api, session_id)
    fourth = api.create_execution(session_id=session_id)["execution_id"]

    grant = api.start_leg(fourth)

    assert messages_in(grant) == [["a"], ["b"]]
    assert grant["earlier"] == [
        {"execution_id": second["execution_id"], "after": 4},
        {"execution_id": third["execution_id"], "after": 0},
    ]
    assert grant["resumption"] is None
    assert types_in(grant) == ["execution.started", "leg.started"]
    assert len(grant["previous_execution_ids"]) == 3
    api.append(fourth, [responded(1), piece(1, "c")]).raise_for_status()
    again = api.start_leg(fourth)
    assert (messages_in(again), again["earlier"]) == ([["a"], ["b"], ["c"]], [])


def test_what_a_session_was_told_of_where_it_works_is_granted_to_all_of_its_later_legs(
    api: ServerApi,
) -> None:
    first = run(api, None, described("of the first"), responded(1))
    run(api, first["session_id"], responded(1))
    third = api.create_execution(session_id=first["session_id"])["execution_id"]
    api.start_leg(third)
    api.append(third, [described("of the third"), responded(1)]).raise_for_status()

    again = api.start_leg(third)
    another = api.start_leg(api.create_execution()["execution_id"])

    assert [each["text"] for each in again["environments"]] == ["of the first", "of the third"]
    assert another["environments"] == []


def test_what_was_before_replaced_messages_is_not_granted(api: ServerApi) -> None:
    first = run(api, None, responded(1), piece(1, "a", replaces=True), piece(2, "b", replaces=True))
    run(api, first["session_id"], piece(1, "c"))

    grant = api.start_leg(api.create_execution(session_id=first["session_id"])["execution_id"])

    assert messages_in(grant) == [["b"], ["c"]]


def test_a_part_of_a_piece_counts_only_with_its_rest(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    begun = piece(2, "b1") | {"more_follows": True}
    api.append(execution_id, [responded(1), piece(1, "a", replaces=True), begun]).raise_for_status()

    cut = api.start_leg(execution_id)
    api.append(execution_id, [begun, piece(2, "b2")], attempt=2).raise_for_status()
    whole = api.start_leg(execution_id)

    assert (messages_in(cut), cut["resumption"]["turn"]) == ([["a"]], 1)
    assert (messages_in(whole), whole["resumption"]["turn"]) == ([["a"], ["b1"], ["b2"]], 2)


def test_messages_to_the_execution_are_granted_though_a_piece_came_after_them(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    api.http.post(f"/v1/executions/{execution_id}/messages", json={"text": "Hurry."}).raise_for_status()
    api.append(execution_id, [responded(1), piece(1, "a", replaces=True)]).raise_for_status()

    grant = api.start_leg(execution_id)

    assert types_in(grant) == ["message.received", "leg.started"]


def test_a_runner_may_read_the_blob_of_an_earlier_executions_piece(api: ServerApi) -> None:
    token = api.http.post("/v1/tokens", json={"name": "history", "scope": "runner"}).json()["token"]
    first = api.create_execution()

    with ServerApi(str(api.http.base_url), token) as runner:
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(first["execution_id"])["lease"]
        sha256 = runner.store_blob(json.dumps({"version": 1, "by": "a", "messages": []}).encode())
        large = piece(1, replaces=True) | {"messages": {"kind": "blob", "sha256": sha256, "size_bytes": 9}}
        runner.append(first["execution_id"], [large, completed()]).raise_for_status()
        second = api.create_execution(session_id=first["session_id"])["execution_id"]
        grant = runner.start_leg(second)
        runner.http.headers["Stigmer-Lease"] = grant["lease"]

        assert runner.http.get(f"/v1/blobs/{grant['history'][0]['sha256']}").status_code == 200
