"""Tries an image that was pushed, by its digest: health, and one agent to completion, on one architecture.

The tests are the services' own; this pulls exactly what a person would get.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stigmer_release.errors import RegistryRefused
from stigmer_release.programs import run_program
from stigmer_release.published_images import PublishedImage
from stigmer_release.registry import Repository

_ARCHITECTURES: Final = {"x86_64": "amd64", "aarch64": "arm64"}

Report = Callable[[str], None]


def digest_for(repository: Repository, digest: str, platform: str) -> str:
    """The digest of the index's image for a platform such as `linux/arm64`.

    Raises:
        RegistryRefused: the index is not there, or has none.
    """
    index = repository.manifest(digest)
    if index is None:
        raise RegistryRefused(f"{repository.name} has no {digest}")
    for entry in index.document.get("manifests", []):
        if f"{entry['platform']['os']}/{entry['platform']['architecture']}" == platform:
            return str(entry["digest"])
    raise RegistryRefused(f"{repository.name}@{digest} has no image for {platform}")


def own_platform() -> str:
    """Of this machine."""
    machine = os.uname().machine
    return f"linux/{_ARCHITECTURES.get(machine, machine)}"


def try_image(
    repository: Repository,
    published: PublishedImage,
    digest: str,
    platform: str,
    engine: str,
    root: Path,
    report: Report,
) -> None:
    """Pulls it with `docker` or `podman`, and runs its test against it.

    Raises:
        RegistryRefused: it is not there.
        ProgramFailed: it cannot be pulled, or does not pass.
    """
    reference = f"{repository.name}@{digest_for(repository, digest, platform)}"
    insecure = ["--tls-verify=false"] if engine == "podman" and reference.startswith("127.") else []
    run_program(engine, "pull", "--quiet", *insecure, f"--platform={platform}", reference)
    is_emulated = platform != own_platform()
    report(f"{reference} is pulled for {platform}" + (", which is emulated here" if is_emulated else ""))
    told = {"STIGMER_TEST_ENGINE": engine, published.test_variable: reference, "CI": "true"}
    if is_emulated:
        told["STIGMER_TEST_EMULATED"] = "true"
    run_program(
        sys.executable, "-m", "pytest", "-q", f"{published.test}[{engine}]", directory=root, environment=told
    )
    report(f"{reference} is healthy, and ran an agent to its end")
