"""The two output streams: data on stdout, everything else on stderr; colour only on a terminal.

Knows nothing of what is printed, and imports rich only when something is.
"""

from __future__ import annotations

import json
import os
import re
import sys
from typing import TYPE_CHECKING, Protocol, TextIO

if TYPE_CHECKING:
    from rich.console import Console

# ECMA-48 (5th edition): CSI, then string sequences (OSC, DCS, APC, PM, SOS) to their end, then others.
_ESCAPE_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]?"
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?"
    r"|\x1b[ -/]*[0-~]?"
)
_CARRIAGE_RETURN = re.compile(r"\r\n?")
# C0 and C1 controls but tab and line feed; the marks that reorder text (Unicode UAX #9).
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


class Explained(Protocol):
    """An error that the person can be told: a message and mostly a hint."""

    message: str
    hint: str | None


def sanitize(text: str) -> str:
    """Untrusted text without anything that steers a terminal; tabs and line ends stay."""
    text = _ESCAPE_SEQUENCE.sub("", text)
    return _CONTROL_CHARACTER.sub("", _CARRIAGE_RETURN.sub("\n", text))


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


def print_json(value: object) -> None:
    """Writes one JSON document to stdout: indented for a person, in one line for a program."""
    indent = 2 if is_terminal(sys.stdout) else None
    sys.stdout.write(json.dumps(value, indent=indent, ensure_ascii=False) + "\n")
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
