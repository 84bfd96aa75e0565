"""What becomes of a command that a tool runs: its output, or a failed call that says how it ended."""

import errno
from collections.abc import Awaitable, Callable
from typing import Final

from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import ToolReturn
from pydantic_ai.workspaces import (
    CommandResult,
    WorkspaceError,
    WorkspaceOutputLimitError,
    WorkspaceTimeoutError,
    WorkspaceUnavailableError,
)

MAX_OUTPUT_CHARACTERS: Final = 50_000
"""What one call may add to the conversation."""

ShowOutput = Callable[[str, str, str | None], Awaitable[str]]
"""Standard output, standard error, and how it ended where that was no success: as the model reads it."""


async def told_result(
    running: Awaitable[CommandResult],
    show: ShowOutput,
    *,
    timed_out: str,
    too_long: str,
    warning: str | None,
) -> ToolReturn[str] | str:
    """Wait for a command, and tell what it said.

    Args:
        running: the command.
        show: makes its output what the model reads.
        timed_out: how one ended that took too long.
        too_long: what to say where arguments and environment are more than a process can be given.
        warning: noted beside the result where nothing held the command in; the model does not see it.

    Raises:
        ToolFailed: it did not succeed.
        WorkspaceUnavailableError: there is no workspace to run it in.
    """
    try:
        result = await running
    except WorkspaceTimeoutError as error:
        raise ToolFailed(await show(error.stdout, error.stderr, f"[{timed_out}]")) from error
    except WorkspaceOutputLimitError as error:
        raise ToolFailed(await show(error.stdout, error.stderr, f"[{error}]")) from error
    except WorkspaceUnavailableError:
        raise
    except WorkspaceError as error:
        raise ToolFailed(str(error)) from error
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        raise ToolFailed(too_long) from error
    if result.exit_code:
        raise ToolFailed(await show(result.stdout, result.stderr, f"[exit code: {result.exit_code}]"))
    text = await show(result.stdout, result.stderr, None)
    return text if warning is None else ToolReturn[str](return_value=text, metadata={"isolation": warning})
