"""What can go wrong in a release. The exit code belongs to the class.

ReleaseError            exit 1: what was asked for failed
├── WrongVersion        exit 2: it is no version, or not one that can follow
├── Disagreement        tag, packages and the command line do not name one version
├── TreeUnfit           the checkout cannot be released as it is
├── ProgramFailed       a program that a release calls failed, or is missing
├── RegistryRefused     the registry did not do what it was asked for
├── AlreadyReleased     another image bears this version
├── EvidenceUnusable    a document about the image cannot be made, or not be read
└── HolesFound          the image has known holes for which there are fixes
"""

from typing import ClassVar


class ReleaseError(Exception):
    """Any failure that a release expects: one message, and mostly one hint."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class WrongVersion(ReleaseError):
    """The text is no version, or the version cannot follow those that are released. A retry cannot help."""

    exit_code = 2


class Disagreement(ReleaseError):
    """Tag, packages and command line name different versions. A retry cannot help."""


class TreeUnfit(ReleaseError):
    """The checkout has changes, or is not what would be released. A retry cannot help."""


class ProgramFailed(ReleaseError):
    """A program that a release calls is missing, failed, or took too long. A retry may help."""


class RegistryRefused(ReleaseError):
    """The registry refused, or does not answer. A retry may help."""


class AlreadyReleased(ReleaseError):
    """The version's tag is on another image already, and never moves. A retry cannot help."""


class EvidenceUnusable(ReleaseError):
    """A document about the image (SBOM, provenance, scan) cannot be made, or is not as it must be."""


class HolesFound(ReleaseError):
    """Known holes for which there are fixes, and that no entry of the allow list excuses."""
