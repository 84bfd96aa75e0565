"""Packs skills of folders and of git repositories, each checked by the open standard."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.git_skills import git_skill_files
from stigmer_cli.commands.packed_files import FilesRefused, collect_files, names_in
from stigmer_cli.commands.shared_files import read_file

if TYPE_CHECKING:
    from stigmer_contract.errors import ManifestProblem
    from stigmer_contract.packs import PackedFile


@dataclass(frozen=True)
class PackedSkill:
    """A skill's files, and what its SKILL.md says."""

    name: str
    description: str
    allowed_tools: str | None
    files: int
    pack: bytes
    notes: "Sequence[ManifestProblem]"
    """Where it departs from the standard in what does not keep it from being used."""

    @property
    def reference(self) -> str:
        """What names its content."""
        return f"sha256:{hashlib.sha256(self.pack).hexdigest()}"


def pack_skill(folder: Path) -> PackedSkill:
    """Pack a skill's folder.

    Raises:
        FilesRefused: it is no skill, or cannot be packed. Each problem has its line.
    """
    from stigmer_contract.skill_documents import SKILL_FILE

    place = folder / SKILL_FILE
    if not place.is_file():
        raise FilesRefused(f"there is no {SKILL_FILE} in {str(folder)!r}")
    try:
        document = read_file(place)
        files = list(collect_files(folder, names_in(folder)))
    except OSError as error:
        raise FilesRefused(f"{str(place)!r} cannot be read: {error.strerror}") from error
    return _packed(files, document, str(place), folder.resolve().name)


def pack_git_skill(git: str, commit: str, folder: str) -> PackedSkill:
    """Pack the skill in a folder of a git repository, as it was at a commit.

    Raises:
        FilesRefused: it cannot be had, is no skill, or cannot be packed.
    """
    from stigmer_contract.skill_documents import SKILL_FILE

    place = f"{git}@{commit[:12]}:{folder}".rstrip(":")
    files = git_skill_files(git, commit, folder)
    document = next((file.content for file in files if file.path == SKILL_FILE), None)
    if document is None:
        raise FilesRefused(f"there is no {SKILL_FILE} in {place}")
    name = folder.strip("/").rpartition("/")[2]
    return _packed(files, document, f"{place}/{SKILL_FILE}", name or None)


def _packed(
    files: "Sequence[PackedFile]", document: bytes, source: str, folder_name: str | None
) -> PackedSkill:
    from stigmer_contract.errors import ManifestError, PackError
    from stigmer_contract.packs import write_pack
    from stigmer_contract.skill_documents import read_skill

    try:
        skill = read_skill(document, source, folder_name)
        pack = write_pack(files)
    except ManifestError as error:
        raise FilesRefused("\n".join(["not a skill:", *map(str, error.problems)])) from error
    except PackError as error:
        raise FilesRefused(f"the folder of {source!r} cannot be packed: {error}") from error
    return PackedSkill(skill.name, skill.description, skill.allowed_tools, len(files), pack, skill.notes)
