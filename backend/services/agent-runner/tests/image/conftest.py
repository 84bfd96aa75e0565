"""What the tests of the image share: each runs with Docker and with Podman, on one image for each."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from container_engine import ENGINE_KINDS, Engine, EngineKind, write_marked_authorities
from needed import skip_outside_ci
from running_stack import RunningStack


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one engine run one after the other: they share its images and two processors."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            kind = (
                item.callspec.params.get("engine")
                if isinstance(item, pytest.Function) and hasattr(item, "callspec")
                else None
            )
            item.add_marker(pytest.mark.xdist_group(f"image-{kind or 'docker'}"))
            item.add_marker(pytest.mark.timeout(1200))


@pytest.fixture(scope="session", params=ENGINE_KINDS)
def engine(request: pytest.FixtureRequest) -> Engine:
    """Each engine. In CI both must be there; elsewhere a missing one is skipped."""
    kind: EngineKind = request.param
    only = os.environ.get("STIGMER_TEST_ENGINE")
    if only and only != kind:
        pytest.skip(f"only {only} was asked for")
    engine = Engine(kind)
    reason = engine.why_not()
    if reason is not None:
        skip_outside_ci(reason)
    return engine


@pytest.fixture(scope="session")
def marked_authorities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the image is built with; the mark in it must not come into the image."""
    return write_marked_authorities(tmp_path_factory.mktemp("authorities"))


@pytest.fixture(scope="session")
def image(engine: Engine, marked_authorities: Path) -> str:
    """The image under test."""
    return engine.build_test_image(marked_authorities)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """Temporal and a server; the runner is the container. An emulated one must not be taken for dead."""
    seconds = "60" if os.environ.get("STIGMER_TEST_EMULATED") else "3"
    stack = RunningStack(
        tmp_path_factory.mktemp("stack"),
        server_environment={"STIGMER_LEG_HEARTBEAT_TIMEOUT_SECONDS": seconds},
    )
    try:
        stack.start_temporal()
        stack.start_server()
        yield stack
    finally:
        stack.stop()
