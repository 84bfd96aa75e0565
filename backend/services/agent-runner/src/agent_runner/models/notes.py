"""What is added to a conversation while an agent works: notes of ours, and what the person says meanwhile.

How they stand in a conversation, and in what form a provider gets them. Such a part is added at the end of a
message, and never changed: what stands before it keeps its place in the provider's cache. Which there are is
the journal's business.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final, cast

from pydantic import JsonValue
from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    TextContent,
    ToolReturnPart,
    UserPromptPart,
)

_MARK: Final = "stigmer_note"
"""Key in the metadata of a note's text, which no model sees: what is known to have been told by then."""
_MESSAGE_MARK: Final = "stigmer_message"
"""The same for what the person said meanwhile: its sequence in the log."""
_FILE_MARK: Final = "stigmer_attachment"
"""The same for what tells of a file that came with the person's words: its name."""
_CUT: Final = (
    "[The person stopped you here. What you had said by then stands above; the rest was never said.]"
)
_SAID_MEANWHILE: Final = "[The person says meanwhile]"
"""Stands before such words where they have to stand in a tool's result."""


def read_note(value: Mapping[str, JsonValue]) -> UserPromptPart:
    """The note as a part of a message.

    Args:
        value: `text`, `told` (an object; what was told by then) and `at` (ISO 8601).
    """
    return standing_note(str(value["text"]), value["told"], {}, datetime.fromisoformat(str(value["at"])))


def standing_note(
    text: str, told: JsonValue, further: Mapping[str, JsonValue], at: datetime
) -> UserPromptPart:
    """A part that holds a text of ours, which providers get as plain text.

    Args:
        told: an object; what is known to have been told by then.
        further: what else is kept with it, and no model sees.
    """
    return UserPromptPart([TextContent(text, metadata={_MARK: told, **further})], timestamp=at)


def read_message(text: str, sequence: int, at: str) -> UserPromptPart:
    """What the person said meanwhile as a part of a message.

    Args:
        text: in the person's words.
        sequence: where it stands in the log.
        at: when the agent was given it first, in ISO 8601.
    """
    content = TextContent(text, metadata={_MESSAGE_MARK: sequence})
    return UserPromptPart([content], timestamp=datetime.fromisoformat(at))


def file_note(name: str, text: str) -> TextContent:
    """What tells of a file that came with the person's words."""
    return TextContent(f"\n\n{text}", metadata={_FILE_MARK: name})


def is_file_note(content: object) -> bool:
    """Whether that is what tells of a file."""
    metadata = cast("object", content.metadata) if isinstance(content, TextContent) else None
    return isinstance(metadata, dict) and _FILE_MARK in metadata


def read_cut(at: datetime) -> UserPromptPart:
    """A note that tells the model that the answer before is not whole."""
    return standing_note(_CUT, {}, {}, at)


def told_in(part: object) -> Mapping[str, JsonValue] | None:
    """What was told by the time of the note that the part is; None: it is none."""
    told = _mark_of(part, _MARK)
    return cast("Mapping[str, JsonValue]", told) if isinstance(told, dict) else None


def is_message(part: object) -> bool:
    """Whether the part is what the person said while the agent worked."""
    return _mark_of(part, _MESSAGE_MARK) is not None


def _mark_of(part: object, name: str) -> object:
    if not isinstance(part, UserPromptPart) or isinstance(part.content, str):
        return None
    [first, *_] = part.content or [""]
    metadata = cast("object", first.metadata) if isinstance(first, TextContent) else None
    return cast("dict[str, object]", metadata).get(name) if isinstance(metadata, dict) else None


def _is_added(part: object) -> bool:
    return told_in(part) is not None or is_message(part)


def with_notes_in_place(message: ModelMessage, *, in_results: bool) -> ModelMessage:
    """A message with each note as plain text at the end of what it stands behind.

    Args:
        in_results: behind tools' results the note becomes a part of the last one. Many chat templates refuse
            a word of the user's between a result and the answer, and some two of them in a row.
    """
    if isinstance(message, ModelRequest) and any(map(_is_added, message.parts)):
        return replace(message, parts=_placed(message.parts, in_results=in_results))
    return message


def _placed(parts: Sequence[ModelRequestPart], *, in_results: bool) -> list[ModelRequestPart]:
    placed: list[ModelRequestPart] = []
    begins_with_note = False
    for place, part in enumerate(parts):
        if not _is_added(part):
            match placed:
                # Before the prompt, in the place of what was dropped: some templates refuse two in a row.
                case [UserPromptPart(content=str() as note)] if begins_with_note and isinstance(
                    part, UserPromptPart
                ):
                    rest = [part.content] if isinstance(part.content, str) else list(part.content)
                    joined = f"{note}\n\n{rest[0]}" if isinstance(part.content, str) else [note, *rest]
                    placed[-1] = replace(part, content=joined)
                case _:
                    placed.append(part)
            begins_with_note = False
            continue
        begins_with_note = place == 0
        text = _text_of(part)
        match placed[-1] if placed else None:
            case UserPromptPart(content=str() as said) as prompt:
                placed[-1] = replace(prompt, content=f"{said}\n\n{text}")
            case UserPromptPart(content=said) as prompt:
                placed[-1] = replace(prompt, content=[*said, text])
            case ToolReturnPart(content=str() as result) as returned if in_results:
                said = f"{_SAID_MEANWHILE}\n{text}" if is_message(part) else text
                placed[-1] = replace(returned, content=f"{result}\n\n{said}")
            case _:
                placed.append(UserPromptPart(text, timestamp=cast("UserPromptPart", part).timestamp))
    return placed


def _text_of(part: ModelRequestPart) -> str:
    content = cast("UserPromptPart", part).content
    return (
        content
        if isinstance(content, str)
        else "".join(cast("TextContent", each).content for each in content)
    )
