"""Policies of tokens: what they exclude is refused, and what a day may cost is looked at with each answer."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from server_process import RUNNER_TOKEN, ServerApi, ServerFactory, ServerProcess, manifest, responded
from stigmer_contract.identifiers import INPUT_PREFIX, new_id


@pytest.fixture
def limited(server: ServerProcess, api: ServerApi, request: pytest.FixtureRequest) -> Iterator[ServerApi]:
    """Somebody whose token has the policy that the test names."""
    body = {"name": f"limited-{uuid4().hex[:12]}", "scope": "user", "policy": request.param}
    created = api.http.post("/v1/tokens", json=body).raise_for_status().json()
    with server.client(created["token"]) as client:
        yield client


def start(client: ServerApi, **request: Any) -> tuple[int, str | None]:
    """How a start is answered."""
    answer = client.http.post("/v1/executions", json={"input": "x", "manifest": manifest(), **request})
    return answer.status_code, answer.json().get("detail")


@pytest.mark.parametrize("limited", [{"allow_network": ["none", "web"]}], indirect=True)
def test_a_network_that_the_policy_excludes_is_refused_in_manifests_and_agents(limited: ServerApi) -> None:
    limited.http.put("/v1/agents/open", json=manifest("open", network="all")).raise_for_status()

    statuses = [start(limited, manifest=manifest(network=one))[0] for one in ("none", "web", "all")]

    assert statuses == [201, 201, 403]
    refused = limited.http.post("/v1/executions", json={"agent": "open", "input": "x"})
    assert refused.json()["detail"] == "the token's policy does not allow spec.network 'all'"


@pytest.mark.parametrize("limited", [{"allow_secrets": ["CI_*"]}], indirect=True)
def test_secrets_that_the_policy_excludes_are_refused(limited: ServerApi) -> None:
    for name in ("CI_KEY", "KEY"):
        limited.http.put(f"/v1/secrets/{name}", json={"value": "12345678"}).raise_for_status()

    def using(name: str) -> int:
        return start(limited, manifest=manifest(tools=["shell"], env={"K": {"secret": name}}))[0]

    assert [using(name) for name in ("CI_KEY", "KEY")] == [201, 403]


@pytest.fixture
def folder() -> Iterator[str]:
    """A directory that anybody may choose who is let."""
    path = Path.home() / f"policy-{uuid4().hex[:8]}"
    (path / "inside").mkdir(parents=True)
    yield str(path)
    (path / "inside").rmdir()
    path.rmdir()


def test_workspaces_that_the_policy_excludes_are_refused_also_those_of_sessions(
    server: ServerProcess, api: ServerApi, folder: str
) -> None:
    owner = f"somebody-{uuid4().hex[:8]}"

    def client(**policy: Any) -> ServerApi:
        body = {"name": f"t-{uuid4().hex[:12]}", "scope": "user", "owner": owner, "policy": policy}
        token: str = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
        return server.client(token)

    with client() as free, client(allow_workspaces=[f"{folder}/inside"]) as bound:
        elsewhere = free.http.post("/v1/sessions", json={"workspace": folder}).raise_for_status().json()

        assert start(bound)[0] == 201
        assert start(bound, workspace=f"{folder}/inside")[0] == 201
        assert start(bound, workspace=folder)[0] == 403
        assert bound.http.post("/v1/sessions", json={"workspace": folder}).status_code == 403
        assert start(bound, session_id=elsewhere["session_id"])[0] == 403


@pytest.mark.parametrize("limited", [{"max_cost_per_day_usd": "1.00"}], indirect=True)
def test_the_answer_that_reaches_the_limit_of_the_day_is_kept_and_is_the_last(
    server: ServerProcess, limited: ServerApi
) -> None:
    first, second = (limited.create_execution()["execution_id"] for _ in range(2))
    with server.client(RUNNER_TOKEN) as runner:
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(first)["lease"]
        runner.append(first, [responded(cost_usd="0.60")]).raise_for_status()
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(second)["lease"]
        runner.append(second, [responded(cost_usd="0.50")]).raise_for_status()
        refused = runner.append(second, [responded(2, cost_usd="0.50")])

    ended = limited.get_execution(second)
    assert (ended["phase"], ended["error"]["code"]) == ("failed", "limit_cost")
    assert ended["error"]["message"].startswith("the token's limit of 1.00 USD a day is reached: 1.10 USD")
    assert ended["usage"]["cost_usd"] == "0.50"
    assert refused.status_code == 409
    assert start(limited)[0] == 403


def test_what_was_spent_yesterday_does_not_count_today(start_server: ServerFactory) -> None:
    server = start_server()
    body = {"name": "limited", "scope": "user", "policy": {"max_cost_per_day_usd": "1.00"}}
    with server.client() as api:
        token = api.http.post("/v1/tokens", json=body).raise_for_status().json()["token"]
    with server.client(token) as limited, server.client(RUNNER_TOKEN) as runner:
        execution_id = limited.create_execution()["execution_id"]
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(execution_id)["lease"]
        runner.append(execution_id, [responded(cost_usd="1.00")]).raise_for_status()
        before = start(limited)[0]
        with closing(sqlite3.connect(server.home / "data" / "stigmer.db", timeout=60)) as database:
            database.execute("UPDATE token_costs SET day = date(day, '-1 day')")
            database.commit()
        after = start(limited)[0]

    assert (before, after) == (403, 201)


@pytest.mark.parametrize("limited", [{"max_cost_per_day_usd": "1.00"}], indirect=True)
def test_under_a_limit_a_model_without_a_price_is_refused(server: ServerProcess, limited: ServerApi) -> None:
    execution_id = limited.create_execution()["execution_id"]
    with server.client(RUNNER_TOKEN) as runner:
        runner.http.headers["Stigmer-Lease"] = runner.start_leg(execution_id)["lease"]
        runner.append(execution_id, [responded()]).raise_for_status()

    ended = limited.get_execution(execution_id)
    assert (ended["phase"], ended["error"]["code"]) == ("failed", "limit_cost")
    assert ended["error"]["message"].endswith("no price is known for the model")


@pytest.mark.parametrize("limited", [{"allow_network": ["none"]}], indirect=True)
def test_what_a_token_could_not_have_started_it_does_not_steer(
    server: ServerProcess, api: ServerApi, limited: ServerApi
) -> None:
    owner = limited.http.get("/v1/tokens/self").raise_for_status().json()["owner"]
    body = {"name": f"free-{uuid4().hex[:12]}", "scope": "user", "owner": owner}
    created = api.http.post("/v1/tokens", json=body).raise_for_status().json()
    with server.client(created["token"]) as free:
        wide = free.create_execution(manifest=manifest(network="all"))["execution_id"]
    attempt = api.start_leg(wide)["attempt"]
    asked = [
        {
            "type": "input.requested",
            "input_id": new_id(INPUT_PREFIX),
            "turn": 1,
            "call_id": f"call-{number}",
            "tool": "ask_user",
            "title": "Which?",
            "kind": "question",
            "content": {"kind": "inline", "value": {"question": "Which?", "choices": ["red"]}},
        }
        for number in (1, 2)
    ]
    appended = api.append(wide, [responded(1), *asked], attempt=attempt)
    assert appended.is_success, appended.text
    answered, denied = (f"/v1/inputs/{each['input_id']}" for each in asked)

    said = limited.http.post(f"/v1/executions/{wide}/messages", json={"text": "Do it otherwise."})
    assert (said.status_code, said.json()["detail"]) == (
        403,
        "the token's policy does not allow spec.network 'all'",
    )
    assert limited.http.post(answered, json={"outcome": "answered", "answer": "red"}).status_code == 403
    assert limited.http.post(denied, json={"outcome": "denied"}).status_code == 200


def test_a_token_with_a_policy_makes_none_without(server: ServerProcess, api: ServerApi) -> None:
    bound = {"name": f"bound-{uuid4().hex[:12]}", "scope": "admin", "policy": {"allow_network": ["none"]}}
    created = api.http.post("/v1/tokens", json=bound).raise_for_status().json()
    with server.client(created["token"]) as administrator:
        wider = administrator.http.post(
            "/v1/tokens", json={"name": f"w-{uuid4().hex[:12]}", "scope": "admin"}
        )
    assert (wider.status_code, wider.json()["detail"]) == (403, "a token with a policy makes no tokens")
