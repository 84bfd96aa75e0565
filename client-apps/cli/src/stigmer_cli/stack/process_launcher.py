"""Runs a component as a native process: in a session of its own, its output read line by line.

Starts from an argument list, hands down no file but the output and, to a program of ours, its environment by
a socket; never restarts anything.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stigmer_cli.processes.identity import ProcessIdentity, identify
from stigmer_cli.stack.component import LineSink
from stigmer_cli.stack.log_files import LineSplitter
from stigmer_contract.handed_environment import HandedEnvironment, shown_environment

_READ_BYTES = 65_536
_LAST_OUTPUT_SECONDS = 0.5
"""How long the rest of the output is waited for: something else may hold the pipe open."""


@dataclass(frozen=True)
class ProcessLauncher:
    """A process, before it runs."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    """Secrets go here, since everybody on the machine can read the arguments. Only `SHOWN` names of it stand
    in the process's own environment; the rest is handed over, or kept from it."""
    directory: Path
    umask: int = -1
    """Of the files that it makes; -1: this process's own."""
    receives_environment: bool = False
    """Whether the program calls `receive_environment`, as ours do."""

    async def launch(
        self, write_line: LineSink, *, standard_input: int = asyncio.subprocess.DEVNULL
    ) -> "RunningProcess":
        """Starts the process.

        Raises:
            OSError: the program is missing or cannot be run.
        """
        # A pipe of our own: asyncio's would let `wait` last until every heir of the pipe has ended.
        read_end, write_end = os.pipe()
        with contextlib.ExitStack() as starting:
            starting.callback(os.close, write_end)
            kept = starting.enter_context(contextlib.ExitStack())
            kept.callback(os.close, read_end)
            handed = HandedEnvironment(self.environment) if self.receives_environment else None
            if handed is not None:
                starting.enter_context(handed.while_starting())
            process = await asyncio.create_subprocess_exec(
                *self.arguments,
                env=shown_environment(self.environment) if handed is None else handed.shown,
                cwd=self.directory,
                stdin=standard_input,
                stdout=write_end,
                stderr=write_end,
                pass_fds=() if handed is None else (handed.descriptor,),
                start_new_session=True,
                umask=self.umask,
            )
            kept.pop_all()
        tasks = [asyncio.create_task(_read_output(read_end, write_line))]
        if handed is not None:
            tasks.append(asyncio.create_task(_hand_over(handed)))
        return RunningProcess(process, *tasks)

    async def prepare(self, write_line: LineSink) -> None:
        """Does nothing: a start is all there is."""

    async def close(self) -> None:
        """Does nothing: nothing is prepared."""


class RunningProcess:
    """A process that was started, and leads a process group."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        output: "asyncio.Task[None]",
        handing: "asyncio.Task[None] | None" = None,
    ) -> None:
        """`output` takes what it writes, `handing` gives it its environment."""
        self._process = process
        self._output = output
        self._handing = handing
        self._identity = identify(process.pid) or ProcessIdentity(process.pid, "ended")

    @property
    def process(self) -> ProcessIdentity:
        """The process."""
        return self._identity

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._process.returncode is not None

    async def wait(self) -> int:
        """Waits for its end, takes the rest of its output, and leaves nothing of its group behind."""
        exit_code = await self._process.wait()
        self._signal_group(signal.SIGKILL)
        await asyncio.wait([self._output], timeout=_LAST_OUTPUT_SECONDS)
        self._output.cancel()
        return exit_code

    def drain(self) -> None:
        """Sends SIGUSR1 to the process alone."""
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGUSR1)

    def terminate(self) -> None:
        """Sends SIGTERM to the process alone: what it has started is its own to end."""
        if self._process.returncode is None:
            self._process.terminate()

    def end_hung(self, how: str) -> None:
        """As `kill`."""
        self.kill()

    def kill(self) -> None:
        """Sends SIGKILL to the process and its group."""
        if self._process.returncode is None:
            self._signal_group(signal.SIGKILL)

    def _signal_group(self, signal_number: int) -> None:
        try:
            os.killpg(self._process.pid, signal_number)
        except (ProcessLookupError, PermissionError):
            # Nobody is left. (macOS answers EPERM where only zombies are.)
            return


async def _hand_over(environment: HandedEnvironment) -> None:
    """Until the process has taken it all, or has ended."""
    with environment.sender as sender, contextlib.suppress(ConnectionError):
        sender.setblocking(False)
        await asyncio.get_running_loop().sock_sendall(sender, environment.content)


async def _read_output(read_end: int, write_line: LineSink) -> None:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    pipe = os.fdopen(read_end, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    splitter = LineSplitter()
    try:
        while chunk := await reader.read(_READ_BYTES):
            for line in splitter.feed(chunk):
                write_line(line)
    finally:
        for line in splitter.finish():
            write_line(line)
        transport.close()
