"""The toolset `wait`: an agent with nothing to do until a message or a moment comes says so.

What waits is the leg's to arrange; here is only what the model may ask for and what it is told.
"""

import functools
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset

WAIT_TOOL: Final = "wait"
LONGEST_WAIT: Final = timedelta(days=365)


@dataclass(frozen=True)
class Waited:
    """How a wait ended."""

    message: str | None
    """What was said; None: the time came."""


class Waiter(Protocol):
    """Lets the tool call that is at work wait."""

    async def wait(self, *, message: bool, seconds: float | None) -> Waited:
        """Return when a message or the time has come; the process may be another by then."""
        ...


waiter: ContextVar[Waiter] = ContextVar("waiter")
"""That of the leg whose agent calls tools."""


@functools.cache
def wait_toolset() -> AbstractToolset[None]:
    """The toolset; shared by all runs."""
    toolset = FunctionToolset[None](id="wait")
    toolset.add_function(wait, name=WAIT_TOOL)
    return toolset


async def wait(message: bool = False, seconds: float | None = None) -> str:
    """Wait until somebody sends you a message, until some time has gone by, or for whichever comes first.

    Waiting costs nothing, however long it takes. A message that has come already is given at once.

    Args:
        message: whether a message ends the wait.
        seconds: after how long the wait ends by itself; left out: never.
    """
    if seconds is not None and not 0 < seconds <= LONGEST_WAIT.total_seconds():
        raise ToolFailed(f"seconds must be more than 0 and at most {LONGEST_WAIT.total_seconds():.0f}")
    if not message and seconds is None:
        raise ToolFailed("say what to wait for: `message`, `seconds`, or both")
    waited = await waiter.get().wait(message=message, seconds=seconds)
    if waited.message is not None:
        return f"A message came:\n{waited.message}"
    return "The time has come; there was no message." if message else "The time has come."
