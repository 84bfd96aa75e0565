"""The packages that are released together: where they are, the version they name, how it is set.

Everything that must name one version is here: the packages, what they want of each other, and the lock file.
"""

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from stigmer_release.errors import Disagreement, TreeUnfit
from stigmer_release.versions import Version

PACKAGES: Final[Mapping[str, str]] = {
    "stigmer-contract": "backend/libs/python/stigmer-contract",
    "stigmer-isolation": "backend/libs/python/stigmer-isolation",
    "stigmer-agent-runner": "backend/services/agent-runner",
    "stigmer-server": "backend/services/stigmer-server",
    "stigmer-agents-client": "client-apps/cli",
    "stigmer-agents": "client-apps/stigmer-agents",
}
"""Package to folder, what is needed by others first."""

_REQUIREMENT: Final = re.compile(r"(?P<name>[a-z0-9-]+)(?:\[[a-z0-9,-]+\])?(?P<rest>.*)")
_VERSION_LINE: Final = re.compile(r'^version = "([^"]+)"$', re.MULTILINE)


@dataclass(frozen=True)
class Named:
    """One place that names a version."""

    place: str
    version: str
    """As Python packages spell it."""


def named_versions(root: Path) -> list[Named]:
    """Every place of the checkout that names a version of the packages.

    Raises:
        TreeUnfit: a package is missing, or wants another of ours in whatever version.
    """
    found: list[Named] = []
    for name, folder in PACKAGES.items():
        file = root / folder / "pyproject.toml"
        try:
            project = tomllib.loads(file.read_text("utf-8"))["project"]
        except (OSError, KeyError, tomllib.TOMLDecodeError) as error:
            raise TreeUnfit(f"could not read {folder}/pyproject.toml: {error}") from error
        found.append(Named(f"package {name}", str(project["version"])))
        for requirement in _requirements(project):
            match = _REQUIREMENT.match(requirement)
            if match is None or match["name"] not in PACKAGES:
                continue
            if not match["rest"].startswith("=="):
                raise TreeUnfit(f"{folder}/pyproject.toml wants {requirement!r}", "write NAME==VERSION")
            found.append(Named(f"what {name} wants of {match['name']}", match["rest"][2:]))
    lock = tomllib.loads((root / "uv.lock").read_text("utf-8"))
    found += [
        Named(f"{package['name']} in uv.lock", str(package["version"]))
        for package in lock["package"]
        if package["name"] in PACKAGES
    ]
    return found


def _requirements(project: dict[str, Any]) -> list[str]:
    """What a package needs, and what its extras bring."""
    extras: dict[str, list[str]] = project.get("optional-dependencies", {})
    return [*project["dependencies"], *(one for needed in extras.values() for one in needed)]


def extras(root: Path, name: str) -> list[str]:
    """The extras that a package of ours offers."""
    project = tomllib.loads((root / PACKAGES[name] / "pyproject.toml").read_text("utf-8"))["project"]
    return sorted(project.get("optional-dependencies", ()))


def check_agreement(root: Path, version: Version) -> None:
    """Ends the release where a place of the checkout names another version.

    Raises:
        Disagreement: naming each such place.
    """
    wrong = [named for named in named_versions(root) if named.version != version.of_package]
    if wrong:
        said = "; ".join(f"{named.place} is {named.version or 'any'}" for named in wrong)
        raise Disagreement(
            f"the tag {version.git_tag} does not agree with the checkout: {said}",
            f"run `make release VERSION={version}` and push the tag that it makes",
        )


def check_expected_image(version: Version, said: str) -> None:
    """Ends the release where the command line would pull another image than this version's.

    `said` is what `stigmer version --json` prints in an environment of the checkout.

    Raises:
        Disagreement: it names another.
    """
    expected = json.loads(said).get("runner-image") or "none"
    if expected.partition("@")[0].rpartition(":")[2] != str(version):
        raise Disagreement(
            f"the tag {version.git_tag} does not agree with the command line, which pulls {expected}",
            "run `uv sync`, and see client-apps/cli/src/stigmer_cli/runner/released_image.py",
        )


def current_version(root: Path) -> str:
    """The version that all packages name.

    Raises:
        Disagreement: they name several.
    """
    versions = {named.version for named in named_versions(root)}
    if len(versions) != 1:
        raise Disagreement(f"the packages name several versions: {', '.join(sorted(versions))}")
    return versions.pop()


def files_with_versions(root: Path) -> list[Path]:
    """The files that `set_version` changes."""
    return [root / folder / "pyproject.toml" for folder in PACKAGES.values()] + [root / "uv.lock"]


def set_version(root: Path, version: Version) -> dict[Path, str]:
    """The files that name a version, as they are with this one. Writes nothing.

    Raises:
        Disagreement: the packages name several versions now.
    """
    old, new = current_version(root), version.of_package
    changed: dict[Path, str] = {}
    for file in files_with_versions(root):
        text = file.read_text("utf-8")
        changed[file] = _in_lock(text, old, new) if file.name == "uv.lock" else _in_project(text, new)
    return changed


def _in_project(text: str, version: str) -> str:
    text = _VERSION_LINE.sub(f'version = "{version}"', text, count=1)
    for name in PACKAGES:
        text = re.sub(rf'"({name}(?:\[[a-z0-9,-]+\])?)==[^"]*"', rf'"\g<1>=={version}"', text)
    return text


def _in_lock(text: str, old: str, new: str) -> str:
    """uv writes the same (`uv lock --check` holds it); asking uv would want the package index."""
    for name in PACKAGES:
        text = text.replace(f'name = "{name}"\nversion = "{old}"\n', f'name = "{name}"\nversion = "{new}"\n')
    return text
