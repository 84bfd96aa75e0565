"""Limits on calls and requests, the headers of every answer, and the audit trail."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import httpx
import pytest

from server_process import (
    RUNNER_TOKEN,
    TOKEN,
    ServerApi,
    ServerFactory,
    ServerProcess,
    completed,
    manifest,
    wait_until,
)

SECURITY_HEADERS = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "cache-control": "no-store",
}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/healthz"),
        ("GET", "/readyz"),
        ("GET", "/v1/agents"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/nowhere"),
        ("PATCH", "/v1/agents"),
        ("POST", "/v1/executions"),
        ("GET", "/v1/executions/exe_none"),
    ],
)
def test_every_answer_carries_the_security_headers(api: ServerApi, method: str, path: str) -> None:
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Host": "evil.example"}):
        answer = api.http.request(method, path, headers=headers)
        assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_a_blob_may_be_kept_by_who_read_it(api: ServerApi) -> None:
    digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    api.http.put(f"/v1/blobs/{digest}", content=b"").raise_for_status()

    assert api.http.get(f"/v1/blobs/{digest}").headers["cache-control"].startswith("private")


def test_too_many_calls_with_one_token_are_refused_and_other_tokens_go_on(
    start_server: ServerFactory,
) -> None:
    server = start_server(environment={"STIGMER_CALLS_PER_SECOND": "5"})
    with server.client() as api, server.client(RUNNER_TOKEN) as other:
        answers = [api.http.get("/v1/agents") for _ in range(40)]
        refused = [answer for answer in answers if answer.status_code == 429]

        # What has allowed those through is that time has passed meanwhile.
        assert [answer.status_code for answer in answers[:10]] == [200] * 10
        assert refused
        assert refused[0].json()["code"] == "rate_limited"
        assert refused[0].headers["content-type"] == "application/problem+json"
        assert int(refused[0].headers["retry-after"]) >= 1
        assert other.http.get("/v1/tokens/self").status_code == 200
        wait_until(lambda: api.http.get("/v1/agents").status_code == 200, "the token may call again")


def test_too_many_open_calls_of_one_token_are_refused(start_server: ServerFactory) -> None:
    server = start_server(environment={"STIGMER_CALLS_AT_ONCE": "2"})
    with server.client() as api, server.client() as reader:
        execution_id = api.create_execution()["execution_id"]
        path, headers = f"/v1/executions/{execution_id}/events", {"Accept": "text/event-stream"}
        with (
            reader.http.stream("GET", path, headers=headers),
            reader.http.stream("GET", path, headers=headers),
        ):
            refused = api.http.get("/v1/agents")
        wait_until(lambda: api.http.get("/v1/agents").status_code == 200, "the streams have ended")

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")


def test_strangers_are_limited_by_their_address_and_callers_are_not(start_server: ServerFactory) -> None:
    server = start_server()
    with server.client() as api, httpx.Client(base_url=server.url, trust_env=False) as stranger:

        def knock(_: int) -> int:
            return stranger.get("/v1/agents").status_code

        with ThreadPoolExecutor(4) as pool:
            statuses = set(pool.map(knock, range(1000)))
        assert api.http.get("/v1/agents").status_code == 200

    assert statuses == {401, 429}


def exchange(server: ServerProcess, request: bytes) -> bytes:
    """Send bytes as they are; gives all that comes back until the server hangs up."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        sender = threading.Thread(target=_send, args=(connection, request))
        sender.start()
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
        sender.join()
        return received


def _send(connection: socket.socket, request: bytes) -> None:
    try:
        connection.sendall(request)
    except OSError:
        return  # the server has hung up


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", b"414"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 40_000 + b"\r\n\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 9000 + b"\r\n", b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 3_000_000, b"431"),
        (b"GET /" + b"a" * 3_000_000, b"431"),
    ],
    ids=["url", "header", "headers", "endless-header", "endless-url"],
)
def test_a_request_whose_head_is_too_large_is_refused(
    server: ServerProcess, request_: bytes, status: bytes
) -> None:
    answer = exchange(server, request_)

    assert answer.startswith(b"HTTP/1.1 " + status) or answer == b""
    assert b"Traceback" not in server.log_file.read_bytes()
    assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200


def test_a_caller_that_goes_away_in_the_middle_of_its_body_is_no_defect(
    server: ServerProcess, api: ServerApi
) -> None:
    refused = 'stigmer_http_requests_total{method="PUT",route="/v1/blobs/{sha256}",status="400"}'
    before = api.read_metrics().get(refused, 0)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        head = f"PUT /v1/blobs/{'a' * 64} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\nhalf".encode())

    wait_until(lambda: api.read_metrics().get(refused, 0) > before, "the call has ended")

    assert b"Traceback" not in server.log_file.read_bytes()


# --- audit ------------------------------------------------------------------------------------


def entries_about(api: ServerApi, actor: str) -> list[dict[str, Any]]:
    """A token's entries, oldest first, without what differs from run to run."""
    entries: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = api.http.get(
            "/v1/audit", params={"limit": 100, **({"cursor": cursor} if cursor else {})}
        ).json()
        entries += [entry for entry in page["items"] if entry["actor"] == actor]
        cursor = page["next_cursor"]
        if cursor is None:
            return entries[::-1]


def test_the_trail_tells_who_did_what_to_which_object_and_nothing_of_contents(
    server: ServerProcess, api: ServerApi
) -> None:
    name = f"audited-{uuid4().hex[:8]}"
    token = api.http.post("/v1/tokens", json={"name": name, "scope": "user"}).json()["token"]
    with server.client(token) as user:
        user.http.put("/v1/agents/secretive", json=manifest("secretive", description="canary"))
        execution_id = user.create_execution(input="canary")["execution_id"]
        user.http.get("/v1/executions")
        user.http.post(f"/v1/executions/{execution_id}/cancel", json={"reason": "canary"})
        user.http.post("/v1/tokens", json={"name": "x", "scope": "admin"})
        user.http.delete("/v1/agents/nobody")
        wait_until(lambda: len(entries_about(api, name)) == 5, "the trail is written")

    entries = entries_about(api, name)

    assert [(entry["action"], entry["target"], entry["status"]) for entry in entries] == [
        ("PUT /v1/agents/{name}", "secretive", 201),
        ("POST /v1/executions", execution_id, 201),
        ("POST /v1/executions/{execution_id}/cancel", execution_id, 202),
        ("POST /v1/tokens", None, 403),
        ("DELETE /v1/agents/{name}", "nobody", 404),
    ]
    assert {(entry["scope"], entry["peer"]) for entry in entries} == {("user", "127.0.0.1")}
    assert "canary" not in api.http.get("/v1/audit", params={"limit": 500}).text
    assert token not in api.http.get("/v1/audit", params={"limit": 500}).text


def test_a_failed_authentication_is_in_the_trail_without_what_it_tried(
    server: ServerProcess, api: ServerApi
) -> None:
    path = f"/v1/{uuid4().hex}%1B[31m"
    httpx.get(f"{server.url}{path}", headers={"Authorization": "Bearer guess"}, trust_env=False)

    def found() -> list[dict[str, Any]]:
        text = api.http.get("/v1/audit", params={"limit": 500}).json()["items"]
        return [entry for entry in text if entry["target"] == path.replace("%1B", "?")]

    wait_until(lambda: bool(found()), "the trail is written")
    (entry,) = found()
    assert (entry["actor"], entry["action"], entry["status"]) == (None, "authenticate", 401)


def test_what_a_runner_appends_is_in_the_log_and_that_it_took_a_leg_in_the_trail(
    server: ServerProcess, api: ServerApi
) -> None:
    execution_id = api.create_execution()["execution_id"]
    with server.client(RUNNER_TOKEN) as runner:
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(execution_id)["lease"]
        runner.append(execution_id, [completed()]).raise_for_status()

    def found() -> list[tuple[str, int]]:
        entries = entries_about(api, "STIGMER_RUNNER_TOKEN")
        return [(one["action"], one["status"]) for one in entries if one["target"] == execution_id]

    wait_until(lambda: bool(found()), "the trail is written")
    assert found() == [("POST /v1/executions/{execution_id}/legs", 201)]
