"""Brings a directory that is in use back to a snapshot, path by path. Opens nothing through a link.

Each path is replaced as a whole, so what is interrupted leaves every path either as it was or as it is to be;
whoever begins again finishes it. What no snapshot knows is not touched.
"""

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Collection, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from stigmer_contract.snapshots.listing import PERMISSIONS, DirectoryEntry, Entry, FileEntry, LinkEntry
from stigmer_contract.snapshots.restoring import Packs, write_file
from stigmer_contract.snapshots.wanted_blobs import Wants

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNERS: Final = 0o700
"""What whoever restores needs of a folder."""
DRAFT_ENDING: Final = ".stigmer-restoring"
"""Of a file or link that is about to take its place."""


def restore_in_place(root: int, entries: Mapping[str, Entry], paths: Collection[str]) -> Wants[None]:
    """Make what is at the paths beneath an open directory what the entries say; what has none is removed.

    Times and modes of directories are set at the end, of all that the entries name. A folder that is to go
    and holds something else stays.

    Raises:
        SnapshotDamaged: blobs are not what the snapshot says.
        OSError: the disk refuses. Begun again, it goes on.
    """
    inside = os.open(".", _FOLDER, dir_fd=root)
    try:
        mode = os.fstat(inside).st_mode & PERMISSIONS
        if mode & _OWNERS != _OWNERS:
            os.fchmod(inside, mode | _OWNERS)
        yield from _restore(inside, entries, paths)
    finally:
        os.close(inside)


def _restore(root: int, entries: Mapping[str, Entry], paths: Collection[str]) -> Wants[None]:
    for path in sorted(paths, reverse=True):  # what is in a folder before the folder
        entry = entries.get(path)
        if path and not (isinstance(entry, FileEntry | LinkEntry) and not _is_directory(root, path)):
            _remove(root, path, entry)
    for path in sorted(paths):
        if path and isinstance(entries.get(path), DirectoryEntry):
            with _folder_of(root, path) as folder, contextlib.suppress(FileExistsError):
                os.mkdir(_name(path), _OWNERS, dir_fd=folder)
    packs = Packs()
    files = [(path, entry) for path in paths if isinstance(entry := entries.get(path), FileEntry)]
    # Neighbours in a pack one after the other.
    for path, entry in sorted(files, key=lambda each: (each[1].pieces[:1], each[0])):
        with _folder_of(root, path) as folder, _draft(folder, _name(path)) as draft:
            yield from write_file(folder, draft, entry, packs)
    for path in paths:
        entry = entries.get(path)
        if isinstance(entry, LinkEntry):
            with _folder_of(root, path) as folder, _draft(folder, _name(path)) as draft:
                os.symlink(entry.target, draft, dir_fd=folder)
                with contextlib.suppress(NotImplementedError):
                    times = (entry.mtime_ns, entry.mtime_ns)
                    os.utime(draft, ns=times, dir_fd=folder, follow_symlinks=False)
    directories = [path for path, entry in entries.items() if isinstance(entry, DirectoryEntry)]
    # The innermost first: what is made in a directory changes its time, and may need its mode.
    for path in sorted(directories, reverse=True):
        _settle(root, path, entries[path])


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _is_directory(root: int, path: str) -> bool:
    try:
        with _folder_of(root, path) as folder:
            return stat.S_ISDIR(os.stat(_name(path), dir_fd=folder, follow_symlinks=False).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _remove(root: int, path: str, entry: Entry | None) -> None:
    """Remove what is there, unless both are directories."""
    try:
        with _folder_of(root, path) as folder:
            if not stat.S_ISDIR(os.stat(_name(path), dir_fd=folder, follow_symlinks=False).st_mode):
                os.unlink(_name(path), dir_fd=folder)
            elif not isinstance(entry, DirectoryEntry):
                try:
                    os.rmdir(_name(path), dir_fd=folder)
                except OSError as error:
                    if entry is not None or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise  # something that no snapshot knows is in the way
    except (FileNotFoundError, NotADirectoryError):
        return


@contextmanager
def _draft(folder: int, name: str) -> Generator[str]:
    """The name of a draft, which takes its place at the end."""
    draft = f".{secrets.token_hex(8)}{DRAFT_ENDING}"
    try:
        yield draft
        os.rename(draft, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(draft, dir_fd=folder)
        raise


@contextmanager
def _folder_of(root: int, path: str) -> Generator[int]:
    """A descriptor of the folder that has a path, opened part by part, and opened up to its owner."""
    descriptor = os.dup(root)
    try:
        for name in path.split("/")[:-1]:
            inner = _open(descriptor, name)
            os.close(descriptor)
            descriptor = inner
        yield descriptor
    finally:
        os.close(descriptor)


def _open(folder: int, name: str) -> int:
    try:
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
    except PermissionError:
        _let_in(folder, name)
        descriptor = os.open(name, _FOLDER, dir_fd=folder)
    mode = os.fstat(descriptor).st_mode & PERMISSIONS
    if mode & _OWNERS != _OWNERS:
        os.fchmod(descriptor, mode | _OWNERS)
    return descriptor


def _let_in(folder: int, name: str) -> None:
    """Let its owner into a folder that is closed to everybody."""
    path_only = getattr(os, "O_PATH", None)
    if path_only is None:  # macOS can do it by name, and through no link
        os.chmod(name, _OWNERS, dir_fd=folder, follow_symlinks=False)
        return
    place = os.open(name, path_only | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
    try:
        Path(f"/proc/self/fd/{place}").chmod(_OWNERS)
    finally:
        os.close(place)


def _settle(root: int, path: str, entry: Entry) -> None:
    assert isinstance(entry, DirectoryEntry)
    if not path:
        _set(root, entry)
        return
    with _folder_of(root, path) as folder:
        descriptor = _open(folder, _name(path))
        try:
            _set(descriptor, entry)
        finally:
            os.close(descriptor)


def _set(descriptor: int, entry: DirectoryEntry) -> None:
    os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    os.fchmod(descriptor, entry.mode)
