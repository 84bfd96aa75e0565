"""A version and its spellings: git tag `v1.2.0-rc.1`, image tag `1.2.0-rc.1`, Python package `1.2.0rc1`."""

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Self

from stigmer_release.errors import WrongVersion

_STAGES: Final = {"alpha": "a", "beta": "b", "rc": "rc"}
_NUMBER: Final = r"(?:0|[1-9][0-9]{0,8})"
# Of semver.org 2.0.0 what Python's version scheme can say too (packaging.python.org, "Version specifiers").
_TEXT: Final = re.compile(
    rf"(?P<major>{_NUMBER})\.(?P<minor>{_NUMBER})\.(?P<patch>{_NUMBER})"
    rf"(?:-(?P<stage>alpha|beta|rc)\.(?P<number>{_NUMBER}))?"
)


class Stage(IntEnum):
    """How finished a version is; ascending."""

    ALPHA = 0
    BETA = 1
    RC = 2
    RELEASE = 3


@dataclass(frozen=True, order=True)
class Version:
    """A version; ordered as semver orders precedence."""

    major: int
    minor: int
    patch: int
    stage: Stage = Stage.RELEASE
    number: int = 0
    """Of the pre-release; 0 for a release."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads `1.2.0` or `1.2.0-rc.1`.

        Raises:
            WrongVersion: it is neither.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            hint = (
                f"write it without the v: {text[1:]}"
                if text[:1] == "v" and _TEXT.fullmatch(text[1:])
                else None
            )
            raise WrongVersion(
                f"{text!r} is no version", hint or "write X.Y.Z, or X.Y.Z-rc.N, -beta.N or -alpha.N"
            )
        stage = Stage[match["stage"].upper()] if match["stage"] else Stage.RELEASE
        major, minor, patch = (int(match[name]) for name in ("major", "minor", "patch"))
        return cls(major, minor, patch, stage, int(match["number"] or 0))

    @classmethod
    def of_git_tag(cls, tag: str) -> Self:
        """Reads `v1.2.0`.

        Raises:
            WrongVersion: it is no version after a v.
        """
        if not tag.startswith("v"):
            raise WrongVersion(f"{tag!r} is no tag of a release", f"write v{tag}")
        return cls.parse(tag[1:])

    @property
    def is_release(self) -> bool:
        """Whether it is no pre-release."""
        return self.stage is Stage.RELEASE

    @property
    def git_tag(self) -> str:
        """`v1.2.0-rc.1`."""
        return f"v{self}"

    @property
    def of_package(self) -> str:
        """As Python packages spell it: `1.2.0rc1`."""
        if self.is_release:
            return str(self)
        return f"{self.major}.{self.minor}.{self.patch}{_STAGES[self.stage.name.lower()]}{self.number}"

    def __str__(self) -> str:
        stage = "" if self.is_release else f"-{self.stage.name.lower()}.{self.number}"
        return f"{self.major}.{self.minor}.{self.patch}{stage}"


def versions_among(tags: list[str]) -> frozenset[Version]:
    """The versions that tags of git or of a registry name; other tags are passed over."""
    found: set[Version] = set()
    for tag in tags:
        try:
            found.add(Version.parse(tag.removeprefix("v")))
        except WrongVersion:
            continue
    return frozenset(found)
