"""A restart and an update of a contained runner keep the image that the start was told, on both engines."""

from pathlib import Path

import pytest

from stack_home import StackHome
from stigmer_cli.containers import Engine

pytestmark = pytest.mark.timeout(600)

NONE = "localhost/stigmer-tests/none:1"
ARCHIVED = "localhost/stigmer-tests/archived-runner:1"


@pytest.fixture
def home(contained_home: StackHome, engine: Engine) -> StackHome:
    """A home whose settings name an image that is nowhere; the engine is said by a flag only."""
    contained_home.environment["STIGMER_AGENT_RUNNER_IMAGE"] = NONE
    del contained_home.environment["STIGMER_ENGINE"]
    return contained_home


def test_a_local_image_and_an_engine_are_kept(home: StackHome, engine: Engine) -> None:
    kind = engine.traits.kind.value
    started = home.stigmer("server", "start", "--use-local-image", "--engine", kind)
    assert started.returncode == 0, started.stderr
    image_id = home.status()["container"]["image_id"]

    again = home.stigmer("server", "start")
    restarted = home.stigmer("server", "restart")
    updated = home.stigmer("server", "update")

    assert (again.returncode, again.stderr) == (
        0,
        "the stack is already running; see `stigmer server status`\n",
    )
    assert restarted.returncode == 0, restarted.stderr
    assert restarted.stderr.splitlines()[0] == (
        f"as the stack was started: --engine {kind}, --use-local-image"
    )
    assert (updated.returncode, updated.stderr.splitlines()) == (
        0,
        ["nothing is pulled: the stack was started with --use-local-image", "the runner is up to date"],
    )
    container = home.status()["container"]
    assert (container["image_id"], container["engine"]) == (image_id, engine.traits.title)


def test_the_image_of_an_archive_is_kept_though_the_file_is_gone(
    home: StackHome, engine: Engine, archive: Path
) -> None:
    kind = engine.traits.kind.value
    started = home.stigmer("server", "start", "--image-archive", str(archive), "--engine", kind)
    assert started.returncode == 0, started.stderr
    archive.unlink()
    before = home.status()["container"]

    restarted = home.stigmer("server", "restart")
    updated = home.stigmer("server", "update")

    assert restarted.returncode == 0, restarted.stderr
    after = home.status()["container"]
    assert (after["image"], after["image_id"]) == (before["image"], before["image_id"])
    assert updated.returncode == 2
    assert updated.stderr.splitlines() == [
        f"error: could not update the runner: its image '{ARCHIVED}' was loaded from an archive",
        "",
        "hint: run `stigmer server start --image-archive FILE` with a newer one",
    ]
