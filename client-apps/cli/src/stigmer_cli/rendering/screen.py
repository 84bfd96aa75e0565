"""Writes answer and notes to one terminal without running into each other. Knows no events.

The answer goes to stdout and may stand in an unfinished line; notes go to stderr in whole lines. Below them,
where stderr is a terminal, there may be live lines, which are written anew and leave nothing behind.
"""

import shutil
from collections.abc import Sequence
from typing import TextIO

from stigmer_cli.output import has_colour, is_terminal, sanitize, writing_stderr, writing_stdout
from stigmer_cli.rendering.cells import shorten

DIM, BOLD, RED, GREEN, YELLOW, CYAN = "2", "1", "31", "32", "33", "36"
MAX_RENDERED_WIDTH = 100
"""Longer lines of prose are hard to read."""


class Screen:
    """The two streams and what the cursor stands behind."""

    def __init__(self, stdout: TextIO, stderr: TextIO, *, plain: bool = False) -> None:
        """`plain`: the answer is written as the model wrote it, not rendered."""
        self._stdout = stdout
        self._stderr = stderr
        self._has_colour = has_colour(stderr)
        self.shows_answer = is_terminal(stdout)
        """Whether a person sees the answer as it is written; else stdout is data for a program."""
        self.shows_notes = is_terminal(stderr)
        """Whether a person sees the notes; else they are a log."""
        self.renders_answer = self.shows_answer and not plain
        self._has_open_line = False
        self._live = list[str]()
        self._live_on_screen = 0

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return shutil.get_terminal_size().columns

    def write_answer(self, text: str) -> None:
        """Writes a piece of the answer as it comes."""
        if not text:
            return
        self._erase_live()
        with writing_stdout():
            self._stdout.write(sanitize(text))
            self._stdout.flush()
        self._has_open_line = self.shows_answer and not text.endswith("\n")
        self._draw_live()

    def render_answer(self, markdown: str) -> None:
        """Writes a complete piece of Markdown, wrapped at words."""
        from rich.console import Console
        from rich.markdown import Markdown

        self.end_line()
        self._erase_live()
        console = Console(
            file=self._stdout,
            force_terminal=True,
            no_color=not has_colour(self._stdout),
            highlight=False,
            width=max(20, min(self.width, MAX_RENDERED_WIDTH)),
        )
        with writing_stdout():
            console.print(Markdown(sanitize(markdown), hyperlinks=False, code_theme="ansi_dark"))
            self._stdout.flush()
        self._draw_live()

    def write_note(self, text: str, *styles: str) -> None:
        """Writes one line to stderr."""
        self.write_painted_note(self.paint(sanitize(text), *styles))

    def write_painted_note(self, text: str) -> None:
        """Writes one line to stderr that may hold styles, so it must be safe."""
        self.end_line()
        self._erase_live()
        self._write_stderr(text + "\n")
        self._draw_live()

    def end_line(self) -> None:
        """Brings the cursor to the beginning of a line."""
        if self._has_open_line:
            with writing_stdout():
                self._stdout.write("\n")
                self._stdout.flush()
            self._has_open_line = False

    def show_live(self, lines: Sequence[str]) -> None:
        """The lines that stand below all others from now on; nothing where nobody sees them."""
        if not self.shows_notes:
            return
        shown = [shorten(sanitize(line).replace("\n", " "), self.width - 1) for line in lines]
        if shown == self._live and self._live_on_screen:
            return
        self._live = shown
        self._erase_live()
        self._draw_live()

    def paint(self, text: str, *styles: str) -> str:
        """The text in a style, where stderr shows colours."""
        if not styles or not self._has_colour:
            return text
        return f"\x1b[{';'.join(styles)}m{text}\x1b[0m"

    def _draw_live(self) -> None:
        """Only where no line is open: in the middle of one there is no room below."""
        if not self._live or self._has_open_line:
            return
        self._write_stderr("\n".join(self.paint(line, DIM) for line in self._live))
        self._live_on_screen = len(self._live)

    def _erase_live(self) -> None:
        if not self._live_on_screen:
            return
        up = f"\x1b[{self._live_on_screen - 1}A" if self._live_on_screen > 1 else ""
        self._write_stderr(f"\r{up}\x1b[J")  # ECMA-48: CUU, ED to the end of the screen
        self._live_on_screen = 0

    def _write_stderr(self, text: str) -> None:
        with writing_stderr():
            self._stderr.write(text)
            self._stderr.flush()
