"""An image as files, as `podman push … dir:` writes it: read, turned into an OCI layout, or pushed."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from stigmer_release.errors import EvidenceUnusable
from stigmer_release.registry import DOCKER_INDEX, DOCKER_MANIFEST, Manifest, Repository, canonical_json

_MANIFEST_NAME: Final = "manifest.json"


@dataclass(frozen=True)
class ImageFiles:
    """One architecture's image in a directory: `manifest.json`, and each blob under its SHA-256."""

    directory: Path

    def manifest(self) -> Manifest:
        """Its manifest.

        Raises:
            EvidenceUnusable: the directory holds no image.
        """
        try:
            content = (self.directory / _MANIFEST_NAME).read_bytes()
            media_type = str(json.loads(content)["mediaType"])
        except (OSError, ValueError, KeyError) as error:
            raise EvidenceUnusable(f"{self.directory} holds no image: {error}") from error
        if media_type != DOCKER_MANIFEST:  # the OCI format has no health checks
            raise EvidenceUnusable(
                f"{self.directory} holds an image of type {media_type}, not {DOCKER_MANIFEST}"
            )
        return Manifest(content, media_type)

    def configuration(self) -> dict[str, Any]:
        """Architecture, labels and history."""
        digest = str(self.manifest().document["config"]["digest"])
        return cast("dict[str, Any]", json.loads(self.blob(digest).read_bytes()))

    @property
    def architecture(self) -> str:
        """As Go names it."""
        return str(self.configuration()["architecture"])

    def blob(self, digest: str) -> Path:
        """A blob's file."""
        return self.directory / digest.removeprefix("sha256:")

    def blobs(self) -> list[str]:
        """The digests of all blobs."""
        document = self.manifest().document
        return [str(entry["digest"]) for entry in [document["config"], *document["layers"]]]

    def as_layout(self, directory: Path) -> Path:
        """The same as an OCI image layout, which other programs read; blobs are linked."""
        blobs = directory / "blobs/sha256"
        blobs.mkdir(parents=True)
        for digest in self.blobs():
            os.link(self.blob(digest), blobs / digest.removeprefix("sha256:"))
        manifest = self.manifest()
        (blobs / manifest.digest.removeprefix("sha256:")).write_bytes(manifest.content)
        (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}', encoding="utf-8")
        index = {"schemaVersion": 2, "manifests": [manifest.descriptor()]}
        (directory / "index.json").write_bytes(canonical_json(index))
        return directory


def index_of(images: list[ImageFiles]) -> Manifest:
    """The index of images of several architectures: the same for the same images, in whatever order.

    Raises:
        EvidenceUnusable: two are of one architecture.
    """
    by_architecture = {image.architecture: image for image in images}
    if len(by_architecture) != len(images):
        raise EvidenceUnusable(f"several images are of one architecture: {sorted(by_architecture)}")
    entries = [
        image.manifest().descriptor() | {"platform": {"architecture": architecture, "os": "linux"}}
        for architecture, image in sorted(by_architecture.items())
    ]
    document = {"schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": entries}
    return Manifest(canonical_json(document), DOCKER_INDEX)


def push_images(repository: Repository, images: list[ImageFiles]) -> Manifest:
    """Sends the images and their index by digest: no tag points at them yet. Answers the index.

    Raises:
        RegistryRefused: the registry refuses.
    """
    for image in images:
        for digest in image.blobs():
            repository.put_blob(image.blob(digest))
        repository.put_manifest(image.manifest())
    index = index_of(images)
    repository.put_manifest(index)
    return index
