"""Cuts Markdown that is being written into pieces that can be rendered each by itself. Pure.

A piece ends at a blank line outside of code and lists, so that a paragraph, a table or a block of code is
never torn apart.
"""

import re
from typing import Final

_FENCE: Final = re.compile(r"^ {0,3}(`{3,}|~{3,})")
_GOES_ON: Final = re.compile(r"^(?: {2,}|\t|[ ]{0,3}(?:[-*+]|\d{1,9}[.)])(?:\s|$))")
"""A line that belongs to a list: after a blank line the list goes on with it (CommonMark 0.31, 5.3)."""


class MarkdownBlocks:
    """Takes text as it comes."""

    def __init__(self) -> None:
        self._pending = ""

    @property
    def pending(self) -> str:
        """What is not complete yet."""
        return self._pending

    def take(self, text: str) -> list[str]:
        """The pieces that are complete now."""
        self._pending += text
        pieces = list[str]()
        while (end := _end_of_first(self._pending)) is not None:
            piece, self._pending = self._pending[:end], self._pending[end:].lstrip("\n")
            if piece.strip():
                pieces.append(piece)
        return pieces

    def finish(self) -> str:
        """What is left, complete or not."""
        rest, self._pending = self._pending, ""
        return rest if rest.strip() else ""


def _end_of_first(text: str) -> int | None:
    """Where the first piece ends; None while that is not certain."""
    fence: str | None = None
    place, in_list, blank_at = 0, False, None
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # an unfinished line may become anything
        if blank_at is not None:
            # A list is over only with the line that shows it.
            if not in_list or not _GOES_ON.match(line):
                return blank_at
            blank_at = None
        marker = _FENCE.match(line)
        if fence is not None:
            if marker is not None and marker[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = None
        elif marker is not None:
            fence = marker[1]
        elif not line.strip():
            if text[:place].strip():
                blank_at = place
        else:
            in_list = in_list or _GOES_ON.match(line) is not None
        place += len(line)
    return None if in_list else blank_at
