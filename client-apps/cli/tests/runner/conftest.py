"""Both engines with the runner's image, and homes whose stacks run it."""

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from unittest import mock

import pytest

import container_engine
from stack_home import StackHome, end_everything, make_stack_home
from stigmer_cli.containers import ContainerSpec, Engine, EngineKind, find_engine
from stigmer_cli.containers.errors import EngineUnusable
from stigmer_cli.runner.inspection import remove_containers

ARCHIVED = "localhost/stigmer-tests/archived-runner"
RELABELLED = "localhost/stigmer-tests/contained-runner"

MakeHome = Callable[[str], StackHome]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """On the worker of the image tests, which use the same image."""
    for item in items:
        is_ours = Path(__file__).parent in item.path.parents
        if is_ours and isinstance(item, pytest.Function) and "engine" in item.fixturenames:
            item.add_marker(pytest.mark.xdist_group(f"image-{item.callspec.params['engine']}"))


@pytest.fixture(scope="session", params=[kind.value for kind in EngineKind])
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of this machine. In CI none may be missing, unless STIGMER_TEST_ENGINE names one."""
    if os.environ.get("STIGMER_TEST_ENGINE", request.param) != request.param:
        pytest.skip(f"only {os.environ['STIGMER_TEST_ENGINE']} was asked for")
    try:
        # Longer than the commands under test, which have services of their own.
        with mock.patch("stigmer_cli.containers.podman_service.IDLE_SECONDS", 1800):
            found = find_engine(os.environ, tmp_path_factory.mktemp("service"), EngineKind(request.param))
    except EngineUnusable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with found:
        yield found


@pytest.fixture(scope="session")
def runner_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The image of this checkout, as a local development build under a name that ends with the tests."""
    builder = container_engine.Engine(engine.traits.kind.value)
    built = engine.images.find(
        builder.build_test_image(
            container_engine.write_marked_authorities(tmp_path_factory.mktemp("authorities"))
        )
    )
    assert built is not None
    # Made once by each process: a second one of the same name would be another image, for which a stack
    # replaces its container.
    name = f"{RELABELLED}-{secrets.token_hex(6)}"
    try:
        _relabel(engine, built.image_id, name)
        yield f"{name}:dev-local"
    finally:
        builder.forget_images(name)


def _relabel(engine: Engine, image_id: str, name: str) -> None:
    created = engine.create(
        ContainerSpec(name=f"stigmer-tests-relabel-{secrets.token_hex(4)}", image=image_id)
    )
    try:
        query = {
            "container": created.container_id,
            "repo": name,
            "tag": "dev-local",
            "changes": "LABEL org.opencontainers.image.version=dev-local",
        }
        engine.api.call("commit", "POST", "/commit", query=query, body={}, timeout_seconds=120)
    finally:
        created.remove()


@pytest.fixture
def archive(engine: Engine, runner_image: str, tmp_path: Path) -> Iterator[Path]:
    """The runner's image under a name of its own, in a file."""
    path, query = tmp_path / "image.tar", {"repo": ARCHIVED, "tag": "1"}
    engine.api.call("tag", "POST", f"/images/{runner_image}/tag", query=query)
    with engine.api.stream("save", "GET", f"/images/{ARCHIVED}:1/get") as saved, path.open("wb") as file:
        for piece in saved.chunks():
            file.write(piece)
    yield path
    if engine.images.find(f"{ARCHIVED}:1"):
        engine.api.call("untag", "DELETE", f"/images/{ARCHIVED}:1")


@pytest.fixture
def make_contained_home(engine: Engine, runner_image: str, tmp_path: Path) -> Iterator[MakeHome]:
    """Makes homes whose runners are containers; whatever is left of them is removed."""
    with ExitStack() as ends:

        def make(name: str) -> StackHome:
            home = make_stack_home(tmp_path / name, own_temporal=True, real_programs=True)
            home.environment |= {
                "STIGMER_ENGINE": engine.traits.kind.value,
                "STIGMER_AGENT_RUNNER_IMAGE": runner_image,
                "STIGMER_PULL_POLICY": "never",
            }
            ends.callback(_end, engine, home)
            return home

        yield make


def _end(engine: Engine, home: StackHome) -> None:
    try:
        home.stigmer("server", "stop")  # in order: a killed supervisor may just have started another
        end_everything(home)
    finally:
        remove_containers(engine, str(home.path))


@pytest.fixture
def contained_home(make_contained_home: MakeHome) -> StackHome:
    """A home whose runner is a container."""
    return make_contained_home("home")
