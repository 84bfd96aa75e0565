"""Writes answer and notes to one terminal without running into each other. Knows no events.

The answer goes to stdout and may stand in an unfinished line; notes go to stderr in whole lines.
"""

import shutil
from typing import TextIO

from stigmer_cli.output import has_colour, is_terminal, sanitize

DIM, BOLD, RED, GREEN, YELLOW, CYAN = "2", "1", "31", "32", "33", "36"


class Screen:
    """The two streams and what the cursor stands behind."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._has_colour = has_colour(stderr)
        self.shows_answer = is_terminal(stdout)
        """Whether a person sees the answer as it is written; else stdout is data for a program."""
        self.shows_notes = is_terminal(stderr)
        """Whether a person sees the notes; else they are a log."""
        self._open_line: TextIO | None = None

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def write_answer(self, text: str) -> None:
        """Writes a piece of the answer as it comes."""
        if not text:
            return
        if self._open_line is self._stderr:
            self.end_line()
        self._stdout.write(sanitize(text))
        self._stdout.flush()
        self._open_line = None if text.endswith("\n") or not self.shows_answer else self._stdout

    def write_note(self, text: str, *styles: str) -> None:
        """Writes one line to stderr."""
        self.end_line()
        self._stderr.write(self.paint(sanitize(text), *styles) + "\n")
        self._stderr.flush()

    def begin_note(self, text: str) -> None:
        """Writes a line to stderr that `extend_note` may finish."""
        self.end_line()
        self._stderr.write(sanitize(text))
        self._stderr.flush()
        self._open_line = self._stderr

    def extend_note(self, text: str) -> None:
        """Finishes the line that `begin_note` began. `text` may hold styles, so it must be safe."""
        self._stderr.write(text + "\n")
        self._stderr.flush()
        self._open_line = None

    def end_line(self) -> None:
        """Brings the cursor to the beginning of a line."""
        if self._open_line:
            self._open_line.write("\n")
            self._open_line.flush()
            self._open_line = None

    def paint(self, text: str, *styles: str) -> str:
        """The text in a style, where stderr shows colours."""
        if not styles or not self._has_colour:
            return text
        return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"


def shorten(text: str, width: int) -> str:
    """The text in at most `width` characters, its end cut off."""
    return text if len(text) <= width else text[: max(1, width - 1)] + "…"
