"""Snapshots: the files of a workspace as they were at a moment, and how they are written down and made again.

A snapshot is a listing of every path, and contents in packs; both are blobs, known by their SHA-256. A
listing says what differs from the one before it, so a chain of them is one snapshot. Does no I/O but to make
a tree again; who takes snapshots, and where blobs are kept, is others' business.
"""

from stigmer_contract.snapshots.chain import MAX_CHAIN, Chain, load_chain
from stigmer_contract.snapshots.in_place import restore_in_place
from stigmer_contract.snapshots.listing import (
    OWN_PACK,
    DirectoryEntry,
    Entry,
    FileEntry,
    LeftOut,
    LinkEntry,
    Listing,
    Piece,
    read_listing,
    write_listing,
)
from stigmer_contract.snapshots.pieces import PIECE_BYTES, read_piece, write_piece
from stigmer_contract.snapshots.restoring import read_file, restore_tree
from stigmer_contract.snapshots.wanted_blobs import Wants, provide

__all__ = [
    "MAX_CHAIN",
    "OWN_PACK",
    "PIECE_BYTES",
    "Chain",
    "DirectoryEntry",
    "Entry",
    "FileEntry",
    "LeftOut",
    "LinkEntry",
    "Listing",
    "Piece",
    "Wants",
    "load_chain",
    "provide",
    "read_file",
    "read_listing",
    "read_piece",
    "restore_in_place",
    "restore_tree",
    "write_listing",
    "write_piece",
]
