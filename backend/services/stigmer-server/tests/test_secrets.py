"""Secrets over HTTP: kept encrypted, given to legs only, and never lost by a change of the key."""

import base64
import os
import sqlite3
import stat
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from server_process import ServerApi, ServerFactory, ServerProcess, manifest

VALUE = "canary-5b1f0c77-value"


@pytest.fixture
def name() -> str:
    return f"SECRET_{uuid4().hex[:8]}"


def set_secret(api: ServerApi, name: str, value: str = VALUE) -> httpx.Response:
    return api.http.put(f"/v1/secrets/{name}", json={"value": value})


def using(*names: str) -> dict[str, Any]:
    """A manifest whose commands get these secrets."""
    return manifest(tools=["shell"], env={"MODE": "fast", **{name: {"secret": name} for name in names}})


def revealed(api: ServerApi, *names: str) -> dict[str, str]:
    """What a leg that needs these secrets is given."""
    execution_id = api.create_execution(manifest=using(*names))["execution_id"]
    secrets: dict[str, str] = api.start_leg(execution_id)["secrets"]
    return secrets


def test_a_secret_is_set_listed_and_deleted_and_its_value_never_told(api: ServerApi, name: str) -> None:
    answers = [set_secret(api, name), set_secret(api, name, f"{VALUE}-2"), api.http.get("/v1/secrets")]

    assert [answer.status_code for answer in answers] == [201, 200, 200]
    assert set(answers[1].json()) == {"name", "created_at", "updated_at", "owner", "shared_with"}
    assert name in [secret["name"] for secret in answers[2].json()["items"]]
    assert all(VALUE not in answer.text for answer in answers)
    assert api.http.delete(f"/v1/secrets/{name}").status_code == 204
    assert api.http.delete(f"/v1/secrets/{name}").status_code == 404


def test_a_value_that_could_not_be_masked_is_refused_and_not_repeated(api: ServerApi, name: str) -> None:
    answer = set_secret(api, name, "short-1")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["detail"] == (
        "body.value: Value error, a secret has at least 8 characters: a shorter one could not be masked"
    )
    assert "short-1" not in answer.text


def test_a_value_with_half_a_character_is_refused_and_not_repeated(api: ServerApi, name: str) -> None:
    body = b'{"value": "\\ud800aaaaaaaaaa"}'
    answer = api.http.put(f"/v1/secrets/{name}", content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert "aaaaaaaaaa" not in answer.text


def test_an_execution_has_at_most_64_secrets_and_64_kib_of_them(api: ServerApi, name: str) -> None:
    names = [f"{name}_{number}" for number in range(65)]
    for one in names:
        set_secret(api, one)
    large = [f"{name}_LARGE_{number}" for number in range(3)]
    for one, size in zip(large, (32_768, 32_760, 9), strict=True):
        set_secret(api, one, "x" * size)

    def create(*chosen: str) -> httpx.Response:
        return api.http.post("/v1/executions", json={"manifest": using(*chosen), "input": "x"})

    refused = [create(*names), create(*large)]
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [
        (422, "invalid_request")
    ] * 2
    assert [answer.json()["detail"] for answer in refused] == [
        "the agent names 65 secrets; an execution has at most 64",
        "the agent's secrets have 65537 bytes in all; those of an execution have at most 65536",
    ]
    assert create(*names[:64]).status_code == 201
    assert create(*large[:2]).status_code == 201


def test_a_leg_gets_the_secrets_that_its_agent_names_and_no_other(api: ServerApi, name: str) -> None:
    set_secret(api, name)
    set_secret(api, f"{name}_OTHER", "another-value")

    assert revealed(api, name) == {name: VALUE}
    assert revealed(api) == {}
    set_secret(api, name, "rotated-by-hand")
    assert revealed(api, name) == {name: "rotated-by-hand"}


def test_an_agent_whose_secret_is_missing_is_not_run(api: ServerApi, name: str) -> None:
    answer = api.http.post("/v1/executions", json={"manifest": using(name), "input": "x"})

    assert (answer.status_code, answer.json()["code"]) == (422, "secret_missing")
    assert answer.json()["detail"] == f"the agent needs the secret '{name}', which is not there"
    assert answer.json()["hint"] == f"run `stigmer secrets set {name}`"


def test_a_secret_that_is_deleted_meanwhile_is_left_out_of_the_leg(api: ServerApi, name: str) -> None:
    set_secret(api, name)
    execution_id = api.create_execution(manifest=using(name))["execution_id"]
    api.http.delete(f"/v1/secrets/{name}")

    assert api.start_leg(execution_id)["secrets"] == {}


def test_changing_the_key_again_and_again_while_secrets_are_set_loses_none(api: ServerApi, name: str) -> None:
    names = [f"{name}_{number}" for number in range(12)]

    def act(number: int) -> int:
        if number % 3 == 0:
            return api.http.post("/v1/secrets/rotate-key").status_code
        return set_secret(api, names[number % len(names)], f"{VALUE}-{number % len(names)}").status_code

    with ThreadPoolExecutor(6) as threads:
        assert set(threads.map(act, range(48))) <= {200, 201}
    stored = {one: f"{VALUE}-{number}" for number, one in enumerate(names) if number % 3}
    assert revealed(api, *stored) == stored


# --- the files of a server of one's own -------------------------------------------------------


def every_byte_under(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


def test_no_file_of_the_server_holds_a_value_or_beside_the_secrets_the_key(
    start_server: ServerFactory, name: str
) -> None:
    server = start_server()
    with server.client() as api:
        set_secret(api, name)
        assert revealed(api, name) == {name: VALUE}
    key_file = server.home / "secrets.key"
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    key = key_file.read_text(encoding="ascii").strip()
    written = every_byte_under(server.home).replace(key_file.read_bytes(), b"", 1)
    assert name.encode() in written  # the search does look at the right place
    for form in (VALUE.encode(), base64.b64encode(VALUE.encode())[:-4], VALUE.encode().hex().encode()):
        assert form not in written
    assert key.encode() not in written
    assert base64.b64decode(key) not in written


def test_a_new_key_replaces_the_old_one_and_every_ciphertext(start_server: ServerFactory, name: str) -> None:
    server = start_server()
    key_file = server.home / "secrets.key"
    with server.client() as api:
        set_secret(api, name)
        before, rows = key_file.read_text(encoding="ascii"), ciphertexts(server)

        answer = api.http.post("/v1/secrets/rotate-key").json()

        assert answer == {"reencrypted": 1, "old_keys_removed": True}
        assert len(key_file.read_text(encoding="ascii").split()) == 1
        assert key_file.read_text(encoding="ascii") != before
        assert ciphertexts(server) != rows
        assert revealed(api, name) == {name: VALUE}


def test_a_change_of_key_that_is_killed_at_any_moment_leaves_every_secret_readable(
    start_server: ServerFactory, name: str
) -> None:
    server = start_server()
    values = {f"{name}_{number}": f"{VALUE}-{number}" for number in range(20)}
    with server.client() as api:
        for one, value in values.items():
            set_secret(api, one, value)
    for kill in range(8):
        begun = threading.Event()

        def rotate(begun: threading.Event = begun) -> None:
            with server.client() as api:
                try:
                    while True:
                        begun.set()
                        api.http.post("/v1/secrets/rotate-key").raise_for_status()
                except httpx.TransportError:
                    return

        thread = threading.Thread(target=rotate)
        thread.start()
        begun.wait(5)
        thread.join(0.003 + 0.011 * kill)  # so that the kills fall on different steps
        server.kill()
        thread.join(10)
        server.start()
        with server.client() as api:
            assert revealed(api, *values) == values
            assert api.http.post("/v1/secrets/rotate-key").json() == {
                "reencrypted": 20,
                "old_keys_removed": True,
            }


def test_a_key_file_that_the_server_cannot_write_is_changed_by_whoever_keeps_it(
    start_server: ServerFactory, tmp_path: Path, name: str
) -> None:
    key_file = tmp_path / "secrets.key"
    old, new = (base64.b64encode(os.urandom(32)).decode() for _ in range(2))
    key_file.write_text(f"{old}\n", encoding="ascii")
    with key_file.open("rb") as opened:
        # A folder in which not even root can make a file.
        path = f"/proc/{os.getpid()}/fd/{opened.fileno()}"
        server = start_server(environment={"STIGMER_SECRETS_KEY_FILE": path})
        with server.client() as api:
            set_secret(api, name)
            refused = api.http.post("/v1/secrets/rotate-key")
            assert (refused.status_code, refused.json()["code"]) == (409, "conflict")

            key_file.write_text(f"{new}\n{old}\n", encoding="ascii")
            answer = api.http.post("/v1/secrets/rotate-key")
            assert answer.json() == {"reencrypted": 1, "old_keys_removed": False}

            key_file.write_text(f"{new}\n", encoding="ascii")
            assert revealed(api, name) == {name: VALUE}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        ("", "it is empty"),
        ("bm90IGEga2V5\n", "line 1 is not base64 of 32 bytes"),
        ("kein schlüssel", "it is not text"),
    ],
)
def test_a_key_file_that_cannot_be_used_is_told_with_its_reason(
    start_server: ServerFactory, tmp_path: Path, name: str, content: str | None, reason: str
) -> None:
    key_file = tmp_path / "secrets.key"
    if content is not None:
        key_file.write_text(content, encoding="utf-8")
    server = start_server(environment={"STIGMER_SECRETS_KEY_FILE": str(key_file)})
    with server.client() as api:
        answer = set_secret(api, name)
    assert (answer.status_code, answer.json()["code"]) == (409, "secrets_key_unusable")
    assert answer.json()["detail"] == f"could not use the secrets' key file {str(key_file)!r}: {reason}"


def test_without_its_key_a_secret_is_not_readable_and_no_new_key_is_made(
    start_server: ServerFactory, name: str
) -> None:
    server = start_server()
    with server.client() as api:
        set_secret(api, name)
        (server.home / "secrets.key").unlink()

        answer = set_secret(api, f"{name}_2")

        assert (answer.status_code, answer.json()["code"]) == (409, "secrets_key_unusable")
        assert revealed(api, name) == {}
        assert "is not in the key file" in server.log_file.read_text(encoding="utf-8")
        assert VALUE not in server.log_file.read_text(encoding="utf-8")


def test_a_ciphertext_moved_to_another_name_does_not_decrypt(start_server: ServerFactory, name: str) -> None:
    server = start_server()
    with server.client() as api:
        set_secret(api, name)
        set_secret(api, f"{name}_PUBLIC", "something-else")
        with closing(sqlite3.connect(server.home / "data" / "stigmer.db")) as database, database:
            database.execute(
                "UPDATE secrets SET ciphertext = (SELECT ciphertext FROM secrets WHERE name = ?)"
                " WHERE name = ?",
                (name, f"{name}_PUBLIC"),
            )
        assert revealed(api, f"{name}_PUBLIC") == {}
        assert revealed(api, name) == {name: VALUE}


def ciphertexts(server: ServerProcess) -> list[bytes]:
    with closing(sqlite3.connect(server.home / "data" / "stigmer.db")) as database:
        return [row[0] for row in database.execute("SELECT ciphertext FROM secrets ORDER BY name")]
