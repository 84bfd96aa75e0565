"""A call that a rule asks about runs once a person has said so, as they saw it, whatever dies meanwhile."""

import json
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
    InlinePayload,
    InputRequested,
    InputResolved,
    ToolOutcome,
    ToolStarted,
)
from stigmer_contract.inputs import Approval
from stigmer_contract.phases import ExecutionPhase

pytestmark = pytest.mark.timeout(280)

ASK_SHELL = [{"tool": "shell", "policy": "ask"}]
ASK_FILES = [{"tool": "write_file", "policy": "ask"}, {"tool": "edit_file", "policy": "ask"}]
BRIEFLY = [{"tool": "shell", "policy": "ask", "expiresAfter": "1s"}]
ASK_PUSH = [
    {"tool": "shell", "when": "touch *", "policy": "ask"},
    {"tool": "shell", "when": "rm *", "policy": "deny"},
]

ASK_KINDS = [{"tool": "shell", "when": f"{program} *", "policy": "ask"} for program in ("touch", "mkdir")]


def command(text: str) -> ScriptedCall:
    return ScriptedCall("run_command", {"command": text})


FIRST, SECOND = command("echo one >> done.txt"), command("echo two >> done.txt")
SCRIPTS: dict[str, tuple[list[dict[str, Any]], list[list[ScriptedCall]]]] = {
    "two": (ASK_SHELL, [[FIRST, SECOND]]),
    "briefly": (BRIEFLY, [[FIRST]]),
    "rules": (ASK_PUSH, [[FIRST, command("rm -f done.txt")]]),
    "kinds": (
        ASK_KINDS,
        [[command("touch ./a")], [command("touch ./b")], [command("mkdir d")], [command("touch ./c")]],
    ),
    "files": (
        ASK_FILES,
        [
            [
                ScriptedCall("write_file", {"path": "a.txt", "content": "one\ntwo\n"}),
                ScriptedCall("edit_file", {"path": "a.txt", "old_text": "two", "new_text": "three"}),
            ]
        ],
    ),
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def model(script: str) -> Iterator[ModelServer]:
    with ModelServer(calls_in_order(SCRIPTS[script][1])) as server:
        yield server


@pytest.fixture
def stack(model: ModelServer, tmp_path: Path) -> Iterator[RunningStack]:
    stack = RunningStack(
        tmp_path, server_environment=QUICK_HEARTBEAT, runner_environment=runner_environment(model)
    )
    with stack:
        yield stack


def start(stack: RunningStack, script: str, key: str = "", **more: str) -> Execution:
    manifest = agent_manifest(tools=("shell", "files"))
    manifest["spec"]["approval"] = SCRIPTS[script][0]
    return Execution.start(stack, manifest, f"Do it. [conversation {key or uuid4().hex}]", **more)


def asks(execution: Execution) -> list[InputRequested]:
    return [event for event in execution.events if isinstance(event, InputRequested)]


def content_of(request: InputRequested) -> Approval:
    assert isinstance(request.content, InlinePayload)
    return Approval.model_validate(request.content.value)


def decide(stack: RunningStack, request: InputRequested, outcome: str, **more: Any) -> httpx.Response:
    body = {"outcome": outcome, **more}
    return stack.client.post(f"/v1/inputs/{request.input_id}", json=body)


def outcomes(execution: Execution) -> list[ToolOutcome]:
    return [result.outcome for result in tool_results(execution.events)]


def told(execution: Execution) -> str:
    results = (result.result for result in tool_results(execution.events))
    return json.dumps([result.value for result in results if isinstance(result, InlinePayload)])


def done(stack: RunningStack, execution: Execution, name: str = "done.txt") -> str | None:
    file = stack.workspace_root / execution.session_id / name
    return file.read_text(encoding="utf-8") if file.exists() else None


@pytest.mark.parametrize("script", ["two"], indirect=True)
def test_calls_are_asked_about_at_once_and_run_in_order_whatever_died_meanwhile(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    execution = start(stack, "two", key)
    execution.wait_for(waits)
    first, second = asks(execution)
    assert [content_of(each).arguments for each in (first, second)] == [FIRST.arguments, SECOND.arguments]
    assert not [event for event in execution.events if isinstance(event, ToolStarted)]
    stack.kill_runner(stack.runners[0])
    stack.kill_server()
    stack.start_server()
    stack.start_runner("other")

    # The later one first: it does not overtake the undecided one.
    assert decide(stack, second, "approved").is_success
    assert execution.resource.phase is ExecutionPhase.WAITING
    assert decide(stack, first, "approved").is_success
    assert decide(stack, first, "denied").status_code == 409

    execution.wait_until_completed()
    assert outcomes(execution) == [ToolOutcome.SUCCEEDED] * 2
    assert done(stack, execution) == "one\ntwo\n"
    assert (model.asked[key, 1], model.asked[key, 2]) == (1, 1)


@pytest.mark.parametrize("script", ["two"], indirect=True)
def test_what_is_denied_does_not_run_and_the_model_is_told_why(stack: RunningStack) -> None:
    execution = start(stack, "two")
    execution.wait_for(waits)
    first, second = asks(execution)

    assert decide(stack, first, "denied", reason="Not on a Friday.").is_success
    changed = {"command": "echo changed >> done.txt"}
    assert decide(stack, second, "approved", arguments=changed).is_success

    execution.wait_until_completed()
    assert outcomes(execution) == [ToolOutcome.DENIED, ToolOutcome.SUCCEEDED]
    assert done(stack, execution) == "changed\n"
    assert "a person denied it. The person says: Not on a Friday." in told(execution)
    assert "A person changed the call" in told(execution)
    [started] = [event for event in execution.events if isinstance(event, ToolStarted)]
    assert isinstance(started.arguments, InlinePayload)
    assert changed["command"] in json.dumps(started.arguments.value)


@pytest.mark.parametrize("script", ["two"], indirect=True)
def test_arguments_that_do_not_fit_the_tool_are_asked_about_again(stack: RunningStack) -> None:
    execution = start(stack, "two")
    execution.wait_for(waits)
    first, second = asks(execution)
    assert decide(stack, second, "denied").is_success

    assert decide(stack, first, "approved", arguments={"command": 5}).is_success
    again = next(
        each.event
        for each in execution.follow()
        if isinstance(each.event, InputRequested) and each.event.nth == 2
    )

    assert content_of(again).again is not None
    assert decide(stack, again, "denied").is_success
    execution.wait_until_completed()
    assert done(stack, execution) is None


@pytest.mark.parametrize("script", ["briefly"], indirect=True)
def test_an_approval_that_nobody_gives_expires_and_is_no_denial(stack: RunningStack) -> None:
    execution = start(stack, "briefly")

    execution.wait_until_completed()

    assert outcomes(execution) == [ToolOutcome.EXPIRED]
    assert "expired unanswered. Nobody denied it." in told(execution)
    assert done(stack, execution) is None


@pytest.mark.parametrize("script", ["rules"], indirect=True)
def test_rules_and_the_execution_s_own_setting_decide_together(stack: RunningStack) -> None:
    execution = start(stack, "rules")
    execution.wait_until_completed()
    strict = start(stack, "rules", approve="ask")
    strict.wait_for(waits)

    assert outcomes(execution) == [ToolOutcome.SUCCEEDED, ToolOutcome.DENIED]
    assert done(stack, execution) == "one\n"
    [asked] = asks(strict)
    assert content_of(asked).arguments == FIRST.arguments


@pytest.mark.parametrize("script", ["kinds"], indirect=True)
def test_a_kind_that_is_approved_is_not_asked_about_again_until_that_is_revoked(stack: RunningStack) -> None:
    execution = start(stack, "kinds")
    execution.wait_for(waits)
    [asked] = asks(execution)
    assert content_of(asked).kind_rule is not None

    assert decide(stack, asked, "approved", grants_kind=True).is_success

    execution.wait_for(lambda recorded: waits(recorded) and len(asks(execution)) == 2)
    assert (done(stack, execution, "a"), done(stack, execution, "b")) == ("", "")
    [resolved] = [event for event in execution.events if isinstance(event, InputResolved)]
    assert resolved.grants == content_of(asked).kind_rule
    grants = f"/v1/executions/{execution.execution_id}/grants"
    stack.client.delete(f"{grants}/{asked.input_id}").raise_for_status()
    assert decide(stack, asks(execution)[1], "approved").is_success

    execution.wait_for(lambda recorded: waits(recorded) and len(asks(execution)) == 3)
    assert content_of(asks(execution)[2]).arguments == {"command": "touch ./c"}
    assert done(stack, execution, "c") is None
    assert decide(stack, asks(execution)[2], "denied").is_success
    execution.wait_until_completed()
    assert done(stack, execution, "c") is None


@pytest.mark.parametrize("script", ["files"], indirect=True)
def test_a_change_of_a_file_is_shown_and_holds_only_for_that_file(stack: RunningStack) -> None:
    execution = start(stack, "files")
    execution.wait_for(waits)
    write, edit = asks(execution)
    assert "+one\n+two" in (content_of(write).diff or "")
    assert "-two\n+three" in (content_of(edit).diff or "")
    file = stack.workspace_root / execution.session_id / "a.txt"
    file.write_text("somebody was here\n", encoding="utf-8")

    assert decide(stack, write, "approved").is_success
    again = next(
        each.event
        for each in execution.follow()
        if isinstance(each.event, InputRequested) and each.event.nth == 2
    )

    assert "-somebody was here" in (content_of(again).diff or "")
    assert "has changed" in (content_of(again).again or "")
    assert file.read_text(encoding="utf-8") == "somebody was here\n"
    assert decide(stack, again, "approved").is_success
    assert decide(stack, edit, "approved").is_success
    execution.wait_until_completed()
    assert file.read_text(encoding="utf-8") == "one\nthree\n"
