"""Packs: the files of a folder as one text of bytes, the same for the same files wherever they are packed.

A pack is a tar archive (POSIX.1-2001) of regular files alone, by name, without times and owners. Reading one
trusts nothing of it. Knows nothing of where packs are kept.
"""

import io
import tarfile
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from stigmer_contract.errors import PackError

MAX_PACK_BYTES: Final = 16 << 20
"""Of all files of a pack together."""
MAX_PACK_FILES: Final = 1_000
MAX_PATH_CHARACTERS: Final = 255
MAX_PATH_DEPTH: Final = 16


class PackedFile(NamedTuple):
    """One file of a pack."""

    path: str
    """Relative, with `/`; in no folder above."""
    content: bytes
    is_executable: bool


def write_pack(files: Iterable[PackedFile]) -> bytes:
    """The pack of these files.

    Raises:
        PackError: a name cannot be one, or it is too much.
    """
    chosen = sorted(files)
    check_files(chosen)
    packed = io.BytesIO()
    # 2048 bytes: no padding beyond what a tar archive needs.
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, bufsize=2048) as archive:
        for file in chosen:
            entry = tarfile.TarInfo(file.path)
            entry.size = len(file.content)
            entry.mode = 0o755 if file.is_executable else 0o644
            archive.addfile(entry, io.BytesIO(file.content))
    return packed.getvalue()


def read_pack(content: bytes) -> list[PackedFile]:
    """The files of a pack, whoever made it.

    Raises:
        PackError: it is none, or holds more than regular files beneath it.
    """
    files = list[PackedFile]()
    size = 0
    try:
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as archive:
            for entry in archive:
                if entry.isdir():
                    continue
                if not entry.isreg() or entry.issparse():
                    raise PackError(f"it holds {entry.name!r}, which is not a regular file")
                size += entry.size
                if size > MAX_PACK_BYTES or len(files) >= MAX_PACK_FILES:
                    raise PackError(_TOO_MUCH)
                stream = archive.extractfile(entry)
                body = b"" if stream is None else stream.read()
                files.append(PackedFile(entry.name, body, bool(entry.mode & 0o100)))
    except (tarfile.TarError, ValueError, OSError, EOFError) as error:
        raise PackError("it is not a tar archive that can be read") from error
    check_files(files)
    return files


def check_files(files: Sequence[PackedFile]) -> None:
    """Refuse what cannot be packed or unpacked.

    Raises:
        PackError: why.
    """
    if len(files) > MAX_PACK_FILES or sum(len(file.content) for file in files) > MAX_PACK_BYTES:
        raise PackError(_TOO_MUCH)
    names = set[str]()
    folders = set[str]()
    for file in files:
        check_path(file.path)
        if file.path in names:
            raise PackError(f"it holds {file.path!r} twice")
        names.add(file.path)
        parts = file.path.split("/")
        folders.update("/".join(parts[:count]) for count in range(1, len(parts)))
    both = names & folders
    if both:
        raise PackError(f"it holds {min(both)!r} as a file and as a folder")


def check_path(path: str) -> None:
    """Refuse a name that is not a plain path beneath the pack.

    Raises:
        PackError: why.
    """
    parts = path.split("/")
    if not path or len(path) > MAX_PATH_CHARACTERS or len(parts) > MAX_PATH_DEPTH:
        raise PackError(f"the path {path[:80]!r} is too long, or too deep")
    if any(part in ("", ".", "..") for part in parts) or "\\" in path or not path.isprintable():
        raise PackError(f"the path {path!r} is not a plain one")


_TOO_MUCH: Final = f"it has more than {MAX_PACK_FILES} files, or more than {MAX_PACK_BYTES >> 20} MiB"
