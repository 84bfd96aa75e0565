"""A listing: what is at each path of a workspace, as the difference from another listing, or as a whole.

Its form: a first line that names it, the length of what follows (four bytes, the highest first), that many
bytes of JSON, compressed, and then a small pack, where contents are few. Paths are relative, with `/`; a byte
that is no UTF-8 stands as Python's surrogateescape has it, so that every name comes back as it was. Reading
one trusts nothing of it.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from pydantic import JsonValue

from stigmer_contract.errors import SnapshotDamaged

MAX_LISTING_BYTES: Final = 256 << 20
"""Of its JSON."""
MAX_PATH_BYTES: Final = 4000
"""Below what the system takes, with room for where it is restored."""
PERMISSIONS: Final = 0o1777
"""What is kept of a mode; set-user-id and set-group-id are not."""
OWN_PACK: Final = ""
"""In a piece that is to be written: it lies in the pack that stands in the listing itself."""
_OWN: Final = -1
_HEAD: Final = b"stigmer snapshot 1\n"
_LENGTH_BYTES: Final = 4
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class Piece(NamedTuple):
    """Where a part of a file lies."""

    pack: str
    """SHA-256 of the blob that has it: a pack, or a listing."""
    offset: int
    stored_bytes: int
    is_compressed: bool


class FileEntry(NamedTuple):
    """A regular file."""

    mode: int
    mtime_ns: int
    size: int
    sha256: str
    pieces: tuple[Piece, ...]
    """In order; all but the last are of `PIECE_BYTES`."""


class DirectoryEntry(NamedTuple):
    """A directory."""

    mode: int
    mtime_ns: int


class LinkEntry(NamedTuple):
    """A symbolic link; where it leads is as it stands."""

    mtime_ns: int
    target: str


Entry = FileEntry | DirectoryEntry | LinkEntry


class LeftOut(NamedTuple):
    """Something in the workspace that is no part of the snapshot."""

    path: str
    why: str


class Listing(NamedTuple):
    """What one listing says."""

    base: str | None
    """SHA-256 of the listing that this one differs from; None: it is the whole."""
    entries: Mapping[str, Entry]
    """What is there now, and was not so in `base`. The workspace itself is the empty path."""
    removed: Sequence[str]
    """What is no more."""
    left_out: Sequence[LeftOut]
    """All that is left out, not what is new of it."""


def write_listing(listing: Listing, own_pack: bytes = b"") -> tuple[bytes, int]:
    """The listing as bytes, the same for the same, and where in them its own pack begins."""
    packs = dict[str, int]()
    files, directories, links = list[object](), list[object](), list[object]()
    for path, entry in sorted(listing.entries.items()):
        match entry:
            case FileEntry():
                parts = [
                    (
                        _OWN if pack == OWN_PACK else packs.setdefault(pack, len(packs)),
                        offset,
                        stored,
                        int(is_compressed),
                    )
                    for pack, offset, stored, is_compressed in entry.pieces
                ]
                files.append((path, entry.mode, entry.mtime_ns, entry.size, entry.sha256, parts))
            case DirectoryEntry():
                directories.append((path, *entry))
            case LinkEntry():
                links.append((path, *entry))
    form = {
        "base": listing.base,
        "packs": list(packs),
        "files": files,
        "directories": directories,
        "links": links,
        "removed": sorted(listing.removed),
        "left_out": listing.left_out,
    }
    # ASCII, so that half characters of odd names have a form.
    text = zlib.compress(json.dumps(form, separators=(",", ":")).encode("ascii"))
    head = _HEAD + len(text).to_bytes(_LENGTH_BYTES, "big") + text
    return head + own_pack, len(head)


def read_listing(content: bytes, sha256: str) -> Listing:
    """What the listing of this SHA-256 says.

    Raises:
        SnapshotDamaged: it is none, or has another digest.
    """
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SnapshotDamaged("a listing of it has another content than its digest says")
    if not content.startswith(_HEAD):
        raise SnapshotDamaged("a listing of it is none, or of a later version")
    start = len(_HEAD) + _LENGTH_BYTES
    end = start + int.from_bytes(content[len(_HEAD) : start], "big")
    reader = zlib.decompressobj()
    try:
        text = reader.decompress(content[start:end], MAX_LISTING_BYTES)
        if not reader.eof:
            raise SnapshotDamaged("a listing of it is cut off, or too large")
        # Python's own reader takes halves of characters, which pydantic's does not.
        form: JsonValue = json.loads(text)
    except (zlib.error, ValueError) as error:
        raise SnapshotDamaged("a listing of it cannot be read") from error
    match form:
        case {
            "base": str() | None as base,
            "packs": list() as packs,
            "files": list() as files,
            "directories": list() as directories,
            "links": list() as links,
            "removed": list() as removed,
            "left_out": list() as left_out,
        } if base is None or _DIGEST.fullmatch(base):
            pass
        case _:
            raise SnapshotDamaged("a listing of it has another form")
    digests = [each for each in packs if isinstance(each, str) and _DIGEST.fullmatch(each)]
    if len(digests) != len(packs):
        raise SnapshotDamaged("a listing of it has another form")
    own = _OwnPack(sha256, end)
    entries = dict(_read_file(each, digests, own) for each in files)
    entries |= dict(map(_read_directory, directories))
    entries |= dict(map(_read_link, links))
    for path in entries:
        _check_path(path)
    gone = [each for each in removed if isinstance(each, str)]
    return Listing(base, entries, gone, [_read_left_out(each) for each in left_out])


class _OwnPack(NamedTuple):
    """Where the pack of a listing is."""

    sha256: str
    start: int


def _read_file(row: JsonValue, packs: Sequence[str], own: _OwnPack) -> tuple[str, Entry]:
    match row:
        case [
            str() as path,
            int() as mode,
            int() as mtime_ns,
            int() as size,
            str() as sha256,
            list() as parts,
        ]:
            pieces = tuple(_read_piece(part, packs, own) for part in parts)
            return path, FileEntry(mode & PERMISSIONS, mtime_ns, size, sha256, pieces)
        case _:
            raise SnapshotDamaged("a listing of it has a file in another form")


def _read_piece(row: JsonValue, packs: Sequence[str], own: _OwnPack) -> Piece:
    match row:
        case [-1, int() as offset, int() as stored, 0 | 1 as is_compressed] if offset >= 0 and stored >= 0:
            return Piece(own.sha256, own.start + offset, stored, bool(is_compressed))
        case [int() as pack, int() as offset, int() as stored, 0 | 1 as is_compressed] if (
            0 <= pack < len(packs) and offset >= 0 and stored >= 0
        ):
            return Piece(packs[pack], offset, stored, bool(is_compressed))
        case _:
            raise SnapshotDamaged("a listing of it has a piece in another form")


def _read_directory(row: JsonValue) -> tuple[str, Entry]:
    match row:
        case [str() as path, int() as mode, int() as mtime_ns]:
            return path, DirectoryEntry(mode & PERMISSIONS, mtime_ns)
        case _:
            raise SnapshotDamaged("a listing of it has a directory in another form")


def _read_link(row: JsonValue) -> tuple[str, Entry]:
    match row:
        case [str() as path, int() as mtime_ns, str() as target] if target and "\0" not in target:
            return path, LinkEntry(mtime_ns, target)
        case _:
            raise SnapshotDamaged("a listing of it has a link in another form")


def _read_left_out(row: JsonValue) -> LeftOut:
    match row:
        case [str() as path, str() as why]:
            return LeftOut(path, why)
        case _:
            raise SnapshotDamaged("a listing of it has something left out in another form")


def check_tree(entries: Mapping[str, Entry]) -> None:
    """See that everything lies in directories that are entries themselves.

    Raises:
        SnapshotDamaged: something does not.
    """
    for path in entries:
        if path and not isinstance(entries.get(parent_of(path)), DirectoryEntry):
            raise SnapshotDamaged(f"{path!r} lies in no directory of it")


def parent_of(path: str) -> str:
    """The path of the directory that has it; the workspace's for what lies at the top."""
    return path.rpartition("/")[0]


def _check_path(path: str) -> None:
    if not path:
        return
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts) or len(path) > MAX_PATH_BYTES:
        raise SnapshotDamaged(f"{path[:80]!r} is no path in a workspace")
