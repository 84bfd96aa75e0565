"""Directories for temporary files, gone with their commands; what a killed program left, the next removes."""

# ruff: noqa: PTH102 - paths here are text, as the kernel and bubblewrap take them

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path
from typing import Final

from stigmer_isolation.zygote.tree_removal import remove_tree

_PREFIX: Final = "stigmer-temporary-"
_MAKE_TRIES: Final = 3


class TemporaryRoot:
    """Where commands have such directories; locked for as long as this process lives and uses it."""

    def __init__(self, parent: str) -> None:
        """Make it.

        Raises:
            OSError: it cannot be made.
        """
        for _ in range(_MAKE_TRIES):
            self.path = f"{parent}/{_PREFIX}{os.urandom(8).hex()}"
            os.mkdir(self.path, 0o700)
            # Another process may have taken it for abandoned before it was locked.
            with contextlib.suppress(FileNotFoundError):
                self._lock = _open(self.path)
                fcntl.flock(self._lock, fcntl.LOCK_EX)
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


def remove_abandoned_roots(parent: str | None = None) -> None:
    """Remove this user's that no living process uses. Default: in the system's temporary directory."""
    for path in Path(parent or tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            lock = _open(str(path))
            try:
                if os.fstat(lock).st_uid == os.getuid():
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    remove_tree(str(path))
            finally:
                os.close(lock)


def _open(path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
