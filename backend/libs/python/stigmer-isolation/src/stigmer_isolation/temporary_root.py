"""Directories for temporary files, gone with their commands."""

# ruff: noqa: PTH102, PTH116 - paths here are text, as the kernel and bubblewrap take them

import contextlib
import fcntl
import os
import stat
import tempfile
from pathlib import Path
from typing import Final

from stigmer_isolation.zygote.abandoned_roots import ROOT_PREFIX, open_root
from stigmer_isolation.zygote.tree_removal import remove_tree

_MAKE_TRIES: Final = 3
_NO_PROGRAMS: Final = int(getattr(os, "ST_NOEXEC", 0))
"""Flag of a mount from which nothing can be executed (statvfs(3)); not told on macOS."""


def find_temporary_place(roomier: Path, wanted_bytes: int) -> str:
    """Where commands can have their temporary files: the system's place, if that is good enough.

    It is not where programs cannot be executed there, or it is smaller than `wanted_bytes`: engines give a
    container a /tmp that is some memory without programs. Then it is a directory of this user's own in
    `roomier`, if that is better. Locks have to work in it, which not every network file system has.
    """
    system = tempfile.gettempdir()
    size, has_programs = _look_at(system)
    if has_programs and size >= wanted_bytes:
        return system
    own = f"{roomier}/.temporary-{os.getuid()}"
    try:
        roomier.mkdir(mode=0o700, parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(own, 0o700)
        status = os.lstat(own)  # others may have been here before: a container's /workspace is everybody's
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
            return system
        own_size, own_has_programs = _look_at(own)
        if own_has_programs < has_programs or (own_has_programs == has_programs and own_size <= size):
            return system
        TemporaryRoot(own).remove()
    except OSError:
        return system
    return own


def _look_at(directory: str) -> tuple[int, bool]:
    """Size in bytes of the file system that it is in, and whether programs can be executed from there."""
    found = os.statvfs(directory)
    return found.f_frsize * found.f_blocks, not found.f_flag & _NO_PROGRAMS


class TemporaryRoot:
    """Where commands have such directories; locked for as long as this process lives and uses it."""

    def __init__(self, parent: str) -> None:
        """Make it.

        Raises:
            OSError: it cannot be made.
        """
        for _ in range(_MAKE_TRIES):
            self.path = f"{parent}/{ROOT_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(self.path, 0o700)
            with contextlib.suppress(FileNotFoundError):
                self._lock = _lock_root(self.path)
                return
        raise FileNotFoundError(self.path)

    def make(self) -> str | None:
        """Path of a new directory in it for one command; None where none can be made, on a full disk say."""
        path = f"{self.path}/{os.urandom(8).hex()}"
        try:
            os.mkdir(path, 0o700)
        except OSError:
            return None
        return path

    def remove(self) -> None:
        """Remove it with all that is in it. Takes its time."""
        remove_tree(self.path)
        os.close(self._lock)


def _lock_root(path: str) -> int:
    """A descriptor of the directory, locked.

    Raises:
        FileNotFoundError: another process had taken it for abandoned before, and removed it.
    """
    lock = open_root(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.stat(path)  # whoever held the lock until now may have done so
    except BaseException:
        os.close(lock)
        raise
    return lock
