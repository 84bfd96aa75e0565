"""The beginning of an agent's conversation, which its run in pydantic-ai no longer holds.

pydantic-ai walks through all messages of a run some dozen times a turn, looking for tools and instructions
that came up on the way. What was asked once stands in the log and stays as it was asked, so the run goes on
with the newest answer and what follows on it, and each request gets the beginning before it is made: a turn
costs the same however long the conversation is.
"""

from collections.abc import Sequence
from typing import Final

from pydantic_ai.messages import (
    ModelMessage,
    ModelRequest,
    ModelResponse,
    RetryFeedbackPart,
    TextPart,
    ThinkingPart,
    ToolCallPart,
    ToolReturnPart,
    UserPromptPart,
)

_PLAIN: Final = (TextPart, ThinkingPart, ToolCallPart, ToolReturnPart, UserPromptPart, RetryFeedbackPart)
"""Parts that pydantic-ai does not look for in later turns. All others it does, such as found tools."""
_FINDS_TOOLS: Final = "search_tools"
"""The one tool whose results it looks for even where they are of an ordinary kind."""


class AskedBefore:
    """What one agent was asked; each message stands either here or in its run."""

    def __init__(self) -> None:
        self.messages: list[ModelMessage] = []
        """The beginning, as the model was asked it."""
        self._asked: list[ModelMessage] = []
        self._of_run = 0
        """So many messages of the run are in what was asked last."""

    def note(self, asked: Sequence[ModelMessage], run_messages: Sequence[ModelMessage]) -> None:
        """The model was asked that, all of what the run has among it."""
        # An answer that is collected later is asked for with its beginning, which its end takes the place of.
        self._of_run = len(run_messages) if isinstance(asked[-1], ModelRequest) else 0
        self._asked = list(asked)

    def take_from(self, run_messages: list[ModelMessage]) -> bool:
        """Leave the run only what is new since the last request: the answer, and what follows on it.

        False: it keeps what it has.
        """
        known, new = run_messages[: self._of_run], run_messages[self._of_run :]
        if not (known and new and isinstance(new[0], ModelResponse) and all(map(_is_plain, known))):
            return False
        self.messages, self._of_run = self._asked, 0
        run_messages[:] = new
        return True

    def put_before(self, messages: list[ModelMessage]) -> None:
        """Make a request whole, in place. One that is whole stays as it is."""
        if self.messages and not (messages and messages[0] is self.messages[0]):
            messages[:0] = self.messages

    def forget(self) -> None:
        """The run has the whole conversation again."""
        self.messages, self._of_run = [], 0


def _is_plain(message: ModelMessage) -> bool:
    return all(
        type(part) in _PLAIN and not (isinstance(part, ToolReturnPart) and part.tool_name == _FINDS_TOOLS)
        for part in message.parts
    )
