"""Exact replacements in the text of a file, whatever its line ends. Pure."""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MAX_REPLACEMENTS: Final = 500
"""Most in one call: each looks through the whole file."""


class EditRefused(ValueError):
    """An edit does not fit the file; the message says why, and nothing was changed."""


@dataclass(frozen=True)
class Replacement:
    """One exact replacement."""

    old_text: str
    """The exact text to find; it must occur once."""
    new_text: str
    """What stands there instead."""


def apply_replacements(text: str, replacements: Sequence[Replacement], path: str) -> str:
    """Apply them in order, each to what the one before left.

    A model sees lines, not line ends: where the text as given is not found, its line ends match any, and the
    new text takes those of the place it is put, else of the file.

    Raises:
        EditRefused: one is empty, or found never or more than once; or they are more than `MAX_REPLACEMENTS`.
    """
    if len(replacements) > MAX_REPLACEMENTS:
        raise EditRefused(f"at most {MAX_REPLACEMENTS} replacements can be made in one call")
    for number, replacement in enumerate(replacements, start=1):
        label = f"replacement {number}" if len(replacements) > 1 else "old_text"
        if not replacement.old_text:
            raise EditRefused(f"{label} is empty; old_text must be the exact text to replace")
        start, end = _place_of(text, replacement.old_text, label, path)
        new_text = _with_line_ends_of(text, start, end, replacement)
        text = text[:start] + new_text + text[end:]
    return text


def _place_of(text: str, wanted: str, label: str, path: str) -> tuple[int, int]:
    start = text.find(wanted)
    if start != -1:
        _refuse_several(text.count(wanted), label, path)
        end = start + len(wanted)
        if start > 0 and "\r" not in wanted and text.startswith("\r\n", start - 1):
            start -= 1  # a line's end that it begins with is replaced whole
        return start, end
    place = _place_whatever_line_ends(text, wanted, label, path) if "\n" in wanted else None
    if place is None:
        raise EditRefused(f"{label} not found in {path}. No changes were written.")
    return place


def _place_whatever_line_ends(text: str, wanted: str, label: str, path: str) -> tuple[int, int] | None:
    # By `find` and `count`, which are linear: `re` would hold the interpreter, and with it all sessions, for
    # hours over a text that nearly fits everywhere.
    plain, wanted = text.replace("\r\n", "\n"), wanted.replace("\r\n", "\n")
    start = plain.find(wanted)
    if start == -1:
        return None
    _refuse_several(plain.count(wanted), label, path)
    return _place_in(text, start), _place_in(text, start + len(wanted))


def _place_in(text: str, place: int) -> int:
    """Where in the text that is which is at `place` of it with plain line ends."""
    places = range(len(text) + 1)
    return bisect_right(places, place, key=lambda each: each - text.count("\r\n", 0, each)) - 1


def _refuse_several(count: int, label: str, path: str) -> None:
    if count > 1:
        raise EditRefused(
            f"{label} found {count} times in {path}. Include more surrounding context to make the match "
            "unique. No changes were written."
        )


def _with_line_ends_of(text: str, start: int, end: int, replacement: Replacement) -> str:
    if "\r" in replacement.new_text or "\r\n" in replacement.old_text:
        return replacement.new_text  # whoever writes line ends out means them
    nearby = text.find("\n", start, end)
    if nearby == -1:
        nearby = text.find("\n")
    if nearby < 1 or text[nearby - 1] != "\r":
        return replacement.new_text
    return replacement.new_text.replace("\n", "\r\n")
