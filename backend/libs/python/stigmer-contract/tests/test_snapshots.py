"""The form of snapshots: written and read the same, and nothing of what is read is trusted."""

import hashlib
import json
import os
import random
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots import (
    MAX_CHAIN,
    PIECE_BYTES,
    DirectoryEntry,
    FileEntry,
    LeftOut,
    LinkEntry,
    Listing,
    Piece,
    load_chain,
    provide,
    read_listing,
    read_piece,
    restore_tree,
    write_listing,
    write_piece,
)

HEAD = b"stigmer snapshot 1\n"


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def packed(text: bytes) -> bytes:
    compressed = zlib.compress(text)
    return HEAD + len(compressed).to_bytes(4, "big") + compressed


TOP = DirectoryEntry(0o700, 0)

names = st.binary(min_size=1, max_size=12).map(
    lambda raw: raw.replace(b"/", b"_").replace(b"\0", b"_").decode("utf-8", "surrogateescape")
)
paths = st.lists(names.filter(lambda name: name not in (".", "..")), min_size=1, max_size=3).map("/".join)
digests = st.binary(min_size=1, max_size=4).map(lambda raw: hashlib.sha256(raw).hexdigest())
times = st.integers(-(2**62), 2**62)
modes = st.integers(0, 0o1777)
pieces = st.builds(Piece, digests, st.integers(0, 10**9), st.integers(0, 10**6), st.booleans())
entries = st.one_of(
    st.builds(DirectoryEntry, modes, times),
    st.builds(LinkEntry, times, names),
    st.builds(
        FileEntry, modes, times, st.integers(0, 10**12), digests, st.lists(pieces, max_size=3).map(tuple)
    ),
)


@given(
    st.none() | digests,
    st.dictionaries(paths, entries, max_size=6),
    st.lists(paths, max_size=3).map(sorted),
    st.lists(st.builds(LeftOut, paths, st.text(max_size=5)), max_size=3),
)
def test_a_listing_is_read_as_it_was_written(
    base: str | None, listed: dict[str, Any], removed: list[str], left_out: list[LeftOut]
) -> None:
    listing = Listing(base, listed, removed, left_out)
    content, _ = write_listing(listing)
    assert read_listing(content, digest(content)) == listing


@given(st.binary(max_size=200))
def test_what_is_no_listing_is_refused_in_words(content: bytes) -> None:
    for each in (content, HEAD + content, packed(content)):
        with pytest.raises(SnapshotDamaged):
            read_listing(each, digest(each))


def test_a_listing_with_another_digest_is_refused() -> None:
    with pytest.raises(SnapshotDamaged, match="digest"):
        read_listing(form(), "f" * 64)


def form(**changes: Any) -> bytes:
    whole: dict[str, Any] = {
        "base": None,
        "packs": [],
        "files": [],
        "directories": [["", 0o700, 0]],
        "links": [],
        "removed": [],
        "left_out": [],
    }
    return packed(json.dumps(whole | changes).encode())


HOSTILE: list[dict[str, Any]] = [
    {"files": [["../x", 0, 0, 0, "a", []]]},
    {"files": [["/etc/x", 0, 0, 0, "a", []]]},
    {"files": [["a/../../x", 0, 0, 0, "a", []]]},
    {"files": [["a//x", 0, 0, 0, "a", []]]},
    {"files": [["a\0", 0, 0, 0, "a", []]]},
    {"files": [["x" * 5000, 0, 0, 0, "a", []]]},
    {"files": [["a", 0, 0, 0, "a", [[0, 0, 1, 0]]]]},
    {"files": [["a", 0, 0, 0, "a", [[-2, 0, 1, 0]]]], "packs": ["0" * 64]},
    {"files": [["a", "0", 0, 0, "a", []]]},
    {"files": [["lost/a", 0, 0, 0, "a", []]]},
    {"links": [["link", 0, "/etc"]], "files": [["link/passwd", 0, 0, 0, "a", []]]},
    {"links": [["link", 0, ""]]},
    {"packs": ["../secret"]},
    {"base": "../secret"},
    {"base": "0" * 64},
    {"directories": [["", 0o700]]},
    {"left_out": ["a"]},
]


@pytest.mark.parametrize("changes", HOSTILE, ids=range(len(HOSTILE)))
def test_a_listing_that_would_lead_out_or_is_of_another_form_is_refused(changes: dict[str, Any]) -> None:
    content = form(**changes)
    blobs = {digest(content): content}
    with pytest.raises((SnapshotDamaged, KeyError)):
        provide(load_chain(digest(content)), blobs.__getitem__)


def test_a_chain_that_never_ends_is_given_up() -> None:
    blobs: dict[str, bytes] = {}
    newest = "f" * 64
    for _ in range(MAX_CHAIN + 1):
        content = form(base=newest)
        newest = digest(content)
        blobs[newest] = content
    with pytest.raises(SnapshotDamaged, match="too many"):
        provide(load_chain(newest), blobs.__getitem__)


@pytest.mark.parametrize(
    "content",
    [b"", b"a", b"the same " * 5000, random.Random(1).randbytes(5000), bytes(PIECE_BYTES)],
    ids=["nothing", "one byte", "much of the same", "chance", "a whole piece"],
)
def test_a_piece_is_read_as_it_was_written(content: bytes) -> None:
    stored, is_compressed = write_piece(content)
    assert len(stored) <= len(content)
    assert read_piece(stored, is_compressed=is_compressed) == content


def test_a_piece_that_unpacks_to_more_than_a_piece_is_refused() -> None:
    with pytest.raises(SnapshotDamaged):
        read_piece(zlib.compress(bytes(PIECE_BYTES + 1)), is_compressed=True)


@pytest.mark.parametrize("pack", [b"other content", b"conten", b""])
def test_a_pack_with_another_content_is_refused(tmp_path: Path, pack: bytes) -> None:
    content = b"content"
    sha256 = hashlib.sha256(content).hexdigest()
    tree = {"": TOP, "a": FileEntry(0o600, 0, 7, sha256, (Piece(sha256, 0, 7, False),))}
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with pytest.raises(SnapshotDamaged):
            provide(restore_tree(tree, root), lambda _sha256: pack)
    finally:
        os.close(root)


def test_what_is_restored_has_no_set_user_id(tmp_path: Path) -> None:
    empty = hashlib.sha256(b"").hexdigest()
    content, _ = write_listing(Listing(None, {"": TOP, "a": FileEntry(0o4755, 0, 0, empty, ())}, [], []))
    listing = read_listing(content, digest(content))
    root = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        provide(restore_tree(listing.entries, root), lambda _sha256: b"")
    finally:
        os.close(root)
    assert (tmp_path / "a").stat().st_mode & 0o7777 == 0o755


@pytest.mark.parametrize("size", [0, 1, 16 << 10, (16 << 10) + 1, 100_000, PIECE_BYTES])
def test_pieces_are_compressed_where_that_helps_and_read_back(size: int) -> None:
    random_bytes, text = random.Random(size).randbytes(size), (b"one line like the other\n" * size)[:size]
    for content, shrinks in ((random_bytes, False), (text, size > 100)):
        stored, is_compressed = write_piece(content)
        assert is_compressed is shrinks
        assert len(stored) <= len(content)
        assert read_piece(stored, is_compressed=is_compressed) == content
