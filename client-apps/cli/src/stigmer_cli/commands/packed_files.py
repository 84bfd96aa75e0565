"""Reads the files that are packed with a manifest: what belongs to a folder, and leads nowhere else."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from stigmer_cli.commands.shared_files import read_file

if TYPE_CHECKING:
    from collections.abc import Iterator

    from stigmer_contract.packs import PackedFile

_LEFT_OUT = frozenset({"__pycache__", "node_modules"})
"""Folders of what programs make anew. Hidden files and folders are left out, too."""


class FilesRefused(Exception):
    """Files cannot be packed; the message says which and why."""


def names_in(folder: Path) -> list[str]:
    """What of a folder belongs into its pack, in order.

    Raises:
        OSError: it cannot be read.
    """
    return sorted(name for name in os.listdir(folder) if not is_left_out(name))  # noqa: PTH208 - names alone


def is_left_out(name: str) -> bool:
    """Whether a file or folder of that name is no part of a pack, unless it is named itself."""
    return name.startswith(".") or name in _LEFT_OUT


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
                if not is_left_out(name):
                    yield from _collect(root, path / name)
            return
        if not stat.S_ISREG(status.st_mode):
            raise FilesRefused(f"{str(path)!r} is not a regular file")
        if status.st_size > MAX_PACK_BYTES:
            raise FilesRefused(f"{str(path)!r} is larger than {MAX_PACK_BYTES >> 20} MiB")
        yield PackedFile(path.as_posix(), read_file(real), bool(status.st_mode & 0o100))
    except OSError as error:
        raise FilesRefused(f"{str(path)!r} cannot be read: {error.strerror}") from error
