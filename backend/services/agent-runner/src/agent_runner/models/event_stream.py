"""Reads what a provider sends, piece by piece, into JSON objects: server-sent events, or nearly.


Lenient, because servers are: comments anywhere, `data:` without a space or without an empty line after it,
any line end, bytes that are no UTF-8, bare JSON lines, or one whole JSON document in place of a stream. What
an object means is for the readers of the wire formats to say. The format: HTML Living Standard, section 9.2.
"""

import json
from dataclasses import dataclass, field
from typing import Final, cast

from pydantic_core import from_json

JsonObject = dict[str, object]

MAX_PLAIN_CHARACTERS: Final = 1_000_000
"""Of a body that is neither: more of it is not kept."""

_FIELDS: Final = (b"event", b"id", b"retry")
_END_MARKS: Final = (b"[DONE]", b'"[DONE]"', b"DONE", b"[done]")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class EndOfStream:
    """The provider's `[DONE]`."""


@dataclass(frozen=True)
class UnreadableData:
    """A piece that looks like JSON and is none: something of the answer is lost."""

    text: str


Record = JsonObject | EndOfStream | UnreadableData


@dataclass
class EventStream:
    """Give it bytes with `feed`, and what is left with `close`; both return the records that are complete."""

    plain: list[str] = field(default_factory=list[str])
    """Lines that are neither events nor JSON: a web page, say."""
    _incomplete_line: list[bytes] = field(default_factory=list[bytes])
    _data: list[bytes] = field(default_factory=list[bytes])
    """Lines of one event that is no JSON yet."""
    _plain_characters: int = 0
    _at_start: bool = True

    def feed(self, piece: bytes) -> list[Record]:
        """The records that the next bytes complete."""
        if self._at_start and piece:
            piece = piece.removeprefix(_BYTE_ORDER_MARK)
            self._at_start = False
        lines = piece.split(b"\n")
        if len(lines) == 1 and b"\r" not in piece:
            self._incomplete_line.append(piece)
            return []
        lines[0] = b"".join([*self._incomplete_line, lines[0]])
        self._incomplete_line = [lines.pop()]
        records: list[Record] = []
        for line in lines:
            self._take_line(line, records)
        if b"\r" in self._incomplete_line[0]:
            # A carriage return alone ends a line, too; the one at the very end may be half of a pair.
            *whole, rest = self._incomplete_line[0].split(b"\r")
            for line in whole:
                self._take_line(line, records)
            self._incomplete_line = [rest]
        return records

    def close(self) -> list[Record]:
        """The records that the end of the body completes."""
        records: list[Record] = []
        self._take_line(b"".join(self._incomplete_line), records)
        self._end_event(records)
        self._incomplete_line = []
        if self.plain and (whole := parse_json("\n".join(self.plain))) is not None:
            if isinstance(whole, dict):
                records.append(cast("JsonObject", whole))
            elif isinstance(whole, list):
                # Gemini's errors, and its streams without `alt=sse`, are lists.
                items = cast("list[object]", whole)
                records.extend(cast("JsonObject", item) for item in items if isinstance(item, dict))
            self.plain = []
        return records

    def _take_line(self, line: bytes, records: list[Record]) -> None:
        if b"\r" in line:
            for part in line.split(b"\r"):
                self._take_line(part, records)
        elif not line.strip():
            self._end_event(records)
        elif line.startswith(b"data:"):
            data = line[5:].strip()
            while data.startswith(b"data:"):  # some proxies frame what is framed already
                data = data[5:].strip()
            self._take_data(data, records)
        elif line.startswith(b":") or line.partition(b":")[0].strip() in _FIELDS:
            pass  # comments are ignored, and what kind of event it is stands in its data
        else:
            self._take_plain(line.strip(), records)

    def _take_data(self, data: bytes, records: list[Record]) -> None:
        if not data:
            return
        if data in _END_MARKS:
            self._end_event(records)
            records.append(EndOfStream())
            return
        # Most events are one line, and servers forget the empty one after it.
        value = parse_json(data) if not self._data or data.startswith(b"{") else None
        if isinstance(value, dict):
            self._end_event(records)
            records.append(cast("JsonObject", value))
        elif isinstance(value, list):
            records.extend(
                cast("JsonObject", item) for item in cast("list[object]", value) if isinstance(item, dict)
            )
        elif value is None:
            self._data.append(data)

    def _end_event(self, records: list[Record]) -> None:
        if not self._data:
            return
        data, self._data = b"\n".join(self._data), []
        value = parse_json(data)
        if isinstance(value, dict):
            records.append(cast("JsonObject", value))
        elif data.startswith((b"{", b"[")):
            records.append(UnreadableData(data[:200].decode(errors="replace")))
        else:
            # `data: ping`, or an error as plain text.
            self._keep_plain(data)

    def _take_plain(self, line: bytes, records: list[Record]) -> None:
        if line in _END_MARKS:
            records.append(EndOfStream())
            return
        value = parse_json(line) if line.startswith(b"{") and not self.plain else None
        if isinstance(value, dict):
            records.append(cast("JsonObject", value))
        else:
            self._keep_plain(line)

    def _keep_plain(self, line: bytes) -> None:
        self._plain_characters += len(line)
        if self._plain_characters <= MAX_PLAIN_CHARACTERS:
            self.plain.append(line.decode(errors="replace"))


def parse_json(text: bytes | str) -> object:
    """The value, read as leniently as JSON can be; None where it is none (or `null`).

    The strict reader is four times as fast; what it refuses is half surrogates, bytes that are no UTF-8 and
    control characters in strings.
    """
    try:
        return from_json(text)
    except ValueError:
        pass
    if isinstance(text, bytes):
        text = text.decode("utf-8", errors="replace")
    try:
        return json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return None
