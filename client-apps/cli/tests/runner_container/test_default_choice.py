"""What runs the runner where nobody asks for anything: a container where one can be had, else a process."""

import socket
from collections.abc import Iterator
from importlib.metadata import version as installed_version
from pathlib import Path

import pytest

from stack_home import StackHome, end_everything, make_stack_home
from stigmer_cli.containers import Engine, EngineKind
from stigmer_cli.runner_container.inspection import find_own_containers, remove_containers
from stigmer_cli.runner_container.released_image import REPOSITORY

pytestmark = pytest.mark.timeout(600)

OURS = f"{REPOSITORY}:{installed_version('stigmer')}"
UNCONTAINED = "note: commands of agents run directly on this machine, not in a container"
NO_ENGINE = {
    "PATH": "/nowhere",
    "DOCKER_HOST": "unix:///nowhere/d.sock",
    "CONTAINER_HOST": "unix:///nowhere/p.sock",
}


@pytest.fixture
def plain_home(tmp_path: Path) -> Iterator[StackHome]:
    """A home with stand-ins in which nothing is said of engines."""
    home = make_stack_home(tmp_path / "home", own_temporal=False)
    del home.environment["STIGMER_ENGINE"]
    yield home
    home.stigmer("server", "stop")
    end_everything(home)


def _only(engine: Engine) -> dict[str, str]:
    """Hides the other engine."""
    is_docker = engine.traits.kind is EngineKind.DOCKER
    return {} if is_docker else {"DOCKER_HOST": "unix:///nowhere/d.sock"}


def _notes(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("note: commands")]


def test_without_any_engine_the_runner_is_a_process_and_everything_says_so(plain_home: StackHome) -> None:
    started = plain_home.stigmer("server", "start", variables=NO_ENGINE)
    assert started.returncode == 0, started.stderr
    assert _notes(started.stderr) == [
        f"{UNCONTAINED}: could not use a container engine: neither Docker nor Podman is installed; "
        "to have one, install the package `podman`, or Docker Engine: https://docs.docker.com/engine/install"
    ]
    status = plain_home.stigmer("server", "status", variables=NO_ENGINE)
    assert status.stderr == f"{UNCONTAINED}\n"
    doctor = plain_home.stigmer("doctor", variables=NO_ENGINE)
    assert UNCONTAINED.removeprefix("note: ") in doctor.stdout


@pytest.mark.parametrize("flag", ["docker", "podman"])
def test_an_engine_that_is_asked_for_must_be_there(plain_home: StackHome, flag: str) -> None:
    started = plain_home.stigmer("server", "start", "--engine", flag, variables=NO_ENGINE)
    assert (started.returncode, started.stdout) == (3, "")
    title = flag.capitalize()
    assert started.stderr.splitlines()[0] == f"error: could not use {title}: it is not installed"
    assert started.stderr.splitlines()[2].endswith("; or pass --native to run the runner without a container")
    assert plain_home.processes() == []


def test_native_asks_for_a_process_whatever_engine_there_is(plain_home: StackHome) -> None:
    started = plain_home.stigmer("server", "start", "--native")
    assert (started.returncode, _notes(started.stderr)) == (0, [UNCONTAINED])


def test_a_registry_that_refuses_costs_the_container_and_not_the_start(
    plain_home: StackHome, engine: Engine
) -> None:
    assert engine.images.find(OURS) is None, "an image of this version must not be here for this test"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    variables = _only(engine) | {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
    started = plain_home.stigmer("server", "start", variables=variables)
    assert started.returncode == 0, started.stderr
    assert _notes(started.stderr) == [
        f"{UNCONTAINED}: could not get the image '{OURS}': the registry cannot be reached: "
        "[Errno 111] Connection refused; to have one, check the network and the proxy variables; "
        "where there is no registry, use `stigmer server start --image-archive FILE`"
    ]


def test_a_registry_that_says_nothing_is_not_waited_for(plain_home: StackHome, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = _only(engine) | {"HTTPS_PROXY": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        started = plain_home.stigmer("server", "start", variables=variables)
    assert started.returncode == 0, started.stderr
    assert f"{OURS}': the registry cannot be reached: no answer within 2 s" in started.stderr


def test_an_image_that_is_named_must_be_there(plain_home: StackHome, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        image = f"127.0.0.1:{listener.getsockname()[1]}/tests/none:1"
    variables = _only(engine) | {"STIGMER_AGENT_RUNNER_IMAGE": image}
    started = plain_home.stigmer("server", "start", variables=variables)
    first, verified, error, _, hint = started.stderr.splitlines()
    assert (started.returncode, first) == (
        3,
        f"pulling the runner's image {image} with {engine.traits.title}",
    )
    assert verified.startswith(f"{image} is not verified: ")
    assert error.startswith(f"error: could not get the image '{image}': the registry cannot be reached: ")
    assert hint == (
        "hint: check the network and the proxy variables; where there is no registry, use "
        "`stigmer server start --image-archive FILE`; or pass --native to run the runner without a container"
    )
    assert plain_home.processes() == []


def test_the_image_of_this_version_is_used_where_it_is_here(
    contained_home: StackHome, engine: Engine, runner_image: str
) -> None:
    for name in ("STIGMER_ENGINE", "STIGMER_AGENT_RUNNER_IMAGE", "STIGMER_PULL_POLICY"):
        del contained_home.environment[name]
    contained_home.environment |= _only(engine)
    tag = {"repo": REPOSITORY, "tag": installed_version("stigmer")}
    engine.api.call("tag", "POST", f"/images/{runner_image}/tag", query=tag)
    try:
        started = contained_home.stigmer("server", "start")
        assert started.returncode == 0, started.stderr
        assert f"the runner's container is {OURS} in {engine.traits.title}" in started.stderr.splitlines()
        assert len(find_own_containers(engine, str(contained_home.path))) == 1
    finally:
        contained_home.stigmer("server", "stop")
        remove_containers(engine, str(contained_home.path))
        engine.api.call("untag", "DELETE", f"/images/{OURS}")
