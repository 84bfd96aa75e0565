"""Reads the text/event-stream format (WHATWG HTML, section 9.2.6) from pieces of any size. Does no I/O."""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass

_LINE_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True)
class SseMessage:
    """One message. Unlike a browser's, its id is its own: None where the frame carries none."""

    event: str
    data: str
    id: str | None


class SseParser:
    """Takes bytes as they come and gives messages as they are complete.

    An unfinished message at the end of the stream is dropped, as the format wants it.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._searched = 0
        self._ended_with_return = False
        self._is_first_line = True
        self._data: list[str] = []
        self._event = ""
        self._id: str | None = None

    def feed(self, chunk: bytes) -> Iterator[SseMessage]:
        """The messages that this chunk completes."""
        for line in self._split_lines(chunk):
            message = self._take_line(line)
            if message:
                yield message

    def _split_lines(self, chunk: bytes) -> list[str]:
        if self._ended_with_return and chunk:
            chunk = chunk.removeprefix(b"\n")  # the second half of a CRLF that was cut in two
            self._ended_with_return = False
        self._buffer += chunk
        lines: list[str] = []
        start = 0
        while end := _LINE_END.search(self._buffer, max(start, self._searched)):
            lines.append(self._buffer[start : end.start()].decode(errors="replace"))
            start = end.end()
            self._ended_with_return = end.group() == b"\r" and start == len(self._buffer)
        del self._buffer[:start]
        self._searched = len(self._buffer)
        return lines

    def _take_line(self, line: str) -> SseMessage | None:
        if self._is_first_line:
            line = line.removeprefix(codecs.BOM_UTF8.decode())
            self._is_first_line = False
        if not line:
            return self._finish_message()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._data.append(value)
            case "event":
                self._event = value
            case "id" if "\0" not in value:
                self._id = value
            case _:
                pass  # a comment, `retry`, or a field that the format lets us ignore
        return None

    def _finish_message(self) -> SseMessage | None:
        message = SseMessage(self._event or "message", "\n".join(self._data), self._id)
        has_data = bool(self._data)
        self._data, self._event, self._id = [], "", None
        return message if has_data else None
