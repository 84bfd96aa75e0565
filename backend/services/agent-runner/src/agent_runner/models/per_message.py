"""What was made of a conversation for one request, kept for the next one, which has it all again.

Without it a turn costs more the longer the conversation is, and a long one grows with the square.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

from pydantic_ai.messages import (
    ModelMessage,
    ModelResponse,
    SystemPromptPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

T = TypeVar("T")

_PLAIN: Final = (TextPart, ThinkingPart, ToolCallPart, ToolReturnPart, UserPromptPart)
"""Parts that pydantic-ai prepares by themselves, or with the answer that they belong to."""


def stands_alone(message: ModelMessage) -> bool:
    """Whether it is written alike whatever is asked with it: of words, calls and their results alone.

    Parts with files or marks for a provider's cache are changed by what comes behind them.
    """
    return all(
        type(part) in _PLAIN and not (isinstance(part, UserPromptPart) and not isinstance(part.content, str))
        for part in message.parts
    )


class PerMessage(Generic[T]):
    """By the message itself, not by what it says; a message whose parts were replaced is another one."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[ModelMessage, list[object], T]] = {}
        self._now: dict[int, tuple[ModelMessage, list[object], T]] = {}

    def begin(self) -> None:
        """A request begins: what the last one had none of is forgotten."""
        self._before, self._now = self._now, {}

    def find(self, message: ModelMessage) -> T | None:
        """What the message was made into; None: nothing yet."""
        # Held, so that no other message can have its address.
        found = self._now.get(id(message)) or self._before.get(id(message))
        if found is None or not _are_the_same(message.parts, found[1]):
            return None
        self._now[id(message)] = found
        return found[2]

    def keep(self, message: ModelMessage, made: T) -> T:
        """Keep what the message was made into; answers it."""
        self._now[id(message)] = (message, list(message.parts), made)
        return made


class Begun:
    """How much of a conversation is as it was in the last request: the very same messages and parts.

    Sees so in one look for all of it, where `PerMessage` looks at each message.
    """

    def __init__(self) -> None:
        self._messages: list[ModelMessage] = []
        self._parts: list[object] = []

    def known(self, messages: Sequence[ModelMessage]) -> int:
        """How many messages at the beginning that is: all of the last request, or none."""
        seen = self._messages
        is_same = (
            len(seen) <= len(messages)
            and all(map(operator.is_, messages, seen))
            and all(map(operator.is_, map(_parts_of, messages), self._parts))
        )
        return len(seen) if is_same else 0

    def note(self, messages: Sequence[ModelMessage]) -> None:
        """That is what is asked now; nothing: it has to be looked at anew."""
        self._messages, self._parts = list(messages), list(map(_parts_of, messages))


class Prepared:
    """pydantic-ai's own preparation of a conversation; what is plain and was prepared stays as it is."""

    def __init__(self) -> None:
        self._asked: list[ModelMessage] = []
        self._made: list[ModelMessage] = []

    def of(
        self, messages: list[ModelMessage], prepare: Callable[[list[ModelMessage]], list[ModelMessage]]
    ) -> list[ModelMessage]:
        """The conversation, prepared; `prepare` does it for a whole one, or for a new end of plain parts."""
        seen = len(self._asked)
        new = messages[seen:]
        if (
            seen
            and isinstance(next(iter(new), None), ModelResponse | None)
            and _are_the_same(messages[:seen], self._asked)
        ):
            made = [*self._made, *prepare(new)] if new else self._made
        else:
            new, made = messages, prepare(messages)
        is_plain = all(
            type(part) in _PLAIN or (message is messages[0] and _is_standing(part))
            for message in new
            for part in message.parts
        )
        self._asked, self._made = (list(messages), list(made)) if is_plain else ([], [])
        # pydantic-ai knows by the very list that nothing was changed.
        return messages if _are_the_same(made, messages) else made


_parts_of: Final[Callable[[ModelMessage], object]] = operator.attrgetter("parts")


def _is_standing(part: object) -> bool:
    """Whether it opens a conversation for good: nothing that follows takes its place."""
    return isinstance(part, SystemPromptPart) and part.scope == "conversation"


def _are_the_same(some: Sequence[object], others: Sequence[object]) -> bool:
    return len(some) == len(others) and all(map(operator.is_, some, others))
