"""Pieces of files as they lie in packs: compressed where that makes them smaller."""

import zlib
from typing import Final

from stigmer_contract.errors import SnapshotDamaged

PIECE_BYTES: Final = 1 << 20
"""Of a file, in one piece; the last may have fewer."""
_LEVEL: Final = 1
"""Half of zlib's ordinary time for a tenth more bytes."""


def write_piece(content: bytes) -> tuple[bytes, bool]:
    """The piece as it is stored, and whether that is compressed."""
    compressed = zlib.compress(content, _LEVEL)
    return (compressed, True) if len(compressed) < len(content) else (content, False)


def read_piece(stored: bytes, *, is_compressed: bool) -> bytes:
    """The piece again.

    Raises:
        SnapshotDamaged: it is none, or larger than one can be.
    """
    if not is_compressed:
        return stored
    reader = zlib.decompressobj()
    try:
        content = reader.decompress(stored, PIECE_BYTES)
    except zlib.error as error:
        raise SnapshotDamaged(f"a piece of it cannot be read ({error})") from error
    if not reader.eof:
        raise SnapshotDamaged("a piece of it is cut off, or too large")
    return content
