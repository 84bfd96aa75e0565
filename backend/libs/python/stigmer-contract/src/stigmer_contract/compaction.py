"""What became of a conversation that outgrew its model's context window: the result of a step `compact`.

The log keeps everything that was said; this tells what the model is no longer shown.
"""

from enum import StrEnum
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, JsonValue


class CompactionCause(StrEnum):
    """Why a conversation was compacted."""

    SIZE = "size"
    """The next request would have been larger than `context.compactAt` allows."""
    REFUSED = "refused"
    """The provider refused the request as larger than the model's window."""
    ASKED = "asked"
    """A person asked for it."""


class WindowSource(StrEnum):
    """Whose word the size of a window is."""

    MANIFEST = "manifest"
    MODEL_DATA = "model data"
    PROVIDER = "provider"
    ERROR = "error"
    """The provider named it, or refused more, in an error."""
    ASSUMED = "assumed"
    """Nobody said: `context.window` is worth being set."""


class Replacement(BaseModel):
    """A part of a message that was replaced by a shorter text."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    message: int
    """Place of the message in the conversation as it was, from 0."""
    part: int
    """Place of the part in the message, from 0."""
    text: str | None = None
    """What stands there now; None: the text for a result that was cleared."""


class Compaction(BaseModel):
    """What was dropped, and how to drop it again."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    version: Literal[1] = 1
    cause: CompactionCause
    window_tokens: int
    window_source: WindowSource
    tokens_before: int
    """Of the request, by the provider's last report, or estimated."""
    tokens_after: int
    results_cleared: int = 0
    """Old results of tools that the model is told were cleared."""
    texts_cut: int = 0
    """Parts that were too large by themselves, and are shown shortened."""
    messages_dropped: int = 0
    """In whose place one message stands with what the person said, what was refused, and a summary."""
    summary: str | None = None
    """The model's words; None where none was asked for, or it gave none."""
    problem: str | None = None
    """Why there is no summary, where one was asked for."""
    at: AwareDatetime
    """By the server's clock."""
    replaced: list[Replacement] = []
    kept: int | None = None
    """How many of the newest messages stand behind the one that replaces the others; None: all were kept."""
    text: str | None = None
    """That message."""
    carried: JsonValue = None
    """What it is made of, for the next compaction; opaque."""

    @property
    def is_futile(self) -> bool:
        """Whether the conversation stays as it was: what was paid for would not have made it smaller."""
        return self.tokens_after >= self.tokens_before
