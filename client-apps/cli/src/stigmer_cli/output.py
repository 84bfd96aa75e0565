"""The two output streams: data on stdout, everything else on stderr; colour only on a terminal.

Knows nothing of what is printed, trusts none of it, and imports rich only when something is.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Literal, Protocol, TextIO

from stigmer_cli.errors import OutputFailed
from stigmer_contract.untrusted_text import escape_json
from stigmer_contract.untrusted_text import strip_controls as sanitize

if TYPE_CHECKING:
    from rich.console import Console

__all__ = [
    "forget_stdout",
    "forget_unwritable_streams",
    "format_json",
    "has_colour",
    "is_terminal",
    "notes",
    "open_streams",
    "print_error",
    "print_json",
    "print_line",
    "print_note",
    "sanitize",
    "stderr",
    "stdout",
    "write_stderr",
    "write_stdout",
    "writing_stderr",
    "writing_stdout",
]


class Explained(Protocol):
    """An error that the person can be told: a message and mostly a hint."""

    message: str
    hint: str | None


def open_streams() -> None:
    """Make the three streams usable, whatever they were given as.

    A closed one would give its number to the next file or socket that is opened; one in another encoding
    than UTF-8 must show what it can of an answer that was paid for.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    # Python has None in the place of a stream that was closed.
    sys.stdin = sys.stdin or _standard(0, "r")
    sys.stdout = sys.stdout or _standard(1, "w")
    sys.stderr = sys.stderr or _standard(2, "w")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _standard(descriptor: int, mode: Literal["r", "w"]) -> TextIO:
    return os.fdopen(descriptor, mode, encoding="utf-8", closefd=False)


def write_stdout(text: str) -> None:
    """Write data to stdout at once.

    Raises:
        OutputFailed: it cannot be written.
    """
    with writing_stdout():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextlib.contextmanager
def writing_stdout() -> Generator[None]:
    """Raise `OutputFailed` where stdout takes no more; BrokenPipeError goes on to whoever ends quietly."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputFailed(f"could not write to standard output: {error.strerror}") from error


def forget_stdout() -> None:
    """What is left in the buffer must not fail again when the interpreter ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def forget_unwritable_streams() -> None:
    """Else the interpreter tries once more when it ends, and makes an exit code of its own of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


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
    write_stdout(format_json(value, indent=2 if is_terminal(sys.stdout) else None) + "\n")


def print_line(text: str = "", *, mark: str = "", colour: str = "") -> None:
    """Writes text to stdout; before it a mark of our own, on a terminal in a colour (its SGR code)."""
    painted = f"\x1b[{colour}m{mark}\x1b[0m" if mark and has_colour(sys.stdout) else mark
    write_stdout(f"{painted}{sanitize(text)}\n")


def write_stderr(text: str) -> None:
    """Write to stderr at once."""
    with writing_stderr():
        sys.stderr.write(text)
        sys.stderr.flush()


def writing_stderr() -> contextlib.suppress:
    """Pass over that stderr cannot be written: where its window was closed, there is nobody to tell."""
    return contextlib.suppress(OSError)


def print_note(text: str) -> None:
    """Writes one line to stderr."""
    write_stderr(sanitize(text) + "\n")


def notes(*, is_quiet: bool) -> Callable[[str], None]:
    """What tells a person how something goes on; a quiet one only of what a person should know."""
    return _print_what_matters if is_quiet else print_note


def _print_what_matters(text: str) -> None:
    if text.startswith(("note: ", "warning: ")):
        print_note(text)


def print_error(error: Explained, mark: str = "error:") -> None:
    """Writes `error: …`, and after a blank line `hint: …`, to stderr; without a mark only what happened."""
    lines = [f"{_painted(mark, '1;31')} {sanitize(error.message)}" if mark else sanitize(error.message)]
    if error.hint:
        lines += ["", f"{_painted('hint:', '1;36')} {sanitize(error.hint)}"]
    write_stderr("\n".join(lines) + "\n")


def _painted(text: str, code: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if has_colour(sys.stderr) else text


def _console(stream: TextIO) -> Console:
    from rich.console import Console

    return Console(
        file=stream, force_terminal=is_terminal(stream), no_color=not has_colour(stream), highlight=False
    )
