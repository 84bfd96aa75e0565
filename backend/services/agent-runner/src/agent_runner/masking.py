"""Replaces secrets in text by their names: whole texts, JSON values, and streams cut anywhere.

Pure. Finds a value as it is, JSON-escaped, URL-encoded, in base64 at any alignment and across its line
breaks, and in hex. It guards against accidents: who wants a secret out can spell it in ways nobody looks for.

The work for a text is bounded by its length: what would take more, as texts full of beginnings of a secret
that repeats itself, is withheld as a whole.
"""

import base64
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pydantic import JsonValue

from stigmer_contract.manifest_parts import MIN_SECRET_CHARACTERS

_UNRESERVED: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
"""RFC 3986, section 2.3: neither URL encoding nor JSON escaping changes them."""
_SHORT_ESCAPES: Final = {'"': '\\"', "\\": "\\\\", "/": "\\/", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
MAX_LINES: Final = 200
"""Of a secret that are masked by themselves, the longest first; a key of 16,384 bits has as many."""
WITHHELD: Final = "[withheld: too much like a secret]"
STEPS_PER_CHARACTER: Final = 20
"""How often for each character of a text more than the beginning of a spelling is compared; rarely once."""
STEPS_OF_ANY_TEXT: Final = 300_000
"""What may be compared besides, for a text of any length: some tenths of a second."""
_LINE_BREAKS: Final = ("\\r\\n", "\\n", "\r\n", "\n")
"""Between two characters of base64; escaped where it stands in JSON."""
_COMPARED_AT_ONCE: Final = 256
"""Characters that the interpreter itself compares in the time of one step."""
_MISS: Final = -1
_OPEN: Final = -2
"""The text ends where more could make it the secret."""


class _TooMuchWork(Exception):
    """A text takes more than its length is good for."""


class Effort:
    """What a text may still take."""

    def __init__(self, characters: int) -> None:
        self.left = STEPS_OF_ANY_TEXT + STEPS_PER_CHARACTER * characters

    def spend(self, steps: int) -> None:
        self.left -= steps
        if self.left < 0:
            raise _TooMuchWork


class _Spelling(Protocol):
    """One way to write one value."""

    @property
    def anchor(self) -> str:
        """What stands in every text with this spelling, line breaks taken out; empty: nothing does."""
        ...

    @property
    def first_characters(self) -> frozenset[str]:
        """What it can begin with."""
        ...

    @property
    def longest(self) -> int:
        """Most characters that it takes."""
        ...

    def end_in(self, text: str, place: int, effort: Effort, *, is_whole: bool) -> int:
        """Where it ends if it stands in the text from `place`, else `_MISS`.

        `_OPEN` where the text ends too early to tell, unless that is the whole text.
        """
        ...


class Masker:
    """Masks a set of values, which may grow. With nothing to look for it costs next to nothing."""

    def __init__(self, secrets: Mapping[str, str]) -> None:
        """`secrets` are values by name; those that are too short are left alone."""
        self._secrets = [(name, value) for name, value in secrets.items()]
        self._look_for_all()

    def learn(self, name: str, value: str) -> None:
        """Mask this one too, from now on, beside all others of its name."""
        if all(value != each for _, each in self._secrets):
            self._secrets.append((name, value))
            self._look_for_all()

    def _look_for_all(self) -> None:
        # Built beside what is there, and put in its place at once: threads may be masking.
        masks: dict[_Spelling, str] = {}
        for name, value in sorted(self._secrets, key=lambda item: len(item[1]), reverse=True):
            # Of a text of several lines each line tells something, and may be printed by itself.
            lines = sorted(dict.fromkeys(value.splitlines()), key=len, reverse=True)[:MAX_LINES]
            for part in dict.fromkeys((value, *lines)):
                if len(part) >= MIN_SECRET_CHARACTERS:
                    for spelling in _spellings(part):
                        masks.setdefault(spelling, f"[secret {name}]")
        by_first_character: defaultdict[str, list[_Spelling]] = defaultdict(list)
        for spelling in masks:
            for character in spelling.first_characters:
                by_first_character[character].append(spelling)
        self._masks = masks
        self._by_first_character = by_first_character
        self._longest = max((spelling.longest for spelling in masks), default=0)
        self._anchors = sorted({spelling.anchor for spelling in masks})
        self.size = sum(spelling.longest for spelling in masks)
        """Characters of all that is looked for: the effort for a text grows with it."""

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to mask."""
        return not self._masks

    def mask(self, text: str) -> str:
        """The text with every secret replaced."""
        if not self._may_hold_secret(text):
            return text
        shown, _ = self._scan(text, 0, is_whole=True)
        return shown

    def mask_json(self, value: JsonValue) -> JsonValue:
        """The same for every text in a JSON value, keys included."""
        # As one text, which takes a fraction of the time: nothing that is looked for holds a NUL.
        return self._mask_texts(value) if self._may_hold_secret("\0".join(_texts_in(value))) else value

    def _mask_texts(self, value: JsonValue) -> JsonValue:
        match value:
            case str():
                return self.mask(value)
            case list():
                return [self._mask_texts(item) for item in value]
            case dict():
                return {self.mask(key): self._mask_texts(item) for key, item in value.items()}
            case _:
                return value

    def split(self, text: str) -> tuple[str, str]:
        """Of a text that goes on: what can be shown, masked, and the rest, which may begin a secret."""
        start = 0 if self._may_hold_secret(text) else max(0, len(text) - self._longest)
        return self._scan(text, start, is_whole=False)

    def _may_hold_secret(self, text: str) -> bool:
        """Never wrongly no, and cheap: most texts hold none."""
        flat = text
        for line_break in _LINE_BREAKS:
            if line_break in flat:
                flat = flat.replace(line_break, "")
        if flat is text:
            return any(anchor in text for anchor in self._anchors)
        return any(anchor in text or anchor in flat for anchor in self._anchors)

    def _whose_anchors_are_in(self, text: str) -> dict[str, list[_Spelling]]:
        """Those that may stand in the text as a whole, by what they can begin with, in their order."""
        flat = text
        for line_break in _LINE_BREAKS:
            flat = flat.replace(line_break, "")
        there = {anchor for anchor in self._anchors if anchor in text or (flat != text and anchor in flat)}
        return {
            character: found
            for character, spellings in self._by_first_character.items()
            if (found := [spelling for spelling in spellings if spelling.anchor in there])
        }

    def _scan(self, text: str, place: int, *, is_whole: bool) -> tuple[str, str]:
        """What is shown of the text, looked at from `place` on, and the rest that may go on as a secret."""
        try:
            return self._replaced(text, place, is_whole=is_whole)
        except _TooMuchWork:
            return WITHHELD, ""

    def _replaced(self, text: str, place: int, *, is_whole: bool) -> tuple[str, str]:
        effort = Effort(len(text))
        shown: list[str] = []
        shown_to = 0
        # Far from the end only what stands there as a whole matters: mostly one or two of very many.
        end_of_whole = len(text) if is_whole else len(text) - self._longest
        there = self._whose_anchors_are_in(text) if place < end_of_whole else {}
        while place < len(text):
            candidates = there if place < end_of_whole else self._by_first_character
            ends = [
                (spelling.end_in(text, place, effort, is_whole=is_whole), spelling)
                for spelling in candidates.get(text[place], ())
            ]
            if any(end == _OPEN for end, _ in ends):
                break
            found = next((found for found in ends if found[0] >= 0), None)
            if found is None:
                place += 1
                continue
            end, spelling = found
            shown += [text[shown_to:place], self._masks[spelling]]
            place = shown_to = end
        return "".join((*shown, text[shown_to:place])), text[place:]


def length_of(value: JsonValue) -> int:
    """How many characters the texts of a JSON value have."""
    return sum(map(len, _texts_in(value)))


def _texts_in(value: JsonValue) -> list[str]:
    texts: list[str] = []
    to_do = [value]
    while to_do:
        match to_do.pop():
            case str() as text:
                texts.append(text)
            case list() as items:
                to_do += items
            case dict() as fields:
                texts += fields
                to_do += fields.values()
            case _:
                pass
    return texts


class MaskedStream:
    """Masks a text that comes in pieces. All that it gives, joined, is the masked text."""

    def __init__(self, masker: Masker) -> None:
        self._masker = masker
        self._rest = ""

    def feed(self, piece: str) -> str:
        """What can be shown now; the rest, which may begin a secret, waits for more."""
        shown, self._rest = self._masker.split(self._rest + piece)
        return shown

    def finish(self) -> str:
        """What was still waiting; the stream is then as new."""
        rest, self._rest = self._rest, ""
        return self._masker.mask(rest)


# --- spellings --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Literal:
    """Always the same characters."""

    text: str

    @property
    def anchor(self) -> str:
        return self.text

    @property
    def first_characters(self) -> frozenset[str]:
        return frozenset(self.text[0])

    @property
    def longest(self) -> int:
        return len(self.text)

    def end_in(self, text: str, place: int, effort: Effort, *, is_whole: bool) -> int:
        effort.spend(len(self.text) // _COMPARED_AT_ONCE)
        if text.startswith(self.text, place):
            return place + len(self.text)
        return _OPEN if not is_whole and _ends_within(self.text, text, place) else _MISS


@dataclass(frozen=True)
class _Broken:
    """The same characters, and between any two of them perhaps a line break: base64."""

    text: str

    @property
    def anchor(self) -> str:
        # Without the first: a backslash before it would make an `n` look like a line break.
        return self.text[1:]

    @property
    def first_characters(self) -> frozenset[str]:
        return frozenset(self.text[0])

    @property
    def longest(self) -> int:
        return len(self.text) * (1 + len(_LINE_BREAKS[0]))

    def end_in(self, text: str, place: int, effort: Effort, *, is_whole: bool) -> int:
        second = text[place + 1 : place + 2]
        if second not in ("", self.text[1], "\\", "\r", "\n"):
            return _MISS  # nearly always, and at once
        for index, character in enumerate(self.text):
            effort.spend(1)
            if index:
                place = _skip_line_break(text, place)
            if place == _OPEN or place >= len(text):
                return _MISS if is_whole else _OPEN
            if text[place] != character:
                return _MISS
            place += 1
        return place


def _skip_line_break(text: str, place: int) -> int:
    """Where the next character stands; `_OPEN` where the text ends within a line break."""
    for line_break in _LINE_BREAKS:
        if text.startswith(line_break, place):
            return place + len(line_break)
        if 0 < len(text) - place < len(line_break) and line_break.startswith(text[place:]):
            return _OPEN
    return place


@dataclass(frozen=True)
class _Escaped:
    """Some characters may be written in several ways: the value itself."""

    parts: tuple[tuple[str, ...], ...]
    """In turn the texts that each part may be written as; what is written in one way only is one part."""

    @property
    def anchor(self) -> str:
        return max((texts[0] for texts in self.parts if len(texts) == 1), key=len, default="")

    @property
    def first_characters(self) -> frozenset[str]:
        return frozenset(text[0] for text in self.parts[0])

    @property
    def longest(self) -> int:
        return sum(max(map(len, texts)) for texts in self.parts)

    def end_in(self, text: str, place: int, effort: Effort, *, is_whole: bool) -> int:
        places = {place}
        for index, texts in enumerate(self.parts):
            if index:
                effort.spend(len(places) * len(texts))
            if not is_whole and any(_ends_within(written, text, at) for written in texts for at in places):
                return _OPEN
            places = {at + len(written) for at in places for written in texts if text.startswith(written, at)}
            if not places:
                return _MISS
        return max(places)


def _ends_within(written: str, text: str, place: int) -> bool:
    return len(text) - place < len(written) and written.startswith(text[place:])


def _spellings(value: str) -> Iterator[_Spelling]:
    parts = tuple(_parts(value))
    yield _Literal(value) if parts == ((value,),) else _Escaped(parts)
    content = value.encode("utf-8", "surrogateescape")
    yield _Literal(content.hex())
    yield _Literal(content.hex().upper())
    for lead in range(3):
        # Only characters all of whose six bits are the value's; those at its ends mix with what is beside.
        encoded = base64.b64encode(bytes(lead) + content).decode("ascii")
        core = encoded[-(-8 * lead // 6) : 8 * (lead + len(content)) // 6]
        yield _Broken(core)
        yield _Broken(core.replace("+", "-").replace("/", "_"))


def _parts(value: str) -> Iterator[tuple[str, ...]]:
    for is_plain, characters in itertools.groupby(value, _UNRESERVED.__contains__):
        if is_plain:
            yield ("".join(characters),)
        else:
            yield from map(_ways_to_write, characters)


def _ways_to_write(character: str) -> tuple[str, ...]:
    octets = character.encode("utf-8", "surrogateescape")
    units = character.encode("utf-16-be", "surrogatepass")
    url_encoded = "".join(f"%{octet:02X}" for octet in octets)
    json_escaped = "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
    texts = {
        character,
        url_encoded,
        url_encoded.lower(),
        json_escaped,
        json_escaped.upper().replace("U", "u"),
    }
    if character in _SHORT_ESCAPES:
        texts.add(_SHORT_ESCAPES[character])
    if character == " ":
        texts.add("+")
    return tuple(sorted(texts))
