"""What a tool may have done and written down in the middle of its call, by the leg: people and models are
asked, and a call that its server has put down is found again by whichever leg goes on with it.
"""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final, Protocol

from pydantic import JsonValue

from agent_runner.mcp_servers.questions import ModelAsked, PersonAsked
from agent_runner.toolsets.ask_user import Told
from stigmer_contract.inputs import Login


class MiddleOfCall(Protocol):
    """Of the tool call that is at work."""

    async def ask(
        self, toolset: str, tool: str, asked: Sequence[PersonAsked], stays_seconds: float | None
    ) -> list[Told]:
        """Ask people, and return when all of it is resolved; the process may be another by then.

        Args:
            toolset: whose tool is at work.
            tool: its name for the model.
            asked: at least one; what was asked and answered before in this call is not asked again.
            stays_seconds: how long the leg stays for that; None: it may end at once.

        Raises:
            StillOpen: it has stayed for so long. The questions stay open.
        """
        ...

    async def log_in(self, toolset: str, tool: str, login: Login) -> Told:
        """Ask that somebody signs in, and return when that is resolved; the leg may end meanwhile."""
        ...

    async def until_answered(self) -> None:
        """Return when nothing is open that was asked in this call; the leg may end meanwhile."""
        ...

    async def sample(self, asked: ModelAsked) -> dict[str, JsonValue]:
        """What the agent's model answers: `text`, `model` and `stop`. Paid for once, and counted.

        Raises:
            AnswerRefused: it cannot be had.
        """
        ...

    async def put_down(self, asked: JsonValue) -> None:
        """Write down that the call does nothing until what its server asks is answered."""
        ...

    async def what_was_put_down(self) -> JsonValue | None:
        """What the server of a call asked, which this or another leg put down and nobody took up again."""
        ...

    async def take_up(self) -> None:
        """Write down that the call goes on: from now on nobody knows what becomes of it."""
        ...


middle_of_call: Final[ContextVar[MiddleOfCall | None]] = ContextVar("middle_of_call", default=None)
"""That of the leg whose agent calls tools; None where nobody can be asked."""
