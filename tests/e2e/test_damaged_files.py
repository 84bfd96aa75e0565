"""Databases that a disk damages: Temporal's costs nothing, the log's is told with what to do."""

import os
import signal
from pathlib import Path
from uuid import uuid4

import pytest

from e2e_script import TOOL_CALLS, runner_environment, ten_tool_script
from executions import Execution, agent_manifest, answered_turns
from model_server import ModelServer
from sqlite_files import damage_table
from stack_home import wait_until
from stigmer_contract.events import ToolFinished
from supervised_stack import SupervisedStack

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("damaged-files")]


def test_executions_go_on_where_temporals_database_is_damaged_and_the_logs_damage_is_told(
    tmp_path: Path,
) -> None:
    with (
        ModelServer(ten_tool_script()) as model,
        SupervisedStack(tmp_path / "home", runner_environment(model)) as stack,
    ):
        data = stack.home.path / "data"
        key = uuid4().hex
        execution = Execution.start(stack, agent_manifest(), f"Do it. [conversation {key}]")
        execution.wait_for(lambda recorded: isinstance(recorded.event, ToolFinished))
        pid = stack.pid("temporal")
        os.kill(pid, signal.SIGSTOP)  # so that nothing starts it on a sound file
        damage_table(data / "temporal.db", "executions")
        os.kill(pid, signal.SIGKILL)

        execution.wait_until_completed()

        assert len(list(data.glob("temporal.db.damaged-*"))) == 1
        assert answered_turns(execution.events) == list(range(1, TOOL_CALLS + 2))
        assert sum(model.asked[key, turn] for turn in range(1, TOOL_CALLS + 2)) <= TOOL_CALLS + 2

        server = stack.pid("server")
        os.kill(server, signal.SIGSTOP)
        damage_table(data / "stigmer.db", "executions")
        os.kill(server, signal.SIGKILL)
        wait_until(lambda: stack.home.component("server")["phase"] == "failed", "the server has given up")

        status = stack.home.stigmer("server", "status")
        started = stack.home.stigmer("server", "start")

        for completed in (status, started):
            told = completed.stdout + completed.stderr
            assert completed.returncode == 3, told
            assert " is damaged: " in told
            assert "`sqlite3 stigmer.db .recover | sqlite3 recovered.db`" in told
