"""What is said to an execution at its end: either it is answered there, or it starts the session's next."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from server_process import ServerApi, completed, failed, manifest, responded


def send(api: ServerApi, execution_id: str, text: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.http.post(f"/v1/executions/{execution_id}/messages", json={"text": text}, headers=headers)


def leg_ended(seen: int | None, attempt: int = 1) -> dict[str, Any]:
    return {"type": "leg.ended", "attempt": attempt, "reason": "completed", "seen": seen}


def start(api: ServerApi, **body: Any) -> tuple[str, int]:
    """The id of a new execution, and its log's end when its leg began."""
    execution_id = api.create_execution(**body)["execution_id"]
    return execution_id, api.start_leg(execution_id)["execution"]["last_sequence"]


def test_an_execution_does_not_complete_before_its_last_message_was_seen(api: ServerApi) -> None:
    execution_id, seen = start(api)
    sequence = send(api, execution_id, "One more thing.").json()["sequence"]

    refused = api.append(execution_id, [responded(), leg_ended(seen), completed()])
    accepted = api.append(execution_id, [responded(), leg_ended(sequence), completed()])

    assert (refused.status_code, refused.json()["code"]) == (409, "woken")
    assert accepted.is_success
    types = [each["event"]["type"] for each in api.read_log(execution_id)]
    assert types.count("model.responded") == 1, "what is refused is refused as a whole"


def test_a_runner_of_before_that_does_not_say_what_it_saw_completes_all_the_same(api: ServerApi) -> None:
    execution_id, _ = start(api)
    send(api, execution_id, "One more thing.")

    assert api.append(execution_id, [leg_ended(None), completed()]).is_success


def test_a_runner_is_told_of_a_message_with_the_answer_to_an_append(api: ServerApi) -> None:
    execution_id, _ = start(api)
    before = api.append(execution_id, [responded()]).json()
    sequence = send(api, execution_id, "One more thing.").json()["sequence"]
    after = api.append(execution_id, [responded(2)]).json()

    assert (before["message_sequence"], after["message_sequence"]) == (0, sequence)


@pytest.mark.parametrize("end", [completed(), failed()])
def test_what_comes_after_the_end_starts_the_next_execution_and_says_which(
    api: ServerApi, end: dict[str, Any]
) -> None:
    execution_id, seen = start(api, manifest=manifest("talker"), model="replay:test")
    api.append(execution_id, [responded(), leg_ended(seen), end])

    sent = send(api, execution_id, "And now?")

    assert sent.status_code == 201
    told = sent.json()
    assert (told["sequence"], told["starts_execution"]) == (1, True)
    following = api.get_execution(told["execution_id"])
    assert following["session_id"] == api.get_execution(execution_id)["session_id"]
    assert (following["agent_name"], following["model"], following["input_head"], following["phase"]) == (
        "talker",
        "replay:test",
        "And now?",
        "pending",
    )
    assert api.start_leg(told["execution_id"])["input"] == {"kind": "inline", "value": "And now?"}


def test_what_comes_after_the_end_goes_to_the_sessions_execution_that_has_not_ended(api: ServerApi) -> None:
    execution_id, _ = start(api)
    api.append(execution_id, [completed()])
    following = send(api, execution_id, "And now?").json()["execution_id"]

    again = send(api, execution_id, "Wait, one more thing.").json()

    assert (again["execution_id"], again["starts_execution"]) == (following, False)
    assert (
        api.read_log(following)[again["sequence"] - 1]["event"]["message"]["value"] == "Wait, one more thing."
    )


def test_the_same_message_with_the_same_key_acts_once_on_both_sides_of_the_end(api: ServerApi) -> None:
    execution_id, seen = start(api)
    first = send(api, execution_id, "early", "one").json()
    api.append(execution_id, [leg_ended(first["sequence"]), completed()])
    assert seen < first["sequence"]
    key = uuid4().hex

    started = send(api, execution_id, "late", key)
    api.start_leg(started.json()["execution_id"])
    added = send(api, execution_id, "later", "another")
    api.append(started.json()["execution_id"], [completed()])

    assert send(api, execution_id, "early", "one").json() == first
    assert send(api, execution_id, "late", key).json() == started.json()
    assert send(api, execution_id, "later", "another").json() == added.json()
    other = send(api, execution_id, "something else", key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


def test_the_same_late_message_is_not_said_again_to_the_execution_that_it_started(api: ServerApi) -> None:
    execution_id, _ = start(api)
    api.append(execution_id, [completed()])
    key = uuid4().hex
    started = send(api, execution_id, "late", key)

    again = send(api, execution_id, "late", key)
    other = send(api, execution_id, "something else", key)

    assert (again.status_code, again.json()) == (201, started.json())
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(api.read_log(started.json()["execution_id"])) == 1


def test_the_same_key_starts_the_next_execution_of_each_session(api: ServerApi) -> None:
    key, following = uuid4().hex, set[str]()
    for _ in range(2):
        execution_id, _ = start(api)
        api.append(execution_id, [completed()])
        following.add(send(api, execution_id, "go on", key).json()["execution_id"])

    assert len(following) == 2


def test_an_execution_that_a_message_starts_asks_no_less_than_the_one_before(api: ServerApi) -> None:
    execution_id, _ = start(api, approve="ask")
    api.append(execution_id, [completed()])

    following = send(api, execution_id, "And now?").json()["execution_id"]

    assert api.start_leg(following)["approve"] == "ask"


@pytest.mark.parametrize("round_number", range(10))
def test_of_a_message_and_the_end_one_comes_first_and_both_sides_are_told(
    api: ServerApi, round_number: int
) -> None:
    execution_id, seen = start(api)
    with ThreadPoolExecutor(2) as threads:
        # Which of both is first is for the log to decide; each order has its one outcome.
        end = [leg_ended(seen), completed()]
        if round_number % 2:
            ending = threads.submit(api.append, execution_id, end)
            sending = threads.submit(send, api, execution_id, "quick")
        else:
            sending = threads.submit(send, api, execution_id, "quick")
            ending = threads.submit(api.append, execution_id, end)
        sent, ended = sending.result(), ending.result()
    phase = api.get_execution(execution_id)["phase"]

    assert sent.status_code == 201
    if ended.is_success:
        assert (phase, sent.json()["starts_execution"]) == ("completed", True)
    else:
        assert (phase, ended.json()["code"]) == ("in_progress", "woken")
        assert sent.json()["execution_id"] == execution_id
    assert (sent.json()["execution_id"] == execution_id) is not ended.is_success


def test_many_messages_to_what_has_ended_start_one_execution(api: ServerApi) -> None:
    execution_id, _ = start(api)
    api.append(execution_id, [completed()])

    with ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(send, api, execution_id, f"message {number}") for number in range(8)]
        sent = [call.result().json() for call in calls]

    assert len({each["execution_id"] for each in sent}) == 1
    assert [each["starts_execution"] for each in sent].count(True) == 1
