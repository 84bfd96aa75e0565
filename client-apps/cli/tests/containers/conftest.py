"""Both engines, each with a small image; every test of `engine` runs against Docker and against Podman."""

import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

import container_engine
from small_image import write_image_archive
from stigmer_cli.containers import ContainerSpec, Engine, EngineKind, RunningContainer, find_engine
from stigmer_cli.containers.errors import EngineUnusable

RunContainer = Callable[..., RunningContainer]


@pytest.fixture(scope="session", params=list(EngineKind), ids=str)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine of this machine. In CI none may be missing, unless STIGMER_TEST_ENGINE names one."""
    if os.environ.get("STIGMER_TEST_ENGINE", request.param) != request.param:
        pytest.skip(f"only {os.environ['STIGMER_TEST_ENGINE']} was asked for")
    directory = tmp_path_factory.mktemp("service")
    try:
        # Longer than the commands under test, which have services of their own.
        with mock.patch("stigmer_cli.containers.podman_service.IDLE_SECONDS", 1800):
            found = find_engine(os.environ, directory, request.param)
    except EngineUnusable as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    with found:
        yield found


@pytest.fixture(scope="session")
def small_image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The id of an image with a shell."""
    name = f"localhost/stigmer-tests/small-{secrets.token_hex(6)}"
    archive = write_image_archive(tmp_path_factory.mktemp("image") / "small.tar", f"{name}:1")
    try:
        image = engine.images.find(engine.images.load(archive))
        assert image is not None
        yield image.image_id
    finally:
        container_engine.Engine(engine.traits.kind.value).forget_images(name)


@pytest.fixture
def run_container(engine: Engine, small_image: str) -> Iterator[RunContainer]:
    """Starts containers by their spec's fields, with a name of their own; removed after the test."""
    label = {"stigmer-tests": secrets.token_hex(8)}

    def run(**fields: object) -> RunningContainer:
        spec = ContainerSpec(
            **{  # pyright: ignore[reportArgumentType]  # fields of the spec, checked when the test runs
                "name": f"stigmer-tests-{secrets.token_hex(4)}",
                "image": small_image,
                "labels": label,
                "stop_seconds": 1,
                **fields,
            }
        )
        return engine.create(spec).start()

    yield run
    for container in engine.find_containers(label):
        container.remove()


@pytest.fixture
def service_directory(tmp_path: Path) -> Path:
    """Where a Podman service may put its socket."""
    directory = tmp_path / "s"
    directory.mkdir(mode=0o700)
    return directory
