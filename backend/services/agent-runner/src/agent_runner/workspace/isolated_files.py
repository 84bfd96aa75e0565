"""Reads and changes files beneath one directory, and never anything outside it, whatever links say.

A path is resolved first, so links that stay inside work, absolute ones too; what it resolved to is then
opened beneath the directory without following any link, so one swapped in meanwhile is refused. All calls
block; those of the view `at_once` only for as long as a disk of this machine takes over a few kilobytes.
"""
# ruff: noqa: PTH117, PTH118, PTH119, PTH123, PTH208 - paths here are text and descriptors, not pathlib's

import contextlib
import copy
import errno
import functools
import os
import stat
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum
from typing import BinaryIO, Final, TypeVar

from pydantic_ai.workspaces import FileEntry, WorkspaceUnavailableError

from agent_runner.workspace.errors import FileOperationFailed
from stigmer_contract.workspace_directories import Identity, holds_name
from stigmer_contract.workspace_rules import is_git_directory
from stigmer_isolation.beneath import OPEN_DIRECTORY, open_beneath

RESOLUTION_TRIES: Final = 5
"""How often a path is resolved anew when a link appears in it: a build renames once, an attacker always."""
MAX_BYTES_AT_ONCE: Final = 64 * 1024
"""Most content that is read or written without a thread of its own."""
MAX_TREE_DEPTH: Final = 200
"""Deepest tree that `remove` descends; each level holds a descriptor open."""

MAX_WHOLE_BYTES: Final = 64 << 20
"""Most that `read_bytes` holds of a file: all sessions of a runner share its memory."""
MAX_SCANNED_ENTRIES: Final = 100_000
"""Most entries of a directory that `scan` looks at."""

_T = TypeVar("_T")
_LINK_FOUND = (errno.ELOOP, errno.EXDEV)
# Errors that tools explain to the model by themselves, besides those with a class of their own.
_EXPLAINED_BY_TOOLS = (errno.ELOOP, errno.ENAMETOOLONG, errno.EILSEQ)
_PATH_ERRORS = (FileNotFoundError, NotADirectoryError, IsADirectoryError, FileExistsError, PermissionError)


class EntryKind(Enum):
    """What an entry of a directory is, links followed."""

    FILE = "file"
    DIRECTORY = "directory"
    SPECIAL = "special"
    """A socket, a pipe or a device."""
    OUTSIDE = "outside"
    """A link that leads out of the root."""
    NOWHERE = "nowhere"
    """A link to what is not there."""
    LOOP = "loop"
    """A link to itself, over others too."""


@dataclass(frozen=True)
class DirectoryEntry:
    """One entry of a directory."""

    name: str
    kind: EntryKind
    size_bytes: int | None = None
    target: str | None = None
    """What the link says, where it is one."""


class NotAtOnce(Exception):
    """The operation could take its time, and has not begun: it is to be done in a thread."""


class IsolatedFiles:
    """File operations on absolute paths, none of which leaves `root`.

    Every operation raises PermissionError for a path that leads outside, WorkspaceUnavailableError where the
    root is gone, FileOperationFailed where the machine cannot do it (full disk), and else what open(2) says.
    """

    def __init__(self, root: str, identity: Identity | None = None) -> None:
        """`root` is canonical: absolute, without links, `.` or `..`; `identity`, which one it is."""
        self._root = root
        self._identity = identity
        self._content_lock = threading.RLock()  # a reader never sees half of another tool call's write
        self._may_take_time = True

    @property
    def root(self) -> str:
        """The directory that everything is beneath."""
        return self._root

    def at_once(self) -> "IsolatedFiles":
        """The same files, where all but `list_dir`, `scan`, `remove` raise NotAtOnce rather than take time.

        That is: following links, of which an agent could lay out thousands; content of more than
        `MAX_BYTES_AT_ONCE`; waiting for another call that reads or writes.
        """
        view = copy.copy(self)
        view._may_take_time = False
        return view

    def read_bytes(self, path: str, *, max_bytes: int = MAX_WHOLE_BYTES) -> bytes | None:
        """The content of a regular file; None where it is larger, whatever its status says."""
        with self.held(), self.opened(path) as file:
            content = file.read(max_bytes + 1)
            return content if len(content) <= max_bytes else None

    @contextlib.contextmanager
    def opened(self, path: str) -> Generator[BinaryIO]:
        """A regular file, to be read in pieces."""

        def open_file(root: int, relative: str) -> BinaryIO:
            _refuse_special(_status(root, relative), path)
            descriptor = open_beneath(root, relative, os.O_RDONLY | os.O_NONBLOCK)
            try:
                status = os.fstat(descriptor)
                _refuse_special(status, path)
                self._check_size(status.st_size)
            except BaseException:
                os.close(descriptor)
                raise
            return open(descriptor, "rb")

        with self.held(), self._beneath(path, open_file) as file:
            yield file

    @contextlib.contextmanager
    def held(self) -> Generator[None]:
        """Keep other calls from reading and writing content meanwhile: what is read here stays so."""
        if not self._content_lock.acquire(blocking=self._may_take_time):
            raise NotAtOnce
        try:
            yield
        finally:
            self._content_lock.release()

    def write_bytes(self, path: str, data: bytes) -> None:
        """Write a regular file in place, making missing parents. A full disk leaves the old content."""

        def write(root: int, relative: str) -> None:
            parent, name = os.path.split(relative)
            try:
                directory = _make_directories(root, parent)
            except FileExistsError as error:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from error
            with _closing(directory):
                existed = _is_file(directory, name, path)
                flags = os.O_WRONLY | os.O_CREAT | os.O_NONBLOCK
                with _closing(open_beneath(directory, name, flags, 0o666)) as file:
                    _refuse_special(os.fstat(file), path)
                    try:
                        _replace_content(file, data)
                    except OSError:
                        if not existed:
                            os.unlink(name, dir_fd=directory)
                        raise

        self._check_size(len(data))
        with self.held():
            self._beneath(path, write)

    def stat(self, path: str) -> FileEntry:
        """What is at the path; a link's target where it is a link."""
        status = self._beneath(path, _status)
        is_dir = stat.S_ISDIR(status.st_mode)
        size = status.st_size if stat.S_ISREG(status.st_mode) else None
        return FileEntry(name=os.path.basename(path.rstrip("/")), path=path, is_dir=is_dir, size=size)

    def exists(self, path: str) -> bool:
        """Whether something is at the path, following links."""
        try:
            self._beneath(path, _status)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:
                return False
            raise
        return True

    def list_dir(self, path: str) -> list[FileEntry]:
        """The entries of a directory, by name."""

        def scan(root: int, relative: str) -> list[FileEntry]:
            with (
                _closing(open_beneath(root, relative, os.O_RDONLY | os.O_DIRECTORY)) as directory,
                os.scandir(directory) as entries,
            ):
                return [self._entry(entry, f"{path.rstrip('/')}/{entry.name}") for entry in entries]

        return sorted(self._beneath(path, scan), key=lambda entry: entry.name)

    def scan(self, path: str) -> tuple[list[DirectoryEntry], bool]:
        """The entries of a directory by name, and whether those are all."""

        def scan(root: int, relative: str) -> tuple[list[DirectoryEntry], bool]:
            found = list[DirectoryEntry]()
            with (
                _closing(open_beneath(root, relative, os.O_RDONLY | os.O_DIRECTORY)) as directory,
                os.scandir(directory) as entries,
            ):
                for entry in entries:
                    if len(found) == MAX_SCANNED_ENTRIES:
                        return found, False
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found.append(self._described(entry, directory, f"{path.rstrip('/')}/{entry.name}"))
            return found, True

        entries, complete = self._beneath(path, scan)
        return sorted(entries, key=lambda entry: entry.name), complete

    def link_target(self, path: str) -> str | None:
        """What the link at the path says; None where there is none."""
        parent, name = os.path.split(os.path.normpath(path))

        def read(root: int, relative: str) -> str | None:
            with _closing(open_beneath(root, relative, OPEN_DIRECTORY)) as directory:
                try:
                    return os.readlink(name, dir_fd=directory)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    return None

        return None if path == self._root else self._beneath(parent, read, named=path)

    def make_dir(self, path: str) -> None:
        """Make a directory and its missing parents."""

        def make(root: int, relative: str) -> None:
            os.close(_make_directories(root, relative))

        self._beneath(path, make)

    def is_in_git_directory(self, path: str) -> bool:
        """Whether a directory above the path is one of Git's by what it holds, or will be with the path made.

        A directory's name does not matter: Git takes any for a repository that looks like one.
        """

        def look(root: int, relative: str) -> bool:
            current = os.dup(root)
            try:
                for name in () if relative == "." else relative.split("/"):
                    if is_git_directory(functools.partial(_will_hold, current, name)):
                        return True
                    try:
                        following = open_beneath(current, name, OPEN_DIRECTORY)
                    except (FileNotFoundError, NotADirectoryError):
                        return False
                    os.close(current)
                    current = following
            finally:
                os.close(current)
            return False

        return self._beneath(self.realpath(path), look, named=path)

    def remove(self, path: str) -> None:
        """Remove a file, a link itself, or a directory with all that is in it.

        Raises:
            ValueError: the path is the root or above it.
        """
        # Only the parent is resolved: the last component may be a link, and is then what goes.
        parent, name = os.path.split(os.path.normpath(path))
        target = os.path.join(self.realpath(parent), name) if name else "/"
        if self._root == target or self._root.startswith(target.rstrip("/") + "/"):
            raise ValueError(f"{path!r} is the workspace itself or above it, and is not removed")

        def remove(root: int, relative: str) -> None:
            with _closing(open_beneath(root, relative, OPEN_DIRECTORY)) as directory:
                _remove_entry(directory, name, MAX_TREE_DEPTH)

        self._beneath(parent, remove, named=path)

    def realpath(self, path: str) -> str:
        """Where the path leads, following links out of the root too: nothing is opened here."""
        if not os.path.isabs(path):
            raise ValueError(f"path must be absolute, got {path!r}")
        if self._leads_to_itself(path):
            return path
        if not self._may_take_time:
            raise NotAtOnce
        for _ in range(RESOLUTION_TRIES):
            # A link replaced between lstat and readlink makes even the lenient form fail.
            with contextlib.suppress(FileNotFoundError):
                try:
                    return os.path.realpath(path)
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
        raise _changing(path)

    def _beneath(self, path: str, operation: Callable[[int, str], _T], *, named: str | None = None) -> _T:
        """`operation` on the open root and the resolved path below it; errors name `named`, else `path`."""
        shown = named or path
        with _translated(shown), _closing(open_root(self._root, self._identity)) as root:
            plain = self._relative(path)
            if plain is not None:
                try:
                    return operation(root, plain)
                except OSError as error:
                    if error.errno not in _LINK_FOUND:
                        raise
            if not self._may_take_time:
                raise NotAtOnce
            for _ in range(RESOLUTION_TRIES):
                real = self.realpath(path)
                if real != self._root and not real.startswith(self._root + "/"):
                    raise PermissionError(f"{shown!r} is outside the workspace")
                try:
                    return operation(root, real[len(self._root) + 1 :] or ".")
                except OSError as error:
                    if error.errno not in _LINK_FOUND:
                        raise
            if _is_loop(path):
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), shown)
            raise _changing(shown)

    def _relative(self, path: str) -> str | None:
        """The path below the root as text, right where no link is on it; None where it is not so simple."""
        if path == self._root:
            return "."
        if path.startswith(self._root + "/") and os.path.normpath(path) == path:
            return path[len(self._root) + 1 :]
        return None

    def _leads_to_itself(self, path: str) -> bool:
        """Whether there certainly is no link on the path; nothing need be at its end."""
        relative = self._relative(path)
        if relative is None:
            return False
        parent, name = os.path.split(relative)
        with (
            contextlib.suppress(OSError, WorkspaceUnavailableError),
            _closing(open_root(self._root, self._identity)) as root,
            _closing(open_beneath(root, parent or ".", OPEN_DIRECTORY)) as directory,
        ):
            try:
                return not stat.S_ISLNK(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            except FileNotFoundError:
                return True
        return False

    def _check_size(self, size_bytes: int) -> None:
        if size_bytes > MAX_BYTES_AT_ONCE and not self._may_take_time:
            raise NotAtOnce

    def _described(self, entry: os.DirEntry[str], directory: int, path: str) -> DirectoryEntry:
        if not entry.is_symlink():
            status = entry.stat(follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return DirectoryEntry(entry.name, EntryKind.DIRECTORY)
            if stat.S_ISREG(status.st_mode):
                return DirectoryEntry(entry.name, EntryKind.FILE, status.st_size)
            return DirectoryEntry(entry.name, EntryKind.SPECIAL)
        target = os.readlink(entry.name, dir_fd=directory)
        try:
            found = self.stat(path)
        except PermissionError:
            return DirectoryEntry(entry.name, EntryKind.OUTSIDE, target=target)
        except (FileNotFoundError, NotADirectoryError):
            return DirectoryEntry(entry.name, EntryKind.NOWHERE, target=target)
        except OSError as error:
            kind = EntryKind.LOOP if error.errno == errno.ELOOP else EntryKind.NOWHERE
            return DirectoryEntry(entry.name, kind, target=target)
        kind = EntryKind.DIRECTORY if found.is_dir else EntryKind.FILE
        if not found.is_dir and found.size is None:
            kind = EntryKind.SPECIAL
        return DirectoryEntry(entry.name, kind, found.size, target)

    def _entry(self, entry: os.DirEntry[str], path: str) -> FileEntry:
        is_dir, size = entry.is_dir(follow_symlinks=False), None
        # A broken, looping or outward link, or an entry removed meanwhile, must not fail the listing.
        with contextlib.suppress(OSError):
            if entry.is_symlink():
                target = self.stat(path)
                is_dir, size = target.is_dir, target.size
            elif entry.is_file(follow_symlinks=False):
                size = entry.stat(follow_symlinks=False).st_size
        return FileEntry(name=entry.name, path=path, is_dir=is_dir, size=size)


@contextlib.contextmanager
def _closing(descriptor: int) -> Generator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def open_root(root: str, identity: Identity | None = None) -> int:
    """A descriptor of the workspace's own directory, for passing through. Follows no link.

    Raises:
        WorkspaceUnavailableError: the directory is gone, or something else is in its place.
    """
    try:
        with _closing(os.open("/", OPEN_DIRECTORY)) as top:
            descriptor = open_beneath(top, root.strip("/") or ".", OPEN_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise WorkspaceUnavailableError(f"the workspace directory {root} does not exist") from error
    except OSError as error:
        if error.errno not in _LINK_FOUND:
            raise
        raise WorkspaceUnavailableError(
            f"the workspace directory {root} does not exist: there is a link in its place"
        ) from error
    if identity is not None and Identity.of(descriptor) != identity:
        os.close(descriptor)
        raise WorkspaceUnavailableError(f"another directory is in the place of the workspace {root}")
    return descriptor


@contextlib.contextmanager
def _translated(path: str) -> Generator[None]:
    """Give errors the path as it was asked for, and a class that tools report rather than die of."""
    try:
        yield
    except FileOperationFailed:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        if isinstance(error, _PATH_ERRORS) or error.errno in _EXPLAINED_BY_TOOLS:
            raise OSError(error.errno, os.strerror(error.errno), path) from error
        if error.errno == errno.ENXIO:  # a socket, or a fifo that nobody reads
            raise _special(path) from error
        raise FileOperationFailed(error.errno, os.strerror(error.errno), path) from error


def _changing(path: str) -> PermissionError:
    return PermissionError(f"{path!r} was replaced by a link while it was opened, so it is not used")


def _special(path: str) -> OSError:
    return OSError(f"not a regular file: {path!r}")


def _is_loop(path: str) -> bool:
    try:
        os.path.realpath(path, strict=True)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def _status(root: int, relative: str) -> os.stat_result:
    """The status of what is at `relative`. Opens directories only: opening a device can do something."""
    parent, name = os.path.split(relative)
    with _closing(open_beneath(root, parent or ".", OPEN_DIRECTORY)) as directory:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if stat.S_ISLNK(status.st_mode):  # the path was resolved, so the link is new
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), relative)
    return status


def _refuse_special(status: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if not stat.S_ISREG(status.st_mode):
        raise _special(path)


def _is_file(directory: int, name: str, path: str) -> bool:
    """Whether a regular file is there already; False where nothing is, and anything else is refused."""
    try:
        _refuse_special(_status(directory, name), path)
    except FileNotFoundError:
        return False
    return True


def _will_hold(directory: int, made: str, name: str) -> bool:
    """Whether the directory has an entry `name`, once there is one called `made`."""
    return made.casefold() == name.casefold() or holds_name(directory, name)


def _make_directories(root: int, relative: str) -> int:
    """Make the directories of `relative` where they are missing; a descriptor of the last."""
    current = os.dup(root)
    names = [name for name in relative.split("/") if name not in ("", ".")]
    for position, name in enumerate(names):
        try:
            following = _open_or_make(current, name)
        except NotADirectoryError as error:
            if position < len(names) - 1:
                raise
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), relative) from error
        finally:
            os.close(current)
        current = following
    return current


def _open_or_make(directory: int, name: str) -> int:
    try:
        return open_beneath(directory, name, OPEN_DIRECTORY)
    except FileNotFoundError:
        with contextlib.suppress(FileExistsError):  # another call was faster
            os.mkdir(name, dir_fd=directory)
        return open_beneath(directory, name, OPEN_DIRECTORY)


def _replace_content(descriptor: int, data: bytes) -> None:
    """Make `data` the whole content, keeping the old one where there is no room for it."""
    old_size = os.fstat(descriptor).st_size
    if len(data) > old_size and hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, old_size, len(data) - old_size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
                os.ftruncate(descriptor, old_size)
                raise
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.ftruncate(descriptor, len(data))


def _remove_entry(directory: int, name: str, depth: int) -> None:
    if not stat.S_ISDIR(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=directory)
        return
    if depth == 0:
        raise FileOperationFailed(errno.ENAMETOOLONG, "directories are nested too deep to remove", name)
    # Not a link even if it became one just now: then this fails, and nothing outside is touched.
    with _closing(open_beneath(directory, name, os.O_RDONLY | os.O_DIRECTORY)) as inner:
        for child in os.listdir(inner):
            _remove_entry(inner, child, depth - 1)
    os.rmdir(name, dir_fd=directory)
