"""Writes Markdown as the tags and texts of a page come. Pure; knows nothing of how HTML is written.

What comes is hostile: tags that end what never began, and elements within elements without end.
"""

import html
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin, urlsplit

MAX_LINK_CHARACTERS: Final = 1_000
MAX_INDENT: Final = 8
MAX_DEPTH: Final = 200
"""Of lists, and of hidden elements."""
MAX_MARKS: Final = 16
"""Emphasis within emphasis."""
_BLANKS: Final = re.compile(r"\s+")
_HIDDEN: Final = frozenset(
    {
        "script",
        "style",
        "template",
        "svg",
        "math",
        "iframe",
        "object",
        "noembed",
        "noframes",
        "select",
        "head",
    }
)
_HEADINGS: Final = {f"h{level}": "#" * level + " " for level in range(1, 7)}
_CLOSED: Final = frozenset(
    {"article", "aside", "div", "footer", "header", "nav", "ol", "section", "span", "ul"}
)
"""Elements whose end must be written."""
_OF_HEAD: Final = frozenset({"base", "link", "meta", "noscript", "script", "style", "template", "title"})
_TICKS: Final = re.compile(r"`+")
_BLOCKS: Final = frozenset(
    {
        "address", "article", "aside", "blockquote", "body", "details", "dd", "div", "dl", "dt", "fieldset",
        "figcaption", "figure", "footer", "form", "header", "hr", "html", "li", "main", "nav", "ol", "p",
        "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul", *_HEADINGS,
    }
)  # fmt: skip
_MARKS: Final = {"b": "**", "strong": "**", "em": "*", "i": "*", "del": "~~", "s": "~~", "code": "`"}


@dataclass(frozen=True)
class Page:
    """What a page says."""

    title: str
    markdown: str


@dataclass
class _List:
    """A list that is open."""

    is_ordered: bool
    count: int = 0


class MarkdownWriter:
    """Writes Markdown as tags and texts come."""

    def __init__(self, url: str, *, only_main: bool) -> None:
        self._url = url
        self._only_main = only_main
        self._blocks: list[tuple[str, bool]] = []
        """Each with whether it is an item of a list."""
        self._inline: list[str] = []
        self._title = ""
        self._lists: list[_List] = []
        self._link: tuple[int, str] | None = None
        """Where the text of the open link begins, and where it leads."""
        self._marks: list[tuple[str, int]] = []
        self._rows: list[str] = []
        """Of the table that is written."""
        self._cells: list[str] | None = None
        """Of the row that is open."""
        self._is_in_cell = False
        self._hidden: list[str] = []
        """Elements that are open and not shown."""
        self._main = self._pre = self._quotes = 0
        self._lead = ""
        """What the next block begins with, once."""

    @property
    def _is_shown(self) -> bool:
        return not self._hidden and (self._main > 0 or not self._only_main)

    def text(self, text: str) -> None:
        """A piece of text, with its entities."""
        if self._is_shown:
            self._add(html.unescape(text))

    def raw(self, tag: str, text: str) -> None:
        """The text of an element that holds nothing else."""
        if tag == "title" and not self._title:
            self._title = _BLANKS.sub(" ", html.unescape(text[:1_000])).strip()
        elif tag == "textarea" and self._is_shown:
            self._add(html.unescape(text))

    def begin(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        if self._hidden == ["head"] and tag not in _OF_HEAD:
            self._hidden.clear()  # the end of a head need not be written
        if tag == "main":
            self._main += 1
        is_hidden = "hidden" in attributes or attributes.get("aria-hidden") == "true"
        if tag in _HIDDEN or (is_hidden and tag in _CLOSED) or (self._hidden and tag == self._hidden[-1]):
            if len(self._hidden) < MAX_DEPTH:
                self._hidden.append(tag)
        elif self._is_shown:
            self._begin_shown(tag, attributes)

    def _begin_shown(self, tag: str, attributes: dict[str, str]) -> None:
        if tag in _BLOCKS:
            self._flush()
        match tag:
            case "br":
                self._inline.append("\n")
            case "hr" if self._cells is None:
                self._append("---")
            case "ul" | "ol" if len(self._lists) < MAX_DEPTH:
                self._lists.append(_List(tag == "ol"))
            case "li":
                self._begin_item()
            case "blockquote":
                self._quotes += 1
            case "pre":
                self._flush()
                self._pre += 1
            case "tr":
                self._begin_row()
            case "td" | "th":
                self._end_cell()
                self._is_in_cell = self._cells is not None
            case "a":
                self._end_link()
                self._link = (len(self._inline), self._whole(attributes.get("href", "")))
            case "img":
                alternative = _BLANKS.sub(" ", attributes.get("alt", "")).strip()
                if alternative:
                    self._add(f"[image: {alternative[:300]}]")
            case _ if tag in _HEADINGS and self._cells is None:
                self._lead = _HEADINGS[tag]
            case _ if tag in _MARKS and not self._pre and len(self._marks) < MAX_MARKS:
                self._marks.append((tag, len(self._inline)))
            case _:
                pass

    def end(self, tag: str) -> None:
        """An element ends; it may never have begun."""
        if self._hidden:
            if tag in self._hidden:
                last = len(self._hidden) - 1 - self._hidden[::-1].index(tag)
                del self._hidden[last:]
        elif self._is_shown:
            self._end_shown(tag)
        if tag == "main":
            self._main = max(0, self._main - 1)

    def _end_shown(self, tag: str) -> None:
        match tag:
            case "a":
                self._end_link()
            case "pre":
                self._end_pre()
            case "td" | "th":
                self._end_cell()
            case "tr":
                self._end_row()
            case "table":
                self._end_row()
                self._end_table()
            case "ul" | "ol":
                self._flush()
                self._lead = ""
                if self._lists:
                    self._lists.pop()
            case "blockquote":
                self._flush()
                self._quotes = max(0, self._quotes - 1)
            case _ if tag in _MARKS and self._marks and self._marks[-1][0] == tag:
                self._end_mark()
            case _ if tag in _BLOCKS:
                self._flush()
                if tag == "li" or tag in _HEADINGS:
                    self._lead = ""
            case _:
                pass

    def page(self) -> Page:
        """What was written."""
        self._pre = min(self._pre, 1)
        self._end_pre()
        self._end_row()
        self._flush()
        self._end_table()
        pieces = list[str]()
        for at, (block, is_item) in enumerate(self._blocks):
            if at:
                pieces.append("\n" if is_item and self._blocks[at - 1][1] else "\n\n")
            pieces.append(block)
        return Page(self._title, "".join(pieces))

    def _add(self, text: str) -> None:
        self._inline.append(text if self._pre else _BLANKS.sub(" ", text))

    def _taken(self, start: int = 0) -> str:
        """The inline text from a place on, which is taken out."""
        text = "".join(self._inline[start:])
        del self._inline[start:]
        return text

    def _append(self, block: str, *, is_item: bool = False) -> None:
        self._end_table()
        self._blocks.append((block, is_item))

    def _flush(self) -> None:
        """End the paragraph that is written."""
        if self._pre or self._cells is not None:
            self._inline.append("\n" if self._pre else " ")
            return
        self._end_link()
        self._marks.clear()
        text = "\n".join(line.strip() for line in self._taken().split("\n")).strip()
        if not text:
            return
        lead, self._lead = self._lead, ""
        quote = "> " * min(self._quotes, MAX_INDENT)
        indent = "  " * min(max(0, len(self._lists) - 1), MAX_INDENT)
        rest = f"{quote}{indent}{'  ' if self._lists else ''}"
        first = f"{quote}{indent}{lead}" if lead else rest
        lines = text.split("\n")
        shown = [f"{first if at == 0 else rest}{line}".rstrip() for at, line in enumerate(lines)]
        self._append("\n".join(shown), is_item=bool(lead and self._lists))

    def _begin_item(self) -> None:
        lead = "- "
        if self._lists and self._lists[-1].is_ordered:
            self._lists[-1].count += 1
            lead = f"{self._lists[-1].count}. "
        if self._cells is None:
            self._lead = lead
        else:
            self._inline.append(lead)

    def _end_link(self) -> None:
        if self._link is None:
            return
        (start, target), self._link = self._link, None
        text = self._taken(start)
        bare = text.strip()
        if not bare or not target or self._pre:
            self._inline.append(text)
            return
        before, behind = (" " if each.isspace() else "" for each in (text[0], text[-1]))
        self._inline.append(f"{before}[{bare}]({target}){behind}")

    def _end_mark(self) -> None:
        tag, start = self._marks.pop()
        if self._link is not None and self._link[0] > start:
            return  # they are interlaced
        text = self._taken(start)
        bare, mark = text.strip(), _MARKS[tag]
        if bare:
            before, behind = (" " if each.isspace() else "" for each in (text[0], text[-1]))
            self._inline.append(f"{before}{mark}{bare}{mark}{behind}")
        else:
            self._inline.append(text)

    def _end_pre(self) -> None:
        if self._pre != 1:
            self._pre = max(0, self._pre - 1)
            return
        self._end_link()
        self._pre = 0
        code = self._taken().strip("\n")
        if self._cells is not None:
            self._inline.append(_BLANKS.sub(" ", code))
        elif code.strip():
            longest = max((len(run) for run in _TICKS.findall(code)), default=0)
            fence = "`" * max(3, longest + 1)
            self._append(f"{fence}\n{code}\n{fence}")

    def _begin_row(self) -> None:
        if self._is_in_cell:  # a table in a cell: that one is for the page's layout
            self._cells, self._is_in_cell = None, False
            self._flush()
        else:
            self._end_row()
            self._flush()
        self._cells = []

    def _end_cell(self) -> None:
        if self._is_in_cell and self._cells is not None:
            self._end_link()
            self._marks.clear()
            self._cells.append(_BLANKS.sub(" ", self._taken()).strip().replace("|", "\\|"))
            self._is_in_cell = False

    def _end_row(self) -> None:
        self._end_cell()
        cells, self._cells = self._cells, None
        if cells is None or not any(cells):
            return
        if len(cells) == 1 and not self._rows:
            self._inline.append(cells[0])
            self._flush()
            return
        self._rows.append(f"| {' | '.join(cells)} |")
        if len(self._rows) == 1:
            self._rows.append("|" + "---|" * len(cells))

    def _end_table(self) -> None:
        if self._rows:
            self._blocks.append(("\n".join(self._rows), False))
            self._rows.clear()

    def _whole(self, link: str) -> str:
        if not link:
            return ""
        try:
            whole = urljoin(self._url, link.strip())
            is_shown = urlsplit(whole).scheme in ("http", "https", "mailto")
        except ValueError:
            return ""
        whole = whole.replace(" ", "%20").replace(")", "%29")
        return whole if is_shown and len(whole) <= MAX_LINK_CHARACTERS and whole.isprintable() else ""
