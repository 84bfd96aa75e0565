"""What a leg is given, why it may be stopped, and how it ends by a defect. Runs nothing."""

import asyncio
from dataclasses import dataclass
from enum import Enum, auto
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

from agent_runner.runner_locks import RunnerLocks
from agent_runner.secrets_in_use import SecretsInUse
from agent_runner.server_client import ServerClient
from agent_runner.settings import RunnerSettings
from agent_runner.tracing import Tracing
from stigmer_contract.error_codes import ErrorCode
from stigmer_contract.events import ExecutionFailed
from stigmer_isolation.launcher import CommandLauncher

if TYPE_CHECKING:
    from agent_runner.models import ModelPool

RUNNER_VERSION: Final = version("stigmer-agent-runner")


class StopReason(Enum):
    """Why a leg is stopped from outside, what it has in hand notwithstanding."""

    CANCEL = auto()
    """A person asked for it."""
    HAND_BACK = auto()
    """The process ends now: what is in hand is dropped."""
    FALL_SILENT = auto()
    """Another attempt has the execution."""
    OVERDUE = auto()
    """`limits.duration` is over."""
    LOG_REFUSES = auto()
    """The log does not take what happened."""
    WAIT = auto()
    """Nothing can go on until something comes."""


class LateModels:
    """The models of a process, whose code is loaded when the first leg asks for them."""

    def __init__(self, settings: RunnerSettings) -> None:
        self._settings = settings
        self._pool: ModelPool | None = None

    def pool(self) -> "ModelPool":
        """The one pool."""
        if self._pool is None:
            from agent_runner.models import ModelPool

            self._pool = ModelPool(self._settings)
        return self._pool

    async def close(self) -> None:
        """Close all connections."""
        if self._pool is not None:
            await self._pool.close()


@dataclass(frozen=True)
class LegParts:
    """What all legs of a process share."""

    settings: RunnerSettings
    client: ServerClient
    launcher: CommandLauncher
    models: LateModels
    secrets: SecretsInUse
    tracing: Tracing
    locks: RunnerLocks


def defect(error: BaseException, last_sequence: int) -> ExecutionFailed:
    """How an execution ends by an error of the program's own, and where in the log that was."""
    return ExecutionFailed(
        code=ErrorCode.INTERNAL,
        message=f"the runner failed unexpectedly after event {last_sequence}: {type(error).__name__}",
        hint="look for the execution's id in the runner's log",
    )


async def sleep_for(seconds: float | None) -> None:
    """For ever where that is None."""
    await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))


async def cancel_and_wait(task: "asyncio.Task[Any]") -> None:
    """Cancel a task and wait until it has let go; its outcome stays in the task."""
    task.cancel()
    await asyncio.wait({task})
