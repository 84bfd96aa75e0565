"""Packs the files that manifests name beside them, so that a runner anywhere has them as they were.

Reads files only; what a pack is, `stigmer_contract.packs` knows.
"""

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.manifest_files import ManifestFile, with_spec
from stigmer_cli.commands.shared_files import read_file
from stigmer_cli.errors import ManifestInvalid
from stigmer_cli.output import print_note
from stigmer_cli.rendering.quantities import plural
from stigmer_contract.manifest import AgentManifest

if TYPE_CHECKING:
    from stigmer_cli.api_client import ApiClient
    from stigmer_contract.manifest_scripts import Script
    from stigmer_contract.packs import PackedFile

_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
"""Folders of what programs make anew. Hidden files and folders are left out, too."""


@dataclass(frozen=True)
class PackedAgent:
    """A manifest that names its files by their content."""

    manifest: AgentManifest
    packs: Sequence[bytes]
    """What is to be uploaded before the manifest."""

    def upload(self, client: "ApiClient") -> None:
        """Bring the packs to the server."""
        for pack in self.packs:
            client.upload_blob(pack)


class _Problems:
    """What is wrong with the files that manifests name."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def add(self, source: str, field: str, message: str, hint: str) -> None:
        self.found.append(f"{source}: {field}: {message}\n  hint: {hint}")


class FilesRefused(Exception):
    """Files cannot be packed; the message says which and why."""


def pack_agents(files: Sequence[ManifestFile]) -> list[PackedAgent]:
    """The manifests with their files packed.

    Raises:
        ManifestInvalid: files are missing, or cannot be packed; it has been printed.
    """
    problems = _Problems()
    packed = [_pack(file, problems) for file in files]
    if problems.found:
        for problem in problems.found:
            print_note(problem)
        raise ManifestInvalid(f"{plural(len(problems.found), 'problem')} with files that manifests name")
    return packed


def _pack(file: ManifestFile, problems: _Problems) -> PackedAgent:
    spec, packs = file.manifest.spec, list[bytes]()
    if not spec.scripts:
        return PackedAgent(file.manifest, ())
    scripts = [
        _pack_script(script, f"spec.scripts[{place}]", file, packs, problems)
        for place, script in enumerate(spec.scripts)
    ]
    return PackedAgent(with_spec(file.manifest, scripts=scripts), packs)


def _pack_script(
    script: "Script", field: str, file: ManifestFile, packs: list[bytes], problems: _Problems
) -> "Script":
    if script.pack is not None:
        return script
    from stigmer_contract.errors import PackError
    from stigmer_contract.packs import write_pack

    named = [argument for argument in script.command if _is_beside(file.folder, argument)]
    try:
        names = dict.fromkeys([*named, *script.files])
        found = {each.path: each for each in collect_files(file.folder, names)}
        if not found:
            return script
        pack = write_pack(found.values())
    except (FilesRefused, PackError) as error:
        problems.add(file.source, field, str(error), "name files that are in the manifest's folder")
        return script
    packs.append(pack)
    return script.model_copy(update={"pack": f"sha256:{hashlib.sha256(pack).hexdigest()}"})


def _is_beside(folder: Path, argument: str) -> bool:
    """Whether an argument names a file or folder of the manifest's folder."""
    from stigmer_contract.manifest_scripts import check_relative

    try:
        check_relative(argument)
        # `.` is no file of the script's: all of the folder is never meant.
        return Path(argument) != Path() and os.path.lexists(folder / argument)
    except (ValueError, OSError):
        return False


def collect_files(folder: Path, names: Iterable[str]) -> "Iterator[PackedFile]":
    """The files that are or lie beneath these names in a folder.

    Hidden files are left out, unless one is named itself. Links count as what they lead to, and lead out of
    the folder nowhere.

    Raises:
        FilesRefused: a name leads to nothing, or to what is not a file.
    """
    from stigmer_contract.packs import MAX_PACK_BYTES, MAX_PACK_FILES

    root = Path(os.path.realpath(folder))
    count, size = 0, 0
    for name in names:
        path = Path(os.path.normpath(name))
        if not os.path.lexists(folder / path):
            raise FilesRefused(f"there is no {name!r} in {str(folder)!r}")
        for file in _collect(root, path):
            count, size = count + 1, size + len(file.content)
            if count > MAX_PACK_FILES or size > MAX_PACK_BYTES:
                raise FilesRefused(
                    f"{name!r} has more than {MAX_PACK_FILES} files, or more than {MAX_PACK_BYTES >> 20} MiB"
                )
            yield file


def _collect(root: Path, path: Path) -> "Iterator[PackedFile]":
    from stigmer_contract.packs import MAX_PACK_BYTES, PackedFile

    real = Path(os.path.realpath(root / path))
    if not real.is_relative_to(root):
        raise FilesRefused(f"{str(path)!r} leads out of the folder")
    try:
        status = real.stat()
        if stat.S_ISDIR(status.st_mode):
            if (root / path).is_symlink():
                raise FilesRefused(f"{str(path)!r} is a link to a folder")
            for name in sorted(os.listdir(real)):  # noqa: PTH208 - names alone
                if not name.startswith(".") and name not in _LEFT_OUT:
                    yield from _collect(root, path / name)
            return
        if not stat.S_ISREG(status.st_mode):
            raise FilesRefused(f"{str(path)!r} is not a regular file")
        if status.st_size > MAX_PACK_BYTES:
            raise FilesRefused(f"{str(path)!r} is larger than {MAX_PACK_BYTES >> 20} MiB")
        yield PackedFile(path.as_posix(), read_file(real), bool(status.st_mode & 0o100))
    except OSError as error:
        raise FilesRefused(f"{str(path)!r} cannot be read: {error.strerror}") from error
