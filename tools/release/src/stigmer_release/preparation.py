"""Makes the commit and the tag of a release: `make release VERSION=X.Y.Z`. Pushes nothing."""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import unified_diff
from pathlib import Path
from typing import Final

from stigmer_release.errors import TreeUnfit, WrongVersion
from stigmer_release.git import Checkout
from stigmer_release.notes import notes_file, release_notes
from stigmer_release.packages import check_agreement, set_version
from stigmer_release.versions import Version

MAIN: Final = "main"

Report = Callable[[str], None]


@dataclass(frozen=True)
class PlannedRelease:
    """What a release would change."""

    version: Version
    files: dict[Path, str]
    """Absolute path to whole new content."""

    def diff(self, root: Path) -> str:
        """As `git diff` would show it."""
        lines: list[str] = []
        for path, content in self.files.items():
            old = path.read_text("utf-8") if path.exists() else ""
            name = path.relative_to(root).as_posix()
            lines += unified_diff(
                old.splitlines(keepends=True),
                content.splitlines(keepends=True),
                f"a/{name}",
                f"b/{name}",
                n=0,
            )
        return "".join(lines)


def plan_release(checkout: Checkout, version: Version, date: str) -> PlannedRelease:
    """Checks that this version can follow, and that the checkout can be released. Changes nothing.

    Raises:
        WrongVersion: it is taken, or a later one of its line is there.
        TreeUnfit: the checkout is not clean, not on a branch that releases, or has nothing new.
    """
    check_order(version, checkout.versions())
    if changes := checkout.changes():
        raise TreeUnfit(
            f"the checkout has changes: {', '.join(line[3:] for line in changes[:5])}",
            "commit or remove them",
        )
    line = f"release/{version.major}.{version.minor}"
    branch = checkout.branch()
    if branch not in (MAIN, line):
        raise TreeUnfit(
            f"a release of {version} is made on {MAIN}, or on {line} for an old line; this is "
            f"{branch or 'no branch'}",
            f"run `git switch {MAIN}`",
        )
    files = set_version(checkout.root, version)
    files[checkout.root / notes_file(version)] = release_notes(checkout, version, date)
    return PlannedRelease(version, files)


def check_order(version: Version, tagged: frozenset[Version]) -> None:
    """Ends the release of a version that cannot follow those that are tagged.

    Raises:
        WrongVersion: it is tagged, or its line has gone on past it.
    """
    if version in tagged:
        raise WrongVersion(f"{version} is released already", "a version is never used twice: take the next")
    newest = max(
        (one for one in tagged if (one.major, one.minor) == (version.major, version.minor)), default=None
    )
    if newest is not None and version < newest:
        raise WrongVersion(
            f"{version} comes before {newest}, which is released", f"take one after {newest}, or another line"
        )


def make_release(checkout: Checkout, planned: PlannedRelease, report: Report) -> None:
    """Writes, commits and tags."""
    for path, content in planned.files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    check_agreement(checkout.root, planned.version)
    names = [path.relative_to(checkout.root).as_posix() for path in planned.files]
    checkout.call("add", "--", *names)
    checkout.call("commit", "--quiet", "--message", f"Release {planned.version}")
    tag = planned.version.git_tag
    checkout.call("tag", "--annotate", "--message", f"Stigmer {planned.version}", tag)
    report(f"committed and tagged {tag}; nothing is pushed yet")
    report(f"look at it with `git show {tag}`; then `git push --atomic origin {checkout.branch()} {tag}`")
    report(f"to take it back before: `git tag --delete {tag} && git reset --hard HEAD~1`")
