"""Owners: what is one's own, what is shared, and what a name means to whom."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from server_process import RUNNER_TOKEN, ServerApi, ServerProcess, completed, manifest

BIG = "x" * 70_000
"""An input that goes to the blob store."""


class People:
    """Users of a server, each with a token of their own."""

    def __init__(self, server: ServerProcess, api: ServerApi) -> None:
        self._server, self._api = server, api
        self._clients: list[ServerApi] = []

    def new(self, **request: Any) -> ServerApi:
        """Somebody with a fresh token; `name` is its name."""
        body = {"name": f"someone-{uuid4().hex[:12]}", "scope": "user", **request}
        created = self._api.http.post("/v1/tokens", json=body).raise_for_status().json()
        client = self._server.client(created["token"])
        self._clients.append(client)
        return client

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.http.close()


@pytest.fixture
def people(server: ServerProcess, api: ServerApi) -> Iterator[People]:
    """Makes users."""
    made = People(server, api)
    yield made
    made.close()


def owner_of(client: ServerApi) -> str:
    """Who a client's token stands for."""
    owner: str = client.http.get("/v1/tokens/self").json()["owner"]
    return owner


def unique(prefix: str) -> str:
    """A name that no other test has."""
    return f"{prefix}-{uuid4().hex[:12]}"


def secrets_of_leg(runner: ServerApi, execution_id: str) -> dict[str, str]:
    """The secrets that a leg is given."""
    secrets: dict[str, str] = runner.start_leg(execution_id)["secrets"]
    return secrets


def test_a_token_stands_for_its_name_unless_it_is_told_for_whom(people: People) -> None:
    named = people.new(name=unique("robot"))
    owner = unique("carol")
    first, second = people.new(owner=owner), people.new(owner=owner)

    execution_id = first.create_execution()["execution_id"]

    assert owner_of(named) == named.http.get("/v1/tokens/self").json()["name"]
    # Rotation: another token of the same owner sees and does the same.
    assert second.get_execution(execution_id)["owner"] == owner
    assert {token["owner"] for token in second.http.get("/v1/tokens").json()["items"]} == {owner}


@pytest.mark.parametrize("request_", [{"name": "administrator"}, {"name": "x", "owner": "administrator"}])
def test_no_user_stands_for_the_administrator(api: ServerApi, request_: dict[str, str]) -> None:
    answer = api.http.post("/v1/tokens", json={"scope": "user", **request_})

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("owner", ["", "UPPER", "a b", "a" * 64, "\u202e", "-"])
def test_what_is_no_owners_name_is_refused(api: ServerApi, owner: str) -> None:
    answer = api.http.post("/v1/tokens", json={"name": unique("x"), "scope": "user", "owner": owner})

    assert answer.status_code == 422


def test_names_of_agents_are_an_owners_own_and_come_before_the_shared(api: ServerApi, people: People) -> None:
    name = unique("writer")
    alice, bob = people.new(), people.new()
    api.http.put(f"/v1/agents/{name}", json=manifest(name, description="shared")).raise_for_status()
    api.http.put(
        f"/v1/agents/{name}/owner", json={"owner": "administrator", "shared_with": "everybody"}
    ).raise_for_status()
    made = alice.http.put(f"/v1/agents/{name}", json=manifest(name, description="alice's"))

    def description(client: ServerApi) -> str:
        text: str = client.http.get(f"/v1/agents/{name}").json()["manifest"]["spec"]["description"]
        return text

    assert made.status_code == 201
    assert (description(alice), description(bob), description(api)) == ("alice's", "shared", "shared")
    alice.http.delete(f"/v1/agents/{name}").raise_for_status()
    assert description(alice) == "shared"
    refused = bob.http.delete(f"/v1/agents/{name}")
    assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")


def test_an_administrator_lists_everybodys_and_names_whose_it_means(api: ServerApi, people: People) -> None:
    name = unique("writer")
    people_ = [people.new(), people.new()]
    for person in people_:
        person.http.put(f"/v1/agents/{name}", json=manifest(name)).raise_for_status()
    owners = sorted(owner_of(person) for person in people_)

    listed: list[str] = []
    cursor = None
    while True:
        page = api.http.get(
            "/v1/agents", params={"limit": 1, **({"cursor": cursor} if cursor else {})}
        ).json()
        listed += [agent["owner"] for agent in page["items"] if agent["name"] == name]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert listed == owners
    assert api.http.get(f"/v1/agents/{name}").status_code == 404
    for owner in owners:
        found = api.http.get(f"/v1/agents/{name}", params={"owner": owner})
        assert (found.status_code, found.json()["owner"]) == (200, owner)
    strange = people_[0].http.get(f"/v1/agents/{name}", params={"owner": owner_of(people_[1])})
    assert strange.status_code == 404
    assert (
        people_[0]
        .http.put(f"/v1/agents/{name}", params={"owner": owner_of(people_[1])}, json=manifest(name))
        .is_client_error
    )


def test_a_shared_agent_uses_the_secrets_of_whoever_runs_it(
    server: ServerProcess, api: ServerApi, people: People
) -> None:
    agent, secret = unique("deployer"), f"KEY_{uuid4().hex[:8]}"
    alice, bob = people.new(), people.new()
    for client, value in ((api, "of-the-administrator"), (alice, "of-alice")):
        client.http.put(f"/v1/secrets/{secret}", json={"value": value}).raise_for_status()
    api.http.put(
        f"/v1/agents/{agent}", json=manifest(agent, tools=["shell"], env={"KEY": {"secret": secret}})
    ).raise_for_status()
    shared = {"owner": "administrator", "shared_with": "everybody"}
    api.http.put(f"/v1/agents/{agent}/owner", json=shared).raise_for_status()

    of_alice = alice.create_execution(agent=agent)["execution_id"]
    of_bob = bob.http.post("/v1/executions", json={"agent": agent, "input": "x"})

    assert (of_bob.status_code, of_bob.json()["code"]) == (422, "secret_missing")
    with server.client(RUNNER_TOKEN) as runner:
        assert secrets_of_leg(runner, of_alice) == {secret: "of-alice"}
        # Only what is shared itself is everybody's.
        api.http.put(f"/v1/secrets/{secret}/owner", json=shared).raise_for_status()
        of_bob_now = bob.create_execution(agent=agent)["execution_id"]
        assert secrets_of_leg(runner, of_bob_now) == {secret: "of-the-administrator"}
        assert secrets_of_leg(runner, of_alice) == {secret: "of-alice"}


def test_a_secret_that_is_given_to_somebody_is_theirs_alone(
    server: ServerProcess, api: ServerApi, people: People
) -> None:
    secret = f"KEY_{uuid4().hex[:8]}"
    alice = people.new()
    api.http.put(f"/v1/secrets/{secret}", json={"value": "given-away"}).raise_for_status()

    api.http.put(f"/v1/secrets/{secret}/owner", json={"owner": owner_of(alice)}).raise_for_status()

    needs = manifest(tools=["shell"], env={"KEY": {"secret": secret}})
    execution_id = alice.create_execution(manifest=needs)["execution_id"]
    with server.client(RUNNER_TOKEN) as runner:
        assert secrets_of_leg(runner, execution_id) == {secret: "given-away"}
    refused = api.http.post("/v1/executions", json={"manifest": needs, "input": "x"})
    assert (refused.status_code, refused.json()["code"]) == (422, "secret_missing")


def test_two_shared_things_cannot_have_one_name(api: ServerApi, people: People) -> None:
    name = unique("writer")
    alice = people.new()
    for client in (api, alice):
        client.http.put(f"/v1/agents/{name}", json=manifest(name)).raise_for_status()

    def share(owner: str) -> tuple[int, str | None]:
        answer = api.http.put(
            f"/v1/agents/{name}/owner",
            params={"owner": owner},
            json={"owner": owner, "shared_with": "everybody"},
        )
        return answer.status_code, answer.json().get("code")

    assert share("administrator") == (200, None)
    assert share(owner_of(alice)) == (409, "conflict")


def test_a_session_that_is_assigned_takes_its_executions_and_blobs_along(
    server: ServerProcess, api: ServerApi, people: People
) -> None:
    alice, bob = people.new(), people.new()
    execution = alice.create_execution(input=BIG)
    session_id, execution_id = execution["session_id"], execution["execution_id"]
    blob = f"/v1/blobs/{hashlib.sha256(json.dumps(BIG).encode()).hexdigest()}"
    assert (alice.http.get(blob).status_code, bob.http.get(blob).status_code) == (200, 404)

    api.http.put(f"/v1/sessions/{session_id}/owner", json={"owner": owner_of(bob)}).raise_for_status()

    for path in (f"/v1/sessions/{session_id}", f"/v1/executions/{execution_id}", blob):
        assert (alice.http.get(path).status_code, bob.http.get(path).status_code) == (404, 200)
    assert bob.get_execution(execution_id)["owner"] == owner_of(bob)


def test_a_shared_session_is_gone_on_with_by_everybody_with_secrets_of_their_own(
    server: ServerProcess, api: ServerApi, people: People
) -> None:
    alice, bob, secret = people.new(), people.new(), f"KEY_{uuid4().hex[:8]}"
    for client, value in ((alice, "of-alice"), (bob, "of-bob-him")):
        client.http.put(f"/v1/secrets/{secret}", json={"value": value}).raise_for_status()
    needs = manifest(tools=["shell"], env={"KEY": {"secret": secret}})
    first = alice.create_execution(manifest=needs)
    refused = bob.http.post(
        "/v1/executions", json={"manifest": needs, "input": "x", "session_id": first["session_id"]}
    )
    api.http.put(
        f"/v1/sessions/{first['session_id']}/owner",
        json={"owner": owner_of(alice), "shared_with": "everybody"},
    ).raise_for_status()
    with server.client(RUNNER_TOKEN) as runner:
        grant = runner.start_leg(first["execution_id"])
        runner.http.headers["Stigmer-Lease"] = grant["lease"]
        runner.append(first["execution_id"], [completed()]).raise_for_status()
        second = bob.create_execution(manifest=needs, session_id=first["session_id"])

        assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
        assert grant["secrets"] == {secret: "of-alice"}
        assert secrets_of_leg(runner, second["execution_id"]) == {secret: "of-bob-him"}
    assert second["owner"] == owner_of(bob)
    assert alice.get_execution(second["execution_id"])["owner"] == owner_of(bob)


def test_idempotency_keys_are_an_owners_own(people: People) -> None:
    alice, bob, key = people.new(), people.new(), {"Idempotency-Key": uuid4().hex}

    made = [
        client.http.post("/v1/sessions", json={}, headers=key).json()["session_id"]
        for client in (alice, bob, alice)
    ]

    assert made[0] == made[2] != made[1]


def test_a_filter_by_anothers_session_lists_nothing(people: People) -> None:
    alice, bob = people.new(), people.new()
    execution = alice.create_execution()

    def count(client: ServerApi) -> int:
        page = client.http.get("/v1/executions", params={"session_id": execution["session_id"]})
        return len(page.json()["items"])

    assert (count(alice), count(bob)) == (1, 0)


def test_a_blob_is_read_by_whoever_has_brought_its_bytes_and_nobody_else(people: People) -> None:
    alice, bob = people.new(), people.new()
    content = uuid4().bytes
    blob = f"/v1/blobs/{hashlib.sha256(content).hexdigest()}"
    alice.http.put(blob, content=content).raise_for_status()

    before = bob.http.get(blob).status_code
    guess = bob.http.put(blob, content=b"some other bytes").status_code
    between = bob.http.get(blob).status_code
    bob.http.put(blob, content=content).raise_for_status()

    assert (before, guess, between) == (404, 422, 404)
    assert bob.http.get(blob).content == content
