"""An answer that the limit of tokens for one answer has cut is gone on with, and joined."""

from typing import Final

from pydantic_ai import ModelRetry, RunContext
from pydantic_ai.messages import ModelResponse

from agent_runner.errors import ExecutionFailure
from stigmer_contract.error_codes import ErrorCode

MAX_PIECES: Final = 3
"""Of one answer. A model that is cut again and again does not get to its end."""
GO_ON: Final = (
    "Your answer was cut off by the limit of tokens for one answer. What you wrote so far is kept: go on "
    "exactly where it stopped, without repeating any of it."
)


class CutAnswers:
    """Checks final answers of one run. Keeps the pieces that were cut; a replay gives it the same ones."""

    def __init__(self) -> None:
        self._pieces: list[str] = []

    def check(self, context: RunContext[None], output: str) -> str:
        """The whole answer.

        Raises:
            ModelRetry: it is cut; the model is to go on.
            ExecutionFailure: it was cut too often.
        """
        last = next(message for message in reversed(context.messages) if isinstance(message, ModelResponse))
        self._pieces.append(output)
        if last.finish_reason != "length":
            # Another answer may follow, on what the person said meanwhile.
            whole, self._pieces = "".join(self._pieces), []
            return whole
        if len(self._pieces) < MAX_PIECES:
            raise ModelRetry(GO_ON)
        raise ExecutionFailure(
            ErrorCode.AGENT_MISBEHAVED,
            f"the model's answer was cut by the limit of tokens for one answer {MAX_PIECES} times",
            "raise modelSettings.maxTokens in the manifest, or ask for a shorter answer",
        )
