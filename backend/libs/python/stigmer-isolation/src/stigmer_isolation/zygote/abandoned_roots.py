"""Removes the directories of temporary files that no living process uses: a killed launcher leaves them.

The process that outlives its launcher does it at its end, and each runner at its start.
"""

import contextlib
import fcntl
import os
from typing import Final

from stigmer_isolation.zygote.tree_removal import remove_tree

ROOT_PREFIX: Final = "stigmer-temporary-"


def open_root(path: str) -> int:
    """A descriptor of such a directory, to be locked for as long as it is used."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def remove_abandoned_roots(parent: str) -> None:
    """Remove those of this user in `parent` that nobody has locked."""
    with contextlib.suppress(OSError), os.scandir(parent) as entries:
        for path in [entry.path for entry in entries if entry.name.startswith(ROOT_PREFIX)]:
            with contextlib.suppress(OSError):
                lock = open_root(path)
                try:
                    if os.fstat(lock).st_uid == os.getuid():
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        remove_tree(path)
                finally:
                    os.close(lock)
