"""A runner's token reaches only the executions that it leases: not by guessing, nor with another's lease."""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from server_process import RUNNER_TOKEN, ServerApi, ServerProcess, completed, responded
from stigmer_contract.events import LOG_FORMAT

DELTA = {"type": "model.delta", "turn": 1, "text": "x"}
LEASE = "Stigmer-Lease"


@pytest.fixture
def runner(server: ServerProcess) -> Iterator[ServerApi]:
    """A runner with the token that the environment names."""
    with server.client(RUNNER_TOKEN) as client:
        yield client


@pytest.fixture
def other(server: ServerProcess, api: ServerApi) -> Iterator[ServerApi]:
    """A runner with a token of its own."""
    request = {"name": f"other-{uuid4().hex[:12]}", "scope": "runner"}
    with server.client(api.http.post("/v1/tokens", json=request).json()["token"]) as client:
        yield client


def statuses_of_calls(runner: ServerApi, execution_id: str, lease: str | None) -> dict[str, int]:
    """How every call that a leg makes is answered; with a legal body, since it must not be that."""
    headers = {} if lease is None else {LEASE: lease}
    content = uuid4().hex.encode()
    events = f"/v1/executions/{execution_id}/events"
    append = {"attempt": 1, "append_id": uuid4().hex, "events": [responded()]}
    live = {"attempt": 1, "events": [DELTA]}
    blob = f"/v1/blobs/{hashlib.sha256(content).hexdigest()}"
    answers = {
        "append": runner.http.post(events, json=append, headers=headers),
        "publish": runner.http.post(f"/v1/executions/{execution_id}/live", json=live, headers=headers),
        "read": runner.http.get(events, headers=headers),
        "store": runner.http.put(blob, content=content, headers=headers),
    }
    return {name: answer.status_code for name, answer in answers.items()}


ALL_REFUSED = dict.fromkeys(("append", "publish", "read", "store"), 403)


def test_with_its_lease_a_runner_does_all_that_a_leg_needs(api: ServerApi, runner: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    lease = runner.start_leg(execution_id)["lease"]

    statuses = statuses_of_calls(runner, execution_id, lease)

    assert statuses == {"append": 200, "publish": 204, "read": 200, "store": 200}


def test_without_a_lease_a_runner_does_nothing(api: ServerApi, runner: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    runner.start_leg(execution_id)

    assert statuses_of_calls(runner, execution_id, None) == ALL_REFUSED


@pytest.mark.parametrize("change", ["", "x", ":::", "exe:1:", "exe:9999999999999:00", "exe:²:00"])
def test_a_lease_that_was_never_issued_opens_nothing(api: ServerApi, runner: ServerApi, change: str) -> None:
    execution_id = api.create_execution()["execution_id"]
    runner.start_leg(execution_id)

    headers = [(LEASE.encode(), change.encode())]
    answer = runner.http.get(f"/v1/executions/{execution_id}/events", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


def test_a_lease_opens_no_other_execution(api: ServerApi, runner: ServerApi) -> None:
    mine, strange = (api.create_execution()["execution_id"] for _ in range(2))
    lease = runner.start_leg(mine)["lease"]
    api.start_leg(strange)

    statuses = statuses_of_calls(runner, strange, lease)

    # A blob is stored for the lease's own execution; it is not said for which one.
    assert statuses == ALL_REFUSED | {"store": 200}


def test_anothers_lease_opens_nothing(api: ServerApi, runner: ServerApi, other: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    lease = runner.start_leg(execution_id)["lease"]

    assert statuses_of_calls(other, execution_id, lease) == ALL_REFUSED


def test_a_lease_of_an_older_attempt_opens_nothing(
    api: ServerApi, runner: ServerApi, other: ServerApi
) -> None:
    execution_id = api.create_execution()["execution_id"]
    lease = runner.start_leg(execution_id)["lease"]
    other.start_leg(execution_id)

    statuses = statuses_of_calls(runner, execution_id, lease)

    assert statuses == dict.fromkeys(("append", "publish", "read", "store"), 409)


def test_a_lease_ends_with_its_execution(api: ServerApi, runner: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    lease = runner.start_leg(execution_id)["lease"]
    runner.http.headers[LEASE] = lease
    assert runner.append(execution_id, [completed()]).status_code == 200

    statuses = statuses_of_calls(runner, execution_id, lease)

    assert statuses == dict.fromkeys(("append", "publish", "read", "store"), 409)


def test_a_lease_opens_what_came_earlier_in_the_session_and_nothing_later(
    api: ServerApi, runner: ServerApi
) -> None:
    first = api.create_execution()
    session_id = first["session_id"]
    lease_of_first = runner.start_leg(first["execution_id"])["lease"]
    runner.http.headers[LEASE] = lease_of_first
    runner.append(first["execution_id"], [completed()]).raise_for_status()
    second = api.create_execution(session_id=session_id)["execution_id"]
    stranger = api.create_execution()["execution_id"]
    runner.http.headers[LEASE] = runner.start_leg(second)["lease"]

    def status(execution_id: str) -> int:
        return runner.http.get(f"/v1/executions/{execution_id}/events").status_code

    assert [status(one) for one in (first["execution_id"], second, stranger, "exe_none")] == [
        200,
        200,
        403,
        403,
    ]


def test_a_runner_reads_only_blobs_that_were_brought_to_its_session(
    api: ServerApi, runner: ServerApi
) -> None:
    def store(client: ServerApi) -> str:
        content = json.dumps(uuid4().hex).encode()
        sha256 = hashlib.sha256(content).hexdigest()
        client.http.put(f"/v1/blobs/{sha256}", content=content).raise_for_status()
        return sha256

    def event_with(sha256: str) -> dict[str, Any]:
        return responded() | {"response": {"kind": "blob", "sha256": sha256, "size_bytes": 34}}

    strange = store(api)
    first = api.create_execution()
    runner.http.headers[LEASE] = runner.start_leg(first["execution_id"])["lease"]
    earlier = store(runner)
    runner.append(first["execution_id"], [event_with(earlier), completed()]).raise_for_status()
    second = api.create_execution(session_id=first["session_id"])["execution_id"]
    runner.http.headers[LEASE] = runner.start_leg(second)["lease"]
    own = store(runner)
    # To name a blob is not to have it.
    runner.append(second, [event_with(own), event_with(strange)]).raise_for_status()

    statuses = {
        one: runner.http.get(f"/v1/blobs/{one}").status_code for one in (own, earlier, strange, "0" * 64)
    }

    assert statuses == {own: 200, earlier: 200, strange: 403, "0" * 64: 403}


def brought(content: bytes, sha256: str | None = None) -> dict[str, str]:
    """A blob as an append brings it along."""
    return {
        "sha256": sha256 or hashlib.sha256(content).hexdigest(),
        "content": base64.b64encode(content).decode(),
    }


def test_a_blob_that_an_append_brings_along_is_the_sessions_with_the_event_that_names_it(
    api: ServerApi, runner: ServerApi
) -> None:
    def names(blob: dict[str, str]) -> dict[str, Any]:
        return responded() | {"response": {"kind": "blob", "sha256": blob["sha256"], "size_bytes": 34}}

    def append(events: list[dict[str, Any]], *blobs: dict[str, str], attempt: int = 1) -> tuple[int, str]:
        request = {
            "attempt": attempt,
            "append_id": uuid4().hex,
            "log_format": LOG_FORMAT,
            "events": events,
            "blobs": list(blobs),
        }
        answer = runner.http.post(f"/v1/executions/{execution_id}/events", json=request)
        return answer.status_code, answer.json().get("code", "")

    def read(blob: dict[str, str]) -> int:
        return runner.http.get(f"/v1/blobs/{blob['sha256']}").status_code

    execution_id = api.create_execution()["execution_id"]
    grant = runner.start_leg(execution_id)
    runner.http.headers[LEASE] = grant["lease"]
    one, another = (brought(uuid4().bytes + b"\0\xff") for _ in range(2))
    large, false = brought(bytes(64 * 1024 + 1) + uuid4().bytes), brought(b"this", "0" * 64)

    assert grant["takes_blobs"]
    assert append([names(one), names(another)], one, another) == (200, "")
    assert append([names(large)], large) == (422, "invalid_request")
    assert append([names(false)], false) == (422, "digest_mismatch")
    # What is refused leaves its blobs to nobody.
    refused = brought(uuid4().bytes)
    assert (
        append([{"type": "leg.started", "attempt": 9, "runner": "x", "runner_version": "0"}], refused)[0]
        == 422
    )
    assert [read(each) for each in (one, another, large, false, refused)] == [200, 200, 403, 403, 403]
    content = runner.http.get(f"/v1/blobs/{one['sha256']}").content
    assert hashlib.sha256(content).hexdigest() == one["sha256"]
    assert [event["event"]["type"] for event in api.read_log(execution_id)][2:] == ["model.responded"] * 2
    # Another session's runner has nothing of it, and an attempt that is over brings nothing.
    late = brought(uuid4().bytes)
    runner.start_leg(execution_id)
    assert append([names(late)], late) == (409, "attempt_superseded")
    runner.http.headers[LEASE] = runner.start_leg(api.create_execution()["execution_id"])["lease"]
    assert [read(each) for each in (one, late)] == [403, 403]
