"""Applied agents over HTTP."""

from uuid import uuid4

import pytest

from server_process import ServerApi, manifest


@pytest.fixture
def name() -> str:
    return f"agent-{uuid4().hex[:8]}"


def test_applying_counts_the_version_up_only_where_something_changed(api: ServerApi, name: str) -> None:
    def apply(**spec: object) -> tuple[int, int]:
        response = api.http.put(f"/v1/agents/{name}", json=manifest(name, **spec))
        return response.status_code, response.json()["version"]

    assert apply(instructions="a") == (201, 1)
    assert apply(instructions="a") == (200, 1)
    assert apply(instructions="b", limits={"duration": "1h30m"}) == (200, 2)
    assert apply(instructions="b", limits={"duration": "90m"}) == (200, 2)
    assert api.http.get(f"/v1/agents/{name}").json()["manifest"]["spec"]["limits"]["duration"] == "1h30m"


def test_the_manifest_must_name_the_agent_of_the_address(api: ServerApi, name: str) -> None:
    response = api.http.put(f"/v1/agents/{name}", json=manifest("another"))

    assert (response.status_code, response.json()["code"]) == (422, "invalid_request")


def test_a_manifest_with_features_to_come_can_be_applied_but_not_run(api: ServerApi, name: str) -> None:
    later = manifest(name, subAgents=["fact-checker"])
    assert api.http.put(f"/v1/agents/{name}", json=later).status_code == 201

    response = api.http.post("/v1/executions", json={"agent": name, "input": "x"})

    assert (response.status_code, response.json()["code"]) == (422, "feature_not_yet")


def test_a_broken_manifest_is_refused_with_its_field(api: ServerApi, name: str) -> None:
    response = api.http.put(f"/v1/agents/{name}", json=manifest(name, limits={"turns": 0}))

    assert response.status_code == 422
    assert "spec.limits.turns" in response.json()["detail"]


def test_agents_are_listed_by_name_and_deleted(api: ServerApi, name: str) -> None:
    names = [f"{name}-{suffix}" for suffix in "cab"]
    for one in names:
        api.http.put(f"/v1/agents/{one}", json=manifest(one))

    listed: list[str] = []
    cursor: str | None = None
    while True:
        page = api.http.get(
            "/v1/agents", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).json()
        listed += [item["name"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert [one for one in listed if one in names] == sorted(names)

    assert api.http.delete(f"/v1/agents/{names[0]}").status_code == 204
    assert api.http.delete(f"/v1/agents/{names[0]}").status_code == 404
    assert api.http.get(f"/v1/agents/{names[0]}").json()["code"] == "not_found"
