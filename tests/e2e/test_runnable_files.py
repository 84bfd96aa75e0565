"""What an agent leaves in a person's directory for other programs to run is told of, or moved aside."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import WorkspaceWarned

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("runnable-files")]

PLANT = "echo evil > .envrc; git config alias.st '!evil'; echo evil > .git/hooks/pre-commit; echo b > b"


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    turns = [
        ScriptedTurn(calls=[ScriptedCall("run_command", {"command": PLANT})]),
        ScriptedTurn(text="Done."),
    ]
    with ModelServer(ScriptedModel(turns)) as server:
        yield server


@pytest.mark.parametrize("protection", ["warn", "refuse"])
def test_what_an_agent_leaves_to_be_run_is_told_of_and_hooks_it_cannot_leave(
    protection: str, model: ModelServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    project = tmp_path_factory.mktemp("project")
    subprocess.run(["git", "init", "-q"], cwd=project, check=True, timeout=30)
    environment = runner_environment(model) | {"STIGMER_PROTECT_GIT": protection}
    with RunningStack(tmp_path, server_environment=QUICK_HEARTBEAT, runner_environment=environment) as stack:
        execution = Execution.start(stack, agent_manifest(), "Go", workspace=str(project))
        list(execution.follow())
        changed = [".envrc", ".git/config"]
        warned = [event for event in execution.events if isinstance(event, WorkspaceWarned)]
        assert warned == [
            WorkspaceWarned(files=changed) if protection == "warn" else WorkspaceWarned(moved_aside=changed)
        ]
        assert list((stack.workspace_root / ".watched").iterdir()) == []
    assert (project / ".envrc").exists() == (protection == "warn")
    assert not (project / ".git" / "hooks" / "pre-commit").exists()
    assert (project / "b").read_text(encoding="utf-8") == "b\n"
