"""A small image in a registry on loopback, with the documents about it that a release attaches."""

import base64
import gzip
import json
import tarfile
from pathlib import Path
from typing import Final

from image_registry import PASSWORD, USER, ImageRegistry
from local_sigstore import BUNDLE_TYPE, LocalSigstore, Workflow, statement
from small_image import write_image_archive
from stigmer_release.registry import DOCKER_MANIFEST, Manifest, Repository, canonical_json

SIGNATURE: Final = "https://sigstore.dev/cosign/sign/v1"
PROVENANCE: Final = "https://slsa.dev/provenance/v1"
COMMIT: Final = "0123456789abcdef0123456789abcdef01234567"
SOURCE: Final = "https://github.com/acme/agents"
RELEASE_WORKFLOW: Final = Workflow(f"{SOURCE}/.github/workflows/image.yml@refs/tags/v1.2.3", SOURCE, COMMIT)


def push_small_image(repository: Repository, directory: Path, tag: str, labels: dict[str, str]) -> Manifest:
    """An image of one layer, pushed without an engine."""
    archive = write_image_archive(directory / f"{tag}.tar", f"{repository.name}:{tag}", labels=labels)
    with tarfile.open(archive) as content:

        def read(name: str) -> bytes:
            file = content.extractfile(name)
            assert file is not None
            return file.read()

        [described] = json.loads(read("manifest.json"))
        config, layer = read(described["Config"]), gzip.compress(read("layer.tar"), mtime=0)
    document = {
        "schemaVersion": 2,
        "mediaType": DOCKER_MANIFEST,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json",
            "size": len(config),
            "digest": repository.put_blob(config),
        },
        "layers": [
            {
                "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                "size": len(layer),
                "digest": repository.put_blob(layer),
            }
        ],
    }
    manifest = Manifest(canonical_json(document), DOCKER_MANIFEST)
    repository.put_manifest(manifest, tag)
    return manifest


def attach_signature(
    repository: Repository, sigstore: LocalSigstore, image: Manifest, workflow: Workflow = RELEASE_WORKFLOW
) -> None:
    """As `cosign sign` does."""
    attach(repository, sigstore.sign(statement(image.digest, SIGNATURE, {}), workflow), image)


def attach_provenance(
    repository: Repository,
    sigstore: LocalSigstore,
    image: Manifest,
    workflow: Workflow = RELEASE_WORKFLOW,
    commit: str = COMMIT,
) -> None:
    """As `cosign attest` does."""
    dependencies = [{"uri": f"git+{SOURCE}", "digest": {"gitCommit": commit}}]
    predicate = {"buildDefinition": {"resolvedDependencies": dependencies}}
    attach(repository, sigstore.sign(statement(image.digest, PROVENANCE, predicate), workflow), image)


def attach(repository: Repository, bundle: bytes, image: Manifest) -> None:
    """Any document, as a Sigstore bundle; like cosign's, its entry in the list has no annotations."""
    repository.attach(image, bundle, BUNDLE_TYPE, {})


def write_login(registry: ImageRegistry, directory: Path) -> dict[str, str]:
    """A file with the registry's login, and the variable that names its folder."""
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    directory.mkdir(exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"auths": {registry.address: {"auth": pair}}}))
    return {"DOCKER_CONFIG": str(directory)}
