"""Makes of a conversation what a provider takes back, whoever wrote it down.

Pure. `as_taken_back` is what every request gets: what no provider takes is put right. The further repairs
are for a provider that refused a conversation without saying why.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import IntEnum
from hashlib import sha256
from typing import Final, cast

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequestPart,
    ModelResponse,
    ModelResponsePart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

from agent_runner.models.tool_calls import tool_name, whole_arguments, whole_text

UNREADABLE_ARGUMENTS: Final = "unreadable_arguments"
"""Where the text stands that a model wrote for a call's arguments, when it was no JSON object."""

_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_ID: Final = re.compile(r"[a-zA-Z0-9_|-]{1,128}")
"""pydantic-ai splits ids at `|` for the Responses API."""


class Repair(IntEnum):
    """How far a conversation is changed."""

    NONE = 0
    PLAIN = 1
    AS_TEXT = 2

    @property
    def description(self) -> str:
        """For the log."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS: Final = {
    Repair.NONE: "nothing was changed",
    Repair.PLAIN: "what only its author takes back was left out: thinking, and ids of calls",
    Repair.AS_TEXT: "earlier tool calls and their results are told as text",
}


def as_taken_back(message: ModelMessage) -> ModelMessage:
    """A message without what providers refuse: names and arguments that are none, empty text."""
    return message if _is_all_right(message) else _put_all_right(message)


def repaired(messages: list[ModelMessage], repair: Repair) -> list[ModelMessage]:
    """The conversation, changed as far as `repair` says."""
    match repair:
        case Repair.NONE:
            return messages
        case Repair.PLAIN:
            return [_plain(message) for message in messages]
        case Repair.AS_TEXT:
            return [_as_text(message) for message in messages]


def is_same(one: Sequence[ModelMessage], other: Sequence[ModelMessage]) -> bool:
    """Whether two conversations say the same to a provider."""
    return len(one) == len(other) and all(
        first is second or first.parts == second.parts for first, second in zip(one, other, strict=True)
    )


# --- what no provider takes ---------------------------------------------------------------------


def _is_right(part: ModelResponsePart) -> bool:
    if isinstance(part, ToolCallPart):
        named = _NAME.fullmatch(part.tool_name) is not None and _ID.fullmatch(part.tool_call_id) is not None
        return named and _is_object(part.args)
    if isinstance(part, TextPart):
        return not part.content or not part.content.isspace()
    return True


def _is_object(arguments: object) -> bool:
    if not isinstance(arguments, str):
        return True
    return arguments == "{}" or _strict_object(arguments)


def _strict_object(arguments: str) -> bool:
    return (
        whole_arguments([arguments]) == [arguments]
        and arguments.lstrip().startswith("{")
        and _parses(arguments)
    )


def _parses(arguments: str) -> bool:
    from pydantic_core import from_json

    try:
        return isinstance(from_json(arguments, allow_inf_nan=False), dict)
    except ValueError:
        return False


def _is_all_right(message: ModelMessage) -> bool:
    if isinstance(message, ModelResponse):
        return all(map(_is_right, message.parts))
    returns = [part for part in message.parts if isinstance(part, ToolReturnPart)]
    return all(_ID.fullmatch(part.tool_call_id) for part in returns)


def _put_all_right(message: ModelMessage) -> ModelMessage:
    if isinstance(message, ModelResponse):
        right = map(_put_right, message.parts)
        return replace(message, parts=[part for part in right if part is not None])
    parts = [
        replace(part, tool_call_id=_plain_id(part.tool_call_id)) if isinstance(part, ToolReturnPart) else part
        for part in message.parts
    ]
    return replace(message, parts=parts)


def _plain_id(call_id: str) -> str:
    """The id in letters that every provider takes; the same for a call and its result."""
    if _ID.fullmatch(call_id):
        return call_id
    digest = sha256(call_id.encode("utf-8", "replace")).hexdigest()[:8]
    return f"{re.sub('[^a-zA-Z0-9_-]+', '_', call_id)[:40]}_{digest}"


def _put_right(part: ModelResponsePart) -> ModelResponsePart | None:
    if isinstance(part, TextPart):
        return None if part.content and part.content.isspace() else part
    if not isinstance(part, ToolCallPart) or _is_right(part):
        return part
    arguments = part.args
    if isinstance(arguments, str) and not _is_object(arguments):
        [first, *_] = whole_arguments([arguments])
        arguments = (
            first
            if _parses(first)
            else cast("dict[str, object]", {UNREADABLE_ARGUMENTS: whole_text(arguments)})
        )
    name, call_id = tool_name(part.tool_name, ()), _plain_id(part.tool_call_id)
    return replace(part, tool_name=name, args=arguments, tool_call_id=call_id)


# --- what some do not ---------------------------------------------------------------------------


def _short_id(call_id: str) -> str:
    """Nine letters and digits: what Mistral insists on, and everybody takes."""
    if re.fullmatch(r"[a-zA-Z0-9]{9}", call_id):
        return call_id
    return sha256(call_id.encode("utf-8", "replace")).hexdigest()[:9]


def _plain(message: ModelMessage) -> ModelMessage:
    if isinstance(message, ModelResponse):
        parts: list[ModelResponsePart] = []
        for part in message.parts:
            if isinstance(part, TextPart) and part.content.strip():
                parts.append(TextPart(part.content))
            elif isinstance(part, ToolCallPart):
                call_id = _short_id(part.tool_call_id)
                bare = replace(part, tool_call_id=call_id, id=None, provider_name=None, provider_details=None)
                parts.append(bare)
            elif not isinstance(part, TextPart | ThinkingPart):
                parts.append(part)
        return replace(message, parts=parts)
    changed: list[ModelRequestPart] = [
        replace(part, tool_call_id=_short_id(part.tool_call_id)) if isinstance(part, ToolReturnPart) else part
        for part in message.parts
    ]
    return replace(message, parts=changed)


def _as_text(message: ModelMessage) -> ModelMessage:
    if isinstance(message, ModelResponse):
        lines = [
            f"[called {part.tool_name} with {part.args_as_json_str()}]"
            if isinstance(part, ToolCallPart)
            else part.content
            for part in message.parts
            if isinstance(part, ToolCallPart) or (isinstance(part, TextPart) and part.content.strip())
        ]
        return replace(message, parts=[TextPart("\n\n".join(lines))] if lines else [])
    changed: list[ModelRequestPart] = []
    for part in message.parts:
        told = part
        if isinstance(part, ToolReturnPart):
            told = UserPromptPart(f"[{part.tool_name} returned]\n{part.model_response_str()}")
        match changed[-1:], told:
            case [UserPromptPart(content=str() as before)], UserPromptPart(content=str() as text):
                # Of many templates two of the user's messages may not follow each other.
                changed[-1] = UserPromptPart(f"{before}\n\n{text}")
            case _:
                changed.append(told)
    return replace(message, parts=changed)
