"""Writes files of an agent's making beneath a directory, wherever their names would lead.

The names come from elsewhere: nothing is written outside the directory, and no link below it is followed.
"""

import contextlib
import os
import secrets
from pathlib import Path

from stigmer_cli.errors import StigmerError

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


def write_beneath(directory: Path, path: str, content: bytes, *, replaces: bool) -> Path:
    """Write a file at `path`, whose parts `/` parts; the whole file or nothing.

    Args:
        directory: made where it is missing; the person's own choice, links in it are followed.
        path: from elsewhere.
        content: of the file.
        replaces: whether a file that is there is replaced.

    Raises:
        StigmerError: it cannot be written, or is there already.
    """
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise StigmerError(f"could not write {path!r}: that is no path beneath a directory")
    place = directory.joinpath(*parts)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        parent = _open_parent(directory, parts[:-1])
        try:
            _write(parent, parts[-1], content, replaces=replaces)
        finally:
            os.close(parent)
    except FileExistsError as error:
        raise StigmerError(
            f"could not write {str(place)!r}: it is there already", "pass --force to replace it"
        ) from error
    except OSError as error:
        raise StigmerError(f"could not write {str(place)!r}: {error.strerror}") from error
    return place


def _open_parent(directory: Path, parts: list[str]) -> int:
    current = os.open(directory, _DIRECTORY)
    for part in parts:
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, dir_fd=current)
            following = os.open(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=current)
        finally:
            os.close(current)
        current = following
    return current


def _write(parent: int, name: str, content: bytes, *, replaces: bool) -> None:
    new = f".{secrets.token_hex(8)}.part" if replaces else name
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o666, dir_fd=parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        if replaces:
            os.replace(new, name, src_dir_fd=parent, dst_dir_fd=parent)
    except BaseException:
        os.unlink(new, dir_fd=parent)
        raise
