"""Removes a directory with all that is in it, whatever was done to keep it: modes, depth, names, numbers.

Needs few descriptors and no recursion: a directory found in another is first moved up, to beside it, so that
nothing is ever deep. Follows no link. What belongs to somebody else stays.
"""
# ruff: noqa: PTH101, PTH106, PTH119, PTH120 - pathlib would be a good part of what the zygote loads

import os
import stat
import time
from typing import Final

MAX_TRIES: Final = 3
"""How often a directory is emptied that is not empty afterwards: something writes there, or cannot go."""
_BETWEEN_LOOKS: Final = 256
"""Entries, after which the clock is looked at."""
_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class _TimeIsUp(Exception):
    """The rest has to wait."""


class _Removal:
    """One tree's."""

    def __init__(self, root: int, give_up_at: float) -> None:
        self._root = root
        self._give_up_at = give_up_at
        self._name = os.urandom(8).hex()
        self._moved = 0
        self._entries = 0
        self._pending: list[tuple[str, int]] = []

    def run(self) -> None:
        """Empty the root."""
        self._empty(self._root, is_root=True)
        while self._pending:
            name, tries = self._pending.pop()
            try:
                inner = os.open(name, _OPEN, dir_fd=self._root)
            except OSError:
                continue
            try:
                self._empty(inner)
            finally:
                os.close(inner)
            try:
                os.rmdir(name, dir_fd=self._root)
            except OSError:
                if tries < MAX_TRIES:
                    self._pending.append((name, tries + 1))

    def _empty(self, directory: int, *, is_root: bool = False) -> None:
        with os.scandir(directory) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries % _BETWEEN_LOOKS == 0 and time.monotonic() > self._give_up_at:
                    raise _TimeIsUp
                try:
                    if not entry.is_dir(follow_symlinks=False):
                        os.unlink(entry.name, dir_fd=directory)
                        continue
                    open_up(directory, entry.name)
                    name = entry.name
                    if not is_root:
                        self._moved += 1
                        name = f"{self._name}-{self._moved}"
                        os.rename(entry.name, name, src_dir_fd=directory, dst_dir_fd=self._root)
                    self._pending.append((name, 1))
                except OSError:
                    continue  # the directory is looked at again, and stays if it must


def remove_tree(path: str, *, seconds: float = float("inf")) -> bool:
    """Remove it; whether it is gone. After `seconds` what is left stays, and can be removed later."""
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        pass
    else:
        return True
    try:
        above = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        open_up(above, os.path.basename(path))
        root = os.open(os.path.basename(path), _OPEN, dir_fd=above)
        try:
            _Removal(root, time.monotonic() + seconds).run()
        finally:
            os.close(root)
        os.rmdir(os.path.basename(path), dir_fd=above)
    except (OSError, _TimeIsUp):
        return False
    finally:
        os.close(above)
    return True


def open_up(directory: int, name: str) -> None:
    """See that its owner may list, change and move a directory; what is none any more is left alone."""
    if stat.S_IMODE(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode) & 0o700 == 0o700:
        return
    found = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.chmod(f"/proc/self/fd/{found}", 0o700)
    finally:
        os.close(found)
