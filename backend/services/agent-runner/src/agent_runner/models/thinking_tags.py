"""Tells thinking from text where a model writes both into its content, `<think>` tags between them.

A tag may be cut anywhere by the borders of the pieces, so what may be the beginning of one is held back.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal

Kind = Literal["text", "thinking"]
Piece = tuple[Kind, str]

_TAGS: Final = {
    "<think>": "</think>",
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
    "[THINK]": "[/THINK]",
    "<seed:think>": "</seed:think>",
    "◁think▷": "◁/think▷",
}
_OPENING: Final = re.compile("|".join(map(re.escape, _TAGS)))
_FIRSTS: Final = ("<", "[", "◁")
_QUOTES: Final = frozenset("`'\"")
"""A tag in quotes is talked about, not used."""


class ThinkingTags:
    """Splits the content of one answer. Call `split` for each piece, and `close` at its end."""

    def __init__(self) -> None:
        self._held = ""
        """The end of what came last, which may be the beginning of a tag."""
        self._closing: str | None = None
        """While thinking: the tag that ends it."""
        self._last = ""
        """The character before what is held; empty at the beginning."""
        self._trims = False
        """Whether white space before the next text is dropped: that between thinking and answer."""
        self._begins = True
        """Whether only white space has come so far."""
        self.unclosed: str | None = None
        """After `close`: the opening tag of thinking in the middle of a text that never ended."""
        self._opened_in_text: str | None = None

    def split(self, piece: str) -> Iterator[Piece]:
        """What the piece brings, in order."""
        plain = self._closing is None and not self._held and not self._trims
        if plain and not any(first in piece for first in _FIRSTS):  # nearly always
            yield from self._text(piece)
            return
        content, self._held = self._held + piece, ""
        while content:
            if self._closing is not None:
                thought, tag, rest = content.partition(self._closing)
                if not tag:
                    thought, self._held = _hold_back(content, (self._closing,))
                if thought:
                    yield "thinking", thought
                if not tag:
                    return
                self._closing, self._trims, content = None, True, rest
                continue
            opening = self._opening_in(content)
            if opening is None:
                text, self._held = _hold_back(content, tuple(_TAGS))
                yield from self._text(text)
                return
            before, content = content[: opening.start()], content[opening.end() :]
            yield from self._text(before)
            self._closing = _TAGS[opening.group()]
            self._opened_in_text = None if self._begins else opening.group()

    def close(self) -> Iterator[Piece]:
        """What was held back, at the end of the answer."""
        held, self._held = self._held, ""
        if self._closing is not None:
            self.unclosed, self._closing = self._opened_in_text, None
            if held:
                yield "thinking", held
        else:
            yield from self._text(held)

    def _opening_in(self, content: str) -> re.Match[str] | None:
        for opening in _OPENING.finditer(content):
            before = content[opening.start() - 1] if opening.start() else self._last
            if before not in _QUOTES:
                return opening
        return None

    def _text(self, text: str) -> Iterator[Piece]:
        if self._trims:
            text = text.lstrip()
        if text:
            self._trims = False
            self._last = text[-1]
            self._begins = self._begins and text.isspace()
            yield "text", text


def _hold_back(content: str, tags: tuple[str, ...]) -> tuple[str, str]:
    """What is surely not the beginning of a tag, and the rest."""
    longest = max(map(len, tags)) - 1
    for start in range(max(0, len(content) - longest), len(content)):
        end = content[start:]
        if any(tag.startswith(end) for tag in tags):
            return content[:start], end
    return content, ""
