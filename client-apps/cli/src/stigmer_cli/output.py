"""The two output streams: data on stdout, everything else on stderr; colour only on a terminal.

Knows nothing of what is printed, trusts none of it, and imports rich only when something is.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Protocol, TextIO

from stigmer_contract.untrusted_text import escape_json
from stigmer_contract.untrusted_text import strip_controls as sanitize

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "format_json",
    "has_colour",
    "is_terminal",
    "print_error",
    "print_json",
    "print_line",
    "print_note",
    "sanitize",
    "stderr",
    "stdout",
]


class Explained(Protocol):
    """An error that the person can be told: a message and mostly a hint."""

    message: str
    hint: str | None


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at the stream."""
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def has_colour(stream: TextIO) -> bool:
    """Whether colour may be written to the stream (https://no-color.org)."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def stdout() -> Console:
    """A console for data."""
    return _console(sys.stdout)


def stderr() -> Console:
    """A console for progress, notes and errors."""
    return _console(sys.stderr)


def format_json(value: object, indent: int | None = None) -> str:
    """JSON in which nothing steers a terminal: the same values, differently spelled."""
    return escape_json(json.dumps(value, indent=indent, ensure_ascii=False))


def print_json(value: object) -> None:
    """Writes one JSON document to stdout: indented for a person, in one line for a program."""
    sys.stdout.write(format_json(value, indent=2 if is_terminal(sys.stdout) else None) + "\n")
    sys.stdout.flush()


def print_line(text: str = "", *, mark: str = "", colour: str = "") -> None:
    """Writes text to stdout; before it a mark of our own, on a terminal in a colour (its SGR code)."""
    painted = f"\x1b[{colour}m{mark}\x1b[0m" if mark and has_colour(sys.stdout) else mark
    sys.stdout.write(f"{painted}{sanitize(text)}\n")
    sys.stdout.flush()


def print_note(text: str) -> None:
    """Writes one line to stderr."""
    sys.stderr.write(sanitize(text) + "\n")
    sys.stderr.flush()


def print_error(error: Explained) -> None:
    """Writes `error: …`, and after a blank line `hint: …`, to stderr."""
    lines = [f"{_painted('error:', '1;31')} {sanitize(error.message)}"]
    if error.hint:
        lines += ["", f"{_painted('hint:', '1;36')} {sanitize(error.hint)}"]
    sys.stderr.write("\n".join(lines) + "\n")
    sys.stderr.flush()


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if has_colour(sys.stderr) else text


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(
        file=stream, force_terminal=is_terminal(stream), no_color=not has_colour(stream), highlight=False
    )
