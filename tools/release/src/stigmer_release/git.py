"""The checkout as git sees it. Every call is an argument list; nothing is pushed."""

from dataclasses import dataclass
from pathlib import Path

from stigmer_release.programs import run_program
from stigmer_release.versions import Version, versions_among


@dataclass(frozen=True)
class Checkout:
    """A work tree."""

    root: Path

    def call(self, *arguments: str) -> str:
        """What git says, without the last line's end.

        Raises:
            ProgramFailed: git refuses.
        """
        return run_program("git", *arguments, directory=self.root).rstrip("\n")

    def commit(self) -> str:
        """The full SHA-1 of HEAD."""
        return self.call("rev-parse", "HEAD")

    def commit_time(self) -> int:
        """When HEAD was committed, in seconds since 1970: what a build takes for its time."""
        return int(self.call("log", "-1", "--format=%ct"))

    def branch(self) -> str:
        """The branch that is checked out; empty where none is."""
        return self.call("branch", "--show-current")

    def changes(self) -> list[str]:
        """Files that are changed or unknown, as `git status` lists them."""
        return self.call("status", "--porcelain").splitlines()

    def versions(self) -> frozenset[Version]:
        """Every version that is tagged."""
        return versions_among(self.call("tag", "--list", "v*").splitlines())

    def last_release(self) -> Version | None:
        """The newest release (no pre-release) that HEAD follows; None before the first."""
        merged = versions_among(self.call("tag", "--list", "v*", "--merged", "HEAD").splitlines())
        return max((version for version in merged if version.is_release), default=None)

    def files(self, revision: str, folder: str) -> set[str]:
        """The paths of a revision's files in a folder."""
        return set(self.call("ls-tree", "-r", "--name-only", revision, "--", folder).splitlines())
