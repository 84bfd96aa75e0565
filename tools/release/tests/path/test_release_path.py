"""The whole path of a release, here: from a tag in a scratch clone to an image that a person pulls and runs.

The steps are those of the workflow (`.ci/release`); the registry is on loopback, the Sigstore a local one.
Needs Podman to build, Docker to pull, and emulation for the architecture that this machine is not of.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from container_engine import Engine
from image_registry import PASSWORD, USER, ImageRegistry
from local_sigstore import LocalSigstore
from needed import skip_outside_ci
from scratch_checkout import REPOSITORY, ScratchCheckout
from signed_image import write_login
from stack_home import make_stack_home
from stigmer_release.image_files import ImageFiles
from stigmer_release.registry import open_repository

VERSION = "0.1.1"
SOURCE = "https://github.com/stigmer/stigmer"
WORKFLOW = f"{SOURCE}/.github/workflows/build-agent-runner-image.yml@refs/tags/v{VERSION}"
STEP_TIMEOUT_SECONDS = 900

pytestmark = [pytest.mark.timeout(3000), pytest.mark.xdist_group("image-podman"), pytest.mark.containers]


@dataclass
class ReleasePath:
    """A scratch clone with a tag, a registry, and what the workflow's steps are told."""

    checkout: ScratchCheckout
    registry: ImageRegistry
    sigstore: LocalSigstore
    environment: dict[str, str]

    def step(self, *arguments: str, environment: Mapping[str, str] | None = None) -> dict[str, str]:
        """A step of the workflow; answers the outputs that it gives to later ones."""
        outputs = self.checkout.root / "outputs"
        outputs.write_text("")
        told = self.environment | {"GITHUB_OUTPUT": str(outputs)} | dict(environment or {})
        done = subprocess.run(
            [".ci/release", *arguments],
            cwd=self.checkout.root,
            env=os.environ | told,
            capture_output=True,
            encoding="utf-8",
            timeout=STEP_TIMEOUT_SECONDS,
            check=False,
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}"
        lines = outputs.read_text("utf-8").splitlines()
        return {name: value for name, _, value in (line.partition("=") for line in lines)}

    @property
    def own_registry(self) -> str:
        """What stands before the names of images."""
        return self.registry.repository.rpartition("/")[0]

    def tool(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`python -m stigmer_release` of the clone."""
        return self.checkout.release_tools(*arguments, environment=self.environment)


def engine_or_skip(kind: str) -> Engine:
    """An engine of this machine; in CI it must be there."""
    engine = Engine(kind)  # pyright: ignore[reportArgumentType]  # one of the two
    if (reason := engine.why_not()) is not None:
        skip_outside_ci(reason)
    return engine


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ReleasePath]:
    """A clone in which v0.1.1 is tagged, and its own environment of the packages."""
    engine_or_skip("podman")
    directory = tmp_path_factory.mktemp("path")
    checkout = ScratchCheckout(directory / "checkout")
    checkout.make("release", f"VERSION={VERSION}")
    checkout.sync()
    programs = directory / "bin"
    programs.mkdir()
    cosign = programs / "cosign"
    stand_in = REPOSITORY / "tests/support/cosign_stand_in.py"
    cosign.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n', encoding="utf-8")
    cosign.chmod(0o755)
    (checkout.root / ".venv/bin/cosign").symlink_to(cosign)
    with ImageRegistry(directory / "registry") as registry:
        Path(registry.environment["REGISTRY_AUTH_FILE"]).write_text("{}")  # Podman wants it there
        sigstore = LocalSigstore(directory / "sigstore")
        commit = checkout.git("rev-parse", "HEAD")
        environment = {
            "PATH": os.pathsep.join([str(programs), os.environ["PATH"]]),
            "GITHUB_EVENT_NAME": "push",
            "GITHUB_REF": f"refs/tags/v{VERSION}",
            "GITHUB_SHA": commit,
            "GITHUB_SERVER_URL": "https://github.com",
            "GITHUB_REPOSITORY": "stigmer/stigmer",
            "GITHUB_RUN_ID": "1",
            "GITHUB_RUN_ATTEMPT": "1",
            "REGISTRY_USER": USER,
            "REGISTRY_PASSWORD": PASSWORD,
            "LOCAL_SIGSTORE": str(sigstore.trust_root.parent),
            "LOCAL_WORKFLOW": WORKFLOW,
            "LOCAL_SOURCE": SOURCE,
            "LOCAL_COMMIT": commit,
            "STIGMER_HOME": str(directory / "home"),
            **registry.environment,
        }
        yield ReleasePath(checkout, registry, sigstore, environment)


@pytest.fixture(scope="module")
def images(path: ReleasePath) -> dict[str, ImageFiles]:
    """Both architectures as the workflow builds them; shared, as each takes a minute or more."""
    built: dict[str, ImageFiles] = {}
    for architecture in ("amd64", "arm64"):
        directory = path.checkout.root / f"image-agent-runner-{architecture}"
        path.tool("build", "--platform", f"linux/{architecture}", "--version", VERSION, str(directory))
        built[architecture] = ImageFiles(directory)
    return built


@pytest.fixture(scope="module")
def digest(path: ReleasePath, images: dict[str, ImageFiles]) -> str:
    """The index, pushed by its digest after all evidence is there."""
    assert {architecture: image.architecture for architecture, image in images.items()} == {
        "amd64": "amd64",
        "arm64": "arm64",
    }
    path.step("evidence", "agent-runner")
    return path.step("push", path.own_registry, "agent-runner")["agent-runner"]


def test_the_plan_agrees_with_the_tag_and_names_its_tags(path: ReleasePath) -> None:
    agreed = path.tool("agree", f"v{VERSION}")
    outputs = path.step("plan", path.registry.repository, "")

    assert agreed.returncode == 0
    assert outputs["version"] == VERSION
    assert (outputs["push"], outputs["release"], outputs["prerelease"]) == ("true", "true", "false")
    assert outputs["tags"] == f"v{VERSION} {VERSION} 0.1 0 latest"
    assert "@sha256:" in outputs["python-image"]
    assert outputs["started"].endswith("Z")


def test_another_build_of_the_same_commit_has_the_same_digest(
    path: ReleasePath, images: dict[str, ImageFiles], tmp_path: Path
) -> None:
    path.tool("build", "--platform", "linux/amd64", "--version", VERSION, str(tmp_path / "again"))

    assert ImageFiles(tmp_path / "again").manifest().digest == images["amd64"].manifest().digest


def test_the_image_bears_the_commits_time_and_nothing_of_the_machine(
    path: ReleasePath, images: dict[str, ImageFiles]
) -> None:
    time = path.checkout.git("log", "-1", "--date=format-local:%Y-%m-%dT%H:%M:%SZ", "--format=%cd")
    for image in images.values():
        configuration = image.configuration()
        labels = configuration["config"]["Labels"]

        assert {step["created"] for step in configuration["history"]} == {configuration["created"]}
        assert labels["org.opencontainers.image.created"] == time
        assert labels["org.opencontainers.image.revision"] == path.checkout.git("rev-parse", "HEAD")
        assert "Hostname" not in configuration["config"]
        assert configuration["config"]["Healthcheck"]


def test_before_its_smoke_test_no_tag_points_at_the_image(path: ReleasePath, digest: str) -> None:
    with open_repository(path.registry.repository, (USER, PASSWORD)) as repository:
        assert repository.manifest(digest) is not None
        assert repository.tags() == []


NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine]
FOREIGN, EMULATOR = {"amd64": ("arm64", "qemu-aarch64"), "arm64": ("amd64", "qemu-x86_64")}[NATIVE]


def test_the_pushed_digest_is_healthy_and_runs_an_agent_to_its_end(path: ReleasePath, digest: str) -> None:
    engine_or_skip("docker")

    path.step("smoke", path.own_registry, "agent-runner", digest, NATIVE)


def test_the_pushed_image_of_the_other_architecture_does_where_it_is_emulated(
    path: ReleasePath, digest: str
) -> None:
    engine_or_skip("docker")
    if not Path(f"/proc/sys/fs/binfmt_misc/{EMULATOR}").exists():
        assert not os.environ.get("CI"), f"{EMULATOR} is not there"
        pytest.skip(f"{EMULATOR} is not there")

    path.step("smoke", path.own_registry, "agent-runner", digest, FOREIGN)


def test_a_person_pulls_what_was_verified_and_it_is_what_was_tagged(path: ReleasePath, digest: str) -> None:
    engine = engine_or_skip("docker")
    repository = path.registry.repository
    path.step("sign", path.own_registry, "agent-runner", digest, VERSION, "2026-01-01T00:00:00Z")
    promote = ("promote", "--repository", repository, "--digest", digest)
    path.tool(*promote)
    with open_repository(repository, (USER, PASSWORD)) as opened:
        before_packages = {tag: opened.manifest(tag) is not None for tag in (VERSION, "latest")}
    first = path.tool(*promote, "--packages-are-published")
    again = path.tool(*promote, "--packages-are-published")
    path.tool(*promote, "--image", "agent-runner-full", "--packages-are-published")
    home = make_stack_home(path.checkout.root.parent / "person", own_temporal=False)
    home.environment |= write_login(path.registry, path.checkout.root.parent / "login") | {
        "STIGMER_ENGINE": "docker",
        "STIGMER_AGENT_RUNNER_IMAGE": f"{repository}:0.1",
        "STIGMER_SIGNER": f"{SOURCE}/.github/workflows/build-agent-runner-image.yml@refs/tags/v*",
        "STIGMER_TRUST_ROOT": str(path.sigstore.trust_root),
    }

    pulled = home.stigmer("runner", "pull", "--verify", "require", timeout_seconds=300)

    assert before_packages == {VERSION: True, "latest": False}
    assert (first.stderr, first.returncode) == (again.stderr, 0)
    tags = {f"v{VERSION}", VERSION, "0.1", "0", "latest", f"v{VERSION}-full", f"{VERSION}-full"}
    # Besides those by which a registry without referrers finds what is said of an image.
    assert {tag for tag in path.registry.tags() if not tag.startswith("sha256-")} == tags
    assert {path.registry.digest(tag) for tag in tags} == {digest}
    assert pulled.returncode == 0, pulled.stderr
    commit = path.checkout.git("rev-parse", "HEAD")
    assert (
        f"verified {repository}:0.1@{digest}: signed by {WORKFLOW}, built there from commit {commit[:12]} "
        "of github.com/stigmer/stigmer"
    ) in pulled.stderr.splitlines()
    found = engine.output("image", "inspect", "--format", "{{json .RepoDigests}}", f"{repository}:0.1")
    assert f"{repository}@{digest}" in json.loads(found)
    engine.call("rmi", "--force", f"{repository}:0.1", f"{repository}@{digest}", check=False)


def test_the_evidence_names_what_is_in_the_image_and_how_it_was_built(path: ReleasePath, digest: str) -> None:
    path.step("sign", path.own_registry, "agent-runner", digest, VERSION, "2026-01-01T00:00:00Z")
    evidence = path.checkout.root / "evidence"
    bill = json.loads((evidence / "sbom-agent-runner-arm64.json").read_text("utf-8"))
    purls = {str(component.get("purl")).partition("?")[0] for component in bill["components"]}
    provenance: dict[str, Any] = json.loads((evidence / "provenance-agent-runner.json").read_text("utf-8"))

    assert {"pkg:pypi/stigmer-agent-runner@" + VERSION, "pkg:pypi/stigmer-contract@" + VERSION} <= purls
    assert any(purl.startswith("pkg:deb/debian/git@") for purl in purls)
    assert "| pydantic |" in (evidence / "licences-agent-runner.md").read_text("utf-8")
    source, *bases = provenance["buildDefinition"]["resolvedDependencies"]
    assert source == {
        "uri": f"git+{SOURCE}@refs/tags/v{VERSION}",
        "digest": {"gitCommit": path.checkout.git("rev-parse", "HEAD")},
    }
    assert len(bases) == 2
    assert all(len(base["digest"]["sha256"]) == 64 for base in bases)
    assert provenance["runDetails"]["builder"]["id"] == WORKFLOW


def test_another_image_cannot_take_the_tag_of_a_version(
    path: ReleasePath, images: dict[str, ImageFiles]
) -> None:
    """After the release: an index of one architecture is another image."""
    repository = path.registry.repository
    other = path.tool("push", "--repository", repository, str(images["amd64"].directory)).stdout.strip()

    done = path.checkout.release_tools(
        *("promote", "--repository", repository, "--digest", other), environment=path.environment, check=False
    )

    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {repository}:v{VERSION} is sha256:")
    assert path.registry.digest("latest") != other
