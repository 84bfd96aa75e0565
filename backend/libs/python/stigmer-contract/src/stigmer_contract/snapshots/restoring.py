"""Makes the files of a snapshot again, in an empty directory that nobody else uses yet."""

import contextlib
import hashlib
import os
from collections.abc import Mapping
from typing import Final

from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots.listing import DirectoryEntry, Entry, FileEntry, LinkEntry, Piece
from stigmer_contract.snapshots.pieces import PIECE_BYTES, read_piece
from stigmer_contract.snapshots.wanted_blobs import Wants

_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def restore_tree(entries: Mapping[str, Entry], root: int) -> Wants[None]:
    """Make the tree beneath an open, empty directory. What is given is a whole snapshot's (`Chain`).

    Contents, modes, links and times are as they were; who owns them is whoever restores. Each pack is wanted
    once, unless a file lies in several.

    Raises:
        SnapshotDamaged: blobs are not what the snapshot says.
        OSError: the disk refuses; what was made stays.
    """
    directories = sorted(
        path for path, entry in entries.items() if path and isinstance(entry, DirectoryEntry)
    )
    for path in directories:
        os.mkdir(path, 0o700, dir_fd=root)
    packs = Packs()
    files = [(path, entry) for path, entry in entries.items() if isinstance(entry, FileEntry)]
    # Neighbours in a pack one after the other.
    for path, entry in sorted(files, key=lambda each: (each[1].pieces[:1], each[0])):
        yield from write_file(root, path, entry, packs)
    for path, entry in entries.items():
        if isinstance(entry, LinkEntry):
            os.symlink(entry.target, path, dir_fd=root)
            with contextlib.suppress(NotImplementedError):
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=root, follow_symlinks=False)
    # Last, and the innermost first: what is made in a directory changes its time, and may need its mode.
    for path in [*reversed(directories), ""]:
        entry = entries.get(path)
        if isinstance(entry, DirectoryEntry):
            os.utime(path or ".", ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=root)
            os.chmod(path or ".", entry.mode, dir_fd=root)


def read_file(entry: FileEntry) -> Wants[bytes]:
    """The content of one file.

    Raises:
        SnapshotDamaged: blobs are not what the snapshot says.
    """
    packs = Packs()
    content = bytearray()
    for piece in entry.pieces:
        content += yield from packs.piece(piece)
    if (len(content), hashlib.sha256(content).hexdigest()) != (entry.size, entry.sha256):
        raise SnapshotDamaged("a file of it has another content than its digest says")
    return bytes(content)


class Packs:
    """The pack that is in use, while files are written one after the other."""

    def __init__(self) -> None:
        self._sha256 = ""
        self._content = b""

    def read(self, sha256: str) -> Wants[bytes]:
        """A pack."""
        if self._sha256 != sha256:
            content = yield sha256
            if hashlib.sha256(content).hexdigest() != sha256:
                raise SnapshotDamaged(f"pack {sha256} has another content")
            self._sha256, self._content = sha256, content
        return self._content

    def piece(self, piece: Piece) -> Wants[bytes]:
        """What a piece holds."""
        pack = yield from self.read(piece.pack)
        stored = pack[piece.offset : piece.offset + piece.stored_bytes]
        if len(stored) != piece.stored_bytes:
            raise SnapshotDamaged(f"pack {piece.pack} is too short for a piece of it")
        return read_piece(stored, is_compressed=piece.is_compressed)


def write_file(root: int, path: str, entry: FileEntry, packs: Packs) -> Wants[None]:
    """Make one new file beneath an open directory.

    Raises:
        SnapshotDamaged: blobs are not what the snapshot says.
        OSError: the disk refuses; what was made stays.
    """
    descriptor = os.open(path, _NEW_FILE, 0o600, dir_fd=root)
    try:
        digest = hashlib.sha256()
        size = 0
        for piece in entry.pieces:
            content = yield from packs.piece(piece)
            digest.update(content)
            _write_piece(descriptor, content, size)
            size += len(content)
        if (size, digest.hexdigest()) != (entry.size, entry.sha256):
            raise SnapshotDamaged(f"{path!r} has another content than its digest says")
        os.ftruncate(descriptor, size)
        os.fchmod(descriptor, entry.mode)
        os.utime(descriptor, ns=(entry.mtime_ns, entry.mtime_ns))
    finally:
        os.close(descriptor)


def _write_piece(descriptor: int, content: bytes, offset: int) -> None:
    if len(content) == PIECE_BYTES and not any(content):
        return  # a hole
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written
