"""Requests that are built to harm: they cost their sender more than the server, and are told why."""

import json
import resource
import socket
import threading
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from server_process import RUNNER_TOKEN, TOKEN, ServerApi, ServerFactory, ServerProcess, manifest
from stigmer_server.api import json_bodies
from stigmer_server.errors import InvalidRequest

MANY: Final = 1_200_000
"""Members of a body just below 16 MiB."""
SURROGATE: Final = "\\ud800"
BODIES: Final = {
    "keys": b"{" + b",".join(b'"k%d":1' % number for number in range(MANY)) + b"}",
    "items": b"[" + b"1," * (7 << 20) + b"1]",
    "depth": b"[" * (8 << 20),
    "texts": b'""' * (4 << 20),
    "no end": b'"' + b'\\"' * (4 << 20),
}


@pytest.fixture(scope="module", autouse=True)
def asked_once() -> None:
    """Bodies are made once."""
    assert all(len(body) < 16 << 20 for body in BODIES.values())


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("path", ["/v1/sessions", "/v1/executions"])
def test_a_body_that_would_keep_the_server_busy_is_refused_in_a_line(
    api: ServerApi, kind: str, path: str
) -> None:
    answer = api.http.post(path, content=BODIES[kind], headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert len(answer.text) < 2000


@pytest.mark.parametrize("kind", ["keys", "items", "depth"])
async def test_a_body_of_many_values_is_looked_through_beside_the_event_loop(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads, check = list[threading.Thread](), vars(json_bodies)["_check_shape"]

    def note(body: bytes, max_values: int) -> None:
        threads.append(threading.current_thread())
        check(body, max_values)

    monkeypatch.setattr(json_bodies, "_check_shape", note)
    with pytest.raises(InvalidRequest):
        await json_bodies.check_shape(BODIES[kind])

    [thread] = threads
    assert thread is not threading.current_thread()


def test_a_runner_that_writes_a_million_members_is_refused(server: ServerProcess, api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    with server.client(RUNNER_TOKEN) as runner:
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(execution_id)["lease"]
        for path in ("events", "live"):
            answer = runner.http.post(f"/v1/executions/{execution_id}/{path}", content=BODIES["keys"])
            assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
            assert "the body's JSON has more than 300000 values" in answer.text
        fewer = b"{" + b",".join(b'"k%d":1' % number for number in range(50_000)) + b"}"
        answer = runner.http.post(f"/v1/executions/{execution_id}/events", content=fewer)
        assert "more than 5000 members outside of payloads" in answer.text


def test_a_payload_may_be_json_of_any_kind(server: ServerProcess, api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    api.start_leg(execution_id)
    value = {f"k{number}": number for number in range(4000)}
    event = {
        "type": "execution.completed",
        "output": {"kind": "inline", "value": {"a": value}},
    }

    assert api.append(execution_id, [event]).status_code == 200


def test_without_its_lease_a_runners_body_is_not_even_read(server: ServerProcess, api: ServerApi) -> None:
    execution_id = api.create_execution()["execution_id"]
    head = (
        f"POST /v1/executions/{execution_id}/events HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {RUNNER_TOKEN}\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(head.encode())  # and nothing of the body
        assert connection.recv(100).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/sessions", {"workspace": f"/tmp/{SURROGATE}"}),
        ("POST", "/v1/executions", {"manifest": manifest(), "input": f"a{SURROGATE}"}),
        ("POST", "/v1/executions", {"manifest": manifest(), "input": "a", "model": f"replay:{SURROGATE}"}),
        ("POST", "/v1/executions", {"agent": SURROGATE, "input": "a"}),
        ("PUT", "/v1/agents/worker", manifest(description=SURROGATE)),
        ("PUT", "/v1/agents/worker", manifest(env={SURROGATE: "x"})),
        ("PUT", "/v1/secrets/NAME", {"value": f"12345678{SURROGATE}"}),
        ("POST", "/v1/tokens", {"name": "x", "scope": "user", "owner": SURROGATE}),
        ("POST", "/v1/executions/exe_none/cancel", {"reason": SURROGATE}),
        ("POST", "/v1/executions/exe_none/messages", {"text": SURROGATE}),
        ("POST", "/v1/executions/exe_none/legs", {"runner": SURROGATE, "runner_version": "0"}),
        ("POST", "/v1/executions/exe_none/events", {"attempt": 1, "append_id": SURROGATE, "events": []}),
        ("POST", "/v1/executions/exe_none/live", {"attempt": 1, "events": [{"type": SURROGATE}]}),
    ],
)
@pytest.mark.parametrize("spelling", ["escape", "bytes"])
def test_what_is_no_text_is_refused_wherever_it_stands(
    api: ServerApi, method: str, path: str, body: dict[str, Any], spelling: str
) -> None:
    # The escape stands in the JSON as it is, or as the bytes that Python would write for it.
    text = json.dumps(body).replace("\\\\ud800", SURROGATE)
    content = (
        text.encode() if spelling == "escape" else text.encode().replace(SURROGATE.encode(), b"\xed\xa0\x80")
    )

    answer = api.http.request(method, path, content=content, headers={"Content-Type": "application/json"})

    assert (answer.status_code, answer.json()["code"]) in (
        (422, "invalid_request"),
        (422, "invalid_manifest"),
    )


@pytest.mark.parametrize("path", ["/v1/agents/%ff%fe", "/v1/executions?agent=%ff", "/v1/sessions/%ed%a0%80"])
def test_a_path_that_is_no_text_is_nobodys(api: ServerApi, path: str) -> None:
    assert api.http.get(path).status_code in (200, 404, 422)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/sessions", {"workspace": "/" + "x" * 1_000_000}),
        ("/v1/executions", {"agent": "x" * 100_000, "input": "x"}),
        ("/v1/executions", {"manifest": manifest(), "input": "x", "model": "x" * 100_000}),
        ("/v1/executions/exe_none/legs", {"runner": "x" * 100_000, "runner_version": "0"}),
    ],
)
def test_texts_of_requests_are_bounded(api: ServerApi, path: str, body: dict[str, Any]) -> None:
    answer = api.http.post(path, json=body)

    assert answer.status_code == 422
    assert len(answer.text) < 2000


@pytest.mark.parametrize(
    "header", ["Host: localhost\r\nHost: evil.example", f"Host: localhost\r\nAuthorization: Bearer {TOKEN}"]
)
def test_a_header_that_would_mean_two_things_is_refused(server: ServerProcess, header: str) -> None:
    request = f"GET /v1/agents HTTP/1.1\r\n{header}\r\nAuthorization: Bearer x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(request.encode())
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "bEaReR "])
def test_the_scheme_of_a_token_is_read_in_whatever_case(server: ServerProcess, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {TOKEN}"}

    assert httpx.get(f"{server.url}/v1/agents", headers=headers, trust_env=False).status_code == 200


def test_a_flood_of_guesses_does_not_make_the_server_look_dead(start_server: ServerFactory) -> None:
    server = start_server()
    with httpx.Client(base_url=server.url, trust_env=False) as stranger:
        guess = {"Authorization": "Bearer guess"}
        statuses = {stranger.get("/v1/agents", headers=guess).status_code for _ in range(400)}
        ready = stranger.get("/readyz").status_code

    assert statuses == {401, 429}
    assert ready == 200


def test_a_body_that_trickles_is_given_up(api: ServerApi, server: ServerProcess) -> None:
    """In real time: that is what is promised. It takes the grace, 30 s."""
    head = (
        f"POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=1) as connection:
        connection.sendall(head.encode())
        for _ in range(90):
            try:
                connection.sendall(b" ")
                answer = connection.recv(100)
                break
            except TimeoutError:
                continue

    assert answer.startswith(b"HTTP/1.1 408 ")


def test_connections_without_a_request_do_not_keep_others_out(server: ServerProcess) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    held: list[socket.socket] = []
    try:
        for _ in range(1500):
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=30))
        assert httpx.get(f"{server.url}/healthz", trust_env=False).status_code == 200
        open_sockets = [
            link for link in Path(f"/proc/{server.pid}/fd").iterdir() if "socket:" in _target(link)
        ]
        assert len(open_sockets) < 1100
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _target(link: Path) -> str:
    try:
        return str(link.readlink())
    except OSError:
        return ""


def test_the_server_holds_as_many_files_open_as_it_may(server: ServerProcess) -> None:
    limits = Path(f"/proc/{server.pid}/limits").read_text(encoding="utf-8")
    (line,) = [line for line in limits.splitlines() if line.startswith("Max open files")]
    soft, hard = line.split()[3:5]

    assert soft == str(min(65_536, int(hard))) if hard != "unlimited" else soft == "65536"
