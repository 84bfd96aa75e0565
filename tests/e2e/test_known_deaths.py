"""A runner that the supervisor sees die: its execution goes on at once, and the log says what happened."""

import os
import signal
from collections.abc import Iterator
from uuid import uuid4

import psutil
import pytest

from e2e_script import TOOL_CALLS, runner_environment, ten_tool_script
from executions import Execution, agent_manifest, answered_turns
from model_server import ModelServer
from stack_home import wait_until
from stigmer_contract.events import LegLossCause, LegLost, ToolFinished
from supervised_stack import SupervisedStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("known-deaths")]

LONG_HEARTBEAT = {"STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS": "600"}
"""Who waits for Temporal to miss a runner waits in vain."""


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """A model that works through ten commands in every conversation."""
    with ModelServer(ten_tool_script()) as one:
        yield one


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedStack]:
    """A stack whose Temporal misses nobody."""
    path = tmp_path_factory.mktemp("supervised") / "home"
    with SupervisedStack(path, LONG_HEARTBEAT | runner_environment(model)) as one:
        yield one


def spares(stack: SupervisedStack) -> list[psutil.Process]:
    """The processes that stand ready; the runner may have been one of them."""
    runner = stack.home.component("runner")["pid"]
    lines = stack.home.command_lines()
    return [
        one
        for one in stack.home.processes()
        if one.pid != runner and lines.get(one.pid, [])[-2:] == ["agent_runner", "spare"]
    ]


def start(stack: SupervisedStack) -> tuple[Execution, str]:
    """A ten-tool execution, and the key under which the model counts it."""
    key = uuid4().hex
    return Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]"), key


def test_an_execution_whose_runner_is_seen_to_die_goes_on_without_temporal_missing_it(
    stack: SupervisedStack, model: ModelServer
) -> None:
    execution, key = start(stack)
    for turn in (3, 6, 9):
        execution.wait_for(
            lambda recorded, turn=turn: (
                isinstance(recorded.event, ToolFinished) and recorded.event.turn >= turn
            )
        )
        os.kill(stack.pid("runner"), signal.SIGKILL)

    resource = execution.wait_until_completed()

    lost = [event for event in execution.events if isinstance(event, LegLost)]
    assert {(event.cause, event.how) for event in lost} == {
        (LegLossCause.RUNNER_ENDED, "it was ended by signal 9")
    }
    assert resource.attempt == len(lost) + 1 >= 2
    assert answered_turns(execution.events) == list(range(1, TOOL_CALLS + 2))
    assert sum(model.asked[key, turn] for turn in range(1, TOOL_CALLS + 2)) <= TOOL_CALLS + 1 + len(lost)


def test_the_next_runner_is_one_that_stood_ready(stack: SupervisedStack) -> None:
    wait_until(lambda: len(spares(stack)) == 1, "a spare runner stands ready")
    [spare] = spares(stack)
    restarts = stack.home.component("runner")["restarts"]
    os.kill(stack.pid("runner"), signal.SIGKILL)
    wait_until(lambda: stack.home.component("runner")["restarts"] == restarts + 1, "it is started again")
    wait_until(lambda: stack.home.component("runner")["ready"], "it is ready again")
    assert stack.pid("runner") == spare.pid
    wait_until(lambda: len(spares(stack)) == 1, "another one stands ready")


def test_a_spare_that_dies_costs_nothing_but_time(stack: SupervisedStack) -> None:
    first = stack.pid("runner")
    for spare in spares(stack):
        spare.kill()
    os.kill(first, signal.SIGKILL)
    wait_until(
        lambda: stack.home.component("runner")["ready"] and stack.pid("runner") != first, "another one runs"
    )
    start(stack)[0].wait_until_completed()


def test_a_spare_does_not_outlive_the_supervisor(stack: SupervisedStack) -> None:
    os.kill(stack.home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not stack.home.processes(), "everything has ended")
