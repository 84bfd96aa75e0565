"""Takes a snapshot: reads what may have changed, and makes a listing and packs of what has.

Knows the tree as it was at the last one, so that each costs what has changed. A file that somebody changes
while it is read is read again, and counted where it does not come to rest.
"""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from typing import Final

from agent_runner.snapshots.tree_walk import (
    Found,
    Known,
    Walk,
    WalkRules,
    reliable,
    signature_of,
    walk_folders,
    walk_tree,
)
from agent_runner.snapshots.tree_watch import TreeWatch
from stigmer_contract.snapshots import (
    MAX_CHAIN,
    OWN_PACK,
    PIECE_BYTES,
    Chain,
    DirectoryEntry,
    Entry,
    FileEntry,
    LeftOut,
    Listing,
    Piece,
    write_listing,
    write_piece,
)
from stigmer_contract.snapshots.listing import PERMISSIONS
from stigmer_isolation.beneath import open_beneath

PACK_BYTES: Final = 8 << 20
"""A pack is closed when it has become larger: one call to the server brings it."""
OWN_PACK_BYTES: Final = 256 << 10
"""Up to so many new bytes stand in the listing itself, which saves a call."""
TRIES: Final = 3
MAX_LEFT_OUT: Final = 1_000
"""Most that are named."""
WATCHED_FROM: Final = 300
"""A tree of fewer entries is walked in the time that watching takes."""
_OPEN: Final = "open "
"""Begins the name of a pack that has no digest yet."""
_READ_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True)
class Taken:
    """A snapshot as it was taken."""

    listing: str
    """SHA-256 of its newest listing."""
    listing_bytes: int
    changed: int
    """Paths that are otherwise than in the snapshot before, or no more."""
    entries: int
    size_bytes: int
    """Of all files together."""
    left_out: list[LeftOut]
    unsettled: int
    """Files that somebody changed again and again while they were read."""


class SnapshotTaker:
    """The snapshots of one workspace, one after the other."""

    def __init__(self, rules: WalkRules | None = None, *, watches_from: int | None = None) -> None:
        """Knows nothing of the workspace yet; see `go_on_from`.

        A tree of `watches_from` entries or more is watched between two snapshots, so that what nobody touched
        is not walked. Default: none is, for not all changes are reported (see `tree_watch`).
        """
        self._rules = rules or WalkRules()
        self._watches_from = watches_from
        self._watch: TreeWatch | None = None
        self._walk = Walk()
        """The last one that counts."""
        self._again: set[str] = set()
        """Folders that are listed again, whatever is reported: not all that was in them could be read."""
        self._known: dict[str, Known] = {}
        self._newest: Taken | None = None
        self._chain_length = 0
        self._whole_bytes = 0
        self._further_bytes = 0

    def go_on_from(self, listing: str, chain: Chain) -> None:
        """Take what comes as changes of this snapshot, which a leg before has taken, perhaps elsewhere."""
        self._known = {path: Known(entry, None) for path, entry in chain.entries.items()}
        self._newest = Taken(listing, chain.newest_bytes, 0, len(chain.entries), 0, chain.left_out, 0)
        self._chain_length = chain.length
        self._whole_bytes, self._further_bytes = chain.whole_bytes, chain.further_bytes

    @property
    def entries(self) -> dict[str, Entry]:
        """What is at each path, as of the newest snapshot."""
        return {path: known.entry for path, known in self._known.items()}

    def take(self, open_root: Callable[[], int]) -> Generator[bytes, None, Taken]:
        """Look at the workspace; yields the blobs to be stored, the listing last.

        Only when all of them were taken does it count: what is given up changes nothing here. Blocks.

        Args:
            open_root: gives a descriptor of the workspace, which is closed here.

        Raises:
            TooMuch: the workspace is too large.
            OSError: it cannot be read.
        """
        root = open_root()
        try:
            return (yield from self._take(root))
        finally:
            os.close(root)

    def close(self) -> None:
        """Watch no more. What was taken stays, and each look is a walk."""
        self._watches_from = None  # for a snapshot that is being taken in a thread
        if self._watch is not None:
            self._watch.close()

    def unchanged(self, open_root: Callable[[], int]) -> Taken | None:
        """The newest snapshot again, where it is known without looking that nothing has changed; else None.

        Takes microseconds, and milliseconds where thousands of changes were reported.
        """
        if self._watch is None or self._newest is None or self._again or self._walk.linked:
            return None
        root = open_root()
        try:
            if not self._is_watched(root, self._watch):
                return None
        finally:
            os.close(root)
        touched = self._watch.touched()
        if touched is None:
            self._watch.close()
            return None
        if touched:
            self._again |= touched
            return None
        return replace(self._newest, changed=0, size_bytes=self._walk.size_bytes, unsettled=0)

    @staticmethod
    def _is_watched(root: int, watch: TreeWatch) -> bool:
        status = os.fstat(root)
        return watch.is_open and watch.identity == (status.st_dev, status.st_ino)

    def _look(self, root: int) -> tuple[Walk, TreeWatch | None]:
        """What there is, and the watch over it; walks no further than it has to."""
        watch, self._watch = self._watch, None  # it is put back when this snapshot counts
        if watch is not None and self._is_watched(root, watch):
            touched = watch.touched()
            if touched is not None:
                folders = touched | self._again | self._walk.linked_folders
                walk = walk_folders(root, self._known, self._rules, watch, folders, self._walk)
                if walk is not None:
                    return walk, watch
        is_refused = watch is not None and watch.is_refused
        if watch is not None:
            watch.close()
        if self._watches_from is None or is_refused or len(self._known) < self._watches_from:
            return walk_tree(root, self._known, self._rules), watch
        watch = TreeWatch(root)
        return walk_tree(root, self._known, self._rules, watch), watch

    def _take(self, root: int) -> Generator[bytes, None, Taken]:
        packs = _Packs()
        walk, watch = self._look(root)
        taken = yield from self._stored(root, walk, packs, again := set[str]())
        self._watch, self._walk, self._again = watch, walk, again
        if watch is not None and self._watches_from is None:
            watch.close()
        return taken

    def _stored(
        self, root: int, walk: Walk, packs: "_Packs", again: set[str]
    ) -> Generator[bytes, None, Taken]:
        """Read what has to be read; folders with what could not be, go to `again`."""
        left_out = walk.left_out
        # Mostly the very same objects, which takes no time to see.
        if not walk.to_read and walk.unchanged == self._known and self._newest is not None:
            return (yield from self._listed(self._known, packs, {}, [], left_out, walk.size_bytes, 0))
        tree, unsettled = walk.unchanged, 0
        by_content = self._contents()
        for found in walk.to_read:
            try:
                known, is_settled = yield from self._read(root, found, packs, by_content)
            except _NeverAtRest:
                left_out.append(LeftOut(found.path, "it changed whenever it was read"))
                unsettled += 1
            except PermissionError:
                left_out.append(LeftOut(found.path, "it cannot be read"))
            except OSError:
                pass  # gone meanwhile, or something else by now
            else:
                unsettled += not is_settled
                tree[found.path] = known
                if is_settled:
                    continue
            again.add(found.path.rpartition("/")[0])
        if packs.open_bytes > OWN_PACK_BYTES:
            yield from packs.close()
        if walk.lost_folders:
            _drop_orphans(tree)
        before = self._known
        tree = {path: packs.resolve(known) for path, known in tree.items()}
        changed = {
            path: known.entry
            for path, known in tree.items()
            if (old := before.get(path)) is None or (old is not known and old.entry != known.entry)
        }
        removed = [path for path in before if path not in tree]
        return (yield from self._listed(tree, packs, changed, removed, left_out, walk.size_bytes, unsettled))

    def _contents(self) -> dict[str, FileEntry]:
        entries = (known.entry for known in self._known.values())
        return {entry.sha256: entry for entry in entries if isinstance(entry, FileEntry)}

    def _listed(
        self,
        tree: dict[str, Known],
        packs: "_Packs",
        changed: dict[str, Entry],
        removed: list[str],
        left_out: list[LeftOut],
        size_bytes: int,
        unsettled: int,
    ) -> Generator[bytes, None, Taken]:
        named = sorted(left_out)[:MAX_LEFT_OUT]
        count, newest = len(changed) + len(removed), self._newest
        if newest is not None and not count and named == newest.left_out:
            self._known = tree
            return replace(newest, changed=0, size_bytes=size_bytes, unsettled=unsettled)
        content, start, is_whole = self._written(tree, packs, changed, removed, named)
        sha256 = hashlib.sha256(content).hexdigest()
        yield content
        self._known = {path: packs.settle(known, sha256, start) for path, known in tree.items()}
        listing_bytes = start  # without its pack, which costs no more there than elsewhere
        self._chain_length = 1 if is_whole else self._chain_length + 1
        self._whole_bytes = listing_bytes if is_whole else self._whole_bytes
        self._further_bytes = 0 if is_whole else self._further_bytes + listing_bytes
        self._newest = Taken(sha256, len(content), count, len(tree), size_bytes, named, unsettled)
        return self._newest

    def _written(
        self,
        tree: dict[str, Known],
        packs: "_Packs",
        changed: dict[str, Entry],
        removed: list[str],
        left_out: list[LeftOut],
    ) -> tuple[bytes, int, bool]:
        """The listing, where its pack begins, and whether it is a whole one. That is due where the others
        have become as large, so that reading a snapshot takes no more than twice the whole."""
        base = self._newest
        if base is not None and self._chain_length < MAX_CHAIN and self._further_bytes <= self._whole_bytes:
            return *write_listing(Listing(base.listing, changed, removed, left_out), packs.left), False
        entries = {path: known.entry for path, known in tree.items()}
        return *write_listing(Listing(None, entries, [], left_out), packs.left), True

    def _read(
        self, root: int, found: Found, packs: "_Packs", by_content: dict[str, FileEntry]
    ) -> Generator[bytes, None, tuple[Known, bool]]:
        descriptor = open_beneath(root, found.path, _READ_FLAGS)
        try:
            for left in reversed(range(TRIES)):
                read_at_ns = time.time_ns()
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise FileNotFoundError(found.path)
                signature = signature_of(status)
                mode, mtime_ns = status.st_mode & PERMISSIONS, status.st_mtime_ns
                size, sha256, kept = digest_of(descriptor)
                is_settled = signature_of(os.fstat(descriptor)) == signature and size == status.st_size
                if not is_settled and left:
                    continue
                same = by_content.get(sha256)
                if same is None:
                    same = yield from packs.add(descriptor, size, sha256, kept)
                    if same is None:  # it is another one by now
                        continue
                    by_content[sha256] = same
                entry = FileEntry(mode, mtime_ns, size, sha256, same.pieces)
                return Known(entry, reliable(signature, read_at_ns) if is_settled else None), is_settled
            raise _NeverAtRest
        finally:
            os.close(descriptor)


class _NeverAtRest(Exception):
    """A large file was another one each time it was read."""


class _Packs:
    """The contents that a snapshot adds."""

    def __init__(self) -> None:
        self._open = bytearray()
        self._number = 0
        self._digests: dict[str, str] = {}
        """SHA-256 by what a pack is called until it is closed."""

    def add(
        self, descriptor: int, size: int, sha256: str, kept: bytes | None
    ) -> Generator[bytes, None, FileEntry | None]:
        """Add a file's content, `kept` or read once more; None where that is another one by now."""
        pieces = list[Piece]()
        digest = hashlib.sha256()
        position = 0
        while position < size or (kept is None and position == 0):
            content = kept if kept is not None else os.pread(descriptor, PIECE_BYTES, position)
            if not content:
                break
            digest.update(content)
            position += len(content)
            stored, is_compressed = write_piece(content)
            pieces.append(Piece(f"{_OPEN}{self._number}", len(self._open), len(stored), is_compressed))
            self._open += stored
            if len(self._open) >= PACK_BYTES:
                yield from self.close()
        if kept is None and (position, digest.hexdigest()) != (size, sha256):
            return None
        return FileEntry(0, 0, size, sha256, tuple(pieces))

    def close(self) -> Generator[bytes]:
        """Let the pack be stored, where there is anything in it."""
        if self._open:
            content = bytes(self._open)
            self._digests[f"{_OPEN}{self._number}"] = hashlib.sha256(content).hexdigest()
            self._open = bytearray()
            self._number += 1
            yield content

    @property
    def open_bytes(self) -> int:
        """Size of the pack that is not closed."""
        return len(self._open)

    @property
    def left(self) -> bytes:
        """The pack that is not closed, for the listing to have."""
        return bytes(self._open)

    def resolve(self, known: Known) -> Known:
        """The same with the packs' digests for their provisional names."""
        entry = known.entry
        if not isinstance(entry, FileEntry) or not any(each.pack.startswith(_OPEN) for each in entry.pieces):
            return known
        pieces = tuple(
            each._replace(pack=self._digests.get(each.pack, OWN_PACK))
            if each.pack.startswith(_OPEN)
            else each
            for each in entry.pieces
        )
        return known._replace(entry=entry._replace(pieces=pieces))

    def settle(self, known: Known, listing: str, start: int) -> Known:
        """The same with what lies in the listing's own pack by the listing's name."""
        entry = known.entry
        if not isinstance(entry, FileEntry) or not any(each.pack == OWN_PACK for each in entry.pieces):
            return known
        pieces = tuple(
            each._replace(pack=listing, offset=each.offset + start) if each.pack == OWN_PACK else each
            for each in entry.pieces
        )
        return known._replace(entry=entry._replace(pieces=pieces))


def digest_of(descriptor: int) -> tuple[int, str, bytes | None]:
    """Size and SHA-256 of what is in a file, and the content itself where it is one piece."""
    first = os.pread(descriptor, PIECE_BYTES + 1, 0)
    digest = hashlib.sha256(first)
    size = len(first)
    if size <= PIECE_BYTES:
        return size, digest.hexdigest(), first
    while content := os.pread(descriptor, PIECE_BYTES, size):
        digest.update(content)
        size += len(content)
    return size, digest.hexdigest(), None


def _drop_orphans(tree: dict[str, Known]) -> None:
    """Without what lies in a directory that went while the tree was walked."""
    for path in sorted(tree):
        parent = path.rpartition("/")[0]
        if path and not (parent in tree and isinstance(tree[parent].entry, DirectoryEntry)):
            del tree[path]
