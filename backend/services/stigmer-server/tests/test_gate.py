"""What every request passes: host, token, size; and problem documents for all that is refused."""

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import httpx
import pytest

from server_process import TOKEN, ServerApi, ServerFactory, ServerProcess, manifest, responded

PATHS = ["/v1/executions", "/v1/agents/a", "/v1/blobs/x", "/metrics", "/openapi.json", "/nowhere"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("authorization", [None, "Bearer wrong", f"Basic {TOKEN}", TOKEN])
def test_without_the_token_nothing_is_told(
    server: ServerProcess, path: str, authorization: str | None
) -> None:
    headers = [] if authorization is None else [(b"Authorization", authorization.encode())]

    response = httpx.get(f"{server.url}{path}", headers=headers, trust_env=False)

    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")
    assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_probes_need_no_token(server: ServerProcess, path: str) -> None:
    assert httpx.get(f"{server.url}{path}", trust_env=False).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:7234", "localhost.evil.example", "127.0.0.1.nip.io", ""]
)
def test_another_host_is_refused_on_every_path(api: ServerApi, host: str) -> None:
    for path in ("/healthz", "/v1/agents"):
        response = api.http.get(path, headers={"Host": host})
        assert (response.status_code, response.json()["code"]) == (421, "host_not_allowed")


@pytest.mark.parametrize("host", ["localhost", "LocalHost:7234", "127.0.0.1:1", "[::1]:7234", "[::1]"])
def test_names_of_the_loopback_interface_are_answered(api: ServerApi, host: str) -> None:
    assert api.http.get("/v1/agents", headers={"Host": host}).status_code == 200


def test_no_other_origin_is_let_in(api: ServerApi) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}

    response = api.http.options("/v1/executions", headers=headers)

    assert response.status_code == 405
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_every_error_is_a_problem_document(api: ServerApi) -> None:
    too_large = b'{"input": "' + b"x" * (17 << 20) + b'"}'
    answers = {
        404: api.http.get("/v1/nowhere"),
        405: api.http.delete("/v1/executions"),
        413: api.http.post("/v1/executions", content=too_large),
        422: api.http.post("/v1/executions", content=b"{", headers={"Content-Type": "application/json"}),
        409: api.http.post(
            f"/v1/executions/{cancelled_execution(api)}/legs", json={"runner": "1@a", "runner_version": "0"}
        ),
    }

    codes = {}
    for status, answer in answers.items():
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/problem+json"
        problem = answer.json()
        assert problem["status"] == status
        codes[status] = problem["code"]
    assert codes == {
        404: "not_found",
        405: "method_not_allowed",
        413: "payload_too_large",
        422: "invalid_request",
        409: "execution_ended",
    }


@pytest.mark.parametrize(
    "call", ["", "/exe_none/events", "/exe_none/live", "/exe_none/legs", "/exe_none/cancel"]
)
def test_a_body_that_grows_too_large_is_refused(api: ServerApi, call: str) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(17):
            yield b" " * (1 << 20)

    answer = api.http.post(
        f"/v1/executions{call}", content=pieces(), headers={"Content-Type": "application/json"}
    )

    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")


def cancelled_execution(api: ServerApi) -> str:
    execution_id: str = api.create_execution()["execution_id"]
    api.http.post(f"/v1/executions/{execution_id}/cancel")
    return execution_id


def test_openapi_describes_every_route_with_its_problems(api: ServerApi) -> None:
    schema = api.http.get("/openapi.json").json()

    text = json.dumps(schema)
    defined = schema["components"]["schemas"]
    references = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert references <= set(defined)
    assert {"AppendEvents", "LegGrant", "Problem", "RecordedEvent", "ExecutionResource"} <= set(defined)
    assert "HTTPValidationError" not in text
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            if path.startswith("/v1"):
                assert "application/problem+json" in operation["responses"]["401"]["content"]


def test_metrics_count_executions_events_and_requests(api: ServerApi) -> None:
    execution = api.create_execution(manifest=manifest("counted"))
    api.start_leg(execution["execution_id"])
    api.append(execution["execution_id"], [responded()])

    values = api.read_metrics()

    assert values['stigmer_executions{phase="in_progress"}'] >= 1
    assert values["stigmer_appended_events_total"] >= 1
    assert values["stigmer_append_seconds_count"] >= 1
    assert values['stigmer_http_requests_total{method="POST",route="/v1/executions",status="201"}'] >= 1
    append = "/v1/executions/{execution_id}/events"
    assert values[f'stigmer_http_requests_total{{method="POST",route="{append}",status="200"}}'] >= 1


def test_readiness_names_what_is_missing(start_server: ServerFactory) -> None:
    server = start_server(temporal_address="127.0.0.1:9")

    response = httpx.get(f"{server.url}/readyz", trust_env=False)

    assert response.status_code == 503
    assert response.json()["checks"] == [
        {"name": "database", "ok": True, "detail": None},
        {"name": "temporal", "ok": False, "detail": "Temporal is not reachable at 127.0.0.1:9"},
    ]


def test_a_defect_is_told_without_its_details(start_server: ServerFactory) -> None:
    server = start_server()
    with server.client() as api:
        execution_id = api.create_execution()["execution_id"]
        with closing(sqlite3.connect(server.home / "data" / "stigmer.db", timeout=10)) as database:
            database.execute("UPDATE executions SET usage = 'the-secret-garbage'")
            database.commit()

        answer = api.http.get(f"/v1/executions/{execution_id}")

    assert answer.status_code == 500
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Internal Server Error",
        "status": 500,
        "detail": "a defect of the server's own; its log says more",
        "code": "internal",
    }
    assert "Traceback" in server.log_file.read_text(encoding="utf-8")
