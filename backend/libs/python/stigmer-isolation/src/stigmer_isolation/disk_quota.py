"""Watches how much disk sessions use, so that one command cannot fill it for all. Deletes nothing.

The kernel offers no quota to programs without privileges. So free space is looked at often, which costs next
to nothing, and a session's directory is measured only when enough of it has gone.
"""

import os
import stat
from dataclasses import dataclass, field
from typing import Final

from stigmer_isolation.beneath import open_beneath

CHECK_SECONDS: Final = 0.5
MEASURE_AT_SHARE: Final = 16
"""A directory is measured anew when free space has shrunk by this part of the quota."""
RESERVED_BYTES: Final = 256 << 20
"""What commands must leave free on a disk, for the runner and everyone else."""
NOISE_BYTES: Final = 16 << 20
"""What others may use up meanwhile without a command being suspected."""
MAX_DEPTH: Final = 200
"""Deeper directories count as more than any quota: they cannot be measured with the descriptors there are."""


@dataclass
class _Session:
    """What is known of one directory between commands."""

    free_when_measured: int
    used_bytes: int = 0


@dataclass
class DiskQuotas:
    """The quota of every session of this runner."""

    quota_bytes: int | None
    """Most that a session's directory may hold; None: no quota."""
    _sessions: dict[tuple[int, int], _Session] = field(default_factory=dict[tuple[int, int], _Session])

    def watch(self, directory: int, *, is_own: bool) -> "DiskWatch | None":
        """Watch one command that works in the open `directory`.

        Args:
            directory: stays open as long as the watch is used.
            is_own: whether all in it is the session's. In a directory of a person's own, what was there does
                not count, and growth is judged by the disk's free space.
        """
        if self.quota_bytes is None:
            return None
        status = os.fstat(directory)
        session = self._sessions.setdefault((status.st_dev, status.st_ino), _Session(_free_bytes(directory)))
        return DiskWatch(directory, self.quota_bytes, session if is_own else None)


class DiskWatch:
    """One command's use of the disk, since it began."""

    def __init__(self, directory: int, quota_bytes: int, session: _Session | None) -> None:
        self._directory = directory
        self._quota_bytes = quota_bytes
        self._session = session
        self._free_at_start = _free_bytes(directory)

    def why_over(self) -> str | None:
        """Why the command has to end, or None. May take as long as reading the whole tree."""
        free = _free_bytes(self._directory)
        grown = self._free_at_start - free
        if free < RESERVED_BYTES and grown > NOISE_BYTES:
            return f"less than {RESERVED_BYTES >> 20} MiB are free on the disk"
        if self._session is None:
            if grown > self._quota_bytes:
                return f"the command wrote more than {self._quota_bytes >> 20} MiB"
            return None
        session = self._session
        # What others free must not hide what this session takes.
        session.free_when_measured = max(session.free_when_measured, free)
        has_shrunk = session.free_when_measured - free >= self._quota_bytes // MEASURE_AT_SHARE
        if has_shrunk or session.used_bytes > self._quota_bytes:
            session.used_bytes = _tree_bytes(self._directory)
            session.free_when_measured = free
        # A command that only tidies up a full session must be let alone.
        if session.used_bytes > self._quota_bytes and grown > 0:
            return f"the session's directory holds more than {self._quota_bytes >> 20} MiB"
        return None


def _free_bytes(directory: int) -> int:
    status = os.statvfs(directory)
    return status.f_bavail * status.f_frsize


def _tree_bytes(directory: int) -> int:
    """What the tree takes on the disk; files with several names count once."""
    seen, total = set[int](), 0
    pending = [(".", 0)]
    while pending:
        path, depth = pending.pop()
        if depth > MAX_DEPTH:
            return 1 << 62
        try:
            descriptor = open_beneath(directory, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            continue  # removed, swapped, or unreadable meanwhile
        try:
            with os.scandir(descriptor) as entries:
                for entry in entries:
                    status = entry.stat(follow_symlinks=False)
                    if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode) or status.st_ino not in seen:
                        total += status.st_blocks * 512
                        seen.update([status.st_ino] if status.st_nlink > 1 else [])
                    if stat.S_ISDIR(status.st_mode):
                        pending.append((f"{path}/{entry.name}", depth + 1))
        except OSError:
            pass  # the rest of this directory is counted the next time
        finally:
            os.close(descriptor)
    return total
