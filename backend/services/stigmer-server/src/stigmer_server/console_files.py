"""The files of the console's page, as the build left them in this package. Knows no HTTP.

They are listed once: what is not in the list is not there, whatever a path looks like.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

PAGE_DIRECTORY: Final = Path(__file__).parent / "console_page"
"""Written by `make web`; no part of the repository."""
NOT_BUILT: Final = (
    "This server has no console: it is run from a checkout where the page was not built. "
    "Run `make web` there, then restart the server.\n"
)
_INDEX: Final = "index.html"
_ASSETS: Final = "assets"
_CONTENT_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class ConsoleFile:
    """A file that the page needs."""

    content: bytes
    content_type: str


class ConsoleFiles:
    """The page and its files; read when they are first asked for."""

    def __init__(self, directory: Path = PAGE_DIRECTORY) -> None:
        self._directory = directory
        self._page: bytes | None = None
        self._assets: dict[str, ConsoleFile] | None = None

    @property
    def page(self) -> bytes | None:
        """The page, the same at all of its addresses; None where it was not built."""
        if self._page is None:
            file = self._directory / _INDEX
            self._page = file.read_bytes() if file.is_file() else None
        return self._page

    def find_asset(self, name: str) -> ConsoleFile | None:
        """A file whose name changes with what is in it."""
        if self._assets is None:
            folder = self._directory / _ASSETS
            found = folder.iterdir() if self.page is not None and folder.is_dir() else ()
            self._assets = {
                file.name: ConsoleFile(file.read_bytes(), _CONTENT_TYPES[file.suffix])
                for file in found
                if file.suffix in _CONTENT_TYPES
            }
        return self._assets.get(name)
