"""Pages of the web as Markdown. Reads HTML as browsers do in outline, in time linear to its length. Pure.

It is hostile input: a tag, an entity or a comment that never ends costs no more than its own length. Nothing
is run, nothing is fetched.
"""

import html
import re
from typing import Final

from agent_runner.toolsets.markdown_writer import MarkdownWriter, Page

MAX_PAGE_CHARACTERS: Final = 1_000_000
"""A page of tags alone takes some seconds at most."""
MAX_TAG_CHARACTERS: Final = 64 * 1024
_NAME: Final = re.compile(r"[a-zA-Z][^\s/>]{0,60}")
_ATTRIBUTE: Final = re.compile(r"""([^\s"'>/=]{1,60})(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+)))?""")
_QUOTED_OR_END: Final = re.compile(r"""[>"']""")
_MAIN: Final = re.compile(r"<main[\s>]", re.IGNORECASE)
_DECLARED: Final = re.compile(rb"<meta[^>]{0,200}charset\s*=\s*[\"']?([a-zA-Z0-9_-]{1,40})", re.IGNORECASE)

_RAW: Final = ("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes")
"""Elements that hold text alone (WHATWG HTML, section 13.1.2)."""


def declared_charset(content: bytes) -> str | None:
    """The encoding that a page names itself, in its first kilobyte (WHATWG HTML, section 13.2.3.2)."""
    found = _DECLARED.search(content[:1024])
    return None if found is None else found[1].decode("ascii")


def read_page(text: str, url: str) -> Page:
    """The page as Markdown; of one that marks its main part, that part. Links are made whole by `url`."""
    text = text[:MAX_PAGE_CHARACTERS]
    writer = MarkdownWriter(url, only_main=_MAIN.search(text) is not None)
    position = 0
    while position < len(text):
        opened = text.find("<", position)
        if opened < 0:
            writer.text(text[position:])
            break
        if opened > position:
            writer.text(text[position:opened])
        position = _markup(text, opened, writer)
    return writer.page()


def _markup(text: str, at: int, writer: MarkdownWriter) -> int:
    """Read what begins with `<`; gives where it ends."""
    if text.startswith("<!--", at):
        return _behind(text, "-->", at + 4)
    if text.startswith(("<!", "<?"), at):
        return _behind(text, ">", at + 2)
    is_end = text.startswith("</", at)
    name = _NAME.match(text, at + (2 if is_end else 1))
    if name is None:
        if is_end:
            return _behind(text, ">", at + 2)
        writer.text("<")
        return at + 1
    end = _tag_end(text, name.end())
    tag = name[0].lower()
    if is_end:
        writer.end(tag)
        return end
    attributes = {
        found[1].lower(): html.unescape(found[2] or found[3] or found[4] or "")
        for found in _ATTRIBUTE.finditer(text, name.end(), end)
    }
    writer.begin(tag, attributes)
    if tag not in _RAW:
        return end
    closing = re.compile(rf"</{tag}(?=[\s/>])", re.IGNORECASE).search(text, end)
    closed = len(text) if closing is None else closing.start()
    writer.raw(tag, text[end:closed])
    writer.end(tag)
    return len(text) if closing is None else _tag_end(text, closing.end())


def _behind(text: str, mark: str, at: int) -> int:
    """Where what is behind the mark begins; the end where there is no such mark."""
    found = text.find(mark, at)
    return len(text) if found < 0 else found + len(mark)


def _tag_end(text: str, at: int) -> int:
    """Where a tag ends, whose attributes may hold `>` in quotes. A tag without end ends with its bound."""
    limit = min(len(text), at + MAX_TAG_CHARACTERS)
    while at < limit:
        found = _QUOTED_OR_END.search(text, at, limit)
        if found is None:
            return limit
        if found[0] == ">":
            return found.end()
        # A quote that opens no value is a name's part; browsers then look on for `>`.
        is_value = text[max(0, found.start() - 8) : found.start()].rstrip()[-1:] == "="
        closing = text.find(found[0], found.end(), limit) if is_value else found.start()
        at = limit if closing < 0 else closing + 1
    return limit
