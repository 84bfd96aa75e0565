"""The part of an MCP server in the manifest that names a published package, and what was fetched of it."""

import re
from typing import Annotated, Final, NamedTuple, TypeAlias

from pydantic import AfterValidator, Field

from stigmer_contract.manifest_parts import ManifestPart
from stigmer_contract.manifest_scripts import PackReference

MAX_PACKAGE_BYTES: Final = 256 << 20
"""Of all files of a package and what it needs."""
MAX_PACKAGE_PACKS: Final = 1000
MAX_PROGRAM_CHARACTERS: Final = 1000
_NPM: Final = re.compile(
    r"npm:(?P<name>(?:@[a-z0-9~-][a-z0-9._~-]{0,212}/)?[a-z0-9~-][a-z0-9._~-]{0,212})"
    r"@(?P<version>\d{1,9}\.\d{1,9}\.\d{1,9}(?:[-+][0-9A-Za-z.+-]{1,100})?)"
)


class NamedPackage(NamedTuple):
    """A package of one exact version."""

    name: str
    version: str


def read_package(text: str) -> NamedPackage:
    """What `npm:NAME@VERSION` names.

    Raises:
        ValueError: it is not of that form, or its version is none.
    """
    found = _NPM.fullmatch(text) if len(text) <= MAX_PROGRAM_CHARACTERS else None
    if found is None:
        raise ValueError(
            f"{text[:100]!r} is not a package of one version; write npm:NAME@VERSION, such as "
            "npm:@modelcontextprotocol/server-everything@2025.9.12"
        )
    return NamedPackage(found["name"], found["version"])


def _check_package(text: str) -> str:
    read_package(text)
    return text


Package: TypeAlias = Annotated[str, AfterValidator(_check_package)]


def _check_plain(path: str) -> str:
    if any(part in ("", ".", "..") for part in path.split("/")) or "\0" in path or "\\" in path:
        raise ValueError(f"{path[:100]!r} is not a plain path")
    return path


PlainPath: TypeAlias = Annotated[
    str, Field(min_length=1, max_length=MAX_PROGRAM_CHARACTERS), AfterValidator(_check_plain)
]


class FetchedPackage(ManifestPart):
    """A package with all that it needs, as it was when the agent was applied. `stigmer` writes this."""

    program: PlainPath
    """What is started, among the files."""
    packs: dict[PlainPath, PackReference] = Field(min_length=1, max_length=MAX_PACKAGE_PACKS)
    """The files, in packs by the folder that each belongs into."""
