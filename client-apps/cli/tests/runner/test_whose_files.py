"""What agents write belongs to whoever runs the command, also where that is not root.

(Root with Docker and with Podman: test_contained_stack.py.)
"""

import os
import shutil
import subprocess
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from other_person import OtherPerson, other_person
from stack_home import StackHome, end_everything, make_stack_home
from stigmer_cli.containers import Engine, EngineKind

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="only root can make another user of this machine"
    ),
]

EXAMPLE = Path(__file__).parents[4] / "examples" / "csv-report"
WRITTEN = ("report.py", "report.md", "check.py")


@pytest.fixture(scope="session")
def image_archive(engine: Engine, runner_image: str) -> Iterator[Path]:
    """The runner's image as a file that everybody may read."""
    path = Path("/var/tmp") / f"stigmer-tests-{os.getpid()}.tar"
    command = [engine.traits.kind.value, "save", "--output", str(path), runner_image]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=200)
        path.chmod(0o644)
        yield path
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def _home_of(person: OtherPerson, engine: Engine) -> Generator[StackHome]:
    home = make_stack_home(person.home / "state", own_temporal=True, real_programs=True)
    home.prefix = tuple(person.prefix)
    home.environment |= person.environment | {"STIGMER_ENGINE": engine.traits.kind.value}
    try:
        yield home
    finally:
        home.stigmer("server", "stop")
        end_everything(home)


def _owners_of_what_is_written(home: StackHome, person: OtherPerson) -> set[int]:
    workspace = person.home / "Berichte für 日本"
    shutil.copytree(EXAMPLE / "input", workspace)
    for path in (workspace, *workspace.rglob("*")):
        os.chown(path, person.user_id, person.user_id)
    completed = home.stigmer(
        *("run", str(EXAMPLE), (EXAMPLE / "prompt.txt").read_text(encoding="utf-8")),
        *("--model", f"replay:{EXAMPLE / 'cassette.yaml'}", "--workspace", str(workspace)),
        timeout_seconds=120,
    )
    assert completed.returncode == 0, completed.stderr
    return {(workspace / name).stat().st_uid for name in WRITTEN}


@pytest.mark.parametrize("engine", [EngineKind.DOCKER.value], indirect=True)
def test_a_member_of_the_docker_group_owns_them(engine: Engine, runner_image: str) -> None:
    with other_person("docker") as person, _home_of(person, engine) as home:
        started = home.stigmer("server", "start", variables={"STIGMER_AGENT_RUNNER_IMAGE": runner_image})
        assert started.returncode == 0, started.stderr
        assert _owners_of_what_is_written(home, person) == {person.user_id}


@pytest.mark.parametrize("engine", [EngineKind.PODMAN.value], indirect=True)
def test_who_runs_podman_without_root_owns_them(engine: Engine, image_archive: Path) -> None:
    with other_person() as person, _home_of(person, engine) as home:
        started = home.stigmer("server", "start", "--image-archive", str(image_archive), timeout_seconds=200)
        assert started.returncode == 0, started.stderr
        assert "in rootless Podman" in started.stderr
        assert _owners_of_what_is_written(home, person) == {person.user_id}
        listed = person.run("podman", "ps", "--all", "--quiet")
        assert len(listed.stdout.split()) == 2, "the standing one, and the directory's"
        assert home.stigmer("server", "stop").returncode == 0
        assert person.run("podman", "ps", "--all", "--quiet").stdout == ""
