"""Walks a workspace: what is at each path, and which files have to be read because they may have changed.

A file counts as unchanged where its mode, size, mtime, ctime and inode are those of when it was read, and its
ctime was older then, by the clock's step: what was written after the reading has another ctime. Follows no
link, however the tree changes meanwhile. Opens no file.
"""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from stigmer_contract.snapshots import DirectoryEntry, Entry, LeftOut, LinkEntry
from stigmer_contract.snapshots.listing import MAX_PATH_BYTES, PERMISSIONS

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


def walk_tree(root: int, known: Mapping[str, Known], rules: WalkRules) -> Walk:
    """Look at all that is beneath an open directory.

    Raises:
        TooMuch: it is more than the rules allow.
        OSError: the directory itself cannot be read.
    """
    walk = Walk()
    status = os.fstat(root)
    walk.unchanged[""] = _directory(status, known.get(""))
    listed = os.open(".", _OPEN_FOLDER, dir_fd=root)
    try:
        _walk_folder(listed, "", status.st_dev, known, rules, walk, 1)
    finally:
        os.close(listed)
    return walk


def signature_of(status: os.stat_result) -> Signature:
    """What tells whether a file was changed."""
    return (status.st_mode, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def reliable(signature: Signature, read_at_ns: int) -> Signature | None:
    """The signature, where a change after that moment would have shown in it; else None."""
    ctime_ns = signature[3]
    step = COARSE_STEP_NS if ctime_ns % 1_000_000_000 == 0 else CLOCK_STEP_NS
    return signature if ctime_ns < read_at_ns - step else None


def _walk_folder(
    folder: int, path: str, device: int, known: Mapping[str, Known], rules: WalkRules, walk: Walk, depth: int
) -> None:
    prefix = f"{path}/" if path else ""
    unchanged, get_known = walk.unchanged, known.get
    folders = list[tuple[str, str]]()
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
                if status.st_dev != device:
                    walk.left_out.append(LeftOut(here, "another file system is mounted there"))
                elif depth >= MAX_DEPTH or len(here) > MAX_PATH_BYTES:
                    walk.left_out.append(LeftOut(here, "it lies too deep"))
                else:
                    folders.append((name, here))
            elif stat.S_ISLNK(mode):
                _note_link(folder, name, here, status, get_known(here), walk)
            else:
                walk.left_out.append(LeftOut(here, _kind_of(mode)))
            # In the loop: one folder may have any number, and each takes memory.
            if len(unchanged) + len(walk.to_read) + len(walk.left_out) > rules.max_entries:
                raise TooMuch(f"it has more than {rules.max_entries:,} files and folders")
    if walk.size_bytes > rules.max_bytes:
        raise TooMuch(f"its files have more than {rules.max_bytes >> 20:,} MiB")
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
            _walk_folder(inner, here, device, known, rules, walk, depth + 1)
        finally:
            os.close(inner)


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
