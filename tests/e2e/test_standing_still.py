"""Executions that stand still say why: behind a busy runner, and without the runner that had them in hand."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from server_process import wait_until
from stigmer_contract.events import ToolStarted

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("standing-still")]

BUSY = "every slot of the runners is taken: they have another execution in hand"
WITHOUT_RUNNER = ("no runner has taken it yet", "no runner is connected")
"""Temporal lists a runner for a minute longer than it lives."""
UNTIL_TOLD = "while [ ! -e go ]; do sleep 0.1; done"


def shown(stack: RunningStack, *what: str) -> str:
    """What `stigmer executions` shows."""
    arguments = [sys.executable, "-m", "stigmer_cli", "executions", *what]
    return subprocess.run(
        arguments, env=stack.environment, capture_output=True, text=True, check=True, timeout=60
    ).stdout


def runners(stack: RunningStack) -> list[dict[str, Any]]:
    """As the console's stack shows them."""
    found: list[dict[str, Any]] = stack.client.get("/v1/stack").raise_for_status().json()["runners"]
    return found


def test_executions_behind_a_busy_runner_and_without_one_say_so_until_there_is_one(tmp_path: Path) -> None:
    turns = [
        ScriptedTurn(text="Working.", calls=[ScriptedCall("run_command", {"command": UNTIL_TOLD})]),
        ScriptedTurn(text="Done."),
    ]
    with ModelServer(ScriptedModel(turns)) as model:
        one_slot = {"TEMPORAL_MAX_CONCURRENCY": "1", **runner_environment(model)}
        stack = RunningStack(tmp_path, server_environment=QUICK_HEARTBEAT, runner_environment=one_slot)
        with stack:
            first = Execution.start(stack, agent_manifest(), "Do it. [conversation first]")
            first.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))
            wait_until(
                lambda: [each["slots"] for each in runners(stack)] == [1], "the runner tells its slots"
            )
            [runner] = runners(stack)
            assert (runner["in_hand"], runner["draining"]) == (1, False)
            assert runner["version"] and runner["isolation"] is not None
            second = Execution.start(stack, agent_manifest(), "Do it. [conversation second]")

            wait_until(lambda: second.resource.pending_reason == BUSY, "the second says that it waits")
            wait_until(lambda: first.resource.standing_reason is None, "somebody works on the first")
            assert f"pending ({BUSY})" in shown(stack, "list")
            assert f"pending ({BUSY})" in " ".join(shown(stack, "get", second.execution_id).split())

            stack.kill_runner(stack.runners[0])
            wait_until(lambda: first.resource.standing_reason in WITHOUT_RUNNER, "nobody works on the first")
            assert "in_progress (no runner " in shown(stack, "list")

            for execution in (first, second):
                workspace = stack.workspace_root / execution.session_id
                workspace.mkdir(parents=True, exist_ok=True)
                (workspace / "go").touch()
            stack.start_runner("later")
            for execution in (first, second):
                execution.wait_until_completed()
                assert execution.resource.standing_reason is None
