"""Patterns for names of files, as ripgrep's `--glob` and gitignore have them. Pure.

`*` and `?` stop at `/`, `**` does not; `[a-z]`, `[!a]`, `{a,b}` and `\\` work as usual. A pattern without `/`
looks at a file's name wherever the file is, one with `/` at its whole path below the directory that is
searched. They run in a linear-time engine: a pattern comes from a model.
"""

import functools
from collections.abc import Callable
from typing import Final

from agent_runner.linear_patterns import InvalidPattern, compile_pattern, escape_literal

MAX_GLOB_CHARACTERS: Final = 1000
MAX_ALTERNATIVES_DEPTH: Final = 8


class InvalidGlob(ValueError):
    """A pattern cannot be read; the message says why."""


@functools.lru_cache(maxsize=256)
def compile_glob(pattern: str) -> Callable[[str], bool]:
    """What tells whether a path, relative and with `/` between its parts, matches; `!` in front turns it.

    Raises:
        InvalidGlob: it is malformed, too long, or absolute.
    """
    wanted = not pattern.startswith("!")
    body = pattern.removeprefix("!").removeprefix("./")
    if not body or body == "/":
        raise InvalidGlob("the glob is empty")
    if len(body) > MAX_GLOB_CHARACTERS:
        raise InvalidGlob(f"the glob is longer than {MAX_GLOB_CHARACTERS} characters")
    anchored = "/" in body.rstrip("/")
    body = body.removeprefix("/")
    if body.endswith("/"):  # a directory: everything in it
        body += "**"
    prefix = "" if anchored else "(?:.*/)?"
    try:
        regex = compile_pattern(f"{prefix}{_Translation(body).regex()}", dot_is_any=True)
    except InvalidPattern as error:
        raise InvalidGlob(f"the glob is malformed: {error}") from error
    return lambda path: (regex.fullmatch(path) is not None) is wanted


def last_component(pattern: str) -> str | None:
    """A glob for the names alone of whatever `pattern` matches; None where that says nothing."""
    name = pattern.rpartition("/")[2]
    if pattern.startswith("!") or not name or "**" in name or pattern.count("{") != name.count("{"):
        return None
    return name


class _Translation:
    """Translates one glob to a regular expression for whole paths."""

    def __init__(self, glob: str) -> None:
        self._glob = glob
        self._place = 0

    def regex(self) -> str:
        text = self._alternative(depth=0)
        if self._place < len(self._glob):
            raise InvalidGlob("the glob closes a brace that it does not open")
        return text

    def _alternative(self, depth: int) -> str:
        """Up to the end, or to the `,` or `}` that ends an alternative."""
        parts = list[str]()
        while self._place < len(self._glob):
            character = self._glob[self._place]
            if character in ",}" and depth:
                break
            self._place += 1
            match character:
                case "*":
                    parts.append(self._star())
                case "?":
                    parts.append("[^/]")
                case "[":
                    parts.append(self._class())
                case "{":
                    parts.append(self._braces(depth + 1))
                case "}":
                    raise InvalidGlob("the glob closes a brace that it does not open")
                case "\\":
                    if self._place == len(self._glob):
                        raise InvalidGlob("the glob ends with a backslash")
                    parts.append(escape_literal(self._glob[self._place]))
                    self._place += 1
                case _:
                    parts.append(escape_literal(character))
        return "".join(parts)

    def _star(self) -> str:
        start = self._place - 1
        while self._glob[self._place : self._place + 1] == "*":
            self._place += 1
        is_component = (start == 0 or self._glob[start - 1] in "/{,") and (
            self._place == len(self._glob) or self._glob[self._place] in "/,}"
        )
        if self._place - start < 2 or not is_component:
            return "[^/]*"
        if self._glob[self._place : self._place + 1] == "/":
            self._place += 1
            return "(?:.*/)?"
        return ".*"

    def _class(self) -> str:
        end = self._glob.find(
            "]", self._place + (2 if self._glob[self._place : self._place + 1] in "!^" else 1)
        )
        if end == -1:
            raise InvalidGlob("the glob opens a bracket that it does not close")
        inner = self._glob[self._place : end]
        self._place = end + 1
        negated = inner[:1] in ("!", "^")
        inner = inner[1:] if negated else inner
        escaped = "".join(f"\\{c}" if c in "\\[]^&~" else c for c in inner)
        return f"[^/{escaped}]" if negated else f"[{escaped}]"

    def _braces(self, depth: int) -> str:
        if depth > MAX_ALTERNATIVES_DEPTH:
            raise InvalidGlob("the glob nests braces too deep")
        alternatives = list[str]()
        while True:
            alternatives.append(self._alternative(depth))
            if self._place == len(self._glob):
                raise InvalidGlob("the glob opens a brace that it does not close")
            closing = self._glob[self._place] == "}"
            self._place += 1
            if closing:
                return f"(?:{'|'.join(alternatives)})"
