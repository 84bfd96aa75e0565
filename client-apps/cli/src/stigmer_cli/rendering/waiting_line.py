"""One line that says what is waited for and how long already, while a command has nothing else to show."""

import shutil
import sys
import time
from types import TracebackType
from typing import Final

from stigmer_cli.output import is_terminal, sanitize, write_stderr
from stigmer_cli.rendering.cells import shorten

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAMES_PER_SECOND: Final = 4


def frame_at(now: float) -> str:
    """The sign that something goes on, at a time in seconds."""
    return _FRAMES[int(now * _FRAMES_PER_SECOND) % len(_FRAMES)]


class WaitingLine:
    """Drawn on stderr where that is a terminal; gone at the end. A context manager."""

    def __init__(self) -> None:
        self._is_shown = is_terminal(sys.stderr)
        self._began_at = time.monotonic()
        self._drawn = ""

    def __enter__(self) -> "WaitingLine":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clear()

    def show(self, text: str) -> None:
        """Draw the line anew; to be called a few times a second."""
        if not self._is_shown:
            return
        now = time.monotonic()
        line = f"{frame_at(now)} {sanitize(text)} {int(now - self._began_at)} s".replace("\n", " ")
        line = shorten(line, shutil.get_terminal_size().columns - 1)
        if line != self._drawn:
            write_stderr(f"\r\x1b[K{line}")  # ECMA-48: EL to the end of the line
            self._drawn = line

    def clear(self) -> None:
        """Take the line away, so that another can be written."""
        if self._drawn:
            write_stderr("\r\x1b[K")
            self._drawn = ""
