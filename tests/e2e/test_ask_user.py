"""An agent asks a person, waits at no cost, and goes on exactly there, whatever dies meanwhile."""

import contextlib
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from e2e_script import QUICK_HEARTBEAT, calls_in_order, runner_environment
from executions import Execution, agent_manifest, tool_results, waits
from model_server import ModelServer, ScriptedCall
from running_stack import RunningStack
from stigmer_contract.events import (
    InputRequested,
    InputResolved,
    ToolOutcome,
)
from stigmer_contract.inputs import InputKind
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind

pytestmark = pytest.mark.timeout(280)

FIELDS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "nights": {"type": "integer", "minimum": 1}},
    "required": ["city", "nights"],
}
WHICH = ScriptedCall("ask_user", {"question": "Which one?", "choices": ["red", "green"], "own_words": False})
FORM = ScriptedCall("ask_user", {"question": "Where to?", "fields": FIELDS})
BRIEFLY = ScriptedCall("ask_user", {"question": "Anybody there?", "seconds": 1})
WRONG = ScriptedCall("ask_user", {"question": "Well?", "fields": {"$ref": "https://example.com"}})
PICK = ScriptedCall("pick-colour", {"from": ["red", "green"]})
PICK_WRONG = ScriptedCall("pick-colour", {"from": 3})
COMMAND = ScriptedCall("run_command", {"command": "echo done >> done.txt"})
SCRIPTS = {
    "choice": [[WHICH], [COMMAND]],
    "two": [[WHICH, FORM, COMMAND]],
    "brief": [[BRIEFLY]],
    "wrong": [[WRONG]],
    "client": [[PICK_WRONG], [PICK, PICK], [COMMAND]],
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def model(script: str) -> Iterator[ModelServer]:
    with ModelServer(calls_in_order(SCRIPTS[script])) as server:
        yield server


@pytest.fixture
def stack(model: ModelServer, tmp_path: Path) -> Iterator[RunningStack]:
    """With one runner that has room for one leg."""
    stack = RunningStack(
        tmp_path,
        server_environment=QUICK_HEARTBEAT,
        runner_environment=runner_environment(model) | {"TEMPORAL_MAX_CONCURRENCY": "1"},
    )
    with stack:
        yield stack


def start(stack: RunningStack, key: str = "") -> Execution:
    manifest = agent_manifest(tools=("shell",))
    manifest["spec"]["askUser"] = True
    return Execution.start(stack, manifest, f"Do it. [conversation {key or uuid4().hex}]")


def asked(execution: Execution) -> list[InputRequested]:
    return [event for event in execution.events if isinstance(event, InputRequested)]


def resolved(execution: Execution) -> list[InputResolved]:
    return [event for event in execution.events if isinstance(event, InputResolved)]


def answer(stack: RunningStack, input_id: str, value: Any, key: str | None = None) -> httpx.Response:
    return stack.client.post(
        f"/v1/inputs/{input_id}",
        json={"outcome": "answered", "answer": value},
        headers={"Idempotency-Key": key or uuid4().hex},
    )


def told(execution: Execution) -> dict[str, str]:
    """What the model was told, by call."""
    return {
        result.call_id: str(result.result.value)
        for result in tool_results(execution.events)
        if result.result.kind == "inline"
    }


@pytest.mark.parametrize("script", ["choice"], indirect=True)
def test_an_answer_is_what_the_agent_goes_on_with_whatever_died_meanwhile(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    execution = start(stack, key)
    execution.wait_for(waits)
    assert execution.resource.phase is ExecutionPhase.WAITING
    assert [reason.kind for reason in execution.resource.waiting_for] == [WaitKind.ANSWER]
    [question] = asked(execution)
    stack.kill_runner(stack.runners[0])
    stack.kill_server()
    stack.start_server()
    stack.start_runner("other")

    assert answer(stack, question.input_id, "blue").status_code == 422
    assert answer(stack, question.input_id, "green").status_code == 200

    # Where the runner died before Temporal knew that its leg waits, one more leg looks, and asks nobody.
    assert execution.wait_until_completed().attempt >= 2
    assert any("green" in text for text in told(execution).values())
    assert len(asked(execution)) == len(resolved(execution)) == 1
    assert (model.asked[key, 1], model.asked[key, 2]) == (1, 1)


@pytest.mark.parametrize("script", ["two"], indirect=True)
def test_questions_of_one_answer_are_asked_at_once_and_what_follows_waits_for_both(
    stack: RunningStack,
) -> None:
    execution = start(stack)
    execution.wait_for(waits)
    first, second = asked(execution)
    assert second.answer_schema == FIELDS

    assert answer(stack, second.input_id, {"city": "Bergen", "nights": 2}).status_code == 200
    assert answer(stack, first.input_id, "red").status_code == 200

    execution.wait_until_completed()
    outcomes = [(result.tool, result.outcome) for result in tool_results(execution.events)]
    assert outcomes[-1] == ("run_command", ToolOutcome.SUCCEEDED)
    assert {outcome for _, outcome in outcomes} == {ToolOutcome.SUCCEEDED}
    assert any("Bergen" in text for text in told(execution).values())


@pytest.mark.parametrize("script", ["brief"], indirect=True)
def test_a_question_that_nobody_answers_expires_and_the_agent_is_told_just_that(stack: RunningStack) -> None:
    execution = start(stack)

    execution.wait_until_completed()

    assert [event.outcome for event in resolved(execution)] == ["expired"]
    [result] = tool_results(execution.events)
    assert result.outcome is ToolOutcome.EXPIRED
    assert "expired unanswered" in str(told(execution))


@pytest.mark.parametrize("script", ["wrong"], indirect=True)
def test_a_question_that_cannot_be_asked_is_the_models_to_mend(stack: RunningStack) -> None:
    execution = start(stack)

    execution.wait_until_completed()

    assert asked(execution) == []
    [result] = tool_results(execution.events)
    assert result.outcome is ToolOutcome.FAILED


@pytest.mark.parametrize("script", ["choice"], indirect=True)
def test_executions_that_wait_for_people_leave_the_only_slot_to_others(stack: RunningStack) -> None:
    executions = [start(stack) for _ in range(5)]
    for execution in executions:
        execution.wait_for(waits)

    for execution in reversed(executions):
        assert answer(stack, asked(execution)[0].input_id, "red").status_code == 200

    for execution in executions:
        execution.wait_until_completed()
        assert len(resolved(execution)) == 1


@pytest.mark.parametrize("script", ["choice"], indirect=True)
def test_an_answer_that_is_given_while_the_server_dies_is_given_once(stack: RunningStack) -> None:
    execution = start(stack)
    execution.wait_for(waits)
    [question] = asked(execution)
    key = uuid4().hex
    # The server may die before or after it is written down; nobody can know.
    killer = threading.Timer(random.uniform(0, 0.02), stack.kill_server)
    killer.start()
    with contextlib.suppress(httpx.TransportError):
        answer(stack, question.input_id, "red", key)
    killer.join()
    stack.start_server()

    assert answer(stack, question.input_id, "red", key).status_code == 200
    assert answer(stack, question.input_id, "green").status_code == 409

    execution.wait_until_completed()
    assert len(resolved(execution)) == 1


CLIENT_TOOL: dict[str, Any] = {
    "name": "pick-colour",
    "description": "Lets the person pick a colour.",
    "parameters": {
        "type": "object",
        "properties": {"from": {"type": "array", "items": {"type": "string"}}},
        "required": ["from"],
    },
}


@pytest.mark.parametrize("script", ["client"], indirect=True)
def test_a_client_carries_out_its_tools_whatever_died_meanwhile(
    stack: RunningStack, model: ModelServer
) -> None:
    manifest = agent_manifest(tools=("shell",))
    manifest["spec"]["clientTools"] = [CLIENT_TOOL]
    execution = Execution.start(stack, manifest, f"Do it. [conversation {uuid4().hex}]")
    execution.wait_for(waits)
    first, second = asked(execution)
    stack.kill_runner(stack.runners[0])
    stack.start_runner("other")

    assert (first.kind, first.toolset, first.tool) == (InputKind.CLIENT_TOOL, "client", "pick-colour")
    content = stack.client.get(f"/v1/inputs/{first.input_id}").json()["content"]["value"]
    assert content == {"version": 1, "tool": "pick-colour", "arguments": {"from": ["red", "green"]}}
    assert answer(stack, first.input_id, {"picked": "green"}).status_code == 200
    denied = {"outcome": "denied", "reason": "the page was closed"}
    assert stack.client.post(f"/v1/inputs/{second.input_id}", json=denied).status_code == 200

    execution.wait_until_completed()
    results = list(told(execution).values())
    assert any("do not fit" in text for text in results)
    assert any('{"picked": "green"}' in text for text in results)
    assert any("It was not carried out: the page was closed" in text for text in results)
    assert len(asked(execution)) == len(resolved(execution)) == 2
