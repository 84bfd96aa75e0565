"""How many columns of a terminal a text takes, and cutting it to so many. Pure."""

import unicodedata
from collections.abc import Sequence

SEPARATOR = " · "
"""Between short facts in one line."""
_WIDE = ("W", "F")


def cell_width(text: str) -> int:
    """Columns that the text takes in one line: two for each wide character, none for a combining one."""
    if text.isascii():
        return len(text)
    return sum(_width_of(character) for character in text)


def shorten(text: str, width: int) -> str:
    """The text in at most `width` columns, its end cut off."""
    if cell_width(text) <= width:
        return text
    kept, used = list[str](), 0
    for character in text:
        used += _width_of(character)
        if used > max(1, width - 1):
            break
        kept.append(character)
    return "".join(kept) + "…"


def wrap(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken at spaces where there are any."""
    lines, line, used = list[str](), "", 0
    for word in text.split(" "):
        needed = cell_width(word)
        if line and used + 1 + needed > width:
            lines.append(line)
            line, used = "", 0
        while needed > width:
            head = shorten(word, width + 1)[:-1]
            lines.append(head)
            word = word[len(head) :]
            needed = cell_width(word)
        line, used = (f"{line} {word}", used + 1 + needed) if line else (word, needed)
    return [*lines, line]


def wrap_parts(parts: Sequence[str], width: int) -> list[str]:
    """Short facts in lines of at most `width` columns, broken between them only."""
    lines = list[str]()
    for part in parts:
        joined = f"{lines[-1]}{SEPARATOR}{part}" if lines else part
        if lines and cell_width(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def pad(text: str, width: int) -> str:
    """The text with spaces behind it, up to `width` columns."""
    return text + " " * (width - cell_width(text))


def _width_of(character: str) -> int:
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1
