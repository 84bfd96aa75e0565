"""Temporal stood still, and has written a leg off: its runner goes on, and nothing is lost or done twice."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from uuid import uuid4

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest, tool_results, tool_starts
from model_server import Fault, ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import ToolOutcome, ToolStarted

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("lost-activities")]

FROZEN_SECONDS = 7.0
"""Longer than a leg's heartbeat may be missing; what happens does not depend on how much longer."""
MOST_FREEZES = 8
ADOPTED = "the leg goes on under another activity"


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    """A model that lets its first answer wait until it is released, and asks for a command then."""
    command = ScriptedCall(
        "run_command", {"command": "until test -e go; do sleep 0.1; done; echo done >> done.txt"}
    )
    script = ScriptedModel([ScriptedTurn(calls=[command]), ScriptedTurn(text="Done.")])
    script.faults[1] = [Fault("hang")]
    with ModelServer(script) as one:
        yield one


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack whose runner has room for one leg."""
    one_at_a_time = {"TEMPORAL_MAX_CONCURRENCY": "1"}
    stack = RunningStack(
        tmp_path_factory.mktemp("lost-activities"),
        server_environment=QUICK_HEARTBEAT,
        runner_environment=runner_environment(model) | one_at_a_time,
    )
    with stack:
        yield stack


def freeze_temporal(stack: RunningStack, adoptions: int) -> None:
    """Let Temporal stand still, until a leg has been adopted that often.

    A heartbeat that waits at the door may come before Temporal looks at the time; then nothing is lost.
    """
    pid = stack.temporal.pid
    assert pid is not None
    for _ in range(MOST_FREEZES):
        os.kill(pid, signal.SIGSTOP)
        threading.Event().wait(FROZEN_SECONDS)  # the fault itself
        os.kill(pid, signal.SIGCONT)
        with suppress(TimeoutError):
            wait_for_log(stack, adoptions)
            return
    raise AssertionError(stack.log_of("runner"))


def wait_for_log(stack: RunningStack, adoptions: int) -> None:
    """Wait for so many adoptions, if there come any."""
    deadline = time.monotonic() + FROZEN_SECONDS
    while stack.log_of("runner").count(ADOPTED) < adoptions:
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.05)


def test_a_frozen_temporal_costs_neither_a_model_call_nor_a_command(
    stack: RunningStack, model: ModelServer
) -> None:
    key = uuid4().hex
    execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]")
    model.wait_until_asked(key, 1)
    freeze_temporal(stack, adoptions=1)
    model.release()
    execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
    freeze_temporal(stack, adoptions=2)
    (stack.workspace_root / execution.session_id / "go").touch()

    resource = execution.wait_until_completed()

    assert resource.attempt == 1
    assert (model.asked[key, 1], model.asked[key, 2]) == (1, 1)
    assert [result.outcome for result in tool_results(execution.events)] == [ToolOutcome.SUCCEEDED]
    assert len(tool_starts(execution.events)) == 1
