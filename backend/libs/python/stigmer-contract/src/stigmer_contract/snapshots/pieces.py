"""Pieces of files as they lie in packs: compressed where that makes them smaller."""

import zlib
from typing import Final

from stigmer_contract.errors import SnapshotDamaged

PIECE_BYTES: Final = 1 << 20
"""Of a file, in one piece; the last may have fewer."""
_LEVEL: Final = 1
"""Half of zlib's ordinary time for a tenth more bytes."""
_SAMPLE_BYTES: Final = 2 << 10
_SAMPLES: Final = 4
_WORTH_IT: Final = 0.97
"""What samples have to shrink to. Of pictures and archives zlib takes 15 ms a MB, for nothing."""


def write_piece(content: bytes) -> tuple[bytes, bool]:
    """The piece as it is stored, and whether that is compressed."""
    if not _may_shrink(content):
        return content, False
    compressed = zlib.compress(content, _LEVEL)
    return (compressed, True) if len(compressed) < len(content) else (content, False)


def _may_shrink(content: bytes) -> bool:
    """Whether it is worth the time to compress all of it."""
    if len(content) <= 2 * _SAMPLES * _SAMPLE_BYTES:
        return True
    step = (len(content) - _SAMPLE_BYTES) // (_SAMPLES - 1)
    samples = b"".join(content[at : at + _SAMPLE_BYTES] for at in range(0, _SAMPLES * step, step))
    return len(zlib.compress(samples, _LEVEL)) < _WORTH_IT * len(samples)


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
