"""Exact replacements in the text of a file, whatever its line ends. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_LINE_END: Final = re.compile("\r\n|\n")


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
        EditRefused: one is empty, or found never or more than once.
    """
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
        return start, start + len(wanted)
    places: list[re.Match[str]] = []
    if "\n" in wanted:
        # Literal pieces between line ends: nothing to go back for, so linear.
        pattern = "\r?\n".join(map(re.escape, _LINE_END.split(wanted)))
        places = list(re.finditer(pattern, text))
    if not places:
        raise EditRefused(f"{label} not found in {path}. No changes were written.")
    _refuse_several(len(places), label, path)
    return places[0].span()


def _refuse_several(count: int, label: str, path: str) -> None:
    if count > 1:
        raise EditRefused(
            f"{label} found {count} times in {path}. Include more surrounding context to make the match "
            "unique. No changes were written."
        )


def _with_line_ends_of(text: str, start: int, end: int, replacement: Replacement) -> str:
    if "\r" in replacement.new_text or "\r\n" in replacement.old_text:
        return replacement.new_text  # whoever writes line ends out means them
    nearby = _LINE_END.search(text, start, end) or _LINE_END.search(text)
    if nearby is None or nearby[0] == "\n":
        return replacement.new_text
    return replacement.new_text.replace("\n", "\r\n")
