"""What is said in a conversation, in words of our own: a model's answer, and what a tool call led to.

These are the values of payloads in the log. They mean the same whatever library asked the model. What one
library needs beyond them to repeat a message exactly stands beside, in `exact`; readers pass over it.
"""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter


class _Words(BaseModel):
    # Read by programs that may be older than who wrote it: what they don't know is passed over.
    model_config = ConfigDict(extra="ignore", frozen=True)


class Exact(_Words):
    """What only one library needs, to repeat a message exactly as it was. Opaque to everybody else."""

    by: str
    """The library and its version, e.g. `pydantic-ai 2.62.0`."""
    message: dict[str, JsonValue] = {}
    """Of the message as a whole."""
    parts: list[dict[str, JsonValue]] = []
    """By place of the part that it belongs to; empty where no part has any."""


# --- content ----------------------------------------------------------------------------------


class TextContent(_Words):
    """A text."""

    kind: Literal["text"] = "text"
    text: str


class DataContent(_Words):
    """A value that is no text; the model is shown its JSON."""

    kind: Literal["data"] = "data"
    value: JsonValue = None


class FileContent(_Words):
    """A file: a picture, a recording, a document."""

    kind: Literal["file"] = "file"
    media_type: str
    """E.g. `image/png`."""
    data: str
    """The bytes in base64 (RFC 4648, section 4)."""
    name: str | None = None
    """What the model may call it by."""


class LinkContent(_Words):
    """A file that the provider fetches itself."""

    kind: Literal["link"] = "link"
    url: str
    media_type: str | None = None


Content = Annotated[TextContent | DataContent | FileContent | LinkContent, Field(discriminator="kind")]


# --- answers ----------------------------------------------------------------------------------


class AnswerText(_Words):
    """What the model said."""

    kind: Literal["text"] = "text"
    text: str


class AnswerThinking(_Words):
    """What a reasoning model thought, as far as its provider shows it."""

    kind: Literal["thinking"] = "thinking"
    text: str
    signature: str | None = None
    """Proves to the provider that the thought is its own."""


class AnswerToolCall(_Words):
    """A tool that the model calls."""

    kind: Literal["tool_call"] = "tool_call"
    call_id: str
    """Unique in the answer."""
    tool: str
    arguments: dict[str, JsonValue] | str
    """A text where the model wrote something that is no JSON object."""


class AnswerFile(_Words):
    """A file that the model made."""

    kind: Literal["file"] = "file"
    media_type: str
    data: str
    """The bytes in base64."""


class AnswerOther(_Words):
    """A part that has no word yet, such as a tool of the provider's own."""

    kind: Literal["other"] = "other"
    name: str
    """What the library that asked calls it."""
    text: str | None = None
    """What of it can be read."""


AnswerPart = Annotated[
    AnswerText | AnswerThinking | AnswerToolCall | AnswerFile | AnswerOther, Field(discriminator="kind")
]


class ModelAnswer(_Words):
    """One complete answer of a model."""

    version: Literal[1] = 1
    parts: list[AnswerPart] = []
    """In the model's order."""
    finish_reason: str | None = None
    """Why the model stopped: `stop`, `length`, `content_filter`, `tool_call` or `error`."""
    model: str | None = None
    """The model's name as its provider says it."""
    provider: str | None = None
    response_id: str | None = None
    """The provider's id of the answer."""
    provider_details: dict[str, JsonValue] | None = None
    """What the provider says besides."""
    exact: Exact | None = None
    """For whoever asks the model again; opaque."""

    @property
    def text(self) -> str:
        """What the model said, without its thinking."""
        return "".join(part.text for part in self.parts if isinstance(part, AnswerText))

    @property
    def thinking(self) -> str:
        """What the model thought."""
        return "".join(part.text for part in self.parts if isinstance(part, AnswerThinking))

    @property
    def tool_calls(self) -> list[AnswerToolCall]:
        """The tools that the model calls, in order."""
        return [part for part in self.parts if isinstance(part, AnswerToolCall)]

    @property
    def files(self) -> list[AnswerFile]:
        """The files that the model made."""
        return [part for part in self.parts if isinstance(part, AnswerFile)]

    def to_json(self) -> dict[str, Any]:
        """The answer as the log keeps it."""
        return _without_empty(self.model_dump(mode="json", exclude_none=True), ())


# --- results ----------------------------------------------------------------------------------


class ToolOutcome(StrEnum):
    """How a tool call ended."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The tool ran, or was to run, and could not do it."""
    INVALID = "invalid"
    """There is no such tool, or it does not take these arguments; nothing ran."""
    DENIED = "denied"
    """A person or a rule said no; nothing ran."""
    EXPIRED = "expired"
    """Nobody decided in time; nothing ran."""
    CANCELLED = "cancelled"
    """It was stopped, or the execution ended before it began."""
    UNKNOWN = "unknown"
    """It had started when its runner died. Nobody knows what it did; the model is told so."""


class ArgumentProblem(_Words):
    """Why a tool does not take some arguments."""

    path: str
    """Of the argument, such as `edits.0.path`; empty for all of them."""
    problem: str


class ToolResult(_Words):
    """What a tool call led to, as the model is told."""

    version: Literal[1] = 1
    outcome: ToolOutcome
    content: list[Content] = []
    """What the model is told, in order."""
    correctable: bool = False
    """The model is asked to make the call again, better."""
    problems: list[ArgumentProblem] = []
    """Of an invalid call: what is wrong with it."""
    beside: list[Content] = []
    """What the model is told in a message of its own, after the results of the turn."""
    metadata: JsonValue = None
    """What the tool noted for people and programs; the model does not see it."""
    exact: Exact | None = None
    """For whoever tells the model again; opaque."""

    @property
    def text(self) -> str:
        """All of what the model is told that is text, or can be written as such."""
        return "\n".join(_text_of(content) for content in self.content)

    def to_json(self) -> dict[str, Any]:
        """The result as the log keeps it."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        return _without_empty(dumped, ("correctable", "problems", "beside"))


# --- history ----------------------------------------------------------------------------------


class HistoryPiece(_Words):
    """Messages of a session, exactly as a model was shown them.

    They say nothing that the log's other events don't say in our words; whoever cannot read them reads those.
    """

    version: Literal[1] = 1
    by: str
    """The library that the messages are of, and its version, as in `Exact.by`."""
    messages: list[JsonValue]
    """In order; opaque."""


_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def _without_empty(dumped: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    """The JSON without these fields where they say nothing, and without empty parts of `exact`."""
    kept = {name: value for name, value in dumped.items() if name not in names or value}
    if "exact" in kept:
        kept["exact"] = {name: value for name, value in kept["exact"].items() if value}
    return kept


def _text_of(content: Content) -> str:
    match content:
        case TextContent():
            return content.text
        case DataContent():
            return "" if content.value is None else _JSON.dump_json(content.value).decode()
        case FileContent():
            return f"[{content.media_type}]"
        case LinkContent():
            return content.url
