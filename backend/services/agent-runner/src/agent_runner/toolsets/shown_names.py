"""Names of files as a model reads and writes them: valid text, whatever bytes they are on the disk. Pure."""

import os
import re
from typing import Final

_ESCAPED_BYTE: Final = re.compile(r"\\x([89a-f][0-9a-f])")


def shown_name(name: str) -> str:
    """The name with each byte that is not UTF-8 as `\\xNN`, as Python's `os` module gave it."""
    return name if name.isascii() else os.fsencode(name).decode("utf-8", errors="backslashreplace")


def meant_name(shown: str) -> str | None:
    """The name that was shown so, where it holds bytes that are not UTF-8; None where it holds none."""
    if not _ESCAPED_BYTE.search(shown):
        return None
    encoded = b"".join(
        bytes([int(piece, 16)]) if place % 2 else piece.encode("utf-8", errors="surrogatepass")
        for place, piece in enumerate(_ESCAPED_BYTE.split(shown))
    )
    return os.fsdecode(encoded)
