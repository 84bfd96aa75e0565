"""How a conversation is made smaller: old results of tools are cleared, too large texts cut, the beginning
replaced. Pure; asks no model.

A call keeps its result, if only in a word, and an answer is kept whole or not at all: so every provider takes
what is left, signatures of thoughts among it. What a search for tools found stays as it is: pydantic-ai reads
that anew in each turn; where its message is dropped, the names are carried on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, cast

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelRequestPart,
    ModelResponse,
    ToolAvailabilityDeltaPart,
    ToolReturnPart,
    ToolSearchReturnPart,
    UserPromptPart,
)

from agent_runner.journal.context_size import bytes_of, bytes_of_part, text_of
from agent_runner.journal.essentials import Essentials, essentials_in, holds_words, standing_part
from agent_runner.models import told_in
from agent_runner.toolsets import cut_middle
from stigmer_contract.compaction import Compaction, Replacement

CLEARED: Final = "[This result was cleared to make room. Call the tool again if you need it.]"
LEAST_CLEARED_BYTES: Final = 300
"""A result that is hardly larger than the words in its place stays."""
_SHARES: Final = (4, 8, 16, 32, 64, 128)
"""Of the room, what one part may take: the largest that suffices."""
_LEAST_PART_BYTES: Final = 400


@dataclass
class Draft:
    """A conversation that is being made smaller, and what was done to it."""

    messages: list[ModelMessage]
    replaced: dict[tuple[int, int], str | None] = field(default_factory=dict[tuple[int, int], str | None])

    @property
    def size_bytes(self) -> int:
        """Of all of it."""
        return sum(map(bytes_of, self.messages))

    @property
    def replacements(self) -> list[Replacement]:
        """What was replaced."""
        return [
            Replacement(message=place, part=part, text=text)
            for (place, part), text in sorted(self.replaced.items())
        ]

    def put(self, place: int, part: int, text: str | None) -> None:
        """Replace the text of a part."""
        self.replaced[place, part] = text
        self.messages[place] = with_text(self.messages[place], part, text)


def applied(messages: Sequence[ModelMessage], compaction: Compaction) -> list[ModelMessage]:
    """The conversation after a compaction that the log has."""
    draft = Draft(list(messages))
    for each in compaction.replaced:
        draft.put(each.message, each.part, each.text)
    if compaction.text is None or compaction.kept is None:
        return draft.messages
    carried = Essentials.model_validate(compaction.carried)
    standing: list[ModelRequestPart] = [standing_part(compaction.text, carried, compaction.at)]
    if carried.found:
        # By these pydantic-ai knows in each turn what was found; the searches themselves may be gone.
        standing.append(ToolAvailabilityDeltaPart(tools_added=carried.found))
    kept = draft.messages[len(draft.messages) - compaction.kept :]
    [first, *rest] = kept
    if isinstance(first, ModelRequest):
        return [replace(first, parts=[*standing, *_own_parts(first)]), *rest]
    return [ModelRequest(parts=standing, timestamp=compaction.at), *kept]


def with_text(message: ModelMessage, part: int, text: str | None) -> ModelMessage:
    """The message with another text in one of its parts; None: that of a cleared result."""
    parts = list(message.parts)
    old = parts[part]
    if isinstance(old, ToolReturnPart | UserPromptPart):
        parts[part] = replace(old, content=CLEARED if text is None else text)
    return replace(message, parts=parts)


def clear_results(draft: Draft, kept: int) -> int:
    """Clear the results of tools in all but the `kept` newest messages; how many were."""
    cleared = 0
    for place, message in enumerate(draft.messages[: len(draft.messages) - kept]):
        if not isinstance(message, ModelRequest):
            continue
        for number, part in enumerate(message.parts):
            if _is_clearable(part):
                draft.put(place, number, None)
                cleared += 1
    return cleared


def cut_large_parts(draft: Draft, first: int, room_bytes: int, limit_bytes: int) -> int:
    """Cut what is too large by itself, from message `first` on, until it all fits; how many parts were cut.

    Args:
        room_bytes: what all messages from there on may take.
        limit_bytes: larger than this a part may not be, whether all fits or not.
    """
    cut: set[tuple[int, int]] = set()
    for share in (limit_bytes, *(room_bytes // share for share in _SHARES)):
        if share == limit_bytes or sum(map(bytes_of, draft.messages[first:])) > room_bytes:
            cut |= _cut_parts(draft, first, max(share, _LEAST_PART_BYTES))
    return len(cut)


def newest_that_fit(messages: Sequence[ModelMessage], room_bytes: int, turns: int | None) -> int:
    """How many of the newest messages are kept: whole turns, the last request in any case.

    Args:
        turns: at most so many; None: as many as fit.
    """
    kept, size, answers = 1, bytes_of(messages[-1]), 0
    last = messages[-1]
    needs_answer = isinstance(last, ModelRequest) and any(
        isinstance(part, ToolReturnPart) for part in last.parts
    )
    for place in range(len(messages) - 2, -1, -1):
        size += bytes_of(messages[place])
        is_needed = needs_answer and answers == 0
        if not is_needed and (size > room_bytes or (turns is not None and answers >= turns)):
            break
        if isinstance(messages[place], ModelResponse):
            kept, answers = len(messages) - place, answers + 1
    return kept


def transcript(messages: Sequence[ModelMessage], characters: int) -> str:
    """What was said and done, as text of at most so many characters, for whoever summarises it."""
    pieces: list[str] = []
    for message in messages:
        for part in message.parts:
            if essentials_in(part) is None and told_in(part) is not None:
                continue
            kind = part.part_kind
            if kind == "tool-call":
                text = f"[call of {getattr(part, 'tool_name', '')}] {getattr(part, 'args', '')}"
            elif kind == "thinking":
                continue
            else:
                text = f"[{kind} {getattr(part, 'tool_name', '')}".rstrip() + f"] {text_of(_content(part))}"
            pieces.append(text)
    share = max(_LEAST_PART_BYTES, characters // 16)
    while pieces and sum(map(len, pieces)) > characters and share > _LEAST_PART_BYTES:
        pieces = [cut_middle(piece, share, "left out") for piece in pieces]
        share //= 2
    return cut_middle("\n\n".join(pieces), characters, "left out")


def _content(part: object) -> object:
    return getattr(part, "content", None)


def _own_parts(message: ModelRequest) -> list[ModelRequestPart]:
    return [part for part in message.parts if essentials_in(part) is None]


def _is_clearable(part: object) -> bool:
    size, is_said = bytes_of_part(part), holds_words(part)
    return (
        isinstance(part, ToolReturnPart)
        and not isinstance(part, ToolSearchReturnPart)
        and not is_said
        and part.outcome != "denied"
        and size > LEAST_CLEARED_BYTES
    )


def _cut_parts(draft: Draft, first: int, limit_bytes: int) -> set[tuple[int, int]]:
    cut: set[tuple[int, int]] = set()
    for place in range(first, len(draft.messages)):
        message = draft.messages[place]
        if not isinstance(message, ModelRequest):
            continue
        for number, part in enumerate(message.parts):
            if not isinstance(part, ToolReturnPart | UserPromptPart) or told_in(part) is not None:
                continue
            if isinstance(part, ToolSearchReturnPart):
                continue
            size = bytes_of_part(cast("object", part))
            if size <= limit_bytes:
                continue
            text = text_of(part.content)
            # By bytes, of which a character may have several.
            characters = max(1, len(text) * limit_bytes // size)
            draft.put(place, number, cut_middle(text, characters, "it was too large for the context window"))
            cut.add((place, number))
    return cut
