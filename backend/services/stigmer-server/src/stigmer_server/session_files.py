"""The files of a session, read where they are: on a machine that the server shares with the runners.

A directory that a person named has to be the one that the runner opened in the session's first leg. What is
in a session's directory an agent has put there, and changes meanwhile: each path is opened beneath the
directory, part by part, and no link is followed. Writes nothing.
"""

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Generator
from datetime import UTC, datetime
from typing import BinaryIO, Final

from stigmer_contract.api import FileEntry, FileKind, FileListing, SessionResource
from stigmer_contract.placements import placement_id_of
from stigmer_contract.workspace_directories import Identity, opened
from stigmer_server.errors import Conflict, InvalidRequest, NotFound, PayloadTooLarge, WorkspaceUnreachable
from stigmer_server.settings import Settings

MAX_ENTRIES: Final = 5000
"""Most entries of one listing."""
MAX_FILE_BYTES: Final = 1024 * 1024 * 1024
MAX_PARTS: Final = 200
_PIECE_BYTES: Final = 256 * 1024
_IDENTITIES: Final = ".workspaces"
"""Where a runner keeps which directory each session was given (`agent_runner.workspace.directories`)."""
_PASS: Final = os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC | getattr(os, "O_PATH", os.O_RDONLY)
_LIST: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class SessionFiles:
    """The files of sessions."""

    def __init__(self, settings: Settings) -> None:
        self._is_local = settings.mode == "local"
        self._own = settings.home / "data" / "workspace"
        self._placements = settings.home / "data" / "placements"

    async def list(self, session: SessionResource, path: str) -> FileListing:
        """The entries of a directory of the session's; an empty path is its root.

        Raises:
            InvalidRequest: the path is none.
            WorkspaceUnreachable: the server does not reach the session's files.
            NotFound: there is nothing at the path.
            Conflict: there is something else.
        """
        return await asyncio.to_thread(self._list, session, path)

    async def open(self, session: SessionResource, path: str) -> AsyncIterator[bytes]:
        """The content of a regular file, in pieces, up to the size that it has now.

        Raises:
            InvalidRequest, WorkspaceUnreachable, NotFound, Conflict: as `list`.
            PayloadTooLarge: it is larger than `MAX_FILE_BYTES`.
        """
        return _pieces(*await asyncio.to_thread(self._open, session, path))

    def _list(self, session: SessionResource, path: str) -> FileListing:
        parts = _parts(path)
        entries = list[FileEntry]()
        with (
            self._root(session) as root,
            _explained(path),
            _beneath(root, parts, _LIST) as directory,
            os.scandir(directory) as found,
        ):
            for entry in found:
                if len(entries) == MAX_ENTRIES:
                    return FileListing(path=path, entries=_sorted(entries), is_whole=False)
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    entries.append(_described(entry))
        return FileListing(path=path, entries=_sorted(entries))

    def _open(self, session: SessionResource, path: str) -> tuple[BinaryIO, int]:
        parts = _parts(path)
        if not parts:
            raise InvalidRequest("the path names no file")
        with self._root(session) as root, _explained(path), _beneath(root, parts[:-1], _PASS) as parent:
            # Not opened before it is known to be a file: to open a device can do something.
            _check_file(os.stat(parts[-1], dir_fd=parent, follow_symlinks=False), path)
            descriptor = os.open(parts[-1], _READ, dir_fd=parent)
            file = os.fdopen(descriptor, "rb", buffering=0)
            try:
                size_bytes = _check_file(os.fstat(descriptor), path)
            except BaseException:
                file.close()
                raise
        return file, size_bytes

    @contextlib.contextmanager
    def _root(self, session: SessionResource) -> Generator[int]:
        """The session's directory, open for passing through."""
        if not self._is_local:
            raise WorkspaceUnreachable("they are on the runner's machine, which the server does not share")
        named = session.workspace
        try:
            with opened(str(self._own / session.session_id) if named is None else named) as directory:
                if named is not None:
                    self._check_identity(session.session_id, named, directory.identity)
                yield directory.descriptor
        except (FileNotFoundError, NotADirectoryError) as error:
            raise WorkspaceUnreachable("the directory is not on the server's machine, or not yet") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise WorkspaceUnreachable(f"the directory cannot be opened: {reason}") from error

    def _check_identity(self, session_id: str, named: str, identity: Identity) -> None:
        """See that nobody has put another directory in the place of the one that the session was given."""
        expected = os.fsencode(f"{identity}\n{named}\n")
        kept = [
            folder / _IDENTITIES / session_id
            for folder in (self._own, self._placements / placement_id_of(named))
        ]
        for file in kept:
            with contextlib.suppress(FileNotFoundError):
                if file.read_bytes() == expected:
                    return
                raise WorkspaceUnreachable("another directory is in the place of the one that it began in")
        raise WorkspaceUnreachable("no execution has opened the directory on the server's machine yet")


def _parts(path: str) -> list[str]:
    parts = path.split("/") if path else []
    if len(parts) > MAX_PARTS or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise InvalidRequest(
            f"{path[:200]!r} is not a path in the workspace", "write it as from there: out/a.csv"
        )
    return parts


@contextlib.contextmanager
def _beneath(root: int, parts: list[str], flags: int) -> Generator[int]:
    """A directory beneath the open one, to which no link leads."""
    current = os.dup(root)
    try:
        for place, part in enumerate(parts):
            following = os.open(part, flags if place == len(parts) - 1 else _PASS, dir_fd=current)
            os.close(current)
            current = following
        if not parts:
            following = os.open(".", flags, dir_fd=current)
            os.close(current)
            current = following
        yield current
    finally:
        os.close(current)


@contextlib.contextmanager
def _explained(path: str) -> Generator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise NotFound("file", path) from error
    except OSError as error:
        if error.errno in (errno.ENOTDIR, errno.ELOOP):
            # O_DIRECTORY tells a link and a file alike.
            raise Conflict(f"{path!r} is no directory, or a link is on the way to it") from error
        if error.errno in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise NotFound("file", path[:200]) from error
        raise Conflict(f"{path!r} cannot be read: {error.strerror}") from error
    except UnicodeEncodeError as error:
        raise NotFound("file", ascii(path[:200])) from error


def _check_file(status: os.stat_result, path: str) -> int:
    """The size of what can be read as a file."""
    if stat.S_ISDIR(status.st_mode):
        raise Conflict(f"{path!r} is a directory", "list it with `?path=` of the session's files")
    if stat.S_ISLNK(status.st_mode):
        raise Conflict(f"{path!r} is a symbolic link, and is not followed")
    if not stat.S_ISREG(status.st_mode):
        raise Conflict(f"{path!r} is no regular file")
    if status.st_size > MAX_FILE_BYTES:
        raise PayloadTooLarge("the file", MAX_FILE_BYTES)
    return status.st_size


def _described(entry: "os.DirEntry[str]") -> FileEntry:
    status = entry.stat(follow_symlinks=False)
    kind = FileKind.OTHER
    for test, is_so in (
        (stat.S_ISREG, FileKind.FILE),
        (stat.S_ISDIR, FileKind.DIRECTORY),
        (stat.S_ISLNK, FileKind.LINK),
    ):
        if test(status.st_mode):
            kind = is_so
    return FileEntry(
        name=os.fsencode(entry.name).decode("utf-8", errors="backslashreplace"),
        kind=kind,
        size_bytes=status.st_size if kind is FileKind.FILE else None,
        modified_at=datetime.fromtimestamp(max(0.0, min(status.st_mtime, _LAST_SECOND)), UTC),
    )


_LAST_SECOND: Final = 253_402_300_799.0
"""Of the year 9999; a file's time may be any."""


def _sorted(entries: list[FileEntry]) -> list[FileEntry]:
    return sorted(entries, key=lambda entry: entry.name)


async def _pieces(file: BinaryIO, size_bytes: int) -> AsyncIterator[bytes]:
    try:
        while size_bytes > 0:
            piece = await asyncio.to_thread(file.read, min(size_bytes, _PIECE_BYTES))
            if not piece:  # it has become shorter
                return
            size_bytes -= len(piece)
            yield piece
    finally:
        file.close()
