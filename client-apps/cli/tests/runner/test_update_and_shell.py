"""`server update`, `runner shell` and `runner logs` of a real runner in a container, on both engines."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers_user import CONTAINERS_USER, give_to_containers
from image_registry import ImageRegistry
from pushed_runner import log_in, push_anew
from stack_home import StackHome, wait_until
from stigmer_cli.containers import Engine, ImageReference
from stigmer_cli.runner.inspection import find_own_containers

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[4] / "examples" / "csv-report"


@pytest.fixture
def registry(engine: Engine, tmp_path: Path) -> Iterator[ImageRegistry]:
    """A registry that wants a login, as private ones do."""
    with ImageRegistry(tmp_path / "registry", engine.traits.kind.value) as registry:
        yield registry


def test_an_update_pulls_and_replaces_with_a_drain(
    contained_home: StackHome, engine: Engine, runner_image: str, registry: ImageRegistry, tmp_path: Path
) -> None:
    reference = ImageReference.parse(f"{registry.repository}:1")
    log_in(contained_home, registry)
    contained_home.environment |= {
        "STIGMER_AGENT_RUNNER_IMAGE": str(reference),
        "STIGMER_PULL_POLICY": "missing",
    }
    workspace = tmp_path / "work"
    shutil.copytree(EXAMPLE / "input", workspace)
    give_to_containers(workspace)
    try:
        first = push_anew(engine, runner_image, reference)
        started = contained_home.stigmer(
            *("run", str(EXAMPLE), (EXAMPLE / "prompt.txt").read_text(encoding="utf-8"), "--detach"),
            *("--model", f"replay:{EXAMPLE / 'cassette.yaml'}", "--workspace", str(workspace)),
        )
        assert started.returncode == 0, started.stderr
        assert contained_home.status()["container"]["image_id"] == first
        wait_until((workspace / "report.py").exists, "the agent has begun to write", seconds=120)

        second = push_anew(engine, runner_image, reference)
        engine.api.call("forget", "DELETE", f"/images/{reference}", query={"force": "true"})
        updated = contained_home.stigmer("server", "update")

        assert updated.returncode == 0, updated.stderr
        assert (
            f"replacing the runner's container: the image is now {reference}" in updated.stderr.splitlines()
        )
        assert updated.stderr.splitlines()[-1] == "the runner is ready again"
        assert contained_home.status()["container"]["image_id"] == second
        followed = contained_home.stigmer("executions", "follow", started.stdout.strip())
        assert followed.returncode == 0, followed.stderr
        again = contained_home.stigmer("server", "update", "--quiet")
        assert (again.returncode, again.stderr) == (0, "")
    finally:
        contained_home.stigmer("server", "stop")
        if engine.images.find(str(reference)):
            engine.api.call("forget", "DELETE", f"/images/{reference}", query={"force": "true"})


def test_a_shell_runs_in_the_container_and_logs_outlive_it(contained_home: StackHome, engine: Engine) -> None:
    contained_home.start()
    shell = contained_home.stigmer("runner", "shell", "--", "sh", "-c", "pwd; id -u; exit 7")
    assert (shell.returncode, shell.stdout) == (7, f"/workspace\n{CONTAINERS_USER}\n")

    wait_until(  # the engine is asked for 0.3 s, which a loaded machine may need
        lambda: contained_home.status()["container"]["memory_bytes"] is not None, "memory is measured"
    )
    status = contained_home.stigmer("runner", "status", "--json")
    (container,) = find_own_containers(engine, str(contained_home.path))
    told = json.loads(status.stdout)
    assert (status.returncode, told["phase"], told["ready"], told["restarts"]) == (0, "ready", True, 0)
    assert (told["container"]["name"], told["container"]["engine"]) == (container.name, engine.traits.title)
    assert told["uptime_seconds"] > 0
    assert told["container"]["image_id"] == container.inspect().image_id

    os.kill(contained_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not find_own_containers(engine, str(contained_home.path)), "the container is removed")
    logs = contained_home.stigmer("runner", "logs", "--tail", "200")
    assert "polling task queue" in logs.stdout
    every = contained_home.stigmer("server", "logs", "--all", "--since", "10m")
    times = [line.split()[0] for line in every.stdout.splitlines()]
    assert {line.split()[1] for line in every.stdout.splitlines()} >= {"runner", "supervisor"}
    assert times == sorted(times)
    refused = contained_home.stigmer("runner", "shell")
    assert (refused.returncode, refused.stderr.splitlines()[0]) == (
        3,
        "error: the local stack is not running",
    )
