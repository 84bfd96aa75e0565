"""What runners do over HTTP: take executions, append once only, and be fenced off."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from server_process import ServerApi, ServerProcess, completed, responded
from stigmer_server.database.postgres import CONNECTIONS

AT_ONCE = 50
LEG_ENDED = {"type": "leg.ended", "attempt": 1, "reason": "completed"}
LEG_WAITING: dict[str, Any] = {
    "type": "leg.ended",
    "attempt": 1,
    "reason": "waiting",
    "waiting_for": [{"kind": "message"}],
    "seen": 2,
}


def _told(last_sequence: int) -> dict[str, Any]:
    """What an append is answered where nothing else has happened."""
    return {
        "last_sequence": last_sequence,
        "cancel_requested": False,
        "message_sequence": 0,
        "is_paused": False,
    }


def test_a_leg_is_granted_with_everything_it_needs(api: ServerApi) -> None:
    execution = api.create_execution(workspace="/srv/project", input="hello")

    grant = api.start_leg(execution["execution_id"])

    assert grant["attempt"] == 1
    assert grant["execution"]["phase"] == "in_progress"
    assert grant["workspace"] == "/srv/project"
    assert grant["input"] == {"kind": "inline", "value": "hello"}
    assert grant["previous_execution_ids"] == []
    assert [event["event"]["type"] for event in grant["events"]] == ["execution.started", "leg.started"]
    assert grant["events"] == api.read_log(execution["execution_id"])


def test_an_older_attempt_can_neither_append_nor_publish(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    api.append(execution_id, [responded(1)])
    api.start_leg(execution_id)

    append = api.append(execution_id, [responded(2)], attempt=1)
    live = api.publish(execution_id, [{"type": "model.delta", "turn": 2, "text": "x"}], attempt=1)

    assert (append.status_code, append.json()["code"]) == (409, "attempt_superseded")
    assert (live.status_code, live.json()["code"]) == (409, "attempt_superseded")
    assert api.append(execution_id, [responded(2)], attempt=2).json()["last_sequence"] == 6


def test_an_attempt_that_was_never_granted_is_refused(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]

    assert api.append(execution_id, [responded()], attempt=1).status_code == 422


def test_attempts_that_race_write_a_log_without_gaps_or_strangers(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    takeover = threading.Event()

    def write(attempt: int) -> list[int]:
        written: list[int] = []
        for turn in range(200):
            answer = api.append(execution_id, [responded(turn + 1, f"by {attempt}")], attempt=attempt)
            if answer.status_code == 409:
                assert answer.json()["code"] == "attempt_superseded"
                return written
            written.append(answer.json()["last_sequence"])
            if len(written) == 20:
                takeover.set()
        return written

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(write, 1)
        assert takeover.wait(30)
        grant = api.start_leg(execution_id)
        for turn in range(20):
            api.append(execution_id, [responded(turn + 1, "by 2")], attempt=2)
        written_by_first = first.result(30)

    log = api.read_log(execution_id)
    assert [event["sequence"] for event in log] == list(range(1, len(log) + 1))
    border = grant["events"][-1]["sequence"]
    assert all(event["attempt"] in (None, 1) for event in log[: border - 1])
    assert all(event["attempt"] == 2 for event in log[border - 1 :])
    assert all(sequence < border for sequence in written_by_first)
    assert len(written_by_first) < 200


def test_a_repeated_append_changes_nothing_and_is_answered_alike(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    append_id = uuid4().hex

    first = api.append(execution_id, [responded(1), responded(2)], append_id=append_id).json()
    api.append(execution_id, [responded(3)])
    again = api.append(execution_id, [responded(1), responded(2)], append_id=append_id).json()

    assert first == again == _told(last_sequence=4)
    assert len(api.read_log(execution_id)) == 5
    assert api.get_execution(execution_id)["usage"]["requests"] == 3


def test_a_repeated_append_is_answered_alike_when_it_ended_the_execution_or_was_superseded(
    api: ServerApi,
) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    superseded, ending = uuid4().hex, uuid4().hex
    api.append(execution_id, [responded(1)], append_id=superseded)
    api.start_leg(execution_id)
    end = [{**LEG_ENDED, "attempt": 2}, completed()]
    api.append(execution_id, end, attempt=2, append_id=ending)

    assert api.append(execution_id, [responded(1)], append_id=superseded).json()["last_sequence"] == 3
    assert api.append(execution_id, end, attempt=2, append_id=ending).json()["last_sequence"] == 7


def test_the_same_append_sent_at_once_is_written_once(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    append_id = uuid4().hex

    def append(_: int) -> object:
        return api.append(execution_id, [responded()], append_id=append_id).json()

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(append, range(8)))

    assert answers == [_told(last_sequence=3)] * 8
    assert len(api.read_log(execution_id)) == 3


def test_nothing_is_added_after_the_end(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    api.append(execution_id, [LEG_ENDED, completed()])

    append = api.append(execution_id, [responded()])
    live = api.publish(execution_id, [{"type": "model.delta", "turn": 1, "text": "x"}])
    leg = api.http.post(f"/v1/executions/{execution_id}/legs", json={"runner": "1@a", "runner_version": "0"})

    assert [(answer.status_code, answer.json()["code"]) for answer in (append, live, leg)] == [
        (409, "execution_ended")
    ] * 3


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([completed(), responded()], 409, "illegal_move"),
        ([completed(), completed()], 409, "illegal_move"),
        ([LEG_WAITING, completed()], 409, "illegal_move"),
        (
            [{"type": "leg.started", "attempt": 1, "runner": "1@a", "runner_version": "0"}],
            422,
            "invalid_request",
        ),
        ([{**LEG_ENDED, "attempt": 7}], 422, "invalid_request"),
        ([{"type": "no.such.event"}], 422, "invalid_request"),
        ([], 422, "invalid_request"),
        ([responded()] * 101, 422, "invalid_request"),
        ([responded(text="x" * 70_000)], 413, "payload_too_large"),
    ],
)
def test_a_refused_append_writes_nothing_of_it(
    api: ServerApi, events: list[dict[str, Any]], status: int, code: str
) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)

    answer = api.append(execution_id, events)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(api.read_log(execution_id)) == 2


def test_a_payload_of_exactly_the_limit_stands_in_the_log(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    empty = json.dumps(responded(text="")["response"]["value"], separators=(",", ":"))
    text = "x" * (64 * 1024 - len(empty))

    assert api.append(execution_id, [responded(text=text)]).status_code == 200
    assert api.append(execution_id, [responded(text=text + "x")]).status_code == 413


def test_what_a_runner_writes_comes_back_as_it_was(api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    value = {
        "nul": "\0",
        "emoji": "🦉",
        "quote": '"\\',
        "number": 1e300,
        "deep": [[[None, True]]],
        "line": "\u2028\r\n",
    }
    event = {**responded(), "response": {"kind": "inline", "value": value}}

    api.append(execution_id, [event])

    assert api.read_log(execution_id)[-1]["event"]["response"] == {"kind": "inline", "value": value}


def test_fifty_executions_at_once_keep_their_own_logs_with_fewer_connections(server: ServerProcess) -> None:
    """Of the database; who gets none waits for one."""
    assert CONNECTIONS < AT_ONCE

    def work(number: int) -> tuple[list[int], dict[str, Any]]:
        with server.client() as api:
            execution_id = api.create_execution()["execution_id"]
            api.start_leg(execution_id)
            for turn in range(1, 5):
                answer = api.append(execution_id, [responded(turn, f"{number}", input_tokens=number)])
                assert answer.json()["last_sequence"] == turn + 2
            api.append(execution_id, [LEG_ENDED, completed(str(number))])
            return [event["sequence"] for event in api.read_log(execution_id)], api.get_execution(
                execution_id
            )

    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(work, range(AT_ONCE)))

    for number, (sequences, execution) in enumerate(results):
        assert sequences == list(range(1, 9))
        assert execution["usage"]["input_tokens"] == 4 * number
        assert execution["output"] == {"kind": "inline", "value": str(number)}
