"""`server restart` in the middle of executions: the runner finishes its steps beside the new one."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from e2e_script import runner_environment
from executions import Execution, agent_manifest, tool_results, tool_starts
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from stack_home import wait_until
from stigmer_contract.events import LegLost, LegStarted, ToolOutcome, ToolStarted
from supervised_stack import SupervisedStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("restart")]

EXECUTIONS = 20


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """A model that asks for a command that takes as long as it is told to, and for a second one then."""
    waiting = "until test -e go; do sleep 0.2; done; echo first >> done.txt"
    turns = [
        ScriptedTurn(calls=[ScriptedCall("run_command", {"command": command})])
        for command in (waiting, "echo second >> done.txt")
    ]
    with ModelServer(ScriptedModel([*turns, ScriptedTurn(text="Done.")])) as one:
        yield one


@pytest.fixture
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedStack]:
    """A stack whose runner has room for all of them."""
    path = tmp_path_factory.mktemp("restart") / "home"
    with SupervisedStack(path, runner_environment(model) | {"TEMPORAL_MAX_CONCURRENCY": "50"}) as one:
        yield one


def start(stack: SupervisedStack) -> tuple[Execution, str]:
    """An execution whose first command runs, and the key under which the model counts it."""
    key = uuid4().hex
    execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]")
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
    return execution, key


def let_go_on(stack: SupervisedStack, execution: Execution) -> None:
    """Let the execution's first command end."""
    (stack.workspace_root / execution.session_id / "go").touch()


def test_a_restart_in_the_middle_of_commands_loses_and_repeats_nothing(
    stack: SupervisedStack, model: ModelServer
) -> None:
    with ThreadPoolExecutor(8) as threads:
        started = list(threads.map(start, [stack] * EXECUTIONS))
        before = stack.pid("runner")

        restarted = stack.home.stigmer("server", "restart")

        assert restarted.returncode == 0, restarted.stderr
        assert "the runner before finishes the steps" in restarted.stderr
        assert stack.pid("runner") != before
        assert len([one for one in stack.home.processes() if one.pid == before]) == 1
        for execution, _ in started:
            let_go_on(stack, execution)
        list(threads.map(Execution.wait_until_completed, [execution for execution, _ in started]))
    for execution, key in started:
        events = execution.events
        assert [result.outcome for result in tool_results(events)] == [ToolOutcome.SUCCEEDED] * 2
        assert len(tool_starts(events)) == 2
        assert not [event for event in events if isinstance(event, LegLost)]
        assert [model.asked[key, turn] for turn in (1, 2, 3)] == [1, 1, 1]
        done = stack.workspace_root / execution.session_id / "done.txt"
        assert done.read_text(encoding="utf-8").split() == ["first", "second"]
        runners = [event.runner for event in events if isinstance(event, LegStarted)]
        assert len(runners) == len(set(runners)) == 2
    wait_until(
        lambda: not [one for one in stack.home.processes() if one.pid == before], "the old runner has ended"
    )


def test_a_runner_that_may_take_no_longer_hands_back(stack: SupervisedStack) -> None:
    execution, _ = start(stack)

    restarted = stack.home.stigmer("server", "restart", "--grace", "1s")

    assert restarted.returncode == 0, restarted.stderr
    execution.wait_until_completed()
    assert tool_results(execution.events)[0].outcome is ToolOutcome.UNKNOWN


def test_stopping_the_stack_ends_what_an_earlier_runner_is_at(stack: SupervisedStack) -> None:
    start(stack)
    assert stack.home.stigmer("server", "restart").returncode == 0

    stopped = stack.home.stigmer("server", "stop")

    assert stopped.returncode == 0, stopped.stderr
    wait_until(lambda: not stack.home.processes(), "everything has ended")


def test_a_runner_that_is_frozen_holds_up_no_restart(stack: SupervisedStack) -> None:
    frozen = stack.pid("runner")
    os.kill(frozen, signal.SIGSTOP)
    restarted = stack.home.stigmer("server", "restart")
    assert restarted.returncode == 0, restarted.stderr
    assert stack.home.component("runner")["ready"]
    os.kill(frozen, signal.SIGCONT)
    wait_until(lambda: not [one for one in stack.home.processes() if one.pid == frozen], "it has ended")
