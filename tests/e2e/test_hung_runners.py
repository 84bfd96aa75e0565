"""A leg that holds its runner's event loop for good: the supervisor ends the runner, and at the second time
the log says why the execution failed. And a stack of which nothing is left."""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from e2e_script import TOOL_CALLS, runner_environment, ten_tool_script
from executions import Execution, agent_manifest, answered_turns
from model_server import ModelServer
from stack_home import wait_until
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import LegLossCause, LegLost, ToolFinished
from supervised_stack import SupervisedStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("hung-runners")]

HANG_SECONDS = 10
"""In place of half a minute."""
FREEZING = """
import asyncio, os, sys

if sys.orig_argv[-1] == "stigmer_cli.stack.supervisor":
    from stigmer_cli.stack import local_components
    local_components._RUNNER_HANG_SECONDS = {seconds:.1f}

sleep = asyncio.sleep

def freeze(*arguments, **more):
    task = asyncio.current_task()
    if task is not None and task.get_name().startswith("agent ") and os.path.exists({order!r}):
        while True:  # as a pattern that backtracks, it never comes back to the loop
            pass
    return sleep(*arguments, **more)

asyncio.sleep = freeze
"""
"""What makes an agent's work hold the loop, since its leg pauses before its first step; and the supervisor
impatient."""
STOPPED_SECONDS = 1.5 * HANG_SECONDS
"""Longer than a runner may hang."""


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file is there, every leg freezes its runner."""
    return tmp_path_factory.mktemp("freezing") / "freeze"


@pytest.fixture(scope="module")
def stack(order: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisedStack]:
    """A stack whose runners can be frozen."""
    (order.parent / "sitecustomize.py").write_text(
        FREEZING.format(order=str(order), seconds=HANG_SECONDS), encoding="utf-8"
    )
    with ModelServer(ten_tool_script()) as model:
        environment = runner_environment(model) | {"PYTHONPATH": str(order.parent)}
        with SupervisedStack(tmp_path_factory.mktemp("hung") / "home", environment) as one:
            yield one


def start(stack: SupervisedStack) -> Execution:
    """A ten-tool execution."""
    return Execution.start(stack, agent_manifest(), f"Do it. [conversation {uuid4().hex}]")


def test_a_leg_that_froze_its_runner_twice_is_failed_with_that_reason(
    stack: SupervisedStack, order: Path
) -> None:
    order.touch()
    execution = start(stack)
    execution.wait_for(lambda recorded: isinstance(recorded.event, LegLost))
    resource = execution.wait_until_ended()
    order.unlink()
    lost = [event for event in execution.events if isinstance(event, LegLost)]
    assert [event.cause for event in lost] == [LegLossCause.RUNNER_HUNG] * 2
    assert resource.error is not None
    assert (resource.error.code, resource.error.message) == (
        ErrorCode.RUNNER_LOST,
        "2 runners hung one after the other in the same place: "
        f"it did not answer for {HANG_SECONDS} seconds, and was ended",
    )
    start(stack).wait_until_completed()  # the runner after it is well


def test_a_runner_that_somebody_stops_for_a_while_goes_on(stack: SupervisedStack) -> None:
    wait_until(lambda: stack.home.component("runner")["ready"], "the runner is ready")
    runner = stack.pid("runner")
    execution = start(stack)
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished))
    os.kill(runner, signal.SIGSTOP)
    threading.Event().wait(STOPPED_SECONDS)  # the fault itself
    os.kill(runner, signal.SIGCONT)
    execution.wait_until_completed()
    assert stack.pid("runner") == runner


def test_an_execution_goes_on_with_the_next_start_after_everything_was_killed_at_once(
    stack: SupervisedStack,
) -> None:
    execution = start(stack)
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished) and recorded.event.turn >= 3)
    processes = stack.home.processes()
    for signal_number in (signal.SIGSTOP, signal.SIGKILL):  # nobody sees another one die
        for process in processes:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal_number)
    wait_until(lambda: not stack.home.processes(), "nothing is left, the supervisor and its guard neither")

    stack.home.start()

    execution.wait_until_completed()
    assert answered_turns(execution.events) == list(range(1, TOOL_CALLS + 2))
