"""Executions that ask people, on a server whose runner is played by the test."""

from typing import Any

import httpx

from server_process import ServerApi, manifest, responded
from stigmer_contract.identifiers import INPUT_PREFIX, new_id


def asked(kind: str = "question", **fields: Any) -> dict[str, Any]:
    """The event by which an agent asks."""
    content: dict[str, Any] = {"text": "Which one?"}
    if kind == "approval":
        content = {"toolset": "shell", "tool": "run_command", "arguments": {"command": "git push"}}
    return {
        "type": "input.requested",
        "input_id": new_id(INPUT_PREFIX),
        "kind": kind,
        "turn": 1,
        "call_id": "call_1",
        "tool": "ask_user",
        "title": "Which one?",
        "content": {"kind": "inline", "value": content},
        "answer_schema": {"type": "string", "minLength": 1} if kind == "question" else None,
        **fields,
    }


def start_asking(api: ServerApi, *events: dict[str, Any], runner: ServerApi | None = None) -> str:
    """The id of a new execution that asks, and waits for the first of its questions."""
    execution_id: str = api.create_execution(manifest=manifest(askUser=True))["execution_id"]
    runner = runner or api
    seen: int = runner.start_leg(execution_id)["execution"]["last_sequence"]
    kind = "approval" if events[0]["kind"] == "approval" else "answer"
    waiting = {
        "type": "leg.ended",
        "attempt": 1,
        "reason": "waiting",
        "waiting_for": [{"kind": kind, "key": events[0]["input_id"]}],
        "seen": seen,
    }
    answer = runner.append(execution_id, [responded(), *events, waiting])
    assert answer.is_success, answer.text
    return execution_id


def decide(api: ServerApi, input_id: str, key: str | None = None, **body: Any) -> httpx.Response:
    headers = {} if key is None else {"Idempotency-Key": key}
    return api.http.post(f"/v1/inputs/{input_id}", json=body, headers=headers)


def resolutions(api: ServerApi, execution_id: str) -> list[dict[str, Any]]:
    return [each["event"] for each in api.read_log(execution_id) if each["event"]["type"] == "input.resolved"]
