"""What a request asks, as digests: of what is new in it, and of its tools, instructions and settings.

Over the words that a model reads; without times, ids of runs, and what a provider added. Each request is an
extension of the agent's last one, so only what is new is looked at; where it is none (a session's earlier
executions, a compaction), all but the last message counts as one part.
"""

import hashlib
import json
import operator
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, cast

from pydantic import JsonValue, TypeAdapter
from pydantic_ai.messages import ModelMessage, ModelRequest, ModelResponse, ToolReturnPart
from pydantic_ai.models import ModelRequestParameters
from pydantic_ai.tools import ToolDefinition
from pydantic_core import to_jsonable_python

from agent_runner.journal.beginnings import begins_with
from agent_runner.journal.surrogates import mend
from agent_runner.masking import Masker
from stigmer_contract.events import ASKED_TEXT_CHARACTERS, Asked, AskedPart

HISTORY: Final = "history"
DIGEST_CHARACTERS: Final = 16

_MESSAGE: Final[TypeAdapter[ModelMessage]] = TypeAdapter(ModelMessage)
_WORDS: Final = ("content", "tool_name", "tool_call_id", "args", "tools_added", "tools_removed")
"""Fields of a part that are what the model reads."""
_NOT_WORDS: Final = frozenset(
    {
        "conversation_id",
        "id",
        "kind",
        "metadata",
        "provider_details",
        "provider_name",
        "provider_response_id",
        "provider_url",
        "run_id",
        "timestamp",
        "usage",
        "workspace_ref",
    }
)
"""Keys of an operation's arguments that tell when and by whom, not what."""


class Request(NamedTuple):
    """A model request, as pydantic-ai makes it."""

    messages: Sequence[ModelMessage]
    settings: Mapping[str, object] | None
    parameters: ModelRequestParameters


class ChainMark(NamedTuple):
    """Where a chain stood."""

    seen: list[ModelMessage]
    resumed_at: int | None
    conversation: str


class RequestChain:
    """The requests of one agent, one after the other."""

    def __init__(self, masker: Masker) -> None:
        """A digest of a text that holds a secret could be used to guess it, so texts are masked first."""
        self._masker = masker
        self._seen: list[ModelMessage] = []
        self._resumed_at: int | None = None
        self.conversation = ""
        """Digest of all that was asked so far."""
        self._tools: tuple[list[ToolDefinition], str] = ([], "")
        self._settings: tuple[object, str] = (None, digest_of(None))

    def extend(self, request: Request) -> Asked:
        """The fingerprint of the next request."""
        messages = request.messages
        parts: list[AskedPart] = []
        new = messages[len(self._seen) :]
        if self._resumed_at is not None:
            new = messages[self._resumed_at :]
        elif not self.extends(messages):
            *history, last = messages
            new = [last]
            if history:
                words = [part for message in history for part in self._words_of(message)]
                text = f"{len(history)} messages"
                parts.append(AskedPart(part=HISTORY, digest=digest_of(words), text=text))
        # What the model answered is what the log says it answered.
        parts += [
            self._part(words)
            for message in new
            if isinstance(message, ModelRequest)
            for words in self._words_of(message)
        ]
        self._seen, self._resumed_at = list(messages), None
        self.conversation = digest_of([self.conversation, *(part.digest for part in parts)])
        return Asked(
            parts=parts,
            conversation=self.conversation,
            tools=self._digest_of_tools(request.parameters),
            instructions=digest_of(_instructions_of(messages)),
            settings=self._digest_of_settings(request.settings),
        )

    def extends(self, messages: Sequence[ModelMessage]) -> bool:
        """Whether the messages are those of the last request, and more."""
        return self._resumed_at is not None or (bool(self._seen) and begins_with(messages, self._seen))

    @property
    def asked_before(self) -> int:
        """How many messages the last request had."""
        return len(self._seen) if self._resumed_at is None else self._resumed_at

    def mark(self) -> "ChainMark":
        """Where the chain stands."""
        return ChainMark(self._seen, self._resumed_at, self.conversation)

    def go_back_to(self, mark: "ChainMark") -> None:
        """Forget what was asked since."""
        self._seen, self._resumed_at, self.conversation = mark

    def resume(self, conversation: str, asked_before: int | None) -> None:
        """Go on from where another leg stood: it had asked what `conversation` is the digest of.

        Args:
            asked_before: how many messages of the next request that holds; None where they were replaced.
        """
        self.conversation, self._resumed_at = conversation, asked_before

    def _words_of(self, message: ModelMessage) -> list[dict[str, JsonValue]]:
        dumped = cast("dict[str, JsonValue]", _MESSAGE.dump_python(message, mode="json", warnings=False))
        dumped = cast("dict[str, JsonValue]", self._masker.mask_json(dumped))
        parts = cast("list[dict[str, JsonValue]]", dumped["parts"])
        return [
            {"part": part["part_kind"]} | {name: part[name] for name in _WORDS if part.get(name) is not None}
            for part in parts
        ]

    def _part(self, words: dict[str, JsonValue]) -> AskedPart:
        kind = str(words["part"])
        if kind == ToolReturnPart.part_kind:
            # What it says stands in `tool.finished`.
            return AskedPart(part=f"{kind} {words.get('tool_call_id')}", digest=digest_of(words))
        content = words.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
        return AskedPart(part=kind, digest=digest_of(words), text=mend(text[:ASKED_TEXT_CHARACTERS]))

    def _digest_of_tools(self, parameters: ModelRequestParameters) -> str:
        tools = [*parameters.function_tools, *parameters.output_tools]
        known, digest = self._tools
        if len(known) == len(tools) and all(map(operator.is_, known, tools)):
            return digest
        offered = [(tool.name, tool.description, tool.parameters_json_schema) for tool in tools]
        self._tools = (tools, digest_of(offered))
        return self._tools[1]

    def _digest_of_settings(self, settings: Mapping[str, object] | None) -> str:
        if settings != self._settings[0]:
            self._settings = (settings, digest_of(settings))
        return self._settings[1]


def difference(recorded: Asked, now: Asked) -> str | None:
    """Where the messages of a request differ from the recorded one's, in words; None: nowhere."""
    if recorded.parts == now.parts:
        return None
    for place in range(max(len(recorded.parts), len(now.parts))):
        was = recorded.parts[place] if place < len(recorded.parts) else None
        is_now = now.parts[place] if place < len(now.parts) else None
        if was != is_now:
            return f"the log has {_in_words(was)}, and now it is {_in_words(is_now)}"
    return None


def digest_of(value: object) -> str:
    """The digest of a value's JSON."""
    plain = to_jsonable_python(value, fallback=repr, serialize_unknown=True, inf_nan_mode="strings")
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:DIGEST_CHARACTERS]


def digest_of_arguments(value: object) -> str:
    """The digest of an operation's arguments, without what only tells when and by whom it was called."""
    plain = to_jsonable_python(value, fallback=lambda other: type(other).__name__, inf_nan_mode="strings")
    return digest_of(_without_circumstances(plain))


def _without_circumstances(value: object) -> object:
    match value:
        case dict():
            fields = cast("dict[str, object]", value)
            return {
                key: _without_circumstances(item) for key, item in fields.items() if key not in _NOT_WORDS
            }
        case list():
            return [_without_circumstances(item) for item in cast("list[object]", value)]
        case _:
            return value


def _instructions_of(messages: Sequence[ModelMessage]) -> str | None:
    last = messages[-1]
    return None if isinstance(last, ModelResponse) else last.instructions


def _in_words(part: AskedPart | None) -> str:
    if part is None:
        return "nothing"
    return part.part if part.text is None else f"{part.part} {part.text!r}"
