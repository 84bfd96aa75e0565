"""Walks a workspace: what is at each path, and which files have to be read because they may have changed.

A file counts as unchanged where its mode, size, mtime, ctime and inode are those of when it was read, and its
ctime was older then, by the clock's step: what was written after the reading has another ctime. Follows no
link, however the tree changes meanwhile. Opens no file. Where folders are watched, those that nothing was
reported of are taken as they were.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

from stigmer_contract.snapshots import DirectoryEntry, Entry, FileEntry, LeftOut, LinkEntry
from stigmer_contract.snapshots.listing import MAX_PATH_BYTES, PERMISSIONS
from stigmer_isolation.beneath import open_beneath

CLOCK_STEP_NS: Final = 20_000_000
"""Linux stamps files with a clock that ticks every 1 to 10 ms."""
COARSE_STEP_NS: Final = 2_000_000_000
"""Of file systems whose times are whole seconds, or every other one."""
MAX_DEPTH: Final = 200
"""Each level holds a descriptor open."""
_OPEN_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Signature = tuple[int, int, int, int, int]
"""Mode, size, mtime, ctime, inode."""


class Known(NamedTuple):
    """What a path was when it was looked at last."""

    entry: Entry
    signature: Signature | None
    """None: not known, or it cannot be relied on."""


class Found(NamedTuple):
    """A regular file that has to be read."""

    path: str
    signature: Signature


class TooMuch(Exception):
    """The workspace is larger than snapshots of it may be."""


@dataclass(frozen=True)
class WalkRules:
    """What is looked at, and how much of it."""

    max_entries: int = 250_000
    max_bytes: int = 4 << 30
    """Of all files together."""
    left_out: frozenset[str] = frozenset()
    """Paths of directories that are no part of snapshots."""
    left_out_names: frozenset[str] = frozenset()
    """Names of such directories, wherever they are."""


@dataclass
class Walk:
    """What was found."""

    unchanged: dict[str, Known] = field(default_factory=dict[str, Known])
    """What needs no reading: as it was, or a directory or link."""
    to_read: list[Found] = field(default_factory=list[Found])
    left_out: list[LeftOut] = field(default_factory=list[LeftOut])
    size_bytes: int = 0
    """Of all files together."""
    lost_folders: bool = False
    """Whether a folder went while its files had been looked at already, or something else came."""
    linked: set[int] = field(default_factory=set[int])
    """Inodes of files with several names: a change is reported for one of them only."""
    linked_folders: set[str] = field(default_factory=set[str])
    """Where those are, and so are always listed."""


class WatchedFolders(Protocol):
    """Whoever watches over the folders of a tree."""

    def add(self, directory: int, path: str) -> None:
        """Watch an open one, before it is listed."""
        ...

    def has(self, path: str, inode: int) -> bool:
        """Whether that one is watched since it was listed."""
        ...


def walk_tree(
    root: int, known: Mapping[str, Known], rules: WalkRules, watched: WatchedFolders | None = None
) -> Walk:
    """Look at all that is beneath an open directory, and have its folders watched.

    Raises:
        TooMuch: it is more than the rules allow.
        OSError: the directory itself cannot be read.
    """
    walker = _Walker(root, known, rules, watched, keeps=False)
    walker.walk_beneath(root, "")
    return walker.walk


def walk_folders(
    root: int,
    known: Mapping[str, Known],
    rules: WalkRules,
    watched: WatchedFolders,
    folders: set[str],
    before: Walk,
) -> Walk | None:
    """`walk_tree` where only these watched folders can be other than they were in the walk before.

    None: that cannot be told, and all has to be walked.
    """
    walker = _Walker(root, known, rules, watched, keeps=True)
    walk, kept = walker.walk, walker.kept
    stands: dict[str, bool] = {"": True}

    def is_as_it_was(folder: str) -> bool:
        """Whether the folder, which may have other contents, is the one that it was."""
        if (answer := stands.get(folder)) is None:
            above = folder.rpartition("/")[0]
            answer = stands[folder] = folder in kept if above in folders else is_as_it_was(above)
        return answer

    for folder in sorted(folders, key=lambda path: (path.count("/"), path)):
        if is_as_it_was(folder):
            try:
                walker.walk_beneath(root, folder)
            except OSError:
                return None
    if walk.linked - before.linked:
        return None  # its other names lie where nothing was reported
    for path, entry in known.items():
        above = path.rpartition("/")[0]
        if path and above not in folders and is_as_it_was(above) and path not in walk.unchanged:
            walk.unchanged[path] = entry
            if isinstance(entry.entry, FileEntry):
                walk.size_bytes += entry.entry.size
    if "" not in walk.unchanged:
        walk.unchanged[""] = known[""]
    for each in before.left_out:
        above = each.path.rpartition("/")[0]
        if above not in folders and is_as_it_was(above):
            walk.left_out.append(each)
    walker.check_size()
    return walk


def signature_of(status: os.stat_result) -> Signature:
    """What tells whether a file was changed."""
    return (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def reliable(signature: Signature, read_at_ns: int) -> Signature | None:
    """The signature, where a change after that moment would have shown in it; else None."""
    ctime_ns = signature[3]
    step = COARSE_STEP_NS if ctime_ns % 1_000_000_000 == 0 else CLOCK_STEP_NS
    return signature if ctime_ns < read_at_ns - step else None


class _Walker:
    """One walk over a tree."""

    def __init__(
        self,
        root: int,
        known: Mapping[str, Known],
        rules: WalkRules,
        watched: WatchedFolders | None,
        *,
        keeps: bool,
    ) -> None:
        self.walk = Walk()
        self.kept: set[str] = set()
        """Folders that were met and not gone into: they are watched, and nothing was reported of them."""
        self._device = os.fstat(root).st_dev
        self._known = known
        self._rules = rules
        self._watched = watched
        self._keeps = keeps

    def walk_beneath(self, root: int, path: str) -> None:
        """Look at a folder and all beneath it, but for what is kept."""
        listed = open_beneath(root, path or ".", _OPEN_FOLDER)
        try:
            self.walk.unchanged[path] = _directory(os.fstat(listed), self._known.get(path))
            self._walk_folder(listed, path, path.count("/") + 2 if path else 1)
        finally:
            os.close(listed)

    def check_size(self) -> None:
        """Raise `TooMuch` where it is."""
        walk, rules = self.walk, self._rules
        if len(walk.unchanged) + len(walk.to_read) + len(walk.left_out) > rules.max_entries:
            raise TooMuch(f"it has more than {rules.max_entries:,} files and folders")
        if walk.size_bytes > rules.max_bytes:
            raise TooMuch(f"its files have more than {rules.max_bytes >> 20:,} MiB")

    def _walk_folder(self, folder: int, path: str, depth: int) -> None:
        prefix = f"{path}/" if path else ""
        walk, rules, get_known = self.walk, self._rules, self._known.get
        unchanged = walk.unchanged
        folders = list[tuple[str, str]]()
        if self._watched is not None and not self._is_kept(path, os.fstat(folder).st_ino):
            self._watched.add(folder, path)
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                here = prefix + name
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue  # gone meanwhile
                mode = status.st_mode
                if stat.S_ISREG(mode):
                    signature = signature_of(status)
                    before = get_known(here)
                    walk.size_bytes += status.st_size
                    if status.st_nlink > 1:
                        walk.linked.add(status.st_ino)
                        walk.linked_folders.add(path)
                    if before is not None and before.signature == signature:
                        unchanged[here] = before
                    elif len(here) > MAX_PATH_BYTES:
                        walk.left_out.append(LeftOut(here, "its path is too long"))
                    else:
                        walk.to_read.append(Found(here, signature))
                elif stat.S_ISDIR(mode):
                    if here in rules.left_out or name in rules.left_out_names:
                        walk.left_out.append(LeftOut(here, "such folders are left out"))
                        continue
                    unchanged[here] = _directory(status, get_known(here))
                    if status.st_dev != self._device:
                        walk.left_out.append(LeftOut(here, "another file system is mounted there"))
                    elif depth >= MAX_DEPTH or len(here) > MAX_PATH_BYTES:
                        walk.left_out.append(LeftOut(here, "it lies too deep"))
                    elif self._is_kept(here, status.st_ino):
                        self.kept.add(here)
                    else:
                        folders.append((name, here))
                elif stat.S_ISLNK(mode):
                    _note_link(folder, name, here, status, get_known(here), walk)
                else:
                    walk.left_out.append(LeftOut(here, _kind_of(mode)))
                # In the loop: one folder may have any number, and each takes memory.
                if len(unchanged) + len(walk.to_read) + len(walk.left_out) > rules.max_entries:
                    self.check_size()
        self.check_size()
        for name, here in folders:
            try:
                inner = os.open(name, _OPEN_FOLDER, dir_fd=folder)
            except PermissionError:
                walk.left_out.append(LeftOut(here, "what is in it cannot be listed"))
                continue
            except OSError:
                unchanged.pop(here, None)  # gone meanwhile, or something else by now
                walk.lost_folders = True
                continue
            try:
                self._walk_folder(inner, here, depth + 1)
            finally:
                os.close(inner)

    def _is_kept(self, path: str, inode: int) -> bool:
        return self._keeps and self._watched is not None and self._watched.has(path, inode)


def _directory(status: os.stat_result, before: Known | None) -> Known:
    entry = DirectoryEntry(status.st_mode & PERMISSIONS, status.st_mtime_ns)
    return before if before is not None and before.entry == entry else Known(entry, None)


def _note_link(
    folder: int, name: str, path: str, status: os.stat_result, before: Known | None, walk: Walk
) -> None:
    try:
        entry = LinkEntry(status.st_mtime_ns, os.readlink(name, dir_fd=folder))
    except OSError:
        return
    walk.unchanged[path] = before if before is not None and before.entry == entry else Known(entry, None)


def _kind_of(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "it is a socket"
    return "it is a pipe" if stat.S_ISFIFO(mode) else "it is a device"
