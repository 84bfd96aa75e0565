"""Executions with files: only what the caller has brought goes along."""

import hashlib
from itertools import count

import pytest

from server_process import ServerApi, ServerProcess, manifest

NAMES = count()


def token(api: ServerApi, owner: str, scope: str = "user") -> str:
    body = {"name": f"{owner}-{next(NAMES)}", "owner": owner, "scope": scope}
    text: str = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
    return text


def test_a_runner_is_given_the_files_that_came_with_the_input(api: ServerApi, server: ServerProcess) -> None:
    content = b"the bytes"
    with server.client(token(api, "alice-a")) as alice, server.client(token(api, "r", "runner")) as runner:
        sha256 = alice.store_blob(content)
        attached = [{"name": "ümlaut 1.bin", "sha256": sha256}]
        execution_id = alice.create_execution(attachments=attached)["execution_id"]
        whole = {"name": "ümlaut 1.bin", "sha256": sha256, "size_bytes": len(content)}
        assert alice.read_log(execution_id)[0]["event"]["attachments"] == [whole]

        grant = runner.start_leg(execution_id)
        assert grant["attachments"] == [whole]
        headers = {"Stigmer-Lease": grant["lease"]}
        assert runner.http.get(f"/v1/blobs/{sha256}", headers=headers).content == content


def test_what_somebody_else_has_stored_is_like_what_is_not_there(
    api: ServerApi, server: ServerProcess
) -> None:
    with server.client(token(api, "alice-b")) as alice, server.client(token(api, "bob-b")) as bob:
        mine, nowhere = alice.store_blob(b"alice's own"), hashlib.sha256(b"nobody's").hexdigest()
        answers = [
            bob.http.post(
                "/v1/executions",
                json={
                    "manifest": manifest(),
                    "input": "x",
                    "attachments": [{"name": "a.txt", "sha256": sha256}],
                },
            )
            for sha256 in (mine, nowhere)
        ]
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [
        (422, "invalid_request")
    ] * 2
    texts = [answer.text.replace(mine, "X").replace(nowhere, "X") for answer in answers]
    assert texts[0] == texts[1]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\nb", "\x1b[31m", "ü" * 128])
def test_a_name_that_is_none_is_refused(api: ServerApi, name: str) -> None:
    body = {
        "manifest": manifest(),
        "input": "x",
        "attachments": [{"name": name, "sha256": api.store_blob(b"x")}],
    }
    answer = api.http.post("/v1/executions", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_there_are_at_most_twenty_files(api: ServerApi) -> None:
    sha256 = api.store_blob(b"x")
    for number, status in ((20, 201), (21, 422)):
        attached = [{"name": f"{each}.txt", "sha256": sha256} for each in range(number)]
        body = {"manifest": manifest(), "input": "x", "attachments": attached}
        assert api.http.post("/v1/executions", json=body).status_code == status
