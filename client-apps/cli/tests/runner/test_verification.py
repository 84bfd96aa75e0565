"""Images are pulled only where signature and provenance hold: a real registry, and a local Sigstore."""

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from image_registry import PASSWORD, USER, ImageRegistry
from local_sigstore import LocalSigstore, Workflow
from signed_image import (
    COMMIT,
    RELEASE_WORKFLOW,
    SOURCE,
    attach_provenance,
    attach_signature,
    push_small_image,
    write_login,
)
from stack_home import StackHome, make_stack_home
from stigmer_cli.config import load_configuration
from stigmer_cli.containers import Engine, Image, ImageReference
from stigmer_cli.errors import ImageUntrusted
from stigmer_cli.program_version import program_version
from stigmer_cli.runner.pull_report import ImagePuller
from stigmer_cli.runner.resolution import ChosenImage, ImageWish, choose_image
from stigmer_cli.runner.verification import expected_signer
from stigmer_release.registry import Manifest, Repository, open_repository

OTHER_COMMIT = "f" * 40


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[ImageRegistry]:
    """A registry on loopback that wants a login."""
    with ImageRegistry(tmp_path / "registry") as registry:
        yield registry


@pytest.fixture
def repository(registry: ImageRegistry) -> Iterator[Repository]:
    """A repository for one test."""
    with open_repository(f"{registry.address}/acme/runner-{uuid4().hex[:8]}", (USER, PASSWORD)) as opened:
        yield opened


@pytest.fixture
def sigstore(tmp_path: Path) -> LocalSigstore:
    """The one that the person trusts."""
    return LocalSigstore(tmp_path / "sigstore")


@pytest.fixture
def image(repository: Repository, tmp_path: Path) -> Manifest:
    """An agent-runner of this version, not signed."""
    labels = {
        "org.opencontainers.image.title": "agent-runner",
        "org.opencontainers.image.version": program_version(),
        "unlike": uuid4().hex,
    }
    return push_small_image(repository, tmp_path, "1.2.3", labels)


@pytest.fixture
def home(
    engine: Engine,
    registry: ImageRegistry,
    repository: Repository,
    image: Manifest,
    sigstore: LocalSigstore,
    tmp_path: Path,
) -> Iterator[StackHome]:
    """A person who wants that image, signed by its release workflow; what is pulled is removed."""
    home = make_stack_home(tmp_path / "home", own_temporal=False)
    home.environment |= write_login(registry, tmp_path / "login") | {
        "STIGMER_ENGINE": engine.traits.kind.value,
        "STIGMER_AGENT_RUNNER_IMAGE": f"{repository.name}:1.2.3",
        "STIGMER_SIGNER": RELEASE_WORKFLOW.identity,
        "STIGMER_TRUST_ROOT": str(sigstore.trust_root),
    }
    yield home
    for name in (f"{repository.name}:1.2.3", f"{repository.name}@{image.digest}"):
        if engine.images.find(name):
            engine.api.call("remove", "DELETE", f"/images/{name}", query={"force": "true"})


def test_a_signed_image_is_pulled_by_the_digest_that_was_verified_and_found_by_its_tag(
    engine: Engine, home: StackHome, repository: Repository, image: Manifest, sigstore: LocalSigstore
) -> None:
    attach_signature(repository, sigstore, image)
    attach_provenance(repository, sigstore, image)

    done = home.stigmer("runner", "pull", "--verify", "require")

    assert done.returncode == 0, done.stderr
    assert (
        f"verified {repository.name}:1.2.3@{image.digest}: signed by {RELEASE_WORKFLOW.identity}, "
        f"built there from commit {COMMIT[:12]} of github.com/acme/agents"
    ) in done.stderr.splitlines()
    assert done.stdout == f"{repository.name}:1.2.3 {image.digest}\n"
    found = engine.images.find(f"{repository.name}:1.2.3")
    assert found is not None
    assert f"{repository.name}@{image.digest}" in found.digests


def foreign_root(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """Signed, but by an authority that the person does not trust."""
    attach_signature(repository, other, image)
    attach_provenance(repository, other, image)


def other_signer(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """Signed by another workflow of the same source."""
    workflow = Workflow(f"{SOURCE}/.github/workflows/other.yml@refs/tags/v1.2.3", SOURCE, COMMIT)
    attach_signature(repository, sigstore, image, workflow)


def no_provenance(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """Signed, and nothing says how it was built."""
    attach_signature(repository, sigstore, image)


def false_provenance(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """Its provenance says another commit than the certificate."""
    attach_signature(repository, sigstore, image)
    attach_provenance(repository, sigstore, image, commit=OTHER_COMMIT)


def other_source(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """Its signature and its provenance are of two builds."""
    workflow = Workflow(RELEASE_WORKFLOW.identity, SOURCE, OTHER_COMMIT)
    attach_signature(repository, sigstore, image)
    attach_provenance(repository, sigstore, image, workflow, OTHER_COMMIT)


def other_image(
    repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore
) -> None:
    """The documents of another image are attached to this one."""
    signature = sigstore.sign(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": "other", "digest": {"sha256": "0" * 64}}],
            "predicateType": "https://sigstore.dev/cosign/sign/v1",
        },
        RELEASE_WORKFLOW,
    )
    repository.attach(image, signature, "application/vnd.dev.sigstore.bundle.v0.3+json", {})


def nothing(repository: Repository, image: Manifest, sigstore: LocalSigstore, other: LocalSigstore) -> None:
    """Nothing is attached."""


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize(
    ("attach", "reason"),
    [
        (nothing, "no signature is attached to sha256:"),
        (foreign_root, "no signature on it holds: failed to build timestamp certificate chain"),
        (other_signer, "no signature on it holds: it is signed by "),
        (other_image, "no signature on it holds: it speaks of another image"),
        (no_provenance, "no provenance of it holds: there is none"),
        (false_provenance, f"its provenance names {OTHER_COMMIT}, and its certificate {COMMIT}"),
        (other_source, "its signature and its provenance come from different sources"),
    ],
)
def test_an_image_that_is_not_as_it_must_be_is_refused_with_the_reason_and_not_pulled(
    engine: Engine,
    home: StackHome,
    repository: Repository,
    image: Manifest,
    sigstore: LocalSigstore,
    attach: Callable[[Repository, Manifest, LocalSigstore, LocalSigstore], None],
    reason: str,
    tmp_path: Path,
) -> None:
    attach(repository, image, sigstore, LocalSigstore(tmp_path / "other-sigstore"))

    done = home.stigmer("runner", "pull")

    first_line = done.stderr.splitlines()[1]  # the first says what is pulled
    assert done.returncode == 3
    assert first_line.startswith(f"error: could not verify the image '{repository.name}:1.2.3")
    assert reason in first_line
    assert "Traceback" not in done.stderr
    assert engine.images.find(f"{repository.name}:1.2.3") is None


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_an_image_of_nobody_known_is_pulled_unless_a_signature_is_required(
    engine: Engine, home: StackHome, repository: Repository
) -> None:
    del home.environment["STIGMER_SIGNER"]

    required = home.stigmer("runner", "pull", "--verify", "require")
    automatic = home.stigmer("runner", "pull")
    off = home.stigmer("runner", "pull", "--verify", "off")

    assert required.returncode == 3
    assert required.stderr.splitlines()[1:] == [
        f"error: could not verify the image '{repository.name}:1.2.3': nobody is named who may sign it",
        "",
        "hint: set `runner.signer` to the workflow that signs it",
    ]
    assert (automatic.returncode, off.returncode) == (0, 0)
    assert automatic.stderr.splitlines()[1] == (
        f"{repository.name}:1.2.3 is not verified: it is not Stigmer's own, and `runner.signer` is not set"
    )
    assert off.stderr.splitlines()[1] == f"{repository.name}:1.2.3 is not verified: `runner.verify` is off"


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_a_registry_that_is_gone_and_a_trust_root_that_is_none_are_said(
    home: StackHome, repository: Repository, image: Manifest, sigstore: LocalSigstore, tmp_path: Path
) -> None:
    attach_signature(repository, sigstore, image)
    broken = tmp_path / "broken.json"
    broken.write_text("{}", encoding="utf-8")

    no_root = home.stigmer("runner", "pull", variables={"STIGMER_TRUST_ROOT": str(broken)})
    gone = home.stigmer(
        "runner", "pull", variables={"STIGMER_AGENT_RUNNER_IMAGE": "127.0.0.1:9/acme/runner:1.2.3"}
    )

    assert (no_root.returncode, gone.returncode) == (3, 3)
    assert ": there is nothing to check signatures by: " in no_root.stderr.splitlines()[1]
    assert "error: " in gone.stderr
    assert "Traceback" not in gone.stderr


def _choose(engine: Engine, home: StackHome) -> tuple[str | None, list[str]]:
    """What a start would run, as `require` demands, and what it says."""
    configuration = load_configuration(home.environment | {"STIGMER_VERIFY": "require"})
    said: list[str] = []
    chosen = choose_image(engine, configuration, ImageWish(), ImagePuller(configuration, said.append))
    return chosen.digest, said


def test_an_image_that_is_here_is_verified_where_that_is_required(
    engine: Engine,
    home: StackHome,
    registry: ImageRegistry,
    repository: Repository,
    image: Manifest,
    sigstore: LocalSigstore,
) -> None:
    assert home.stigmer("runner", "pull", "--verify", "off").returncode == 0
    unsigned = home.stigmer("server", "start", "--verify", "require")
    attach_signature(repository, sigstore, image)
    attach_provenance(repository, sigstore, image)

    asked = _choose(engine, home)
    registry.end()
    from_copies = _choose(engine, home)

    assert (unsigned.returncode, unsigned.stderr.splitlines()[0]) == (
        3,
        f"error: could not verify the image '{repository.name}:1.2.3': "
        f"no signature is attached to {image.digest}",
    )
    assert asked == from_copies
    digest, [line] = asked
    assert digest == image.digest
    assert line.startswith(
        f"verified {repository.name}:1.2.3@{image.digest}: signed by {RELEASE_WORKFLOW.identity}"
    )


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_copies_of_signatures_vouch_for_nothing(
    engine: Engine, home: StackHome, repository: Repository, image: Manifest, sigstore: LocalSigstore
) -> None:
    attach_signature(repository, sigstore, image)
    attach_provenance(repository, sigstore, image)
    assert home.stigmer("runner", "pull", "--verify", "require").returncode == 0
    [copy] = (home.path / "data" / "signatures").iterdir()
    copy.write_text(copy.read_text("utf-8").replace("dsseEnvelope", "other"), encoding="utf-8")
    home.environment["STIGMER_SIGNER"] = "https://github.com/acme/other@refs/heads/main"

    with pytest.raises(ImageUntrusted, match="no signature on it holds: it is signed by "):
        _choose(engine, home)


@pytest.mark.parametrize("engine", ["docker"], indirect=True)
@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (["--use-local-image"], "'dev-local': it was built on this machine"),
        (["--image-archive", "/no/image.tar"], "'/no/image.tar': it is an archive"),
    ],
)
def test_what_came_from_no_registry_is_refused_where_a_signature_is_required(
    home: StackHome, flags: list[str], reason: str
) -> None:
    refused = home.stigmer("server", "start", "--verify", "require", *flags)

    assert refused.returncode == 3
    assert refused.stderr.splitlines() == [
        f"error: could not verify the image {reason}, so no signature is attached to it",
        "",
        "hint: pass `--verify off` to use it as it is",
    ]


ONE, TWO, THREE = (f"sha256:{digit * 64}" for digit in "123")


@pytest.mark.parametrize(
    ("reference", "digest"),
    [
        ("ghcr.io/acme/one:1", ONE),
        ("ghcr.io/acme/two:1", TWO),
        (f"ghcr.io/acme/two:1@{THREE}", THREE),
        (f"ghcr.io/acme/two@{THREE}", THREE),
        ("ghcr.io/acme/three:1", None),
        ("runner:1", ONE),
        (f"sha256:{'a' * 64}", None),
        ("no reference", None),
    ],
)
def test_of_an_image_that_several_repositories_share_the_digest_is_that_of_the_one_named(
    reference: str, digest: str | None
) -> None:
    digests = (
        *("<none>@<none>", f"ghcr.io/acme/one@{ONE}", f"runner@{ONE}"),
        *(f"ghcr.io/acme/two@{TWO}", f"ghcr.io/acme/two@{THREE}"),
    )
    image = Image("sha256:0", (), digests, {}, 1, "amd64", "")

    assert ChosenImage(reference, image).digest == digest


WORKFLOW = "https://github.com/stigmer/stigmer/.github/workflows/build-agent-runner-image.yml"


@pytest.mark.parametrize(
    ("reference", "configured", "expected"),
    [
        ("ghcr.io/stigmer/agent-runner:1.2.3", None, f"{WORKFLOW}@refs/tags/v1.2.3"),
        ("ghcr.io/stigmer/agent-runner:v1.2.3", None, f"{WORKFLOW}@refs/tags/v1.2.3"),
        ("ghcr.io/stigmer/agent-runner:1.2.3-rc.1", None, f"{WORKFLOW}@refs/tags/v1.2.3-rc.1"),
        ("ghcr.io/stigmer/agent-runner:1.2", None, f"{WORKFLOW}@refs/tags/v*"),
        ("ghcr.io/stigmer/agent-runner:latest", None, f"{WORKFLOW}@refs/tags/v*"),
        (f"ghcr.io/stigmer/agent-runner@sha256:{'a' * 64}", None, f"{WORKFLOW}@refs/tags/v*"),
        ("ghcr.io/stigmer/agent-runner:main", None, f"{WORKFLOW}@refs/heads/main"),
        ("ghcr.io/stigmer/agent-runner:dev-0123456789ab", None, f"{WORKFLOW}@refs/heads/main"),
        ("ghcr.io/acme/agent-runner:1.2.3", None, None),
        ("ghcr.io/acme/agent-runner:1.2.3", "https://github.com/acme/*", "https://github.com/acme/*"),
    ],
)
def test_stigmers_own_images_must_be_signed_by_the_workflow_at_their_tag(
    reference: str, configured: str | None, expected: str | None
) -> None:
    assert expected_signer(ImageReference.parse(reference), configured) == expected
