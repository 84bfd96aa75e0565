"""Snapshots over HTTP: they are for the session's owner alone, whoever else sees the session."""

import json
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import count

import pytest

from server_process import ServerApi, ServerProcess, completed, responded

NAMES = count()
LISTING, PACK, ANSWER = "listing", "pack", "answer"


@pytest.fixture
def people(api: ServerApi, server: ServerProcess) -> Iterator[dict[str, ServerApi]]:
    """Alice, whose session it is, and Bob, with whom it is shared."""
    with ExitStack() as stack:
        made = dict[str, ServerApi]()
        for name in ("alice", "bob"):
            body = {"name": f"snapshots-{name}-{next(NAMES)}", "scope": "user"}
            token: str = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
            made[name] = stack.enter_context(server.client(token))
        yield made


def session_with_snapshot(api: ServerApi, alice: ServerApi) -> tuple[str, str, dict[str, str]]:
    """An execution of Alice's that has ended, its session, and the blobs that its runner has brought."""
    execution = alice.create_execution()
    execution_id, session_id = execution["execution_id"], execution["session_id"]
    leg = api.start_leg(execution_id)
    api.http.headers["Stigmer-Lease"] = leg["lease"]
    try:
        brought = {
            name: api.store_blob(f'"{name} {next(NAMES)}"'.encode()) for name in (LISTING, PACK, ANSWER)
        }
        blobs = {
            name: {"kind": "blob", "sha256": sha256, "size_bytes": 9} for name, sha256 in brought.items()
        }
        taken = {
            "type": "snapshot.taken",
            "listing": blobs[LISTING],
            "contents": [blobs[PACK]],
            "entries": 1,
            "size_bytes": 20,
            "changed": 1,
            "duration_seconds": 0.1,
        }
        ended = completed() | {"output": blobs[ANSWER]}
        appended = api.append(execution_id, [responded(), taken, ended], attempt=leg["attempt"])
        assert appended.is_success, appended.text
    finally:
        del api.http.headers["Stigmer-Lease"]
    shared = {"shared_with": "everybody"}
    api.http.put(f"/v1/sessions/{session_id}/owner", json=shared).raise_for_status()
    return execution_id, session_id, brought


def readable(client: ServerApi, brought: dict[str, str]) -> list[str]:
    return [name for name, sha256 in brought.items() if client.http.get(f"/v1/blobs/{sha256}").is_success]


def test_with_whom_a_session_is_shared_reads_its_answers_and_not_its_files(
    api: ServerApi, people: dict[str, ServerApi]
) -> None:
    execution_id, _, brought = session_with_snapshot(api, people["alice"])
    whole = [LISTING, PACK, ANSWER]
    for _ in range(2):
        assert readable(people["alice"], brought) == whole
        assert readable(api, brought) == whole
        assert readable(people["bob"], brought) == [ANSWER]
        # A fork of it is another session with the same blobs, and may be shared as well.
        request = {"at": 1, "message": "And now?"}
        fork = people["alice"].http.post(f"/v1/executions/{execution_id}/fork", json=request)
        assert fork.status_code == 201, fork.text
        api.http.put(
            f"/v1/sessions/{fork.json()['session_id']}/owner", json={"shared_with": "everybody"}
        ).raise_for_status()
    for client, status in ((people["alice"], 200), (api, 200), (people["bob"], 403)):
        assert client.http.get(f"/v1/executions/{execution_id}/snapshot").status_code == status
    log = json.dumps(people["bob"].read_log(execution_id))
    assert brought[LISTING] in log  # to know the name is not enough


def test_a_deleted_session_leaves_nobody_its_snapshots(api: ServerApi, people: dict[str, ServerApi]) -> None:
    _, session_id, brought = session_with_snapshot(api, people["alice"])
    people["alice"].http.delete(f"/v1/sessions/{session_id}").raise_for_status()
    assert readable(people["alice"], brought) == []
