"""What MCP servers offer is pinned once; what they are found to offer later is a person's to accept."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from server_process import ServerApi, ServerProcess, manifest
from stigmer_contract.tool_lists import AgentTools, ListedTool, ToolList, ToolPins


@pytest.fixture
def name() -> str:
    return f"agent-{uuid4().hex[:8]}"


@pytest.fixture
def apply(api: ServerApi, name: str) -> Any:
    def applied(**server: Any) -> None:
        spec = {"mcpServers": [{"name": "shop", "command": ["shop-mcp"], **server}]}
        api.http.put(f"/v1/agents/{name}", json=manifest(name, **spec)).raise_for_status()

    return applied


@pytest.fixture
def other(server: ServerProcess, api: ServerApi) -> Iterator[ServerApi]:
    """An administrator by another token, who sees all and has pins of their own."""
    request = {"name": f"other-{uuid4().hex[:8]}", "scope": "admin", "owner": f"other-{uuid4().hex[:8]}"}
    token = api.http.post("/v1/tokens", json=request).raise_for_status().json()["token"]
    with server.client(token) as client:
        yield client


def offer(*descriptions: str) -> ToolList:
    """A list of tools `t0`, `t1`, … that are described so."""
    tools = [
        ListedTool(name=f"t{at}", description=each, input_schema={"type": "object"})
        for at, each in enumerate(descriptions)
    ]
    return ToolList(server="shop", tools=tools)


def report(api: ServerApi, execution_id: str, found: ToolList) -> None:
    body = {"tool_list": found.model_dump_json()}
    api.http.put(f"/v1/executions/{execution_id}/tool-pins/shop", json=body).raise_for_status()


def pins_for(api: ServerApi, agent: str) -> dict[str, ToolList]:
    """What an execution that begins now is held to."""
    execution_id = api.create_execution(agent=agent)["execution_id"]
    answer = api.http.get(f"/v1/executions/{execution_id}/tool-pins").raise_for_status()
    return ToolPins.model_validate_json(answer.text).pins


def known(api: ServerApi, agent: str, **query: str) -> tuple[ToolList | None, ToolList | None]:
    """What is pinned, and what was found since."""
    answer = api.http.get(f"/v1/agents/{agent}/tool-pins", params=query).raise_for_status()
    [server] = AgentTools.model_validate_json(answer.text).servers
    return server.pinned, server.found


def accept(api: ServerApi, agent: str, digest: str) -> int:
    path = f"/v1/agents/{agent}/tool-pins/shop/accept"
    return api.http.post(path, json={"digest": digest}).status_code


def test_what_is_found_first_is_pinned_for_the_owner(
    api: ServerApi, other: ServerApi, apply: Any, name: str
) -> None:
    apply()
    assert (pins_for(api, name), known(api, name)) == ({}, (None, None))
    report(api, api.create_execution(agent=name)["execution_id"], offer("sells"))
    assert pins_for(api, name) == {"shop": offer("sells")}
    assert known(other, name, owner="administrator") == (None, None)


def test_a_changed_list_replaces_the_pin_only_where_nobody_holds_the_server_to_it(
    api: ServerApi, apply: Any, name: str
) -> None:
    apply(pin=False)
    for found in (offer("sells"), offer("sells", "buys")):
        report(api, api.create_execution(agent=name)["execution_id"], found)
        assert (pins_for(api, name), known(api, name)) == ({"shop": found}, (found, None))


def test_a_server_with_secrets_is_held_to_its_pin_until_the_change_is_accepted(
    api: ServerApi, apply: Any, name: str
) -> None:
    api.http.put("/v1/secrets/SHOP_TOKEN", json={"value": "a-token-of-the-shop"}).raise_for_status()
    apply(env={"TOKEN": {"secret": "SHOP_TOKEN"}})
    execution_id = api.create_execution(agent=name)["execution_id"]
    report(api, execution_id, offer("sells"))
    report(api, execution_id, offer("sells, and tells"))
    assert pins_for(api, name) == {"shop": offer("sells")}
    assert known(api, name) == (offer("sells"), offer("sells, and tells"))

    assert accept(api, name, "0" * 32) == 409
    assert accept(api, name, offer("sells, and tells").digest) == 200
    assert accept(api, name, offer("sells, and tells").digest) == 200
    assert known(api, name) == (offer("sells, and tells"), None)
    assert pins_for(api, name) == {"shop": offer("sells, and tells")}


def test_a_change_that_was_taken_back_waits_for_nobody(api: ServerApi, apply: Any, name: str) -> None:
    apply(pin=True)
    execution_id = api.create_execution(agent=name)["execution_id"]
    for found in (offer("sells"), offer("buys"), offer("sells")):
        report(api, execution_id, found)
    assert known(api, name) == (offer("sells"), None)
    assert accept(api, name, offer("buys").digest) == 409


def test_a_server_that_is_started_otherwise_is_another_one(api: ServerApi, apply: Any, name: str) -> None:
    apply()
    report(api, api.create_execution(agent=name)["execution_id"], offer("sells"))
    apply(command=["shop-mcp", "--all"])
    assert pins_for(api, name) == {}
    apply(exclude=["t1"])
    assert pins_for(api, name) == {"shop": offer("sells")}


@pytest.mark.parametrize("text", ["", "[]", '{"server": "shop"}', '{"server": "shop", "tools": [1]}'])
def test_what_is_no_list_of_tools_is_refused(api: ServerApi, apply: Any, name: str, text: str) -> None:
    apply()
    execution_id = api.create_execution(agent=name)["execution_id"]
    answer = api.http.put(f"/v1/executions/{execution_id}/tool-pins/shop", json={"tool_list": text})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert known(api, name) == (None, None)
