"""The images that the runner's image starts from, by digest: what the Dockerfile names, as it is now."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from stigmer_release.errors import EvidenceUnusable
from stigmer_release.registry import open_repository

DOCKERFILE: Final = "backend/services/agent-runner/Dockerfile"
_ARGUMENT: Final = re.compile(r"^ARG (PYTHON_IMAGE|UV_IMAGE)=(\S+)$", re.MULTILINE)


def base_images(root: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """`PYTHON_IMAGE` and `UV_IMAGE`, each as `NAME:TAG@sha256:…`; the environment goes before the Dockerfile.

    Raises:
        EvidenceUnusable: the Dockerfile does not name them, or there is no such image.
        RegistryRefused: a registry does not answer.
    """
    named = dict(_ARGUMENT.findall((root / DOCKERFILE).read_text("utf-8")))
    named |= {name: environment[name] for name in named if environment.get(name)}
    if set(named) != {"PYTHON_IMAGE", "UV_IMAGE"}:
        raise EvidenceUnusable(f"{DOCKERFILE} does not name PYTHON_IMAGE and UV_IMAGE")
    return {name: _by_digest(reference) for name, reference in sorted(named.items())}


def digests(references: Mapping[str, str]) -> dict[str, str]:
    """`NAME:TAG` to digest."""
    return {one.partition("@")[0]: one.partition("@")[2] for one in references.values()}


def _by_digest(reference: str) -> str:
    if "@" in reference:
        return reference
    name, _, tag = reference.rpartition(":")
    if "/" not in name:
        name = f"library/{name}"
    if "." not in (host := name.partition("/")[0]) and ":" not in host:
        name = f"docker.io/{name}"
    with open_repository(name, None) as repository:
        manifest = repository.manifest(tag)
    if manifest is None:
        raise EvidenceUnusable(f"there is no image {reference!r}")
    return f"{reference}@{manifest.digest}"
