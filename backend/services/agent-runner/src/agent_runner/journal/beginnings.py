"""Whether a conversation goes on from one that is known."""

import operator
from collections.abc import Sequence

from pydantic_ai.messages import ModelMessage


def begins_with(messages: Sequence[ModelMessage], known: Sequence[ModelMessage]) -> bool:
    """Whether the messages are the known ones and more.

    A run makes copies of some, with other times: where it repairs a history, or goes on from one.
    """
    if len(messages) < len(known):
        return False
    # Mostly the very same, which takes no time to see.
    return all(map(operator.is_, messages, known)) or all(map(_is_same, messages, known))


def _is_same(one: ModelMessage, other: ModelMessage) -> bool:
    return one is other or (type(one) is type(other) and one.parts == other.parts)
