"""Two stacks on one Temporal, with the defaults; and a Temporal whose file is an older copy."""

import shutil
from collections import Counter
from pathlib import Path

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest, answered_turns, tool_results
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import ToolOutcome, ToolStarted

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("shared-temporal")]

EXECUTIONS_OF_EACH = 10
OFTEN = {"STIGMER_RECONCILE_INTERVAL_SECONDS": "1"}
UNTIL_TOLD = "echo once >> done.txt; while [ ! -e go ]; do sleep 0.1; done"


def one_command(command: str) -> ScriptedModel:
    """A command, then an answer."""
    return ScriptedModel(
        [
            ScriptedTurn(text="Working.", calls=[ScriptedCall("run_command", {"command": command})]),
            ScriptedTurn(text="Done."),
        ]
    )


def test_two_stacks_on_one_temporal_lose_none_of_each_others_executions(tmp_path: Path) -> None:
    with ModelServer(one_command("echo once >> done.txt")) as model:
        first, second = (
            RunningStack(tmp_path / name, runner_environment=runner_environment(model))
            for name in ("first", "second")
        )
        for stack in (first, second):
            stack.home.mkdir()
        second.temporal = first.temporal
        try:
            first.start_temporal()
            for stack in (first, second):
                stack.start_server()
                stack.start_runner()
            both = (first, second)
            keys = [(stack, f"{stack.home.name}-{n}") for n in range(EXECUTIONS_OF_EACH) for stack in both]
            begun = [
                (stack, key, Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]"))
                for stack, key in keys
            ]
            for stack, key, execution in begun:
                execution.wait_until_completed()
                assert answered_turns(execution.events) == [1, 2]
                assert [model.asked[key, turn] for turn in (1, 2)] == [1, 1]
                done = stack.workspace_root / execution.session_id / "done.txt"
                assert done.read_text(encoding="utf-8") == "once\n"
            for stack in (first, second):
                assert stack.client.get("/v1/installation").json()["unknown_legs"] == 0
        finally:
            second.stop()
            first.stop()


def test_executions_younger_than_a_restored_copy_of_temporals_file_go_on(tmp_path: Path) -> None:
    with ModelServer(one_command(UNTIL_TOLD)) as model:
        stack = RunningStack(
            tmp_path, server_environment=QUICK_HEARTBEAT | OFTEN, runner_environment=runner_environment(model)
        )
        with stack:
            stack.temporal.stop()
            copy = tmp_path / "copy"
            copy.mkdir()
            for path in tmp_path.glob("temporal.db*"):
                shutil.copy(path, copy)
            stack.temporal.start()
            younger = [
                Execution.start(stack, agent_manifest(), f"Do it. [conversation {n}]") for n in range(3)
            ]
            for execution in younger:
                execution.wait_for(lambda recorded: isinstance(recorded.event, ToolStarted))

            stack.kill_temporal()
            for path in tmp_path.glob("temporal.db*"):
                path.unlink()
            for path in copy.iterdir():
                shutil.copy(path, tmp_path)
            stack.temporal.start()
            for execution in younger:
                (stack.workspace_root / execution.session_id / "go").touch()

            for execution in younger:
                execution.wait_until_completed()
                assert answered_turns(execution.events) == [1, 2]
                [result] = tool_results(execution.events)
                assert result.outcome in (ToolOutcome.SUCCEEDED, ToolOutcome.UNKNOWN)
                done = (stack.workspace_root / execution.session_id / "done.txt").read_text(encoding="utf-8")
                assert Counter(done.split())["once"] == 1
