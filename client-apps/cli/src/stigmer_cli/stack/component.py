"""What the supervisor needs to know of a component: a description, and a handle of it once it runs.

How it is run (a process here; a container can be another launcher) is the launcher's business.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from stigmer_cli.processes.identity import ProcessIdentity
from stigmer_cli.stack.health import Probe

LineSink = Callable[[str], None]
"""Takes each line that a component writes."""


class RunningComponent(Protocol):
    """A component that was started."""

    @property
    def process(self) -> ProcessIdentity:
        """The process that stands for it on this machine."""
        ...

    async def wait(self) -> int:
        """Waits for its end; answers the exit code, or the negative number of the signal that ended it."""
        ...

    def drain(self) -> None:
        """Asks it to begin nothing new, and to end when it has finished what it is at; only a runner can."""
        ...

    def terminate(self) -> None:
        """Asks it to end in good order; does nothing where it has ended."""
        ...

    def end_hung(self, how: str) -> None:
        """Ends it, since it does not answer any more; `how` says so to people."""
        ...

    def kill(self) -> None:
        """Ends it, and what it has started, at once; does nothing where all that has ended."""
        ...


class Launcher(Protocol):
    """Starts a component, as often as needed."""

    async def launch(self, write_line: LineSink) -> RunningComponent:
        """Starts it.

        Raises:
            OSError: it cannot be started at all.
        """
        ...

    async def prepare(self, write_line: LineSink) -> None:
        """Makes the next start a faster one, where that can be; called once the component is ready."""
        ...

    async def close(self) -> None:
        """Ends what was prepared; nothing is launched afterwards."""
        ...


@dataclass(frozen=True)
class Component:
    """A component of the stack, before it runs."""

    name: str
    address: str
    """`host:port` at which it answers."""
    launcher: Launcher | None
    """None: it runs elsewhere, and the stack only uses it."""
    probe: Probe
    stop_seconds: float = 5.0
    """Longest time from being asked to end until it is killed."""
    orphan_seconds: float = 5.0
    """Likewise, where the supervisor was killed, and nobody waits for its end."""
    version: str | None = None
    """Where it is known before it runs."""
    hang_seconds: float | None = None
    """It is ended where it did not answer for so long; None: nobody looks."""
    can_drain: bool = False
    """Whether it can finish what it is at before it ends, however long that takes."""
    can_overlap: bool = False
    """Whether the next one can run beside it meanwhile."""
