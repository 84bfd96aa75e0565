"""Jobs of the workflows as GitHub would run them, by `act` on this machine; actions of others are stubs."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from image_registry import PASSWORD, USER, ImageRegistry
from needed import skip_outside_ci
from scratch_checkout import ScratchCheckout

IMAGE_WORKFLOW = ".github/workflows/build-agent-runner-image.yml"
ACT = Path(sys.executable).parent / "act"
STUB = (
    "name: stub\ndescription: does nothing\nruns: {using: composite, steps: [{run: 'true', shell: bash}]}\n"
)

pytestmark = pytest.mark.timeout(400)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ImageRegistry]:
    """In place of the public one; nothing is released in it."""
    if shutil.which("docker-registry") is None:
        skip_outside_ci("docker-registry is not installed")
    with ImageRegistry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def checkout(tmp_path: Path, registry: ImageRegistry) -> ScratchCheckout:
    """A clone whose workflow knows the registry on loopback."""
    checkout = ScratchCheckout(tmp_path / "checkout")
    workflow = checkout.root / IMAGE_WORKFLOW
    text = workflow.read_text("utf-8").replace("ghcr.io/stigmer", registry.repository.rpartition("/")[0])
    dockerfile = checkout.root / "backend/services/agent-runner/Dockerfile"
    pinned = f"127.0.0.1/base:1@sha256:{'c' * 64}"
    base = re.sub(
        r"^ARG (PYTHON_IMAGE|UV_IMAGE)=.*$", rf"ARG \1={pinned}", dockerfile.read_text("utf-8"), flags=re.M
    )
    dockerfile.write_text(base, encoding="utf-8")
    workflow.write_text(text, encoding="utf-8")
    checkout.commit("Use a registry on loopback")
    checkout.sync()
    return checkout


def act(
    checkout: ScratchCheckout, directory: Path, event: str, job: str, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Runs one job on this machine."""
    stubs: list[str] = []
    for workflow in checkout.root.glob(".github/workflows/*.yml"):
        for action in re.findall(r"uses: (\S+)", workflow.read_text("utf-8")):
            stub = directory / "stubs" / action.replace("/", "+")
            stub.mkdir(parents=True, exist_ok=True)
            (stub / "action.yml").write_text(STUB, encoding="utf-8")
            stubs += ["--local-repository", f"{action}={stub}"]
    command = [
        str(ACT),
        event,
        "--job",
        job,
        "--platform",
        "ubuntu-24.04=-self-hosted",
        "--action-offline-mode",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    return subprocess.run(
        [*command, *stubs, *arguments],
        cwd=checkout.root,
        env=environment | {"HOME": str(directory), "XDG_CACHE_HOME": str(directory / "cache")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


LOGIN = ("--actor", USER, "--secret", f"GITHUB_TOKEN={PASSWORD}")


def test_a_dry_run_by_hand_plans_the_tags_of_the_version_and_pushes_nothing(
    checkout: ScratchCheckout, tmp_path: Path
) -> None:
    workflow = ("--workflows", IMAGE_WORKFLOW)

    done = act(checkout, tmp_path, "workflow_dispatch", "plan", *workflow, "--input", "tag=v7.8.9", *LOGIN)

    assert done.returncode == 0, done.stdout + done.stderr
    for line in ("version=7.8.9", "push=false", "release=false", "tags=v7.8.9 7.8.9 7.8 7 latest"):
        assert re.search(rf"\| {re.escape(line)}$", done.stdout, re.MULTILINE), done.stdout


def test_a_tag_that_disagrees_with_the_packages_stops_the_workflow_in_its_first_job(
    checkout: ScratchCheckout, tmp_path: Path
) -> None:
    event = tmp_path / "event.json"
    event.write_text('{"ref": "refs/tags/v7.8.9", "ref_type": "tag"}', encoding="utf-8")
    checkout.git("tag", "v7.8.9")

    done = act(
        checkout, tmp_path, "push", "plan", "--workflows", IMAGE_WORKFLOW, "--eventpath", str(event), *LOGIN
    )

    assert done.returncode != 0
    assert "error: the tag v7.8.9 does not agree with the checkout" in done.stdout, done.stdout + done.stderr
