"""Tokens: what each scope may do, how they end, and that their text is kept nowhere."""

from collections.abc import Iterator
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

SCOPES = ("runner", "user", "admin")
ROUTES: list[tuple[str, str, set[str]]] = [
    ("GET", "/v1/agents", {"user", "admin"}),
    ("GET", "/v1/sessions", {"user", "admin"}),
    ("GET", "/v1/executions", {"user", "admin"}),
    ("GET", "/v1/executions/exe_none", {"user", "admin"}),
    ("DELETE", "/v1/sessions/ses_none", {"user", "admin"}),
    ("POST", "/v1/executions/exe_none/cancel", {"user", "admin"}),
    ("GET", "/metrics", {"user", "admin"}),
    ("POST", "/v1/executions/exe_none/legs", {"runner", "admin"}),
    # A runner's token alone is not enough: its lease is asked for before anything else.
    ("POST", "/v1/executions/exe_none/events", {"admin"}),
    ("POST", "/v1/executions/exe_none/live", {"admin"}),
    ("GET", "/v1/tokens", {"user", "admin"}),
    ("POST", "/v1/tokens", {"admin"}),
    ("DELETE", "/v1/tokens/none", {"user", "admin"}),
    ("GET", "/v1/audit", {"admin"}),
    ("GET", "/v1/secrets", {"user", "admin"}),
    ("PUT", "/v1/secrets/NAME", {"user", "admin"}),
    ("DELETE", "/v1/secrets/NO_SUCH", {"user", "admin"}),
    ("POST", "/v1/secrets/rotate-key", {"admin"}),
    ("GET", "/v1/tokens/self", {"runner", "user", "admin"}),
]


def create_token(api: ServerApi, scope: str = "user", **request: Any) -> dict[str, Any]:
    """A new token with its text."""
    answer = api.http.post("/v1/tokens", json={"name": f"test-{uuid4().hex[:12]}", "scope": scope, **request})
    assert answer.status_code == 201, answer.text
    created: dict[str, Any] = answer.json()
    return created


def status_with(api: ServerApi, token: str, method: str = "GET", path: str = "/v1/tokens/self") -> int:
    """How a call with a token is answered."""
    headers = {"Authorization": f"Bearer {token}"}
    return api.http.request(method, path, headers=headers).status_code


@pytest.fixture
def tokens(api: ServerApi) -> Iterator[dict[str, str]]:
    """A token of each scope."""
    yield {scope: create_token(api, scope)["token"] for scope in SCOPES}


@pytest.mark.parametrize(("method", "path", "allowed"), ROUTES)
def test_a_route_lets_in_only_tokens_of_its_scopes(
    api: ServerApi, tokens: dict[str, str], method: str, path: str, allowed: set[str]
) -> None:
    statuses = {scope: status_with(api, tokens[scope], method, path) for scope in SCOPES}

    assert {scope for scope, status in statuses.items() if status != 403} == allowed


def test_every_route_says_which_tokens_it_lets_in(api: ServerApi) -> None:
    paths = api.http.get("/openapi.json").json()["paths"]

    for path, operations in paths.items():
        for operation in operations.values():
            allowed = [scope for entry in operation["security"] for scope in entry["token"]]
            assert "admin" in allowed or path in ("/healthz", "/readyz", "/v1/console/sessions")


def test_a_token_is_listed_without_its_text(api: ServerApi) -> None:
    created = create_token(api, "user", expires_in_seconds=3600)

    listed = api.http.get("/v1/tokens").json()["items"]

    (found,) = [token for token in listed if token["name"] == created["name"]]
    text = created.pop("token")
    assert text.startswith("stigmer_user_")
    assert found | {"last_used_at": None} == created
    assert created["created_by"] == "administrator"
    assert text not in api.http.get("/v1/tokens").text


def test_two_tokens_cannot_have_one_name_until_the_first_is_revoked(api: ServerApi) -> None:
    name = create_token(api)["name"]

    again = api.http.post("/v1/tokens", json={"name": name, "scope": "user"})
    api.http.delete(f"/v1/tokens/{name}").raise_for_status()
    afterwards = api.http.post("/v1/tokens", json={"name": name, "scope": "user"})

    owns = api.http.post("/v1/tokens", json={"name": "administrator", "scope": "approve"})

    assert (again.status_code, again.json()["code"]) == (409, "conflict")
    assert afterwards.status_code == 201
    # Else the log could not tell whose decision was whose.
    assert (owns.status_code, owns.json()["code"]) == (409, "conflict")


def test_a_revoked_token_holds_no_more_at_once(api: ServerApi) -> None:
    created = create_token(api)
    before = status_with(api, created["token"])

    api.http.delete(f"/v1/tokens/{created['name']}").raise_for_status()

    assert (before, status_with(api, created["token"])) == (200, 401)
    assert api.http.delete(f"/v1/tokens/{created['name']}").status_code == 404
    names = [token["name"] for token in api.http.get("/v1/tokens").json()["items"]]
    revoked = {
        token["name"]: token["revoked_at"]
        for token in api.http.get("/v1/tokens", params={"revoked": True}).json()["items"]
    }
    assert created["name"] not in names
    assert revoked[created["name"]] is not None


def test_a_stream_that_a_revoked_token_opened_ends_with_the_next_event(
    server: ServerProcess, api: ServerApi
) -> None:
    created = create_token(api)
    with server.client(created["token"]) as owner:
        execution_id = owner.create_execution()["execution_id"]
    api.start_leg(execution_id)
    with (
        server.client(created["token"]) as stranger,
        stranger.http.stream(
            "GET", f"/v1/executions/{execution_id}/events", headers={"Accept": "text/event-stream"}
        ) as stream,
    ):
        pieces = stream.iter_text()
        seen = ""
        while "leg.started" not in seen:
            seen += next(pieces)
        api.http.delete(f"/v1/tokens/{created['name']}").raise_for_status()
        api.append(execution_id, [completed("not for a stranger")])
        seen += "".join(pieces)

    assert "not for a stranger" not in seen


def test_an_expired_token_holds_no_more(api: ServerApi) -> None:
    token = create_token(api, expires_in_seconds=1)["token"]

    wait_until(lambda: status_with(api, token) == 401, "the token has expired")


@pytest.mark.parametrize(
    "request_",
    [
        {"name": "UPPER", "scope": "user"},
        {"name": "fine", "scope": "root"},
        {"name": "fine", "scope": "user", "expires_in_seconds": 0},
        {"name": "fine"},
    ],
)
def test_a_request_that_makes_no_sense_is_refused(api: ServerApi, request_: dict[str, Any]) -> None:
    assert api.http.post("/v1/tokens", json=request_).status_code == 422


def test_tokens_hold_over_a_restart_and_their_text_is_kept_nowhere(start_server: ServerFactory) -> None:
    server = start_server(environment={"LOG_LEVEL": "DEBUG"})
    with server.client() as api:
        created = create_token(api)
        revoked = create_token(api)
        api.http.delete(f"/v1/tokens/{revoked['name']}").raise_for_status()
        assert status_with(api, created["token"]) == 200
    server.stop()
    server.start()

    with server.client() as api:
        assert status_with(api, created["token"]) == 200
        assert status_with(api, revoked["token"]) == 401
    server.stop()
    kept = b"".join(path.read_bytes() for path in server.home.rglob("*") if path.is_file())
    for token in (created["token"], revoked["token"], TOKEN, RUNNER_TOKEN):
        assert token.encode() not in kept


def test_when_a_token_was_last_used_is_known_without_a_write_for_each_call(
    start_server: ServerFactory,
) -> None:
    server = start_server()
    with server.client() as api:
        created = create_token(api)
        status_with(api, created["token"])
    server.stop()
    server.start()

    with server.client() as api:
        (listed,) = [one for one in api.http.get("/v1/tokens").json()["items"] if one["scope"] == "user"]
    assert listed["last_used_at"] is not None


def test_an_agent_of_a_user_can_be_run_by_a_runner(server: ServerProcess, api: ServerApi) -> None:
    with (
        server.client(create_token(api, "user")["token"]) as user,
        server.client(create_token(api, "runner")["token"]) as runner,
    ):
        execution_id = user.create_execution(manifest=manifest("both"))["execution_id"]
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(execution_id)["lease"]
        assert runner.append(execution_id, [completed()]).status_code == 200
        assert user.get_execution(execution_id)["phase"] == "completed"


def test_a_token_in_a_header_twice_or_in_the_address_is_none(server: ServerProcess) -> None:
    url = f"{server.url}/v1/agents"
    answers = [
        httpx.get(url, params={"token": TOKEN, "access_token": TOKEN}, trust_env=False),
        httpx.get(url, headers={"Authorization": f"Bearer {TOKEN} {TOKEN}"}, trust_env=False),
        httpx.get(url, headers={"Authorization": f"bearer{TOKEN}"}, trust_env=False),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401]
