"""The whole stack with its runner in a container, on both engines."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

import container_engine
from containers_user import CONTAINERS_USER, give_to_containers
from small_image import write_image_archive
from stack_home import StackHome, wait_until
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import Container, ContainerSpec, Engine
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.inspection import find_own_containers

pytestmark = pytest.mark.timeout(600)

EXAMPLE = Path(__file__).parents[4] / "examples" / "csv-report"
STAND_IN = "localhost/stigmer-tests/stand-in-runner:1"
TITLE = {"org.opencontainers.image.title": "agent-runner"}
VERSION = "org.opencontainers.image.version"
OURS = program_version()
CANARY = "sk-canary-0123456789"


def _containers(engine: Engine, home: StackHome) -> list[Container]:
    return find_own_containers(engine, str(home.path))


def _one(engine: Engine, home: StackHome) -> Container:
    (container,) = _containers(engine, home)
    return container


def test_it_starts_contained_again_changes_nothing_and_a_stop_leaves_nothing(
    contained_home: StackHome, engine: Engine
) -> None:
    contained_home.start(OPENAI_API_KEY=CANARY)
    status = contained_home.status()
    assert (status["ready"], status["contained"]) == (True, True)
    assert status["container"]["image"] == contained_home.environment["STIGMER_AGENT_RUNNER_IMAGE"]
    container = _one(engine, contained_home)

    again = contained_home.stigmer("server", "start", variables={"OPENAI_API_KEY": CANARY})
    assert (again.returncode, again.stderr) == (
        0,
        "the stack is already running; see `stigmer server status`\n",
    )
    assert _one(engine, contained_home).container_id == container.container_id

    inspected = engine.api.call("inspect", "GET", f"/containers/{container.container_id}/json")
    tokens = [(contained_home.path / "run" / name).read_text() for name in ("token", "runner-token")]
    assert CANARY not in json.dumps(inspected)
    assert all(token not in json.dumps(inspected) for token in tokens)
    assert all(CANARY not in " ".join(line) for line in contained_home.command_lines().values())
    secret = contained_home.path / "run" / "runner-secrets" / "OPENAI_API_KEY"
    assert secret.with_name("STIGMER_TOKEN").read_text() == tokens[1]
    assert (secret.read_text(), secret.stat().st_mode & 0o777) == (CANARY, 0o600)

    stopped = contained_home.stigmer("server", "stop")
    assert stopped.returncode == 0
    assert _containers(engine, contained_home) == []
    assert contained_home.processes() == []
    assert not secret.parent.exists()


def test_whoever_looks_after_it_may_be_killed(contained_home: StackHome, engine: Engine) -> None:
    contained_home.start()
    container = _one(engine, contained_home)

    os.kill(contained_home.component("runner")["pid"], signal.SIGKILL)
    wait_until(lambda: contained_home.component("runner")["restarts"] == 1, "it is looked after again")
    wait_until(lambda: contained_home.status()["ready"], "all is ready")
    assert _one(engine, contained_home).container_id == container.container_id

    container.remove()

    def is_another() -> bool:
        return [each.container_id for each in _containers(engine, contained_home)] not in (
            [],
            [container.container_id],
        )

    wait_until(is_another, "there is another container")
    wait_until(lambda: contained_home.status()["ready"], "all is ready")

    os.kill(contained_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not _containers(engine, contained_home), "the container is removed")
    wait_until(lambda: not contained_home.processes(), "everything has ended")


def test_a_container_that_was_left_behind_is_no_obstacle(contained_home: StackHome, engine: Engine) -> None:
    contained_home.start()
    runner_pid = contained_home.component("runner")["pid"]
    os.kill(contained_home.status()["supervisor_pid"], signal.SIGSTOP)  # so that nobody starts it again
    os.kill(runner_pid, signal.SIGKILL)
    for process in contained_home.processes():
        process.kill()
    left = _one(engine, contained_home)
    contained_home.start()
    assert _one(engine, contained_home).container_id != left.container_id
    contained_home.stigmer("server", "stop")
    assert _containers(engine, contained_home) == []


def test_another_key_replaces_the_container_and_the_reason_is_told(
    contained_home: StackHome, engine: Engine
) -> None:
    contained_home.start(OPENAI_API_KEY="one")
    before = _one(engine, contained_home).container_id
    changed = {"OPENAI_API_KEY": "two", "STIGMER_LLM_MODEL": "m", "STIGMER_LLM_PROVIDER": "openai"}
    completed = contained_home.stigmer("server", "start", variables=changed)
    assert (completed.returncode, completed.stderr) == (
        0,
        "replacing the runner's container: STIGMER_LLM_MODEL, STIGMER_LLM_PROVIDER changed; "
        "a secret changed\nthe runner is ready again\n",
    )
    assert _one(engine, contained_home).container_id != before
    assert contained_home.status()["ready"] is True


def test_an_execution_in_hand_survives_a_stop_and_its_files_are_whose_the_directory_is(
    contained_home: StackHome, tmp_path: Path
) -> None:
    workspace = tmp_path / "Berichte für 日本"
    shutil.copytree(EXAMPLE / "input", workspace)
    give_to_containers(workspace)
    contained_home.start()
    started = contained_home.stigmer(
        *("run", str(EXAMPLE), (EXAMPLE / "prompt.txt").read_text(), "--detach"),
        *("--model", f"replay:{EXAMPLE / 'cassette.yaml'}", "--workspace", str(workspace)),
    )
    assert started.returncode == 0, started.stderr
    execution_id = started.stdout.strip()
    wait_until(lambda: (workspace / "report.py").exists(), "the agent has begun to write")
    assert contained_home.stigmer("server", "stop").returncode == 0
    contained_home.start()
    followed = contained_home.stigmer("executions", "follow", execution_id)
    assert followed.returncode == 0, followed.stderr
    written = [workspace / name for name in ("report.py", "report.md", "check.py")]
    assert [path.stat().st_uid for path in written] == [CONTAINERS_USER] * 3


def test_a_container_that_dies_at_its_start_shows_its_last_words(
    contained_home: StackHome, engine: Engine, tmp_path: Path
) -> None:
    archive = _archive(tmp_path, TITLE | {VERSION: "dev-local"}, "echo my last words; exit 2")
    try:
        completed = contained_home.stigmer("server", "start", "--image-archive", str(archive))
    finally:
        container_engine.Engine(engine.traits.kind.value).forget_images(STAND_IN.removesuffix(":1"))
    assert completed.returncode == 3
    assert completed.stderr.splitlines()[-4:] == [
        "error: could not start runner: it ended with exit code 2",
        "  my last words",
        "",
        "hint: run `stigmer server logs --runner` to see more",
    ]
    assert contained_home.status()["running"] is False


@pytest.mark.parametrize(
    ("labels", "reason", "remedy"),
    [
        ({}, "is no agent-runner", "set `runner.image` to an agent-runner's image, or unset it"),
        (
            TITLE | {VERSION: "9.1.0"},
            f"is version 9.1.0, which does not go with stigmer {OURS}",
            f"use ghcr.io/stigmer/agent-runner:{OURS}, or install stigmer 9.1.0",
        ),
    ],
)
def test_an_image_that_does_not_fit_is_refused(
    contained_home: StackHome, tmp_path: Path, labels: dict[str, str], reason: str, remedy: str
) -> None:
    archive = _archive(tmp_path, labels, "exit 0")
    completed = contained_home.stigmer("server", "start", "--image-archive", str(archive))
    assert (completed.returncode, completed.stderr) == (
        3,
        f"error: could not start the runner: the image '{STAND_IN}' {reason}\n\nhint: {remedy}\n",
    )
    assert contained_home.status()["running"] is False


def test_the_image_is_told_this_version_and_refuses_another(
    contained_home: StackHome, engine: Engine, runner_image: str
) -> None:
    contained_home.start()
    running = _one(engine, contained_home)
    inspected = engine.api.call("inspect", "GET", f"/containers/{running.container_id}/json")
    assert f"STIGMER_CLI_VERSION={OURS}" in inspected["Config"]["Env"]

    told = {"STIGMER_TOKEN": "t", "STIGMER_CLI_VERSION": "9.1.0"}
    refusing = engine.create(
        ContainerSpec(name=f"stigmer-tests-{os.urandom(4).hex()}", image=runner_image, environment=told)
    )
    try:
        refusing.start()
        wait_until(lambda: not refusing.inspect().is_running, "the runner has refused")
        with refusing.logs() as said:
            text = b"".join(piece for _, piece in said.pieces()).decode()
        exit_code = refusing.inspect().exit.exit_code
    finally:
        refusing.remove()
    assert (exit_code, text) == (
        2,
        f"error: could not start the runner: it is version {OURS}, which does not go with stigmer 9.1.0; "
        f"use the runner's image of version 9.1.0, or install stigmer {OURS}\n",
    )


def test_a_file_that_is_no_archive_is_refused(contained_home: StackHome, tmp_path: Path) -> None:
    (tmp_path / "notes.tar").write_text("no archive")
    completed = contained_home.stigmer("server", "start", "--image-archive", str(tmp_path / "notes.tar"))
    assert completed.returncode == 3
    assert "the archive cannot be loaded" in completed.stderr


def _archive(folder: Path, labels: dict[str, str], script: str) -> Path:
    path = folder / "image.tar"
    return write_image_archive(path, STAND_IN, labels=labels, entrypoint=("sh", "-c", script))


def test_an_image_that_is_not_here_is_not_pulled_where_that_is_forbidden(
    contained_home: StackHome, engine: Engine
) -> None:
    completed = contained_home.stigmer(
        "server", "start", variables={"STIGMER_AGENT_RUNNER_IMAGE": "localhost/stigmer-tests/none:1"}
    )
    assert completed.returncode == 3
    assert completed.stderr == (
        "error: could not start the runner: the image 'localhost/stigmer-tests/none:1' is not here, "
        "and `runner.pullPolicy` is never\n\nhint: run `stigmer runner pull`\n"
    )
    assert load_configuration(contained_home.environment).runner_engine == engine.traits.kind.value
