"""A snapshot from its listings: the newest, the one that it differs from, and so on to one that is whole."""

from dataclasses import dataclass
from typing import Final

from stigmer_contract.errors import SnapshotDamaged
from stigmer_contract.snapshots.listing import Entry, LeftOut, Listing, check_tree, read_listing
from stigmer_contract.snapshots.wanted_blobs import Wants

MAX_CHAIN: Final = 500
"""Listings of one snapshot."""


@dataclass(frozen=True)
class Chain:
    """One snapshot, put together."""

    entries: dict[str, Entry]
    """By path; that of the workspace itself is empty."""
    left_out: list[LeftOut]
    length: int
    """How many listings it stands in."""
    newest_bytes: int
    """Size of the newest of them."""
    whole_bytes: int
    """Size of the one that is whole."""
    further_bytes: int
    """Of the others together."""


def load_chain(sha256: str) -> Wants[Chain]:
    """The snapshot whose newest listing has this SHA-256.

    Raises:
        SnapshotDamaged: there is no such snapshot in these blobs.
    """
    listings = list[tuple[Listing, int]]()
    wanted: str | None = sha256
    while wanted is not None:
        if len(listings) >= MAX_CHAIN:
            raise SnapshotDamaged("it has too many listings")
        content = yield wanted
        listings.append((read_listing(content, wanted), len(content)))
        wanted = listings[-1][0].base
    entries = dict[str, Entry]()
    for listing, _ in reversed(listings):
        for path in listing.removed:
            entries.pop(path, None)
        entries.update(listing.entries)
    check_tree(entries)
    sizes = [size for _, size in listings]
    return Chain(entries, list(listings[0][0].left_out), len(listings), sizes[0], sizes[-1], sum(sizes[:-1]))
