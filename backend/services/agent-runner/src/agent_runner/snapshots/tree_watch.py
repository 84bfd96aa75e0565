"""Watches over a workspace's directories by inotify(7), so that what nobody touched needs no walk.

Says which directories have to be listed again, or that all must be walked: where the kernel's queue ran over,
a directory was moved, something was mounted, or the machine's watches do not suffice. A watch keeps nothing
alive: neither a directory that is removed nor a file system that is unmounted.

Not reported are changes through another name of a file outside of the tree, and what is written through a
mapping of memory until its writer closes it. Who uses this must know that nothing here does either, or that
it has ended.
"""

import ctypes
import functools
import os
import select
import struct
import sys
import threading
from pathlib import Path
from typing import Final

_ACCESS_CHANGED, _MODIFIED, _CLOSED_WRITTEN = 0x004, 0x002, 0x008
_MOVED_FROM, _MOVED_TO, _CREATED, _DELETED = 0x040, 0x080, 0x100, 0x200
_SELF_DELETED, _SELF_MOVED = 0x400, 0x800
_UNMOUNTED, _OVERFLOWED, _IGNORED = 0x2000, 0x4000, 0x8000
_ONLY_DIRECTORIES: Final = 0x0100_0000
_WATCHED: Final = (
    _ACCESS_CHANGED | _MODIFIED | _CLOSED_WRITTEN | _MOVED_FROM | _MOVED_TO | _CREATED | _DELETED
    | _SELF_DELETED | _SELF_MOVED | _ONLY_DIRECTORIES
)  # fmt: skip
"""`_CLOSED_WRITTEN` tells of a mapping of memory, too: it ends with its file."""
_WALK_ALL: Final = _UNMOUNTED | _OVERFLOWED | _SELF_MOVED
_EVENT: Final = struct.Struct("iIII")  # wd, mask, cookie, length of the name
_READ_BYTES: Final = 1 << 16
_MAX_READS: Final = 32
"""More than the kernel's queue of 16,384 events takes; who writes on meanwhile is not waited for."""
_MOUNTS: Final = "/proc/self/mountinfo"

_LIMITS: Final = Path("/proc/sys/fs/inotify")
RUNNER_SHARE: Final = 4
"""The runner uses a quarter of the watches that its user may have: they are for all programs of the user."""
WORKSPACE_SHARE: Final = 8
"""One workspace uses an eighth of that."""


class _Shares:
    """What all workspaces of this process use together."""

    def __init__(self) -> None:
        # Collecting garbage can close a watch in the midst of counting another.
        self._lock = threading.RLock()
        self._trees = 0
        self._directories = 0

    def take(self, trees: int, directories: int) -> bool:
        """Whether one more is to be had, which is then taken; negative numbers give back."""
        with self._lock:
            if trees > 0 and self._trees + trees > _limit("max_user_instances") // RUNNER_SHARE:
                return False
            if (
                directories > 0
                and self._directories + directories > _limit("max_user_watches") // RUNNER_SHARE
            ):
                return False
            self._trees += trees
            self._directories += directories
            return True

    @property
    def in_use(self) -> tuple[int, int]:
        """Trees and directories that are watched now."""
        return self._trees, self._directories


SHARES: Final = _Shares()


class TreeWatch:
    """The watch over one tree, from an empty one on; `add` takes a directory in."""

    def __init__(self, root: int) -> None:
        """`root` is a descriptor of the directory, which stays the caller's."""
        status = os.fstat(root)
        self.identity = (status.st_dev, status.st_ino)
        """Device and number of the root."""
        self.is_refused = False
        """Whether the kernel gave no watch, or this tree has had its share: so it will be the next time."""
        self.is_open = False
        """Whether all that was added is watched."""
        self._paths: dict[int, str] = {}
        self._numbers: dict[str, tuple[int, int]] = {}
        """Number of the watch and of the directory, by path."""
        self._descriptors: list[int] = []
        if sys.platform != "linux" or not SHARES.take(1, 0):
            self.is_refused = True
            return
        self.is_open = True
        try:
            self._queue = self._keep(_libc().inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
            mounts = self._keep(os.open(_MOUNTS, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            self._refuse()
            return
        self._mount_changes = select.poll()
        self._mount_changes.register(mounts, select.POLLPRI | select.POLLERR)

    def _keep(self, descriptor: int) -> int:
        if descriptor < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._descriptors.append(descriptor)
        return descriptor

    def _refuse(self) -> None:
        self.is_refused = True
        self.close()

    def add(self, directory: int, path: str) -> None:
        """Watch an open directory: what changes after it was listed is reported. Closes where it cannot."""
        if not self.is_open:
            return
        most = _limit("max_user_watches") // (RUNNER_SHARE * WORKSPACE_SHARE)
        if len(self._paths) >= most or not SHARES.take(0, 1):
            self._refuse()
            return
        name = b"/proc/self/fd/%d" % directory
        number: int = _libc().inotify_add_watch(self._queue, name, _WATCHED)
        if number < 0:
            SHARES.take(0, -1)
            self._refuse()
        elif number in self._paths:  # it was moved here, while the tree was walked
            SHARES.take(0, -1)
            self.close()
        else:
            self._paths[number] = path
            self._numbers[path] = (number, os.fstat(directory).st_ino)

    def has(self, path: str, inode: int) -> bool:
        """Whether that directory is watched, under that path."""
        return (found := self._numbers.get(path)) is not None and found[1] == inode

    def touched(self) -> set[str] | None:
        """Directories that were changed, or in which something was, since the last time. None: walk all."""
        if not self.is_open or self._mount_changes.poll(0):
            return None
        found: set[str] = set()
        for _ in range(_MAX_READS):
            try:
                content = os.read(self._queue, _READ_BYTES)
            except BlockingIOError:
                return found
            except OSError:
                return None
            if not self._note(content, found):
                return None
        return None

    def _note(self, content: bytes, found: set[str]) -> bool:
        position = 0
        while position < len(content):
            number, mask, _, length = _EVENT.unpack_from(content, position)
            position += _EVENT.size + length
            if mask & _WALK_ALL:
                return False
            path = self._paths.get(number)
            if path is None:
                continue
            if mask & _IGNORED:  # it is no more, and neither is its watch
                del self._paths[number]
                SHARES.take(0, -1)
                if (held := self._numbers.get(path)) is not None and held[0] == number:
                    del self._numbers[path]
                if not path:
                    return False
            elif not mask & _SELF_DELETED:
                found.add(path)
        return True

    def close(self) -> None:
        """Give all watches back. Closing twice does nothing."""
        if not self.is_open:
            return
        self.is_open = False
        SHARES.take(-1, -len(self._paths))
        self._paths.clear()
        self._numbers.clear()
        for descriptor in self._descriptors:
            os.close(descriptor)

    def __del__(self) -> None:
        """A leg that ends in whatever way leaves no watch behind."""
        self.close()


def _limit(name: str) -> int:
    try:
        return _read_limit(name)
    except (OSError, ValueError):  # it may be that no descriptor is to be had now, which is not kept
        return 0


@functools.cache
def _read_limit(name: str) -> int:
    return int((_LIMITS / name).read_text(encoding="ascii"))


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)
