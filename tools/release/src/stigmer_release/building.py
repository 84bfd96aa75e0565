"""Builds the image of one architecture so that equal commits give equal digests, and writes it as files.

With Podman, here as in the workflow; the Dockerfiles and what builds by them are the services' own.
"""

import json
import shutil
from pathlib import Path
from typing import Any, Final, cast
from uuid import uuid4

from stigmer_release.git import Checkout
from stigmer_release.image_files import ImageFiles
from stigmer_release.programs import run_program
from stigmer_release.published_images import PublishedImage
from stigmer_release.registry import canonical_json, digest_of

_BUILD: Final = "backend/services/agent-runner/image/build.sh"
_OF_THE_MACHINE: Final = ("container", "container_config", "docker_version", "id", "parent")
"""Fields of Docker's image configuration that tell of the builder's containers, and that no engine needs."""


def build_image(
    checkout: Checkout, published: PublishedImage, platform: str, version: str, output: Path
) -> ImageFiles:
    """Builds HEAD for a platform such as `linux/arm64`, which the runner's image needs no emulation for.

    Raises:
        ProgramFailed: the build failed; its last line says why.
    """
    tag = f"localhost/stigmer-release/{published.repository}:{uuid4().hex}"
    told = {
        "ENGINE": "podman",
        "SERVICE": published.service,
        "VARIANT": published.variant,
        "IMAGE": tag.rpartition(":")[0],
        "VERSION": version,
        "SOURCE_DATE_EPOCH": str(checkout.commit_time()),
    }
    run_program(str(checkout.root / _BUILD), platform, tag, environment=told)
    try:
        shutil.rmtree(output, ignore_errors=True)
        output.parent.mkdir(parents=True, exist_ok=True)
        run_program("podman", "push", "--quiet", "--compress", "--format=v2s2", tag, f"dir:{output}")
    finally:
        run_program("podman", "rmi", tag)
    image = ImageFiles(output)
    forget_the_machine(image)
    return image


def forget_the_machine(image: ImageFiles) -> None:
    """Takes out of the configuration what differs from one build of the same to the next."""
    manifest = image.manifest().document
    old = str(manifest["config"]["digest"])
    configuration = image.configuration()
    for name in _OF_THE_MACHINE:
        configuration.pop(name, None)
    cast("dict[str, Any]", configuration["config"]).pop("Hostname", None)
    for step in configuration["history"]:
        step.pop("comment", None)
        if "COPY dir:" in step.get("created_by", ""):
            step["created_by"] = "COPY"
    content = canonical_json(configuration)
    digest = digest_of(content)
    image.blob(old).unlink()
    image.blob(digest).write_bytes(content)
    manifest["config"] |= {"digest": digest, "size": len(content)}
    (image.directory / "manifest.json").write_bytes(canonical_json(manifest))


def summary(image: ImageFiles) -> str:
    """One line for the log, as JSON."""
    labels = image.configuration()["config"]["Labels"]
    return json.dumps(
        {
            "architecture": image.architecture,
            "digest": image.manifest().digest,
            "version": labels["org.opencontainers.image.version"],
            "revision": labels["org.opencontainers.image.revision"],
        }
    )
