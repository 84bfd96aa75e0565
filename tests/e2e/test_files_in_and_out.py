"""Files that people give to agents, and files that agents leave behind, through a whole stack."""

import base64
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e_script import QUICK_HEARTBEAT, runner_environment
from executions import Execution, agent_manifest
from model_server import ModelServer, ScriptedCall, ScriptedModel, ScriptedTurn
from running_stack import RunningStack
from stigmer_contract.events import ArtifactsCollected

pytestmark = [pytest.mark.timeout(600), pytest.mark.xdist_group("files in and out")]

COMMAND_SECONDS = 120
PNG = b"\x89PNG\r\n\x1a\n" + bytes(20)
BYTES = b"\x00\x01"
WRITE = "mkdir out && printf '# Report\\n' > report.md && printf 1,2 > out/a.csv && ln -s /etc/hosts out/link"


@pytest.fixture(scope="module")
def model() -> Iterator[ModelServer]:
    done = ScriptedTurn(text="Done.")
    writes = ScriptedTurn(calls=[ScriptedCall("run_command", {"command": WRITE})])
    with ModelServer(ScriptedModel([done], conversations={"writer": [writes, done]})) as server:
        yield server


@pytest.fixture(scope="module")
def stack(model: ModelServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    home = tmp_path_factory.mktemp("files")
    with RunningStack(
        home, server_environment=QUICK_HEARTBEAT, runner_environment=runner_environment(model)
    ) as running:
        yield running


def stigmer(stack: RunningStack, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stigmer_cli", *arguments],
        cwd=folder,
        env=stack.environment,
        capture_output=True,
        encoding="utf-8",
        timeout=COMMAND_SECONDS,
        check=False,
    )


def test_files_go_in_by_the_command_line_to_the_model_or_the_workspace(
    stack: RunningStack, model: ModelServer, tmp_path: Path
) -> None:
    (tmp_path / "pixel.png").write_bytes(PNG)
    (tmp_path / "data.bin").write_bytes(BYTES)
    (tmp_path / "agent.yaml").write_text(json.dumps(agent_manifest()), encoding="utf-8")

    prompt = "Look. [conversation reader]"
    ran = stigmer(stack, tmp_path, "run", ".", prompt, "-a", "pixel.png", "-a", "data.bin", "--json")

    assert ran.returncode == 0, ran.stderr
    asked = next(request for request in model.requests if b"[conversation reader]" in request.body)
    assert base64.b64encode(PNG) in asked.body
    place = f"attachments/{hashlib.sha256(BYTES).hexdigest()[:8]}/data.bin"
    assert place.encode() in asked.body
    session_id = json.loads(ran.stdout.splitlines()[0])["event"]["session_id"]
    assert (stack.workspace_root / session_id / place).read_bytes() == BYTES


def test_what_an_agent_leaves_behind_is_downloaded_as_the_log_says(
    stack: RunningStack, tmp_path: Path
) -> None:
    manifest = agent_manifest()
    manifest["spec"]["artifacts"] = ["report.md", "out/**", "missing.txt"]
    execution = Execution.start(stack, manifest, "Write. [conversation writer]")
    execution.wait_until_completed()

    [event] = [event for event in execution.events if isinstance(event, ArtifactsCollected)]
    assert [(file.path, file.sha256, file.size_bytes) for file in event.files] == [
        ("out/a.csv", hashlib.sha256(b"1,2").hexdigest(), 3),
        ("report.md", hashlib.sha256(b"# Report\n").hexdigest(), 9),
    ]
    assert event.unmatched == ["missing.txt"]
    written = stigmer(stack, tmp_path, "executions", "download", execution.execution_id, "-o", "kept")
    assert (written.returncode, written.stdout) == (0, "kept/out/a.csv\nkept/report.md\n"), written.stderr
    assert (tmp_path / "kept" / "report.md").read_bytes() == b"# Report\n"
