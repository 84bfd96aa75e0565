"""Release notes: the entries of `_changelog/` that the last release does not have, oldest first."""

import re
from pathlib import Path
from typing import Final

from stigmer_release.errors import TreeUnfit
from stigmer_release.git import Checkout
from stigmer_release.versions import Version

FOLDER: Final = "_changelog"
NOTES_FOLDER: Final = "_changelog/releases"
_ENTRY: Final = re.compile(rf"{FOLDER}/\d{{4}}-\d{{2}}/\d{{4}}-\d{{2}}-\d{{2}}-\d{{6}}-[a-z0-9-]+\.md")


def new_entries(checkout: Checkout) -> list[Path]:
    """The entries since the last release, relative to the checkout, oldest first.

    Raises:
        TreeUnfit: a file in the folder is named as no entry is.
    """
    last = checkout.last_release()
    before = checkout.files(last.git_tag, FOLDER) if last else set[str]()
    found = sorted(path for path in checkout.files("HEAD", FOLDER) - before if not _is_prose(path))
    for path in found:
        if not _ENTRY.fullmatch(path):
            raise TreeUnfit(
                f"{path!r} is no entry of the changelog",
                f"name it {FOLDER}/YYYY-MM/YYYY-MM-DD-HHMMSS-slug.md",
            )
    return [Path(path) for path in found]


def release_notes(checkout: Checkout, version: Version, date: str) -> str:
    """The notes of a version, as Markdown.

    Raises:
        TreeUnfit: there is nothing to release, or an entry is not as an entry is.
    """
    entries = new_entries(checkout)
    if not entries:
        raise TreeUnfit(f"there is no entry in {FOLDER}/ since {checkout.last_release()}; nothing to release")
    parts = [f"# Stigmer {version}\n\n{date}\n"]
    for path in entries:
        heading, _, body = (checkout.root / path).read_text("utf-8").strip().partition("\n")
        if not heading.startswith("# "):
            raise TreeUnfit(f"{path} has no heading in its first line", "write `# ` and what is different")
        parts.append(f"#{heading}\n\n{_one_level_down(body.strip())}\n".rstrip("\n") + "\n")
    return "\n".join(parts)


def notes_file(version: Version) -> Path:
    """Where the notes of a version are, relative to the checkout."""
    return Path(NOTES_FOLDER) / f"{version}.md"


def _is_prose(path: str) -> bool:
    return path == f"{FOLDER}/README.md" or path.startswith(f"{NOTES_FOLDER}/")


def _one_level_down(body: str) -> str:
    lines: list[str] = []
    in_code = False
    for line in body.splitlines():
        in_code ^= line.startswith("```")
        lines.append(f"#{line}" if not in_code and re.match(r"#{2,5} ", line) else line)
    return "\n".join(lines)
