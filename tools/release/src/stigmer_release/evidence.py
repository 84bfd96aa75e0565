"""What is said about an image: its parts (SBOM), how it was built (SLSA provenance), and their licences.

Makes documents; signing them and attaching them is `signing`'s.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from stigmer_release.errors import EvidenceUnusable
from stigmer_release.image_files import ImageFiles
from stigmer_release.programs import run_program

BUILD_TYPE: Final = "https://github.com/stigmer/stigmer/blob/main/docs/releasing.md#how-an-image-is-built"
_NEEDED_KINDS: Final = ("deb", "pypi")
"""Kinds of packages (purl types) that every image has: one missing means that the scanner is blind for it."""


def bill_of_materials(image: ImageFiles, name: str) -> dict[str, Any]:
    """The image's parts as CycloneDX: Debian's from dpkg's database, Python's from their metadata.

    Raises:
        EvidenceUnusable: a kind of package is missing.
        ProgramFailed: syft failed.
    """
    with tempfile.TemporaryDirectory(dir=image.directory.parent) as directory:
        layout = image.as_layout(Path(directory) / "layout")
        said = run_program("syft", "scan", f"oci-dir:{layout}", "--output", "cyclonedx-json", "--quiet")
    document = cast("dict[str, Any]", json.loads(said))
    document["metadata"].setdefault("component", {}).update(
        {"type": "container", "name": name, "version": image.manifest().digest}
    )
    kinds = {purl.removeprefix("pkg:").partition("/")[0] for purl in _purls(document)}
    if missing := set(_NEEDED_KINDS) - kinds:
        raise EvidenceUnusable(f"the SBOM of {image.directory} names no package of kind {', '.join(missing)}")
    return document


def licence_list(bills: list[dict[str, Any]]) -> str:
    """Every part of the images with its licence, one a line, sorted; as Markdown."""
    lines: set[str] = set()
    for component in (component for bill in bills for component in bill.get("components", [])):
        if str(component.get("purl", "")).startswith("pkg:"):
            licences = " AND ".join(_licences(component)) or "not stated"
            lines.add(f"| {component['name']} | {component['version']} | {licences} |")
    return "\n".join(["| part | version | licence |", "|---|---|---|", *sorted(lines, key=str.lower)]) + "\n"


@dataclass(frozen=True)
class Build:
    """How an image was built."""

    source: str
    """URL of the repository."""
    commit: str
    ref: str
    """`refs/tags/v1.2.3`."""
    workflow: str
    """Its path in the repository."""
    run: str
    """URL of the run."""
    started: str
    """RFC 3339."""
    finished: str
    base_images: Mapping[str, str]
    """Name to digest."""
    parameters: Mapping[str, str]
    """What the build was told besides: version, time."""


def provenance(build: Build) -> dict[str, Any]:
    """The predicate of SLSA provenance 1.0 (slsa.dev/spec/v1.0/provenance)."""
    source = {"uri": f"git+{build.source}@{build.ref}", "digest": {"gitCommit": build.commit}}
    bases = [
        {"uri": f"pkg:docker/{name}", "digest": {"sha256": digest.removeprefix("sha256:")}}
        for name, digest in sorted(build.base_images.items())
    ]
    workflow = {"repository": build.source, "ref": build.ref, "path": build.workflow}
    return {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"workflow": workflow, "parameters": dict(build.parameters)},
            "resolvedDependencies": [source, *bases],
        },
        "runDetails": {
            "builder": {"id": f"{build.source}/{build.workflow}@{build.ref}"},
            "metadata": {
                "invocationId": build.run,
                "startedOn": build.started,
                "finishedOn": build.finished,
            },
        },
    }


def _purls(document: dict[str, Any]) -> list[str]:
    return [str(component.get("purl", "")) for component in document.get("components", [])]


def _licences(component: dict[str, Any]) -> list[str]:
    found: list[str] = []
    for entry in component.get("licenses", []):
        licence = entry.get("license", {})
        name = entry.get("expression") or licence.get("id") or licence.get("name")
        if name:
            found.append(" ".join(str(name).split())[:80].replace("|", "/"))
    return sorted(set(found))
