"""What runs the runner where nobody asks for anything: a container where one can be had, else a process."""

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stack_home import StackHome, end_everything, make_stack_home, wait_until
from stigmer_cli.containers import Engine, EngineKind
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.inspection import find_own_containers, remove_containers
from stigmer_cli.runner.released_image import REPOSITORY

pytestmark = pytest.mark.timeout(600)

OURS = f"{REPOSITORY}:{program_version()}"
UNCONTAINED = "note: commands of agents run directly on this machine, not in a container"
WITHOUT = (
    "; or run it without a container: `stigmer server start --native`, or STIGMER_ENGINE=none for one command"
)
NO_ENGINE = {
    "PATH": "/nowhere",
    "DOCKER_HOST": "unix:///nowhere/d.sock",
    "CONTAINER_HOST": "unix:///nowhere/p.sock",
}

NO_CHECKOUT = {"GIT_DIR": "/nowhere"}
"""So that no local build is of the checkout that these tests run in."""


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


def _lines(stderr: str) -> list[str]:
    """Without the word on the engine that `_only` hides."""
    return [line for line in stderr.splitlines() if not line.startswith("note: could not use Docker")]


def _notes(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if line.startswith("note: commands")]


def test_without_any_engine_the_runner_is_a_process_and_everything_says_so(plain_home: StackHome) -> None:
    started = plain_home.stigmer("server", "start", variables=NO_ENGINE)
    assert started.returncode == 0, started.stderr
    assert _notes(started.stderr) == [
        f"{UNCONTAINED}: could not use Docker: there is no /nowhere/d.sock, which DOCKER_HOST names; "
        "to have one, unset DOCKER_HOST, or name a socket of this machine"
    ]
    status = plain_home.stigmer("server", "status", variables=NO_ENGINE)
    assert status.stderr == f"{UNCONTAINED}\n"
    doctor = plain_home.stigmer("doctor", variables=NO_ENGINE)
    assert UNCONTAINED.removeprefix("note: ") in doctor.stdout


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("docker", "there is no /nowhere/d.sock, which DOCKER_HOST names"),
        ("podman", "there is no /nowhere/p.sock, which CONTAINER_HOST names"),
    ],
)
def test_an_engine_that_is_asked_for_must_be_there(plain_home: StackHome, flag: str, reason: str) -> None:
    started = plain_home.stigmer("server", "start", "--engine", flag, variables=NO_ENGINE)
    assert (started.returncode, started.stdout) == (3, "")
    title = flag.capitalize()
    assert started.stderr.splitlines()[0] == f"error: could not use {title}: {reason}"
    assert started.stderr.splitlines()[2].endswith(WITHOUT)
    assert plain_home.processes() == []


def test_native_asks_for_a_process_whatever_engine_there_is(plain_home: StackHome) -> None:
    started = plain_home.stigmer("server", "start", "--native")
    assert (started.returncode, _notes(started.stderr)) == (0, [UNCONTAINED])


def test_a_registry_that_cannot_be_reached_is_an_error_and_never_costs_the_container(
    plain_home: StackHome, engine: Engine
) -> None:
    assert engine.images.find(OURS) is None, "an image of this version must not be here for this test"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    variables = _only(engine) | NO_CHECKOUT | {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
    started = plain_home.stigmer("server", "start", variables=variables)
    assert started.returncode == 3
    assert _lines(started.stderr) == [
        f"error: could not get the image '{OURS}': the registry cannot be reached: "
        "[Errno 111] Connection refused",
        "",
        "hint: check the network and the proxy variables; where there is no registry, use "
        f"`stigmer server start --image-archive FILE`{WITHOUT}",
    ]
    assert plain_home.processes() == []


def test_a_registry_that_says_nothing_is_an_error_after_ten_seconds(
    plain_home: StackHome, engine: Engine
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        variables = (
            _only(engine) | NO_CHECKOUT | {"HTTPS_PROXY": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        )
        started = plain_home.stigmer("server", "start", variables=variables)
    assert started.returncode == 3
    slow, error, *_ = _lines(started.stderr)
    assert slow == "the registry ghcr.io is slow to answer"
    assert error.endswith(f"{OURS}': the registry cannot be reached: no answer within 10 s")


def test_a_local_build_of_this_checkout_serves_where_no_released_image_can_be_had(
    contained_home: StackHome, engine: Engine, runner_image: str
) -> None:
    for name in ("STIGMER_ENGINE", "STIGMER_AGENT_RUNNER_IMAGE", "STIGMER_PULL_POLICY"):
        del contained_home.environment[name]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    variables = _only(engine) | {"HTTPS_PROXY": f"http://127.0.0.1:{port}"}
    contained_home.environment |= variables

    elsewhere = contained_home.stigmer("server", "start", variables=NO_CHECKOUT)
    unknown = contained_home.stigmer("server", "start", "--use-local-image=localhost/none:1")
    started = contained_home.stigmer("server", "start")

    assert (elsewhere.returncode, unknown.returncode) == (3, 3)
    title = engine.traits.title
    message = f"error: could not find the image 'localhost/none:1' of `--use-local-image` in {title}"
    assert message in unknown.stderr.splitlines()
    assert started.returncode == 0, started.stderr
    image = engine.images.find(contained_home.status()["container"]["image_id"])
    built = engine.images.find(runner_image)
    assert image is not None
    assert built is not None
    assert (
        image.labels["org.opencontainers.image.revision"] == built.labels["org.opencontainers.image.revision"]
    )
    assert contained_home.stigmer("server", "stop").returncode == 0
    named = contained_home.stigmer("server", "start", f"--use-local-image={runner_image}")
    assert f"the runner's container is {runner_image} in {title}" in named.stderr.splitlines()


def test_each_run_without_a_container_says_so_unless_that_was_asked_for(
    plain_home: StackHome, tmp_path: Path
) -> None:
    ran = [plain_home.stigmer("run", "none", "Do it.", variables=NO_ENGINE) for _ in range(2)]
    assert [len(_notes(one.stderr)) for one in ran] == [1, 1]
    assert plain_home.stigmer("server", "restart", "--native").returncode == 0
    assert _notes(plain_home.stigmer("run", "none", "Do it.", variables=NO_ENGINE).stderr) == []


def test_a_container_that_is_required_is_not_done_without(plain_home: StackHome) -> None:
    required = NO_ENGINE | {"STIGMER_REQUIRE_CONTAINER": "true"}
    started = plain_home.stigmer("server", "start", variables=required)
    native = plain_home.stigmer("server", "start", "--native", variables=required)
    assert (started.returncode, started.stderr.splitlines()[0]) == (
        3,
        "error: could not use Docker: there is no /nowhere/d.sock, which DOCKER_HOST names",
    )
    assert (native.returncode, native.stderr.splitlines()) == (
        2,
        [
            "error: could not run the runner as a plain process: `runner.requireContainer` is true",
            "",
            "hint: leave out --native, or run `stigmer config unset runner.requireContainer`",
        ],
    )
    assert plain_home.processes() == []


def test_what_ran_in_a_container_goes_on_in_one_after_a_crash_and_never_without(
    contained_home: StackHome, engine: Engine
) -> None:
    del contained_home.environment["STIGMER_ENGINE"]
    del contained_home.environment["STIGMER_AGENT_RUNNER_IMAGE"]
    contained_home.environment |= _only(engine)
    started = contained_home.stigmer("server", "start", "--use-local-image")
    assert started.returncode == 0, started.stderr
    image_id = contained_home.status()["container"]["image_id"]
    os.kill(contained_home.status()["supervisor_pid"], signal.SIGKILL)
    wait_until(lambda: not contained_home.processes(), "everything has ended", seconds=120)

    again = contained_home.stigmer("server", "start")

    assert again.returncode == 0, again.stderr
    assert _lines(again.stderr)[0] == (
        "as the stack was started, which ended unexpectedly: --use-local-image"
    )
    assert contained_home.status()["container"]["image_id"] == image_id
    assert contained_home.stigmer("server", "stop").returncode == 0
    without = contained_home.stigmer("server", "start", "--timeout", "1", variables=NO_ENGINE)
    assert (without.returncode, _notes(without.stderr)) == (3, [])
    native = contained_home.stigmer("server", "start", "--native", variables=NO_ENGINE)
    assert native.returncode == 0, native.stderr


def test_an_image_that_is_named_must_be_there(plain_home: StackHome, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        image = f"127.0.0.1:{listener.getsockname()[1]}/tests/none:1"
    variables = _only(engine) | {"STIGMER_AGENT_RUNNER_IMAGE": image}
    started = plain_home.stigmer("server", "start", variables=variables)
    first, verified, error, _, hint = _lines(started.stderr)
    assert (started.returncode, first) == (
        3,
        f"pulling the runner's image {image} with {engine.traits.title}",
    )
    assert verified.startswith(f"{image} is not verified: ")
    assert error.startswith(f"error: could not get the image '{image}': the registry cannot be reached: ")
    assert hint == (
        "hint: check the network and the proxy variables; where there is no registry, use "
        f"`stigmer server start --image-archive FILE`{WITHOUT}"
    )
    assert plain_home.processes() == []


def test_the_image_of_this_version_is_used_where_it_is_here(
    contained_home: StackHome, engine: Engine, runner_image: str
) -> None:
    for name in ("STIGMER_ENGINE", "STIGMER_AGENT_RUNNER_IMAGE", "STIGMER_PULL_POLICY"):
        del contained_home.environment[name]
    contained_home.environment |= _only(engine)
    tag = {"repo": REPOSITORY, "tag": program_version()}
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
