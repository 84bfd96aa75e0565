"""Answers of the web as text: which are text at all, and in what encoding. Pure."""

import codecs
from typing import Final

from agent_runner.outward import Answer

_TEXTUAL: Final = frozenset(
    {
        "", "application/ecmascript", "application/graphql", "application/javascript", "application/json",
        "application/toml", "application/x-javascript", "application/x-ndjson", "application/x-sh",
        "application/x-www-form-urlencoded", "application/x-yaml", "application/xhtml+xml", "application/xml",
        "application/yaml", "image/svg+xml",
    }
)  # fmt: skip
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_NO_TEXT: Final = frozenset("\0\x01\x02\x03\x04\x05\x06\x07\x0e\x0f")


def is_textual(answer: Answer) -> bool:
    """Whether it is text, by its media type; where that is not said, by its first bytes."""
    kind = answer.media_type
    if not kind or kind == "application/octet-stream":
        return not any(chr(byte) in _NO_TEXT for byte in answer.content[:1024])
    return kind.startswith("text/") or kind in _TEXTUAL or kind.endswith(("+json", "+xml", "+yaml"))


def text_of(answer: Answer, declared: str | None = None) -> str:
    """The content as text: by its byte order mark, its headers, or what it declares itself; else UTF-8.

    Args:
        declared: the encoding that the content names itself.
    """
    for mark, encoding in _MARKS:
        if answer.content.startswith(mark):
            return answer.content.decode(encoding, errors="replace")
    for name in (answer.charset, declared):
        if name and _is_text_encoding(name):
            # WHATWG's encoding standard, section 4.2: what says Latin-1 means windows-1252.
            wide = "cp1252" if codecs.lookup(name).name in ("iso8859-1", "ascii") else name
            return answer.content.decode(wide, errors="replace")
    return answer.content.decode("utf-8", errors="replace")


def _is_text_encoding(name: str) -> bool:
    try:
        b"".decode(name)
        return len(name) <= 40
    except (LookupError, ValueError, UnicodeError):
        return False
