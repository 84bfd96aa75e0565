"""An engine whose disk is full says so: a Podman whose images, or whose temporary files, are on 3 MB."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faulty_registry import FaultyRegistry
from small_image import write_image_archive
from stack_home import StackHome, make_stack_home, wait_until
from stigmer_cli.program_version import program_version

pytestmark = [
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0 and "CI" not in os.environ, reason="only root can mount"),
    pytest.mark.skipif(
        shutil.which("podman") is None and "CI" not in os.environ, reason="Podman is not installed"
    ),
]

DISK = "3m"
LABELS = {
    "org.opencontainers.image.title": "agent-runner",
    "org.opencontainers.image.version": program_version(),
}
HINT = (
    "hint: make room on the engine's disk, for example with `podman image prune`, and try again"
    "; or run it without a container: `stigmer server start --native`, or STIGMER_ENGINE=none for one command"
)


@contextmanager
def _small_disk() -> Generator[Path]:
    # Podman 4.3 wants a path of 50 characters at most for what it keeps of running containers.
    with tempfile.TemporaryDirectory(prefix="small-") as at:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", at], check=True)
        try:
            yield Path(at)
        finally:
            subprocess.run(["umount", "--recursive", at], check=True)


@contextmanager
def _podman(store: Path, temporary: Path, run: Path, socket: Path) -> Generator[None]:
    """Another Podman than this machine's, with images of its own."""
    options = [f"--root={store}/root", f"--runroot={run}", "--storage-driver=vfs"]
    service = subprocess.Popen(
        ["podman", *options, "system", "service", "--time=100", f"unix://{socket}"],
        env=os.environ | {"TMPDIR": str(temporary)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(socket.is_socket, "the other Podman serves")
        yield
    finally:
        service.terminate()
        service.wait(60)


@pytest.fixture(params=["images", "temporary files"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[StackHome]:
    """A home whose engine has no room for its images, or for what it downloads. Nothing of it is started."""
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    home = make_stack_home(tmp_path / "home", own_temporal=True)
    socket = tmp_path / "s"
    home.environment |= {"STIGMER_ENGINE": "podman", "CONTAINER_HOST": f"unix://{socket}"}
    with _small_disk() as small:
        store, temporary = (small, roomy) if request.param == "images" else (roomy, small)
        with _podman(store, temporary, small / "run", socket):
            yield home


def _fail_for_want_of_room(completed: "subprocess.CompletedProcess[str]", image: object) -> None:
    error, _, hint = completed.stderr.splitlines()[-3:]
    assert (completed.returncode, completed.stdout, hint) == (3, "", HINT)
    assert error.startswith(f"error: could not get the image '{image}': the disk of the engine is full: ")
    assert error.endswith(("no space left on device", "no space left on device exit status 1"))


def test_an_archive_that_does_not_fit_the_disk_is_not_called_broken(home: StackHome, tmp_path: Path) -> None:
    unlike = {"unlike": os.urandom(4_000_000)}
    archive = write_image_archive(tmp_path / "image.tar", "tests:1", labels=LABELS, contents=unlike)
    completed = home.stigmer("server", "start", "--image-archive", str(archive))
    _fail_for_want_of_room(completed, archive)
    assert home.status()["running"] is False


def test_an_image_that_does_not_fit_the_disk_is_not_pulled(home: StackHome, tmp_path: Path) -> None:
    with FaultyRegistry(tmp_path / "registry", labels=LABELS) as registry:
        completed = home.stigmer(
            "runner", "pull", variables={"STIGMER_AGENT_RUNNER_IMAGE": registry.reference}
        )
    _fail_for_want_of_room(completed, registry.reference)
