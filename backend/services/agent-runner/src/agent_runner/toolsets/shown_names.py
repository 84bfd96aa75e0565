"""Names of files as a model reads and writes them: valid text in one line, whatever bytes they are. Pure."""

import os
import re
from typing import Final

_ESCAPED_BYTE: Final = re.compile(r"\\x(0[1-9a-f]|1[0-9a-f]|7f|[89a-f][0-9a-f])")
"""Those that `shown_name` writes; `\\x2f` is no slash."""
# What begins a new line or steers a terminal would let a name pass for other entries of a listing.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def shown_name(name: str) -> str:
    """The name, as Python's `os` module gave it, with each odd byte as `\\xNN`: not UTF-8, or a control."""
    if name.isascii() and name.isprintable():
        return name
    text = os.fsencode(name).decode("utf-8", errors="backslashreplace")
    return _CONTROL.sub(_escaped, text)


def meant_name(shown: str) -> str | None:
    """The name that was shown so, where bytes of it are escaped; None where none is."""
    if not _ESCAPED_BYTE.search(shown):
        return None
    encoded = b"".join(
        bytes([int(piece, 16)]) if place % 2 else piece.encode("utf-8", errors="surrogatepass")
        for place, piece in enumerate(_ESCAPED_BYTE.split(shown))
    )
    return os.fsdecode(encoded)


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in match[0].encode())
