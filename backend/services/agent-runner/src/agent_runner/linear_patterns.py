"""Regular expressions from outside: run in time linear in the text, whatever the pattern (RE2).

A pattern of a model, a manifest or a cassette would else decide how long the runner stands still: Python's
`re` takes exponential time for `(a+)+$` and holds the interpreter meanwhile.
"""

import functools
from collections.abc import Callable
from typing import Final, Protocol, cast

import re2

MAX_PATTERN_CHARACTERS: Final = 10_000
MAX_PROGRAM_BYTES: Final = 2 << 20
"""Most memory of one compiled pattern; a repetition of repetitions can ask for any amount."""


class InvalidPattern(ValueError):
    """A pattern cannot be used; the message says why, in a few words."""


class LinearPattern(Protocol):
    """A compiled pattern."""

    def search(self, text: str | bytes, /) -> object | None:
        """Something where the pattern matches anywhere, else None."""
        ...

    def fullmatch(self, text: str | bytes, /) -> object | None:
        """Something where the pattern matches all of it, else None."""
        ...


class _Options(Protocol):
    dot_nl: bool
    log_errors: bool
    max_mem: int


# google-re2 brings no types.
_compile = cast("Callable[[str, _Options], LinearPattern]", re2.compile)  # pyright: ignore[reportUnknownMemberType]
RE2_ERROR = cast("type[Exception]", re2.error)  # pyright: ignore[reportUnknownMemberType]


@functools.lru_cache(maxsize=64)
def compile_pattern(pattern: str, *, dot_is_any: bool = False) -> LinearPattern:
    """Compile a pattern; `dot_is_any`: `.` matches the end of a line, too.

    Raises:
        InvalidPattern: it is malformed, too large, or uses look-around or back-references.
    """
    if len(pattern) > MAX_PATTERN_CHARACTERS:
        raise InvalidPattern(f"longer than {MAX_PATTERN_CHARACTERS} characters")
    options = cast("_Options", re2.Options())
    options.dot_nl, options.log_errors, options.max_mem = dot_is_any, False, MAX_PROGRAM_BYTES
    try:
        return _compile(pattern, options)
    except UnicodeEncodeError as error:
        raise InvalidPattern("not valid text") from error
    except RE2_ERROR as error:
        reason: object = error.args[0] if error.args else error
        text = reason.decode("utf-8", errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidPattern(text) from error


def escape_literal(text: str) -> str:
    """A pattern that matches just this text."""
    return "".join(c if c.isalnum() or ord(c) > 127 else f"\\x{{{ord(c):x}}}" for c in text)
