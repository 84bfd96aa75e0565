"""Answers that hold a file of an agent's making: a browser keeps it, and neither shows nor runs it."""

from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

BINARY: Final[dict[str, Any]] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}


def download_headers(path: str) -> dict[str, str]:
    """The headers for a file that is at `path`, beside those of every answer."""
    name = PurePosixPath(path).name or "file"
    return {
        # RFC 6266, with the name in the one form that holds every character.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }
