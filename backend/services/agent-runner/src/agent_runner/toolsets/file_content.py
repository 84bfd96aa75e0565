"""Reads of a file what a model is shown: a window of lines, a picture, or what kind of thing it is.

All of it works on an open descriptor, in pieces: a file's size is nothing to rely on.
"""

import codecs
import hashlib
import io
import mimetypes
from dataclasses import dataclass
from typing import Final, Protocol

MAX_LINES: Final = 2000
"""Most lines of one reading."""
MAX_READ_BYTES: Final = 64 << 20
"""Largest file that is gone through for its number of lines and its hash; takes about 0.2 s."""
MAX_EDIT_BYTES: Final = 16 << 20
"""Largest file that is held in memory, to be edited."""
MAX_MEDIA_BYTES: Final = 5_000_000
"""Largest picture or document that is handed to a model: the strictest limit of the large providers."""
HASH_CHARACTERS: Final = 12
_PIECE_BYTES: Final = 1 << 20
_BINARY_SAMPLE_BYTES: Final = 8192
_HEX_BYTES: Final = 64
_NOTICE_CHARACTERS: Final = 200
_WHOLE_LINES_SUFFICE: Final = 256
_UTF_16: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
_MEDIA: Final = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)


class Reader(Protocol):
    """What content is read from."""

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes; none at the end."""
        ...


@dataclass(frozen=True)
class TextWindow:
    """Some lines of a text, and what is known of all of it."""

    lines: list[str]
    """The lines asked for, with their ends."""
    total_lines: int
    digest: str


@dataclass(frozen=True)
class Media:
    """A picture or a document."""

    data: bytes
    media_type: str
    digest: str


@dataclass(frozen=True)
class Binary:
    """Anything else that is no text."""

    size_bytes: int
    head: bytes
    media_type: str
    digest: str


@dataclass(frozen=True)
class TooLarge:
    """More than is gone through."""


def read_window(
    file: Reader, name: str, *, offset: int, limit: int, max_characters: int
) -> TextWindow | Media | Binary | TooLarge:
    """Go through a file once. Lines beyond `limit` or `max_characters` are counted, not kept."""
    digest = hashlib.sha256()
    head = file.read(_PIECE_BYTES)
    media_type = sniff_media_type(head)
    encoding = utf_16_of(head)
    if media_type is not None or (encoding is None and is_binary(head)):
        return _read_binary(file, head, name, media_type)
    window = _Window(offset, limit, max_characters)
    decoder = None if encoding is None else codecs.getincrementaldecoder("utf-16")("replace")
    size, piece = 0, head
    while piece:
        size += len(piece)
        if size > MAX_READ_BYTES:
            return TooLarge()
        digest.update(piece)
        window.add(piece if decoder is None else decoder.decode(piece).encode())
        piece = file.read(_PIECE_BYTES)
    return TextWindow(window.finish(), window.total, digest.hexdigest()[:HASH_CHARACTERS])


def content_digest(data: bytes) -> str:
    """The beginning of the SHA-256 of the bytes, as `read_file` shows it and `expected_hash` takes it."""
    return hashlib.sha256(data).hexdigest()[:HASH_CHARACTERS]


def digest_of(file: Reader) -> str | None:
    """The digest of what is there; None where it is more than is gone through."""
    digest, size = hashlib.sha256(), 0
    while piece := file.read(_PIECE_BYTES):
        size += len(piece)
        if size > MAX_READ_BYTES:
            return None
        digest.update(piece)
    return digest.hexdigest()[:HASH_CHARACTERS]


def is_binary(head: bytes) -> bool:
    """Whether content that begins so is no text."""
    return b"\0" in head[:_BINARY_SAMPLE_BYTES]


def utf_16_of(head: bytes) -> str | None:
    """The encoding of content that begins with a byte order mark of UTF-16; None where it does not."""
    if head.startswith(codecs.BOM_UTF32_LE):
        return None
    return next((name for mark, name in _UTF_16.items() if head.startswith(mark)), None)


def text_of(data: bytes) -> tuple[str, str, str]:
    """A whole file as text, its encoding, and how that treats what is no text: both lead back to the bytes.

    Raises:
        ValueError: it is no text.
    """
    encoding = utf_16_of(data)
    if encoding is not None:
        # UnicodeDecodeError: half a character.
        return data.decode(encoding, "surrogatepass"), encoding, "surrogatepass"
    if is_binary(data):
        raise ValueError("it is binary")
    return data.decode("utf-8", "surrogateescape"), "utf-8", "surrogateescape"


def sniff_media_type(head: bytes) -> str | None:
    """The type of a picture or PDF by its first bytes, whatever the file is called."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for magic, media_type in _MEDIA if head.startswith(magic)), None)


def hex_preview(binary: Binary) -> str:
    """The first bytes in rows of sixteen."""
    head = binary.head[:_HEX_BYTES]
    rows = [f"{start:08x}  {head[start : start + 16].hex(' ')}\n" for start in range(0, len(head), 16)]
    more = binary.size_bytes - len(head)
    return "".join(rows) + (f"... ({more} more bytes)\n" if more > 0 else "")


def numbered_lines(window: TextWindow, *, offset: int, max_characters: int) -> str:
    """The lines with their numbers, and how to go on where there are more.

    Raises:
        ValueError: the offset lies beyond the end.
    """
    if window.total_lines == 0:
        return "(empty file)\n"
    if offset >= window.total_lines:
        raise ValueError(f"offset {offset} is beyond the end: the file has {window.total_lines} lines")
    text, left = list[str](), max_characters - _NOTICE_CHARACTERS
    for number, line in enumerate(window.lines, start=offset + 1):
        shown = f"{number:>6}\t{line}"
        if len(shown) > left:
            break
        text.append(shown)
        left -= len(shown)
    if not text:  # a line longer than all that may be shown
        text.append(f"{offset + 1:>6}\t{window.lines[0][:left]} [... line cut]\n")
    result = "".join(text)
    if not result.endswith("\n"):
        result += "\n"
    shown_to = offset + len(text)
    if shown_to < window.total_lines:
        more = window.total_lines - shown_to
        result += f"... ({more} more lines. Use offset={shown_to} to continue reading.)\n"
    return result


class _Window:
    """Keeps the lines of interest of a text that comes in pieces."""

    def __init__(self, offset: int, limit: int, max_characters: int) -> None:
        self.total = 0
        self._offset = offset
        self._end = offset + limit
        self._left = max_characters + _WHOLE_LINES_SUFFICE
        self._max_line_bytes = 4 * max_characters
        self._lines = list[str]()
        self._unfinished = io.BytesIO()

    def add(self, piece: bytes) -> None:
        if self.total >= self._end or self._left <= 0 or self.total + piece.count(b"\n") < self._offset:
            self._pass_over(piece)
            return
        start = 0
        while (end := piece.find(b"\n", start)) != -1:
            self._put(piece[start : end + 1])
            self._end_line()
            start = end + 1
        self._put(piece[start:])

    def finish(self) -> list[str]:
        if self._unfinished.tell():
            self._end_line()
        return self._lines

    def _pass_over(self, piece: bytes) -> None:
        """Count only; of the line that the piece ends in, remember that it has begun."""
        ends = piece.count(b"\n")
        if not ends:
            self._put(piece)
            return
        first, _, _ = piece.partition(b"\n")
        self._put(first + b"\n")
        self._end_line()
        self.total += ends - 1
        self._put(piece[piece.rfind(b"\n") + 1 :])

    def _put(self, data: bytes) -> None:
        room = self._max_line_bytes - self._unfinished.tell()
        if room > 0:
            self._unfinished.write(data[:room])

    def _end_line(self) -> None:
        if self._offset <= self.total < self._end and self._left > 0:
            line = self._unfinished.getvalue().decode("utf-8", errors="replace")
            if self.total == 0:
                line = line.removeprefix("\ufeff")
            self._lines.append(line)
            self._left -= len(line)
        self.total += 1
        self._unfinished = io.BytesIO()


def _read_binary(file: Reader, head: bytes, name: str, media_type: str | None) -> Media | Binary | TooLarge:
    digest = hashlib.sha256(head)
    kept, size = bytearray(head), len(head)
    while piece := file.read(_PIECE_BYTES):
        size += len(piece)
        if size > MAX_READ_BYTES:
            return TooLarge()
        digest.update(piece)
        if media_type is not None and size <= MAX_MEDIA_BYTES:
            kept += piece
    name_of_digest = digest.hexdigest()[:HASH_CHARACTERS]
    if media_type is not None and size <= MAX_MEDIA_BYTES:
        return Media(bytes(kept), media_type, name_of_digest)
    guessed = media_type or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Binary(size, head[:_HEX_BYTES], guessed, name_of_digest)
