"""Puts one answer together from its pieces, whatever the wire format, and shows it while it comes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from agent_runner.models.calls_in_text import calls_in_text
from agent_runner.models.event_stream import JsonObject
from agent_runner.models.thinking_tags import ThinkingTags
from agent_runner.models.tool_calls import CallDraft, CallDrafts, whole_text

AnswerKind = Literal["text", "thinking"]
ShowAnswer = Callable[[AnswerKind, str], None]
"""Called with each piece of an answer, in order; must not wait."""


def show_nothing(kind: AnswerKind, text: str) -> None:
    """For answers that nobody watches."""


@dataclass
class Passage:
    """A stretch of an answer of one kind."""

    kind: AnswerKind
    key: str
    """What tells it from the next: the wire's field or item."""
    pieces: list[str] = field(default_factory=list[str])
    signature: str | None = None
    details: JsonObject | None = None

    @property
    def text(self) -> str:
        """All of it, fit for JSON."""
        return whole_text("".join(self.pieces))


@dataclass
class AnswerBuilder:
    """One answer that is being read."""

    known_tools: Collection[str]
    show: ShowAnswer
    calls: CallDrafts = field(init=False)
    order: list[Passage | CallDraft] = field(default_factory=list[Passage | CallDraft])
    refusal: list[str] = field(default_factory=list[str])
    reason: str | None = None
    """The provider's word for the end."""
    report: JsonObject | None = None
    """What the provider says the answer used; later reports replace earlier ones."""
    model: str | None = None
    answer_id: str | None = None
    characters: int = 0
    """Of text, thinking and arguments so far."""
    _tags: ThinkingTags = field(default_factory=ThinkingTags)
    _half: dict[AnswerKind, str] = field(default_factory=dict[AnswerKind, str])
    """The first half of a surrogate pair at the end of what was shown."""

    def __post_init__(self) -> None:
        self.calls = CallDrafts(self.known_tools)

    @property
    def progress(self) -> tuple[object, ...]:
        """Another value with each piece of the answer that comes; pings and empty pieces leave it."""
        return (len(self.order), self.characters, len(self.refusal), self.reason)

    @property
    def has_begun(self) -> bool:
        """Whether a piece of the answer has come, kept here or by its reader."""
        return self.characters > 0 or not self.is_empty

    @property
    def is_empty(self) -> bool:
        """Whether nothing has come that could be an answer."""
        return not self.order and not self.refusal

    def add(self, kind: AnswerKind, text: str, key: str) -> None:
        """A piece of text or thinking, as it is."""
        if not text:
            return
        self.passage(kind, key).pieces.append(text)
        self.show_piece(kind, text)

    def passage(self, kind: AnswerKind, key: str) -> Passage:
        """The passage that the next piece goes on with, or a new one."""
        last = self.order[-1] if self.order else None
        if isinstance(last, Passage) and (last.kind, last.key) == (kind, key):
            return last
        passage = Passage(kind, key)
        self.order.append(passage)
        return passage

    def add_content(self, text: str) -> None:
        """A piece of content in which thinking may stand between tags."""
        for kind, piece in self._tags.split(text):
            self.add(kind, piece, "content")

    def add_call(
        self, index: object, call_id: str, name: str, arguments: object, extra: JsonObject | None = None
    ) -> None:
        """A piece of a tool call."""
        self._flush_tags()
        before = len(self.calls.drafts)
        self.calls.take(index, call_id, name, arguments, extra)
        self.order.extend(self.calls.drafts[before:])
        if isinstance(arguments, str):
            self.characters += len(arguments)

    def close(self) -> None:
        """Nothing more will come."""
        self._flush_tags()
        opening = self._tags.unclosed
        last = self.order[-1] if self.order else None
        if (
            opening is not None
            and isinstance(last, Passage)
            and (last.kind, last.key) == ("thinking", "content")
        ):
            # It never ended, so the text was about the tag.
            last.kind, last.pieces = "text", [opening, *last.pieces]
            self._join_texts()
        self._reclaim_headless_thinking()
        self._find_calls_in_text()

    def _find_calls_in_text(self) -> None:
        if self.calls.drafts:
            return
        texts = [each for each in self.order if isinstance(each, Passage) and each.kind == "text"]
        found = calls_in_text("".join(each.text for each in texts).strip(), self.known_tools)
        if found:
            self.order = [each for each in self.order if each not in texts] + list(found)

    def _flush_tags(self) -> None:
        for kind, piece in self._tags.close():
            self.add(kind, piece, "content")

    def _join_texts(self) -> None:
        joined: list[Passage | CallDraft] = []
        for each in self.order:
            last = joined[-1] if joined else None
            if (
                isinstance(each, Passage)
                and isinstance(last, Passage)
                and (each.kind, each.key) == (last.kind, last.key)
            ):
                last.pieces += each.pieces
            else:
                joined.append(each)
        self.order = joined

    def _reclaim_headless_thinking(self) -> None:
        """Some templates write the opening tag themselves, so that an answer begins with thinking and only
        the closing tag comes."""
        first = self.order[0] if self.order else None
        if not isinstance(first, Passage) or first.kind != "text" or first.key != "content":
            return
        text = "".join(first.pieces)
        thought, tag, rest = text.partition("</think>")
        if not tag or thought.endswith(("`", "'", '"')):
            return
        first.kind, first.pieces = "thinking", [thought]
        if rest.strip():
            self.order.insert(1, Passage("text", "content", [rest.lstrip()]))

    def show_piece(self, kind: AnswerKind, text: str) -> None:
        """Show a piece that is kept elsewhere."""
        self.characters += len(text)
        half = self._half.pop(kind, "")
        if half or not text.isascii():
            text = half + text
            if text and "\ud800" <= text[-1] <= "\udbff":
                self._half[kind], text = text[-1], text[:-1]
        if text:
            self.show(kind, whole_text(text))
