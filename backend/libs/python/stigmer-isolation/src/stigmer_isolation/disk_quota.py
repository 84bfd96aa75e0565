"""Watches how much disk commands use, so that one cannot fill it for all. Deletes nothing.

The kernel offers no quota to programs without privileges. So free space is looked at often, which costs next
to nothing, and directories are measured only when enough of it has gone. A file counts as one block at least,
so that empty ones are bounded too; one that has no name any more counts as long as it is open. What nobody
can measure is taken to be what the disk lost.
"""
# ruff: noqa: PTH115, PTH123 - paths of /proc, of which there are many

import contextlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from stigmer_isolation.zygote.process_tree import children_of, read_file

CHECK_SECONDS: Final = 0.5
MEASURE_AT_SHARE: Final = 16
"""Directories are measured anew when free space has shrunk by this part of the quota."""
RESERVED_BYTES: Final = 256 << 20
"""What commands must leave free on a disk, for everyone else."""
RESERVED_FILES: Final = 10_000
"""How many files others must still be able to make there."""
SMALL_DISK_BYTES: Final = 4 << 30
"""On a smaller disk with nothing but temporary files, being full is all that happens."""
NOISE_BYTES: Final = 16 << 20
"""What others may use up meanwhile without a command being suspected."""
NOISE_FILES: Final = 1000
MAX_MOVED: Final = 100
"""Directories that are moved while they are measured, beyond which a command seems to hide them."""
_REMOVED: Final = " (deleted)\n"
FILE_BYTES: Final = 4096
"""What a file or directory takes at least: its entry and its inode."""


@dataclass(frozen=True)
class _Free:
    """What is free on a disk."""

    number: int
    """The disk's, `st_dev`."""
    size_bytes: int
    bytes: int
    files: int
    """0 where the file system has no limit, and so does not count."""
    counts_files: bool

    def taken_since(self, before: "_Free") -> int:
        """How much less is free than before, files by their least size; never less than nothing."""
        return max(0, before.bytes - self.bytes) + FILE_BYTES * max(0, before.files - self.files)

    def at_best(self, other: "_Free") -> "_Free":
        """The larger of each number."""
        return replace(self, bytes=max(self.bytes, other.bytes), files=max(self.files, other.files))


@dataclass
class _Session:
    """What is known of one directory between commands."""

    free_when_measured: dict[int, _Free]
    used_bytes: int = 0


@dataclass
class DiskQuotas:
    """The quota of every directory that commands of this program work in."""

    quota_bytes: int | None
    """Most that a directory and what belongs to it may hold; None: no quota."""
    _sessions: dict[tuple[int, int], _Session] = field(default_factory=dict[tuple[int, int], _Session])

    def watch(
        self,
        directory: int,
        *,
        is_own: bool,
        also_own: Sequence[str] = (),
        first_process: Callable[[], int | None] = lambda: None,
    ) -> "contextlib.AbstractContextManager[DiskWatch | None]":
        """Watch one command that works in the open `directory`; None where there is no quota.

        Args:
            directory: stays open as long as the watch is used.
            is_own: whether all in it is the session's. In a directory of a person's own, what was there does
                not count, and growth is judged by the disk's free space.
            also_own: directories of the session's besides, such as the one for temporary files.
            first_process: pid of the process that all of the command's descend from, once there is one.
        """
        if self.quota_bytes is None:
            return contextlib.nullcontext()
        status = os.fstat(directory)
        session = self._sessions.setdefault((status.st_dev, status.st_ino), _Session({}))
        return contextlib.closing(
            DiskWatch(directory, is_own, also_own, self.quota_bytes, session, first_process)
        )


class DiskWatch:
    """One command's use of disks, since it began. Close it."""

    def __init__(
        self,
        directory: int,
        is_own: bool,
        also_own: Sequence[str],
        quota_bytes: int,
        session: _Session,
        first_process: Callable[[], int | None],
    ) -> None:
        self._directory = directory
        self._opened = [_open_directory(path) for path in also_own]
        self._is_own = is_own
        self._quota_bytes = quota_bytes
        self._session = session
        self._first_process = first_process
        self._at_start = self._free()
        self._least_bytes = 0 if session.used_bytes <= quota_bytes else None
        """Least that a session took since, which was full already; None: it was not measured since."""
        for number, free in self._at_start.items():
            session.free_when_measured.setdefault(number, free)

    def close(self) -> None:
        """Let go of what it opened."""
        while self._opened:
            descriptor = self._opened.pop()
            if descriptor is not None:
                os.close(descriptor)

    def why_over(self) -> str | None:
        """Why the command has to end, or None. May take as long as reading the whole of its trees."""
        now = self._free()
        taken = {number: free.taken_since(self._at_start.get(number, free)) for number, free in now.items()}
        for number, free in now.items():
            reason = self._why_full(free, self._at_start.get(number, free))
            if reason is not None:
                return reason
        here = os.fstat(self._directory).st_dev
        if not self._is_own and taken[here] > self._quota_bytes:
            return f"the command wrote more than {self._quota_bytes >> 20} MiB"
        session, before = self._session, self._session.free_when_measured
        for number, free in now.items():
            # What others free must not hide what this session takes.
            before[number] = free.at_best(before.get(number, free))
        shrunk = sum(free.taken_since(before[number]) for number, free in now.items())
        if shrunk >= self._quota_bytes // MEASURE_AT_SHARE or session.used_bytes > self._quota_bytes:
            session.used_bytes = self._measure(max(taken.values()))
            before.update(now)
        if session.used_bytes <= self._quota_bytes:
            self._least_bytes = 0
            return None
        # A command that only tidies up a full session must be let alone, whatever others write meanwhile.
        least = self._least_bytes
        self._least_bytes = min(session.used_bytes, least or session.used_bytes)
        if any(taken.values()) and least is not None and session.used_bytes > least:
            return f"the session's files take more than {self._quota_bytes >> 20} MiB"
        return None

    def _measure(self, taken_bytes: int) -> int:
        """What the session's trees take, with files that are open and have no name any more."""
        trees = [descriptor for descriptor in self._opened if descriptor is not None]
        if self._is_own:
            trees.append(self._directory)
        total, is_whole = 0, True
        for tree in trees:
            tree_bytes, is_all = _tree_bytes(tree)
            total += tree_bytes
            is_whole = is_whole and is_all
        first = self._first_process()
        if first is not None:
            disks = {os.fstat(tree).st_dev for tree in (*trees, self._directory)}
            total += _nameless_bytes(first, disks)
            is_whole = is_whole and not _hides_files(first, disks)
        # What cannot be looked into is taken to be what the disk lost.
        return total if is_whole else max(total, taken_bytes)

    def _why_full(self, free: _Free, before: _Free) -> str | None:
        is_temporary = free.number != os.fstat(self._directory).st_dev
        if is_temporary and free.size_bytes < SMALL_DISK_BYTES:
            return None
        if free.bytes < RESERVED_BYTES and before.bytes - free.bytes > NOISE_BYTES:
            return f"less than {RESERVED_BYTES >> 20} MiB are free on the disk"
        is_short = free.counts_files and free.files < RESERVED_FILES
        if is_short and before.files - free.files > NOISE_FILES:
            return f"fewer than {RESERVED_FILES} files can still be made on the disk"
        return None

    def _free(self) -> dict[int, _Free]:
        """Of each disk that the command's directories are on."""
        disks: dict[int, _Free] = {}
        for descriptor in (self._directory, *self._opened):
            if descriptor is not None:
                number, status = os.fstat(descriptor).st_dev, os.statvfs(descriptor)
                disks[number] = _Free(
                    number,
                    status.f_blocks * status.f_frsize,
                    status.f_bavail * status.f_frsize,
                    status.f_favail if status.f_files else 0,
                    bool(status.f_files),
                )
        return disks


def _open_directory(path: str) -> int | None:
    with contextlib.suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    return None


_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def _tree_bytes(directory: int) -> tuple[int, bool]:
    """What the tree takes, and whether all of it was looked into; files with several names count once.

    However deep: one descriptor goes down by name and up by `..`. That this leads to where it came from is
    looked at, since a command may move directories meanwhile.
    """
    seen = set[int]()
    try:
        current = os.open(".", _OPEN, dir_fd=directory)
    except OSError:
        return 0, False
    try:
        total, names = _directory_bytes(current, seen)
        way, is_whole, moved = [(_identity(current), names)], True, 0
        while True:
            if names:
                try:
                    inner = os.open(names.pop(), _OPEN, dir_fd=current)
                except FileNotFoundError:
                    continue  # removed meanwhile
                except OSError:
                    is_whole = False
                    continue
                os.close(current)
                current = inner
                taken, names = _directory_bytes(current, seen)
                total += taken
                way.append((_identity(current), names))
                continue
            way.pop()
            if not way:
                return total, is_whole
            try:
                above = _open_above(current, way[-1][0])
            except OSError:
                return total, False
            if above is None:
                # Moved or removed, as removal does: what was beside it is counted the next time.
                moved += 1
                is_whole = is_whole and moved <= MAX_MOVED
                above = os.open(".", _OPEN, dir_fd=directory)
                del way[1:]
            os.close(current)
            current, names = above, way[-1][1]
    finally:
        os.close(current)


def _open_above(directory: int, expected: tuple[int, int]) -> int | None:
    """The directory above, where it is the one that is expected; None where that is not so any more."""
    try:
        above = os.open("..", _OPEN, dir_fd=directory)
    except FileNotFoundError:
        return None
    if _identity(above) == expected:
        return above
    os.close(above)
    return None


def _directory_bytes(directory: int, seen: set[int]) -> tuple[int, list[str]]:
    """What the entries of one directory take, and the directories among them."""
    total, inner = 0, list[str]()
    with contextlib.suppress(OSError), os.scandir(directory) as entries:  # what fails is counted next time
        for entry in entries:
            status = entry.stat(follow_symlinks=False)
            if status.st_nlink == 1 or stat.S_ISDIR(status.st_mode) or status.st_ino not in seen:
                total += max(FILE_BYTES, status.st_blocks * 512)
                seen.update([status.st_ino] if status.st_nlink > 1 else [])
            if stat.S_ISDIR(status.st_mode):
                inner.append(entry.name)
    return total, inner


def _identity(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_dev, status.st_ino


def _nameless_bytes(first: int, disks: set[int]) -> int:
    """What files on these disks take that the process or its descendants hold open, and that have no name."""
    seen, total = set[tuple[int, int]](), 0
    for pid in _with_descendants(first):
        with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
            for descriptor in descriptors:
                with contextlib.suppress(OSError):
                    status = descriptor.stat()
                    file = (status.st_dev, status.st_ino)
                    if status.st_nlink == 0 and status.st_dev in disks and file not in seen:
                        seen.add(file)
                        total += max(FILE_BYTES, status.st_blocks * 512)
    return total


def _hides_files(first: int, disks: set[int]) -> bool:
    """Whether the process or a descendant has files that nobody can measure.

    Files on these disks that are mapped into memory and have neither name nor descriptor, and descriptors
    that were sent through a socket and not received.
    """
    return any(
        _maps_nameless_files(pid, disks) or _has_descriptors_in_flight(pid)
        for pid in _with_descendants(first)
    )


def _maps_nameless_files(pid: int, disks: set[int]) -> bool:
    numbers = {f"{os.major(disk):02x}:{os.minor(disk):02x}" for disk in disks}
    with contextlib.suppress(OSError), open(f"/proc/{pid}/maps", encoding="utf-8", errors="replace") as maps:
        for line in maps:  # address, rights, offset, disk, inode, path (proc_pid_maps(5))
            if line.endswith(_REMOVED) and line.split(maxsplit=4)[3] in numbers:
                return True
    return False


def _has_descriptors_in_flight(pid: int) -> bool:
    with contextlib.suppress(OSError), os.scandir(f"/proc/{pid}/fd") as descriptors:
        for descriptor in descriptors:
            with contextlib.suppress(OSError):
                if not os.readlink(descriptor.path).startswith("socket:"):
                    continue
                about = read_file(f"/proc/{pid}/fdinfo/{descriptor.name}")
                if re.search(rb"^scm_fds:\s*[1-9]", about, re.MULTILINE):
                    return True
    return False


def _with_descendants(first: int) -> Iterable[int]:
    pending = [first]
    while pending:
        pid = pending.pop()
        yield pid
        pending += children_of(pid)
