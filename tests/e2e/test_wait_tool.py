"""An agent that waits for a message or a time costs nothing, and goes on exactly there, on any runner."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from e2e_script import QUICK_HEARTBEAT, calls_in_order, runner_environment
from executions import Execution, agent_manifest, answered_turns, tool_results, waits
from model_server import ModelServer, ScriptedCall
from running_stack import RunningStack
from stigmer_contract.api import ExecutionResource
from stigmer_contract.events import StepFinished, ToolOutcome
from stigmer_contract.phases import ExecutionPhase
from stigmer_contract.waits import WaitKind

pytestmark = pytest.mark.timeout(240)

MESSAGE = ScriptedCall("wait", {"message": True})
SHORT = ScriptedCall("wait", {"seconds": 1})
EITHER = ScriptedCall("wait", {"message": True, "seconds": 2})
COMMAND = ScriptedCall("run_command", {"command": "echo done >> done.txt"})
SCRIPTS = {
    "message": [[MESSAGE]],
    "time": [[SHORT]],
    "either": [[EITHER]],
    "beside": [[MESSAGE, SHORT, COMMAND]],
    "twice": [[MESSAGE], [COMMAND], [MESSAGE]],
}


@pytest.fixture(scope="module", params=SCRIPTS)
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
    manifest = agent_manifest(tools=("shell", "wait"))
    return Execution.start(stack, manifest, f"Do it. [conversation {key or uuid4().hex}]")


def send(stack: RunningStack, execution: Execution, text: str) -> None:
    response = stack.client.post(f"/v1/executions/{execution.execution_id}/messages", json={"text": text})
    assert response.is_success, response.text


def told(stack: RunningStack, execution: Execution, tool: str = "wait") -> list[str]:
    """What the model was told by its calls of a tool."""
    return [
        str(result.result.value)
        for result in tool_results(execution.events)
        if result.tool == tool and result.result.kind == "inline"
    ]


@pytest.mark.parametrize("script", ["message"], indirect=True)
def test_a_message_is_the_answer_to_the_wait_on_whatever_runner(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    execution = start(stack, key)
    execution.wait_for(waits)
    assert execution.resource.phase is ExecutionPhase.WAITING
    assert [reason.kind for reason in execution.resource.waiting_for] == [WaitKind.MESSAGE]
    stack.kill_runner(stack.runners[0])
    stack.start_runner("other")

    send(stack, execution, "the box is open")

    # Where the runner died before Temporal knew that its leg waits, one more leg looks, and asks nobody.
    assert execution.wait_until_completed().attempt >= 2
    assert any("the box is open" in text for text in told(stack, execution))
    assert (model.asked[key, 1], model.asked[key, 2]) == (1, 1)


@pytest.mark.parametrize("script", ["message"], indirect=True)
def test_executions_that_wait_leave_the_only_slot_to_others(stack: RunningStack) -> None:
    executions = [start(stack) for _ in range(5)]

    for execution in executions:
        execution.wait_for(waits)
    for execution in executions:
        send(stack, execution, "go on")

    resources = [execution.wait_until_completed() for execution in executions]
    assert [resource.attempt for resource in resources] == [2] * 5


@pytest.mark.parametrize("script", ["message"], indirect=True)
def test_a_message_that_came_before_is_read_with_the_task_and_ends_no_wait(stack: RunningStack) -> None:
    stack.kill_runner(stack.runners[0])
    execution = start(stack)
    send(stack, execution, "early")
    stack.start_runner("other")
    execution.wait_for(waits)
    send(stack, execution, "late")

    resource: ExecutionResource = execution.wait_until_completed()

    assert resource.attempt == 2
    assert "late" in told(stack, execution)[0]
    steps = [event for event in execution.events if isinstance(event, StepFinished)]
    assert [(step.key, step.kind) for step in steps if step.kind == "message"] == [("1", "message")]


@pytest.mark.parametrize("script", ["time"], indirect=True)
def test_a_time_ends_the_wait(stack: RunningStack) -> None:
    execution = start(stack)

    resource = execution.wait_until_completed()

    assert resource.attempt == 2
    assert "The time has come." in told(stack, execution)[0]


@pytest.mark.parametrize("script", ["either"], indirect=True)
def test_what_comes_first_of_several_ends_the_wait(stack: RunningStack) -> None:
    with_message, without = start(stack), start(stack)
    with_message.wait_for(waits)

    send(stack, with_message, "here")

    with_message.wait_until_completed()
    without.wait_until_completed()
    assert "here" in told(stack, with_message)[0]
    assert "there was no message" in told(stack, without)[0]


@pytest.mark.parametrize("script", ["beside"], indirect=True)
def test_calls_beside_a_wait_are_carried_out_once(stack: RunningStack) -> None:
    execution = start(stack)
    execution.wait_for(waits)

    send(stack, execution, "here")

    execution.wait_until_completed()
    assert len(told(stack, execution)) == 2
    outcomes = [result.outcome for result in tool_results(execution.events)]
    assert outcomes == [ToolOutcome.SUCCEEDED] * 3
    done = stack.workspace_root / execution.session_id / "done.txt"
    assert done.read_text(encoding="utf-8") == "done\n"


@pytest.mark.parametrize("script", ["twice"], indirect=True)
def test_each_message_is_given_once_however_often_the_runner_is_killed(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    execution = start(stack, key)
    execution.wait_for(waits)
    for number, text in enumerate(("first", "second")):
        stack.kill_runner(stack.runners[-1])
        send(stack, execution, text)
        stack.start_runner(f"other-{number}")
        if number == 0:
            first_wait = execution.wait_for(
                lambda each: isinstance(each.event, StepFinished) and each.event.kind == "wait"
            ).sequence
            execution.wait_for(lambda each, after=first_wait: each.sequence > after and waits(each))

    execution.wait_until_completed()

    assert ["first" in text for text in told(stack, execution)] == [True, False]
    assert ["second" in text for text in told(stack, execution)] == [False, True]
    assert answered_turns(execution.events) == [1, 2, 3, 4]
    assert [model.asked[key, turn] for turn in (1, 2, 3, 4)] == [1, 1, 1, 1]
    done = stack.workspace_root / execution.session_id / "done.txt"
    assert done.read_text(encoding="utf-8") == "done\n"
