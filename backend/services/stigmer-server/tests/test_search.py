"""Executions are found by what was said in them, whatever the language, and by nobody else."""

from typing import Any
from uuid import uuid4

from server_process import ServerApi, ServerProcess, completed, manifest, responded
from stigmer_server.search_index import MOST_TERMS, terms_of


def find(person: ServerApi, text: str) -> list[str]:
    """The ids that a search finds."""
    page = person.http.get("/v1/executions", params={"text": text}).raise_for_status().json()
    return [item["execution_id"] for item in page["items"]]


def test_words_of_prompts_messages_answers_agents_and_ids_find_an_execution(
    api: ServerApi, person: ServerApi
) -> None:
    execution = person.create_execution(manifest=manifest("invoice-reader"), input="Read the Größenordnung")
    execution_id: str = execution["execution_id"]
    attempt: int = api.start_leg(execution_id)["attempt"]
    call = {"turn": 1, "call_id": "c", "toolset": "shell", "tool": "run_command"}
    output: dict[str, Any] = {
        "kind": "inline",
        "value": {"version": 1, "outcome": "succeeded", "content": []},
    }
    events: list[dict[str, Any]] = [
        responded(1, "The deployment of 北京市 and 東京タワー is done."),
        {"type": "tool.started", **call, "arguments": {"kind": "inline", "value": {"command": "hiddenword"}}}
        | {"side_effects": True},
        {"type": "tool.finished", **call, "outcome": "succeeded", "result": output, "duration_seconds": 0.1},
    ]
    person.http.post(
        f"/v1/executions/{execution_id}/messages", json={"text": "Mind the gap"}
    ).raise_for_status()
    answered = api.append(execution_id, events, attempt=attempt)
    assert answered.is_success, answered.text
    person.create_execution(manifest=manifest("other"), input="something else")

    found = (
        *("GRÖSSENORDNUNG", "deploy", "gap", "invoice-reader", "invoice deployment gap"),
        *("北京", "京市", "東京", "タワー", "京", execution_id, execution_id[-6:], execution["session_id"]),
    )
    for text in found:
        assert find(person, text) == [execution_id], text
    # Short words begin ids by chance. Read as operators, `gap` would be enough.
    operators = ('gap" OR "zeppelins', "gap':* | 'zeppelins", "gap'):* | 'zeppelins", '" * zeppelins')
    for text in ("hiddenword", "北市", "deployments", "gap nothing", "!!!", *operators):
        assert find(person, text) == [], text


def test_nobody_finds_what_another_said_nor_what_is_forgotten(
    server: ServerProcess, api: ServerApi, person: ServerApi
) -> None:
    word = f"w{uuid4().hex}"
    execution = person.create_execution(input=f"say {word}")
    answer = api.http.post("/v1/tokens", json={"name": f"q-{uuid4().hex[:12]}", "scope": "user"})
    attempt: int = api.start_leg(execution["execution_id"])["attempt"]
    assert api.append(execution["execution_id"], [completed()], attempt=attempt).is_success

    with server.client(answer.raise_for_status().json()["token"]) as stranger:
        assert find(stranger, word) == []
    assert find(person, word) == find(api, word) == [execution["execution_id"]]
    person.http.delete(f"/v1/sessions/{execution['session_id']}").raise_for_status()
    assert find(person, word) == find(api, word) == []


def test_a_fork_is_found_by_what_it_goes_on_from_and_by_what_was_said_to_it(
    api: ServerApi, person: ServerApi
) -> None:
    execution_id: str = person.create_execution(input="Begin")["execution_id"]
    attempt: int = api.start_leg(execution_id)["attempt"]
    answered = api.append(execution_id, [responded(1, "Some quinces."), completed()], attempt=attempt)
    assert answered.is_success, answered.text
    request = {"at": 1, "message": "Make marmalade"}
    fork = person.http.post(f"/v1/executions/{execution_id}/fork", json=request)
    assert fork.status_code == 201, fork.text

    fork_id = fork.json()["execution_id"]
    assert find(person, "marmalade") == [fork_id]
    assert find(person, "quinces") == [fork_id, execution_id]


def test_terms_are_ascii_each_once_and_bounded() -> None:
    assert terms_of("The the ＴＨＥ cat's 猫と") == ["the", "cat", "s", "z732bz", "z3068z", "z732bzz3068z"]
    assert len(terms_of(" ".join(f"w{number}" for number in range(9000)))) <= MOST_TERMS
    assert max(map(len, terms_of("x" * 5000))) <= 64
