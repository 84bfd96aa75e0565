"""Brings single paths of a directory back to what a snapshot says. Opens nothing through a link.

Each path is replaced as a whole, so what is interrupted leaves every path either as it was or as it is to be.
"""

import contextlib
import errno
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stigmer_cli.errors import StigmerError
from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots import DirectoryEntry, Entry, FileEntry, LinkEntry, provide, read_file
from stigmer_contract.snapshots.listing import PERMISSIONS

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NOTHING: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
"""There is nothing at the path: also where a file or a link stands in the place of one of its folders."""

Identity = tuple[object, ...] | None


def identity_of(entry: Entry | None) -> Identity:
    """What counts of an entry; None: there is nothing. Of a directory that it is one: its time changes with
    every file in it."""
    match entry:
        case FileEntry():
            return ("file", entry.mode, entry.sha256)
        case LinkEntry():
            return ("link", entry.target)
        case DirectoryEntry():
            return ("directory",)
        case None:
            return None


def is_as(root: Path, path: str, entry: Entry | None) -> bool:
    """Whether a path beneath the directory is as an entry says; None: there is nothing.

    Raises:
        StigmerError: it cannot be looked at.
    """
    return _identity_at(root, path) == identity_of(entry)


def bring_back(
    root: Path, entries: Mapping[str, Entry], paths: Sequence[str], load: Callable[[str], bytes]
) -> None:
    """Make the paths what the entries say; those that have none are removed.

    A folder that is to go and holds something else stays.

    Raises:
        StigmerError: the disk refuses, or a blob is not what it should be.
    """
    try:
        for path in sorted(paths, reverse=True):  # what is in a folder before the folder
            if type(entries.get(path)) is not FileEntry or _kind_at(root, path) == "directory":
                _remove(root, path, entries.get(path))
        for path in sorted(paths):
            entry = entries.get(path)
            if entry is not None:
                _make(root, path, entry, load)
    except (OSError, SnapshotDamaged) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StigmerError(
            f"could not bring everything back in {str(root)!r}: {reason}", "run the command again to go on"
        ) from error


def _identity_at(root: Path, path: str) -> Identity:
    name = path.rpartition("/")[2]
    try:
        with _folder_of(root, path) as folder:
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            mode = status.st_mode
            if stat.S_ISLNK(mode):
                return ("link", os.readlink(name, dir_fd=folder))
            if stat.S_ISDIR(mode):
                return ("directory",)
            if not stat.S_ISREG(mode):
                return ("special",)
            descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
            with os.fdopen(descriptor, "rb") as file:
                return ("file", mode & PERMISSIONS, hashlib.file_digest(file, "sha256").hexdigest())
    except OSError as error:
        if error.errno in _NOTHING:
            return None
        raise StigmerError(f"could not look at {path!r}: {error.strerror}") from error


def _kind_at(root: Path, path: str) -> object:
    identity = _identity_at(root, path)
    return None if identity is None else identity[0]


def _remove(root: Path, path: str, entry: Entry | None) -> None:
    kind, name = _kind_at(root, path), path.rpartition("/")[2]
    if kind is None or (kind == "directory" and isinstance(entry, DirectoryEntry)):
        return
    with _folder_of(root, path) as folder:
        if kind == "directory":
            with contextlib.suppress(OSError):  # something else is in it
                os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)


def _make(root: Path, path: str, entry: Entry, load: Callable[[str], bytes]) -> None:
    name = path.rpartition("/")[2]
    with _folder_of(root, path) as folder:
        if isinstance(entry, DirectoryEntry):
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, entry.mode, dir_fd=folder)
            return
        draft = f".{secrets.token_hex(8)}.stigmer"
        try:
            if isinstance(entry, LinkEntry):
                os.symlink(entry.target, draft, dir_fd=folder)
            else:
                _write(folder, draft, entry, load)
            os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(draft, dir_fd=folder)
            raise


def _write(folder: int, name: str, entry: FileEntry, load: Callable[[str], bytes]) -> None:
    content = provide(read_file(entry), load)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, 0o600, dir_fd=folder), "wb") as file:
        file.write(content)
        file.flush()
        os.fchmod(file.fileno(), entry.mode)
        os.utime(file.fileno(), ns=(entry.mtime_ns, entry.mtime_ns))
        os.fsync(file.fileno())


@contextmanager
def _folder_of(root: Path, path: str) -> Generator[int]:
    """A descriptor of the folder that has a path, opened step by step and through no link."""
    descriptor = os.open(root, _FOLDER)
    try:
        for name in path.split("/")[:-1]:
            inner = os.open(name, _FOLDER, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)
