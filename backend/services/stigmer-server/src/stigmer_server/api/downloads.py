"""Answers that hold a file of an agent's making: a browser keeps it, and neither shows nor runs it."""

from pathlib import PurePosixPath
from typing import Any, Final
from urllib.parse import quote

from stigmer_contract.api import PROBLEM_CONTENT_TYPE

BINARY: Final[dict[str, Any]] = {
    "application/octet-stream": {"schema": {"type": "string", "format": "binary"}}
}

URL_TOO_LONG: Final[dict[int | str, dict[str, Any]]] = {
    414: {
        "description": "URI Too Long",
        "content": {PROBLEM_CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
}
"""What the server's HTTP says before any route: a path of odd characters takes three times as many bytes."""


def download_headers(path: str) -> dict[str, str]:
    """The headers for a file that is at `path`, beside those of every answer."""
    name = PurePosixPath(path).name or "file"
    return {
        # RFC 6266, with the name in the one form that holds every character.
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'; frame-ancestors 'none'",
    }
